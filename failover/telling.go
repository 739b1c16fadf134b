package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// done tells a step that ended now.
func (s *switchover) done(name, detail string) { s.doneAt(name, s.c.opts.Clock(), detail) }

// doneAt tells a step that ended at the given time.
func (s *switchover) doneAt(name string, at time.Duration, detail string) {
	at = max(at, s.last)
	s.emit(topology.SwitchoverStep{Name: name, Status: topology.StepOK, Took: at - s.last, Detail: detail})
	s.last = at
}

// ended tells a step that ended now, in this way.
func (s *switchover) ended(name string, status topology.StepStatus, detail string) {
	now := s.c.opts.Clock()
	s.emit(topology.SwitchoverStep{Name: name, Status: status, Took: now - s.last, Detail: detail})
	s.last = now
}

// failed tells a step that failed, and returns why: what ended ctx, if that did.
func (s *switchover) failed(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		switch {
		case errors.Is(cause, context.Canceled):
			cause = errors.New("the caller went away")
		}
		err = fmt.Errorf("%w (%s)", cause, strings.TrimSuffix(err.Error(), ": "+ctx.Err().Error()))
	}
	s.ended(name, topology.StepFailed, err.Error())
	return fmt.Errorf("%s: %w", name, err)
}

func (s *switchover) emit(st topology.SwitchoverStep) {
	s.c.stepName(st.Name)
	if st.Status != topology.StepSkipped {
		s.steps = append(s.steps, slog.Duration(strings.ReplaceAll(st.Name, " ", "_"), st.Took.Round(time.Microsecond)))
	}
	if s.report != nil {
		s.report(st)
	}
}

// order is an event of a switchover on its way to the machine.
type order struct {
	route.Event

	taken chan struct{} // closed when the machine has taken it and what it decided is done
}

// step gives the machine an event and waits until what it decided is done.
func (s *switchover) step(ctx context.Context, ev route.Event) error {
	o := order{Event: ev, taken: make(chan struct{})}
	s.c.inbox.put(o)
	select {
	case <-o.taken:
		return nil
	case <-ctx.Done(): // or it was lost with others: the hold's deadline releases it
	case <-s.c.stopped:
	}
	return errMachine
}

// await waits until ok holds, which may read the machine within the call only.
func (s *switchover) await(ctx context.Context, ok func(*route.Machine) bool) error {
	for {
		holds := false
		s.c.look(func(m *route.Machine) { holds = ok(m) })
		if holds {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.c.stopped:
			return errStopping
		case <-s.c.turned:
		}
	}
}

// list returns peers' addresses as text.
func list(ps []*peer) string {
	all := make([]string, 0, len(ps))
	for _, p := range ps {
		all = append(all, string(p.addr))
	}
	return strings.Join(all, ", ")
}
