package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Deadman starts a process for each fault that does not undo itself. It undoes
// the fault when this process dies, by SIGKILL too, or when the fault has lasted
// too long. The zero Deadman starts none.
type Deadman struct {
	// Argv is the command that calls [RunDeadman].
	Argv []string
	// Stderr is where it tells what it has done.
	Stderr io.Writer
}

// undo is one thing that a dead-man does. Only one field is set.
type undo struct {
	Shell    string   `json:"shell,omitempty"` // a command for sh, with Env
	Env      []string `json:"env,omitempty"`
	Continue int      `json:"continue,omitempty"` // a process to send SIGCONT
	Ask      *errand  `json:"ask,omitempty"`
	Sweep    *errand  `json:"sweep,omitempty"` // remove the keys that begin with Args[0]
}

// errand is a command for a Redis or a Sentinel.
type errand struct {
	Addr  string   `json:"addr"`
	Login Login    `json:"login"`
	Args  []string `json:"args"`
}

// String says what it does, without a secret.
func (u undo) String() string {
	switch {
	case u.Shell != "":
		return "ran " + u.Shell
	case u.Continue != 0:
		return fmt.Sprintf("sent SIGCONT to process %d", u.Continue)
	case u.Ask != nil:
		return "sent " + strings.Join(u.Ask.Args, " ") + " to " + u.Ask.Addr
	case u.Sweep != nil:
		return "removed the keys " + u.Sweep.Args[0] + "*"
	}
	return "did nothing"
}

// will is what a dead-man reads: one line of JSON. It comes over a pipe, since
// arguments are for everyone to see and may not hold passwords.
type will struct {
	Undo  undo          `json:"undo"`
	After time.Duration `json:"after"`
}

const (
	undoMargin = 30 * time.Second // beyond the time that a fault is to last
	undoLimit  = 30 * time.Second // for one attempt
	undoTries  = 5
	undoAgain  = time.Second
	armTimeout = 10 * time.Second
	wordArmed  = "armed\n"
	wordDisarm = "disarm\n"
)

// watch is a dead-man at work. Its owner calls disarm or fire, once. A nil watch
// is none.
type watch struct {
	cmd *exec.Cmd
	in  io.WriteCloser // its end is what the dead-man takes for our death
}

// arm starts a dead-man and returns when it stands by. It acts after that time
// at the latest.
func (d Deadman) arm(ctx context.Context, u undo, after time.Duration) (*watch, error) {
	if len(d.Argv) == 0 {
		return nil, nil //nolint:nilnil // none was asked for
	}
	w := &watch{cmd: exec.Command(d.Argv[0], d.Argv[1:]...)}
	w.cmd.Stderr, w.cmd.SysProcAttr = d.Stderr, ownSession()
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a dead-man: %w", err)
	}
	w.in = in
	limit := time.AfterFunc(armTimeout, func() { _ = w.cmd.Process.Kill() })
	defer limit.Stop()
	err = json.NewEncoder(in).Encode(will{u, after})
	if err == nil {
		word := make([]byte, len(wordArmed))
		if _, err = io.ReadFull(out, word); err == nil && string(word) == wordArmed {
			return w, ctx.Err()
		}
	}
	_ = w.cmd.Process.Kill() // nothing is broken yet
	return nil, errors.Join(fmt.Errorf("the dead-man does not stand by: %w", err), in.Close(), w.cmd.Wait())
}

// disarm ends the dead-man: all is undone.
func (w *watch) disarm() error {
	if w == nil {
		return nil
	}
	_, _ = io.WriteString(w.in, wordDisarm) // fails where it has acted at its deadline
	return w.fire()
}

// fire has the dead-man act now, unless it was disarmed, and waits until it has.
func (w *watch) fire() error {
	if w == nil {
		return nil
	}
	_ = w.in.Close() // fails only where the process has ended
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("dead-man: %w", err)
	}
	return nil
}

// RunDeadman is the dead-man's process. It reads its will from in, says on out
// that it stands by, and acts when in ends without the word to disarm, when its
// time has come, or when ctx ends. What it did goes to errs.
func RunDeadman(ctx context.Context, in io.Reader, out, errs io.Writer) error {
	ignoreHangup() // a closed terminal must not end it, nor its own last words
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no will: %w", err)
	}
	var w will
	if err := json.Unmarshal(line, &w); err != nil {
		return fmt.Errorf("read the will: %w", err)
	}
	if _, err := io.WriteString(out, wordArmed); err != nil {
		return err
	}
	word := make(chan string, 1) // one value: never full
	go func() {
		s, _ := r.ReadString('\n') // the end of in is the word to act
		word <- s
	}()
	limit := time.NewTimer(w.After)
	defer limit.Stop()
	why := "the drill died"
	select {
	case s := <-word:
		if s == wordDisarm {
			return nil
		}
	case <-limit.C:
		why = fmt.Sprintf("the drill has not undone it for %v", w.After)
	case <-ctx.Done():
		why = "told to end"
	}
	if err := w.Undo.persist(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%s, and the fault could not be undone: %w", why, err)
	}
	fmt.Fprintf(errs, "drill: %s; the dead-man %s\n", why, w.Undo)
	if w.Undo.Shell == "" {
		return nil
	}
	// The fault's own command may have outlived the drill by a moment.
	_ = pause(context.WithoutCancel(ctx), undoAgain)
	return w.Undo.persist(context.WithoutCancel(ctx))
}

// persist tries until it succeeds, a few times.
func (u undo) persist(ctx context.Context) error {
	var err error
	for range undoTries {
		if err = u.do(ctx); err == nil {
			return nil
		}
		_ = pause(ctx, time.Second) // ctx does not end
	}
	return err
}

// do undoes.
func (u undo) do(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, undoLimit)
	defer cancel()
	switch {
	case u.Shell != "":
		return shell(ctx, u.Shell, u.Env)
	case u.Continue != 0:
		return resume(u.Continue)
	case u.Ask != nil:
		_, err := askOnce(ctx, u.Ask.Addr, u.Ask.Login, u.Ask.Args...)
		return err
	case u.Sweep != nil:
		return sweep(ctx, u.Sweep.Addr, u.Sweep.Login, u.Sweep.Args[0])
	}
	return nil
}

// shell runs a command of the user's. When ctx ends, all that it started ends too: a
// cut that goes on after the heal would stay.
func shell(ctx context.Context, command string, env []string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	endWhole(cmd)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.WaitDelay = time.Second // for what the command left in the background
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}
