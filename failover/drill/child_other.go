//go:build !linux

package drill

import "syscall"

// dieWithParent can't be asked for here.
func dieWithParent() *syscall.SysProcAttr { return nil }
