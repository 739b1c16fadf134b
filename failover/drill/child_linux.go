package drill

import "syscall"

// diesWithParent says that nothing that the drill starts outlives it.
const diesWithParent = true

// dieWithParent puts a child into a process group of its own, so that Ctrl-C in
// a terminal reaches only its parent, and has it killed when that dies.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
