package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

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

// catchUp waits until every replica that may be promoted has read all that the master
// had written when nothing was under way any more.
func (s *switchover) catchUp(ctx context.Context) (string, error) {
	m, err := s.master.role(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.master.addr, err)
	}
	if m.Role != topology.RoleMaster {
		return "", fmt.Errorf("%s says %s", s.master.addr, m.Role)
	}
	for _, p := range s.candidates {
		if err := reaches(ctx, p, m.Offset); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s read the stream up to %d", list(s.candidates), m.Offset), nil
}

// reaches waits until a replica's offset is at least the given one.
func reaches(ctx context.Context, p *peer, offset int64) error {
	tick := time.NewTicker(catchUpPoll)
	defer tick.Stop()
	behind := fmt.Errorf("%s does not answer", p.addr)
	for {
		r, err := p.role(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !isTimeout(err):
			return fmt.Errorf("%s: %w", p.addr, err)
		case err != nil: // it hangs: for as long as there is time
		case r.Role != topology.RoleReplica || r.Master == "":
			return fmt.Errorf("%s says %s", p.addr, r.Role)
		case r.Offset >= offset:
			return nil
		default:
			behind = fmt.Errorf("%s has read the stream up to %d; want %d", p.addr, r.Offset, offset)
		}
		select {
		case <-ctx.Done():
			return behind
		case <-tick.C:
		}
	}
}

// order tells one Sentinel to fail over. One that refuses because it knows of no fit
// replica did nothing, so another may be told. None is told while a failover is under
// way: two at once may promote two replicas.
func (s *switchover) order(ctx context.Context) (string, error) {
	var errs []error
	for _, w := range s.witnesses {
		if err := s.trusts(ctx, w); err != nil {
			errs = append(errs, fmt.Errorf("sentinel %s: %w", w.addr, err))
			continue
		}
		if err := s.commit(ctx, w); err != nil {
			return "", err
		}
		// From here on a failover may come, whatever becomes of us.
		s.told = true
		started, err := w.tell(context.WithoutCancel(ctx))
		if started && err != nil {
			return fmt.Sprintf("Sentinel %s has not answered and may have begun: %v", w.addr, err), nil
		}
		if started {
			return fmt.Sprintf("Sentinel %s was told: it can't be called off any more", w.addr), nil
		}
		s.told = false
		if err := s.uncommit(ctx); err != nil {
			return "", err
		}
		if inProgress(err) {
			return "", fmt.Errorf("sentinel %s: another failover is under way: %w", w.addr, err)
		}
		errs = append(errs, fmt.Errorf("sentinel %s: %w", w.addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return "", errors.Join(errs...)
}

// trusts checks that w would promote a replica that has caught up: one may have come
// back since preflight.
func (s *switchover) trusts(ctx context.Context, w *witness) error {
	if w.elect(ctx); w.electErr != nil {
		return w.electErr
	}
	if !slices.ContainsFunc(s.candidates, func(p *peer) bool { return p.addr == w.elects }) {
		return fmt.Errorf("it would promote %s, which was not waited for", w.elects)
	}
	return nil
}

// commit asks the machine for the right to tell w. What ends ctx takes it back.
func (s *switchover) commit(ctx context.Context, w *witness) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	if err := s.step(tidy, route.SwitchoverCommitted{Sentinel: w.addr}); err != nil {
		return err
	}
	var committed bool
	var open []string
	s.c.look(func(m *route.Machine) {
		_, committed = m.Switchover()
		for _, c := range m.Open() {
			open = append(open, c.String())
		}
	})
	switch {
	case committed && ctx.Err() != nil:
		return errors.Join(ctx.Err(), s.uncommit(ctx))
	case committed:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("something else holds the route: %s", strings.Join(open, ", "))
}

// uncommit tells the machine that no failover comes of the last commit.
func (s *switchover) uncommit(ctx context.Context) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	return s.step(tidy, route.SwitchoverRefused{})
}

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

// done tells a step that ended now.
func (s *switchover) done(name, detail string) { s.doneAt(name, s.c.opts.Clock(), detail) }

// doneAt tells a step that ended at the given time.
func (s *switchover) doneAt(name string, at time.Duration, detail string) {
	at = max(at, s.last)
	s.emit(topology.SwitchoverStep{Name: name, Status: topology.StepOK, Took: at - s.last, Detail: detail})
	s.last = at
}

// step2 tells a step that ended now, in this way.
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
