package failover

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// abort calls it off, and waits until commands go on.
func (s *switchover) abort(ctx context.Context, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	s.last = s.c.opts.Clock()
	err := s.step(ctx, route.SwitchoverEnded{})
	if err == nil {
		err = s.await(ctx, func(m *route.Machine) bool { under, _ := m.Switchover(); return !under })
	}
	s.result.Outcome, s.result.Err = topology.SwitchoverAborted, why.Error()
	var state string
	s.c.look(func(m *route.Machine) {
		r := m.Route()
		if s.result.To = r.Master; r.State != topology.Serving {
			state = r.State.String() + ": " + r.Why
		}
	})
	switch {
	case err != nil:
		s.ended(topology.StepRelease, topology.StepFailed, err.Error())
	case state != "":
		s.ended(topology.StepRelease, topology.StepFailed, "called off, but the route is "+state)
	default:
		s.ended(topology.StepRelease, topology.StepOK, fmt.Sprintf("called off: %s serves on", s.from.addr))
	}
	s.measure()
}

// follow watches the failover that was ordered to its end.
func (s *switchover) follow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeWait)
	defer cancel()
	type phase struct{ name, step, detail string }
	phases := []phase{{route.PhasePromoted, topology.StepPromoted, "the new master says that it is one"}}
	if s.req.Strict {
		phases = append(phases, phase{route.PhaseMajority, topology.StepMajority, "a majority of the Sentinels names it"})
	} else {
		phases = append(phases, phase{route.PhaseDemoted, topology.StepDemoted, s.from.addr.String() + " follows it"})
	}
	for _, p := range phases {
		var f route.Failover
		var over bool
		err := s.await(ctx, func(m *route.Machine) bool {
			f, over = s.progress(m)
			return over || f.Reached(p.name)
		})
		switch {
		case err != nil:
			s.ended(p.step, topology.StepFailed, "not within "+outcomeWait.String())
			s.undecided("the failover was ordered and has not ended: the route's ordinary rules decide")
			return
		case f.Reached(p.name):
			s.doneAt(p.step, f.Started+f.After(p.name), p.detail)
		default:
			s.ended(p.step, topology.StepSkipped, "not seen")
		}
	}
	var f route.Failover
	err := s.await(ctx, func(m *route.Machine) bool {
		var over bool
		f, over = s.progress(m)
		return over
	})
	if err != nil {
		s.ended(topology.StepRelease, topology.StepFailed, "not within "+outcomeWait.String())
		s.undecided("the failover was ordered and has not ended: the route's ordinary rules decide")
		return
	}
	s.result.To = f.To
	detail := fmt.Sprintf("%s serves", f.To)
	if f.To != s.hope && f.To != s.from.addr {
		detail += fmt.Sprintf("; Sentinel chose it, %s was expected", s.hope)
	}
	s.doneAt(topology.StepRelease, f.Started+f.Took, detail)
	s.measure()
	switch {
	case f.To == s.from.addr:
		s.result.Outcome, s.result.Err = topology.SwitchoverAborted, "Sentinel called its failover off: "+string(f.To)+" serves on"
		return
	case s.req.To != "" && f.To != s.req.To:
		s.result.Outcome = topology.SwitchoverFailed
		s.result.Err = fmt.Sprintf("Sentinel promoted %s, not %s; nothing is lost, but it is not what was asked", f.To, s.req.To)
	default:
		s.result.Outcome = topology.SwitchoverDone
	}
	if !s.req.Strict {
		s.confirm(ctx)
	}
}

// confirm waits until a majority names what is served already. Commands flow meanwhile.
func (s *switchover) confirm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, confirmWait)
	defer cancel()
	if s.await(ctx, func(m *route.Machine) bool { return !m.Ahead() }) != nil {
		why := fmt.Sprintf("no majority names %s within %v: if the Sentinel that was told has died, the others fail over again after down-after + 20s",
			s.result.To, confirmWait)
		s.ended(topology.StepMajority, topology.StepFailed, why)
		s.result.Outcome, s.result.Err = topology.SwitchoverFailed, why
		return
	}
	s.done(topology.StepMajority, "a majority of the Sentinels names it; commands have not waited for this")
}

// undecided ends it without a word on who serves.
func (s *switchover) undecided(why string) {
	s.result.Outcome, s.result.Err = topology.SwitchoverFailed, why
	s.measure()
}

// progress returns the hold of this switchover with its phases so far, and whether it
// is over. It is for use with await.
func (s *switchover) progress(m *route.Machine) (f route.Failover, over bool) {
	if f, ok := m.Hold(); ok && f.Started >= s.begun {
		return f, false
	}
	return s.c.lastHold, s.c.lastHold.Started >= s.begun
}

// measure notes how long commands waited, and the epoch that is served.
func (s *switchover) measure() {
	s.c.look(func(m *route.Machine) {
		s.result.Epoch = m.Epoch()
		switch f, over := s.progress(m); {
		case over:
			s.result.Pause = f.Took
		case f.Started >= s.begun:
			s.result.Pause = s.c.opts.Clock() - f.Started
		}
	})
}

// finish counts and tells the switchover as a whole.
func (s *switchover) finish() {
	r := &s.result
	r.From = s.from.addr
	if r.Epoch == 0 {
		r.Epoch = s.from.epoch
	}
	if r.Outcome == topology.SwitchoverDone || r.Outcome == topology.SwitchoverFailed {
		s.c.look(func(m *route.Machine) { r.Epoch = m.Epoch() }) // the guess has been confirmed by now
	}
	m := s.c.metrics
	m.switchovers.WithLabelValues(string(r.Outcome)).Inc()
	if s.begun > 0 {
		m.switchoverPause.WithLabelValues(string(r.Outcome)).Observe(r.Pause.Seconds())
	}
	s.c.stepName("")
	attrs := []any{
		"outcome", string(r.Outcome), "from", r.From, "to", r.To, "epoch", r.Epoch,
		"pause", r.Pause.Round(time.Microsecond), "took", (s.c.opts.Clock() - s.started).Round(time.Microsecond),
		slog.Group("steps", s.steps...),
	}
	if r.Err != "" {
		attrs = append(attrs, "err", r.Err)
	}
	s.c.log.Info("switchover ended", attrs...)
	if !s.req.DryRun {
		s.c.opts.Tell(events.SwitchoverEnded{
			Outcome: string(r.Outcome), From: r.From, To: r.To, Epoch: r.Epoch, Pause: events.Millis(r.Pause), Err: events.Text(r.Err),
		})
	}
}
