//go:build unix && !linux

package redistest

import "syscall"

// ownGroup puts a child into a process group of its own, so that Ctrl-C in a
// terminal reaches only its parent.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// haltedNow can't be told here: SIGSTOP takes effect a moment later.
func (*process) haltedNow() bool { return true }
