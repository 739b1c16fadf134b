package drill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// kill ends the process at once: DEBUG SEGFAULT or, where that is refused and in
// a Sentinel, SHUTDOWN. The latter still sends replicas what is under way, so a
// crash by it loses less.
func (m *farMember) kill(ctx context.Context) error {
	if m.sentinel {
		return m.end(ctx, "SHUTDOWN")
	}
	err := m.end(ctx, "DEBUG", "SEGFAULT")
	if _, refused := errors.AsType[replyError](err); !refused {
		return err
	}
	err = m.end(ctx, "SHUTDOWN", "NOSAVE", "NOW", "FORCE")
	if _, refused := errors.AsType[replyError](err); refused { // before Redis 7 it never waits
		err = m.end(ctx, "SHUTDOWN", "NOSAVE")
	}
	return err
}

// stop ends the process as SIGTERM does: it saves if it is told to, and a master
// waits for its replicas. It asks again while Redis refuses, as it does while it
// writes an append-only file after a first copy.
func (m *farMember) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		err := m.end(ctx, "SHUTDOWN")
		if _, refused := errors.AsType[replyError](err); !refused {
			return err
		}
		if pause(ctx, 500*time.Millisecond) != nil {
			return err
		}
	}
}

// end sends a command that ends the process, and waits until the connection has
// ended with it.
func (m *farMember) end(ctx context.Context, args ...string) error {
	const patience = 30 * time.Second // shutdown-timeout is 10 s by default
	c, err := dialAs(ctx, string(m.addr), m.login, patience, 0)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.ask(args...)
	if _, refused := errors.AsType[replyError](err); refused {
		return fmt.Errorf("%s at %s: %w", args[0], m.addr, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return fmt.Errorf("%s at %s: it answers and goes on", args[0], m.addr)
	}
	return nil // the connection ended, as was asked for
}

// gone waits until the process has ended: it does not answer, or is another one.
func (m *farMember) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		now, err := infoOf(ctx, m)
		if ctx.Err() == nil && (err != nil || now["run_id"] != m.runID) {
			return nil
		}
		if err := pause(ctx, 10*observeEvery); err != nil {
			return fmt.Errorf("%s should have ended: %w", m.addr, err)
		}
	}
}

// returnTimeout is how long a supervisor may take to restart a process.
const returnTimeout = 2 * time.Minute

// back waits until a supervisor has restarted the process.
func (m *farMember) back(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, returnTimeout)
	defer cancel()
	var last error // that is not ctx's
	for {
		now, err := infoOf(ctx, m)
		if err == nil && now["run_id"] != m.runID && now["loading"] != "1" {
			m.runID = now["run_id"]
			return nil
		}
		if pause(ctx, 10*observeEvery) != nil {
			return errors.Join(
				fmt.Errorf("%s has not come back within %v: --supervised promises that something restarts it", m.addr, returnTimeout), last)
		}
		if err != nil {
			last = err
		}
	}
}

// hang makes the node sleep; it wakes up by itself.
func (m *farMember) hang(ctx context.Context, d time.Duration) error {
	c, err := dialAs(ctx, string(m.addr), m.login, d+askTimeout, 0)
	if err != nil {
		return err
	}
	defer c.close()
	began := time.Now()
	_, err = c.ask("DEBUG", "SLEEP", strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
	if _, refused := errors.AsType[replyError](err); refused {
		return fmt.Errorf("DEBUG SLEEP at %s: %w", m.addr, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// On waking it may be told to close its connections before it answers.
	if err != nil && time.Since(began) < d {
		return fmt.Errorf("DEBUG SLEEP at %s: %w", m.addr, err)
	}
	return nil
}

// number64 reads a number of INFO; 0 if it is none.
func number64(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
