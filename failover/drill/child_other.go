//go:build !linux

package drill

import "syscall"

const diesWithParent = false

// dieWithParent can't be asked for here.
func dieWithParent() *syscall.SysProcAttr { return nil }
