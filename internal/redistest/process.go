package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
)

// errPortTaken means that a process ended because it could not listen.
var errPortTaken = errors.New("redistest: port is taken")

// process is one run of a program, from its start until it has been waited for.
type process struct {
	cmd     *exec.Cmd
	logPath string
	logFrom int64 // where this run's part of the log begins

	gone chan struct{} // closed once the process has ended and been reaped

	halted atomic.Bool // SIGSTOP was sent, and no SIGCONT since
}

// startProcess runs the program with its output appended to logPath. Its owner
// must kill it.
func startProcess(s *spawner, logPath string, argv ...string) (*process, error) {
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	info, err := out.Stat()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = ownGroup()
	p := &process{cmd: cmd, logPath: logPath, logFrom: info.Size(), gone: make(chan struct{})}
	if err := s.start(cmd); err != nil {
		return nil, err
	}
	go p.reap()
	return p, nil
}

// reap waits for the process. It ends with the process, which every owner of
// one kills and waits for.
func (p *process) reap() {
	_ = p.cmd.Wait() // how it ended is in its log
	close(p.gone)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// kill ends the process, also a stopped one, and waits until it is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.gone
	return nil
}

// earlyExit says why the process ended during its start.
func (p *process) earlyExit() error {
	tail := logTail(p.logPath, p.logFrom, 15)
	if portTaken(tail) {
		return errPortTaken
	}
	return fmt.Errorf("%s ended at once (%v):\n%s", p.cmd.Path, p.cmd.ProcessState, tail)
}
