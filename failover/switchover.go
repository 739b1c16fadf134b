package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The times of a switchover.
const (
	defaultPause       = 2 * time.Second
	defaultStrictPause = 5 * time.Second
	// What a Sentinel takes from the order until the new master says that it is one,
	// and until a majority names it: it must fit into the pause that is left.
	promotionTakes = 250 * time.Millisecond
	majorityTakes  = 1300 * time.Millisecond
	// outcomeWait is how long the outcome is waited for after the point of no return.
	outcomeWait = 30 * time.Second
	confirmWait = 10 * time.Second // for the majority that confirms one followed fast
	tidyWait    = 2 * time.Second  // for what must be done although the caller has gone
	catchUpPoll = time.Millisecond
)

var (
	errStopping = errors.New("the sidecar is stopping")
	errMachine  = errors.New("the control plane does not answer")
)

// Switchover moves the master to another node without losing a write of our clients. It
// calls tell after each step, in the caller's goroutine, also while commands wait: tell
// must return at once. When ctx ends before a Sentinel was told to fail over, or the
// request's MaxPause is used up, it is called off and the old master serves on; after
// that it goes on to its end whatever ctx does. One is under way at a time. The error
// is nil if all went as asked, else what the result's Err says.
func (c *Controller) Switchover(
	ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep),
) (topology.SwitchoverResult, error) {
	if !c.switching.CompareAndSwap(false, true) {
		r := topology.SwitchoverResult{Outcome: topology.SwitchoverBusy, Err: "another switchover of " + c.opts.Group + " is under way"}
		c.metrics.switchovers.WithLabelValues(string(r.Outcome)).Inc()
		return r, errors.New(r.Err)
	}
	defer c.switching.Store(false)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-c.stopping:
			cancel(errStopping)
		case <-c.stopped:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-watched }()

	s := &switchover{c: c, req: req, report: tell, started: c.opts.Clock()}
	defer s.close()
	if s.req.MaxPause == 0 {
		s.req.MaxPause = defaultPause
		if req.Strict {
			s.req.MaxPause = defaultStrictPause
		}
	}
	if !req.DryRun {
		c.opts.Tell(events.SwitchoverBegun{To: req.To, Strict: req.Strict})
	}
	s.run(ctx)
	s.finish()
	if s.result.OK() {
		return s.result, nil
	}
	return s.result, errors.New(s.result.Err)
}

// switchover is one that is under way. The goroutine of its caller owns it.
type switchover struct {
	// Fixed at construction.
	c       *Controller
	req     topology.SwitchoverRequest
	report  func(topology.SwitchoverStep)
	started time.Duration

	// What preflight found.
	from       pairSeen
	master     *peer
	replicas   []*peer       // that a Sentinel may promote
	candidates []*peer       // of them, those whose offset matters
	witnesses  []*witness    // those that may be told, the best first
	hope       topology.Addr // whom Sentinel will choose, as it looks

	restore []setting     // priorities to set back
	begun   time.Duration // just before the hold was asked for; 0: it was not
	told    bool          // a Sentinel may have been told to fail over
	last    time.Duration // when the last step ended
	steps   []any         // for the log
	result  topology.SwitchoverResult
}

// pairSeen is what is served when a switchover begins.
type pairSeen struct {
	addr  topology.Addr
	epoch uint64
}

// run goes through the steps until one fails.
func (s *switchover) run(ctx context.Context) {
	s.last = s.started
	if !s.preflight(ctx) {
		return
	}
	if s.req.DryRun {
		s.result.Outcome = topology.SwitchoverReady
		return
	}
	defer s.putBack(ctx)
	if !s.prioritise(ctx) {
		return
	}
	if err := s.halt(ctx); err != nil {
		s.abort(ctx, err)
		return
	}
	s.follow(ctx)
}

// halt holds, drains, waits for the replicas and tells a Sentinel. An error means that
// no failover comes of it.
func (s *switchover) halt(ctx context.Context) error {
	s.begun = s.c.opts.Clock()
	s.last = s.begun
	budget := s.req.MaxPause - s.takes()
	ctx, cancel := context.WithTimeoutCause(ctx, budget, fmt.Errorf("--max-pause %v would not suffice any more", s.req.MaxPause))
	defer cancel()
	gen, err := s.hold(ctx, s.begun+budget)
	if err != nil {
		return s.failed(ctx, topology.StepHold, err)
	}
	s.done(topology.StepHold, "commands wait from now on")
	if s.c.opts.Drained != nil {
		if err := s.c.opts.Drained(ctx, gen); err != nil {
			return s.failed(ctx, topology.StepDrain, fmt.Errorf("the master has not answered all that was sent: %w", err))
		}
	}
	s.done(topology.StepDrain, "the master has answered all that was sent")
	detail, err := s.catchUp(ctx)
	if err != nil {
		return s.failed(ctx, topology.StepCatchUp, err)
	}
	s.done(topology.StepCatchUp, detail)
	detail, err = s.order(ctx)
	if err != nil {
		return s.failed(ctx, topology.StepFailover, err)
	}
	s.done(topology.StepFailover, detail)
	return nil
}

// takes is what a promotion needs of the pause once it was ordered.
func (s *switchover) takes() time.Duration {
	if s.req.Strict {
		return majorityTakes
	}
	return promotionTakes
}

// hold has the route hold until the given time and returns the generation that does.
func (s *switchover) hold(ctx context.Context, until time.Duration) (gen uint64, err error) {
	if err := s.step(ctx, route.SwitchoverBegun{Until: until, Fast: !s.req.Strict}); err != nil {
		return 0, err
	}
	var why string
	s.c.look(func(m *route.Machine) {
		r := m.Route()
		gen, why = r.Gen, r.State.String()+": "+r.Why
		if under, _ := m.Switchover(); !under || r.Master != s.from.addr {
			err = errors.New("the route has changed since: it is " + why)
		}
	})
	return gen, err
}

// close ends all connections.
func (s *switchover) close() {
	for _, p := range append(slices.Clone(s.replicas), s.master) {
		if p != nil {
			p.close()
		}
	}
	for _, w := range s.witnesses {
		w.close()
	}
}
