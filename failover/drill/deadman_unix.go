//go:build unix

package drill

import (
	"os/exec"
	"os/signal"
	"syscall"
)

// ownSession takes a child out of the terminal's and our process group's reach.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// endWhole has the end of cmd's context end what cmd has started, too.
func endWhole(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// ignoreHangup lets the process outlive its terminal and its reader.
func ignoreHangup() { signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE) }

// resume lets a stopped process go on.
func resume(pid int) error { return syscall.Kill(pid, syscall.SIGCONT) }
