package redistest

import (
	"errors"
	"os/exec"
	"runtime"
)

// errStopped means that the group has been stopped.
var errStopped = errors.New("redistest: the group is stopped")

// spawner starts processes on one operating system thread that lives until
// close. Linux' parent-death signal is sent when the *thread* that forked dies,
// and Go ends a thread whose locked goroutine returns: a process forked on any
// thread could be killed in mid-test by unrelated code.
type spawner struct {
	jobs chan func() // unbuffered: a caller waits for its turn
	quit chan struct{}
	done chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // hands the thread back alive
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-s.quit:
			return
		}
	}
}

// start starts cmd, or returns errStopped after close.
func (s *spawner) start(cmd *exec.Cmd) error {
	errs := make(chan error, 1)
	select {
	case s.jobs <- func() { errs <- cmd.Start() }:
		return <-errs
	case <-s.quit:
		return errStopped
	}
}

// close ends the thread's duty. Call it once, when all processes are gone.
func (s *spawner) close() {
	close(s.quit)
	<-s.done
}
