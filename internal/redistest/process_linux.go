package redistest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// ownGroup puts a child into a process group of its own, so that Ctrl-C in a
// terminal reaches only its parent, and has it killed when the spawner's thread
// dies, that is with this process.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// haltedNow reports whether the process has come to a stop. SIGSTOP is
// asynchronous: on another core a process may still run for a moment.
func (p *process) haltedNow() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
	if err != nil {
		return true // gone
	}
	// "pid (name) state ...", where the name may itself have parentheses.
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(" "))
	return len(rest) > 0 && (rest[0] == 'T' || rest[0] == 't' || rest[0] == 'Z')
}
