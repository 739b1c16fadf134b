package route

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Never is the deadline that does not come.
const Never = time.Duration(math.MaxInt64)

// pair is what commands go to: an address at a config epoch.
type pair struct {
	addr  topology.Addr
	epoch uint64
}

// Machine is the route of one group. It is a value of one owner: not safe for
// concurrent use. Same events at the same times give the same actions.
type Machine struct {
	// Fixed at construction.
	group  string
	policy Policy
	saved  Saved // what the state file knew at the start

	// The route. Only move and publish change it.
	state    topology.State
	since    time.Duration // when state began
	why      string
	doubt    bool
	suspect  bool
	sticky   bool // suspect until the state changes: a cause said so
	cut      bool // Down followed on Fenced
	gen      uint64
	stateGen uint64 // the first Gen of state
	pair     pair   // served now, or last
	shown    uint64 // the epoch that routes give pair: the one it was first served at
	ahead    ahead  // of the majority
	served   bool   // pair is valid
	fromFile bool   // pair rests on the state file alone
	lease    *topology.Lease
	// leaseUntil is the end that was last given out; the machine does not read the
	// lease itself, which others share.
	leaseUntil  time.Duration
	holdTimeout time.Duration
	replicas    []topology.Addr // as last published

	// Why we hold, in the order raised, and what the Sentinels insist on in vain.
	causes   []*cause
	ignored  map[topology.Addr]pair  // claims put aside, by Sentinel
	calm     [causeEnd]time.Duration // until when a mere report of this kind doesn't hold again
	deferred []cause                 // reports that came meanwhile, at most one per kind
	failover *Failover               // the hold under way; nil while serving and discovering

	// What is known.
	obs            topology.Observation
	heard          bool          // any Sentinel has answered since the start
	downAfter      time.Duration // the last that was said; 0: nobody has
	agreedSince    time.Duration // since when a majority has named the same pair; 0: none does
	unanimousSince time.Duration // since when the rule for dead entries has been met
	unanimousPair  pair
	nodes          map[topology.Addr]*node // one for each of watched
	watched        []topology.Addr         // sorted
	every          time.Duration           // between two probes of each
	failsafe       []topology.Addr         // the replicas whose word renews the lease
	lostAt         time.Duration           // when a connection to the master was last lost

	fencing   fencing     // demoting old masters
	switching *switchover // under way; nil: none is

	// What was told, so that it is told once.
	nextAsk    time.Duration
	fast       bool
	lastSaved  Saved
	toldNoAuth bool
	toldSlow   bool

	out []Action
}

// New returns the machine of a group in state discovering. saved is what the state
// file holds; its zero value is nothing.
func New(group string, p Policy, saved Saved) *Machine {
	if saved.Group != group {
		saved = Saved{}
	}
	return &Machine{
		group: group, policy: p, saved: saved, downAfter: saved.DownAfter,
		ignored: make(map[topology.Addr]pair), nodes: make(map[topology.Addr]*node),
	}
}

// Step takes one event at a time since boot and returns what the caller must now do,
// in order. Times must not go back. It does no I/O, takes no lock, reads no clock.
// The first Step publishes the discovering route, whatever the event.
func (m *Machine) Step(now time.Duration, ev Event) []Action {
	m.out = nil
	if m.state == 0 {
		m.holdTimeout = m.policy.HoldTimeout.in(m.knownDownAfter())
		m.move(now, topology.Discovering, "no master is verified yet")
	}
	switch ev := ev.(type) {
	case Observed:
		m.observe(now, ev.Observation)
	case Signed:
		m.sign(now, ev.Sign)
	case Missed:
		m.fencing.busy, m.fencing.asking = false, false // an outcome may have been among them
		m.raise(now, cause{kind: CauseMissed})
	case NodeSeen:
		m.seen(now, ev)
	case NodeClosed:
		m.closed(now, ev.Addr)
	case Reported:
		m.report(now, ev.Report)
	case Demoted:
		m.demoted(now, ev)
	case RightsSeen:
		m.rights(ev)
	case SwitchoverBegun:
		m.begin(now, ev)
	case SwitchoverCommitted:
		m.commit(now, ev)
	case SwitchoverRefused:
		if m.switching != nil {
			m.switching.committed = false
		}
	case SwitchoverEnded:
		if m.switching != nil {
			m.switching.ended = true
		}
	case Tick:
	default:
		panic(fmt.Sprintf("route: unknown event %T", ev))
	}
	m.decide(now)
	m.rewatch()
	m.pace(now)
	return m.out
}

// decide brings the route in line with what is known.
func (m *Machine) decide(now time.Duration) {
	m.clear(now)
	m.renew()
	m.watchOld(now)
	if m.state == topology.Serving {
		m.resume(now)
		m.retireOld(now)
		m.checkRights(now, m.pair.addr)
		if m.insisted(now, pair{m.obs.Master, m.obs.Epoch}) {
			m.raise(now, cause{kind: CauseRegressed, addr: m.obs.Master, epoch: m.obs.Epoch})
		}
		if m.lease != nil && m.leaseUntil <= now {
			m.raise(now, cause{kind: CauseLeaseEnded, addr: m.pair.addr})
		}
		if len(m.causes) > 0 {
			m.hold(now)
		}
	}
	if m.state != topology.Serving {
		c, ok := m.choose(now)
		switch {
		case ok && m.leaseFor(c) > now:
			if m.mayServeFirst(now, c.addr) {
				m.serve(now, c)
			}
		case ok && c.pair == m.pair && m.served:
			m.raise(now, cause{kind: CauseLeaseEnded, addr: m.pair.addr})
			m.endure(now)
		default:
			m.endure(now)
		}
	}
	m.subdueOld(now)
	if t := m.policy.HoldTimeout.in(m.knownDownAfter()); t != m.holdTimeout {
		m.holdTimeout = t
		m.publish()
	}
	m.offerReplicas(now)
}

// hold leaves serving. The oldest open cause tells why.
func (m *Machine) hold(now time.Duration) {
	c := m.causes[0]
	m.failover = &Failover{
		Cause: c.kind, Why: c.kind.phrase(), Started: now,
		From: m.pair.addr, FromEpoch: m.pair.epoch,
	}
	if c.kind.sign() {
		m.failover.mark(now, PhaseSelected)
	}
	if c.kind == CauseReplicaMaster {
		m.failover.mark(now, PhasePromoted)
	}
	if m.majorityElsewhere() {
		m.failover.mark(now, PhaseMajority)
	}
	m.unanimousSince = 0
	m.nextAsk = now
	m.doubt, m.sticky = m.doubted(), m.suspected()
	m.suspect = m.sticky || m.selectedNow(now)
	m.emit(Held{Cause: c.kind})
	m.move(now, m.heldState(), c.kind.phrase())
	m.note(c.kind.level(), "route holds", slog.String("cause", c.kind.String()),
		attrAddr("node", c.addr), attrSentinel(c.sentinel),
		attrAddr("master", m.pair.addr), attrEpoch("epoch", m.pair.epoch))
}

// endure lets a route that can't serve yet fence, doubt or open the circuit.
func (m *Machine) endure(now time.Duration) {
	if m.state == topology.Discovering {
		return
	}
	doubt := m.doubt || m.doubted()
	m.sticky = m.sticky || m.suspected() // until it is cleared or proves true: what was kept back stays so
	suspect := m.sticky || m.selectedNow(now)
	state := m.state
	if state != topology.Down {
		state = m.heldState()
		if limit := m.policy.HoldMax.in(m.knownDownAfter()); limit > 0 && now-m.failover.Started >= limit {
			m.cut = state == topology.Fenced
			state = topology.Down
			m.failover.mark(now, PhaseDown)
			m.failover.Outcome = OutcomeDown
			m.warn("circuit opened", attrAddr("master", m.pair.addr), slog.Duration("held", now-m.failover.Started),
				slog.String("cause", m.failover.Cause.String()))
		}
	}
	switch {
	case state != m.state:
		m.doubt, m.suspect = doubt, suspect
		m.move(now, state, m.phrase())
	case doubt != m.doubt || suspect != m.suspect:
		m.doubt, m.suspect = doubt, suspect
		m.publish()
	}
}

// serve makes c's pair the one commands go to.
func (m *Machine) serve(now time.Duration, c choice) {
	if !m.served || c.pair != m.pair {
		// Whoever else says master from here on was one before: no promotion.
		for a, n := range m.nodes {
			n.wasReplica = n.last.Role == topology.RoleReplica && a != c.addr
		}
		m.shown = c.epoch
		if m.served && c.addr != m.pair.addr {
			m.fencing.succeeded(m.pair.addr)
		}
	}
	switch {
	case !c.ahead:
		m.ahead = ahead{}
	case !m.ahead.on:
		m.ahead = ahead{on: true, base: m.pair, since: now}
	}
	m.leaseUntil = m.leaseFor(c)
	m.pair, m.served = c.pair, true
	m.failsafe, m.fromFile = c.failsafe, c.file
	m.deferred, m.doubt, m.suspect, m.sticky, m.lostAt = nil, false, false, false, 0
	if m.policy.Fence == FenceLease {
		m.lease = new(topology.Lease)
		m.lease.Extend(m.leaseUntil) // nobody else has it yet
	}
	overruled := m.causes
	m.causes, m.switching = nil, nil
	m.move(now, topology.Serving, c.why)
	for _, o := range overruled {
		early := m.ahead.on && o.addr == m.pair.addr // it knew our master before the others
		if o.kind.claim() && !o.withdrawn && o.outranks(m.pair) && !early {
			m.ignore(o)
		}
	}
	if c.note.Msg != "" {
		m.emit(c.note)
	}
	if !m.fromFile && !m.ahead.on {
		m.save()
	}
	m.finish(now)
	m.retireOld(now)
}

// finish tells how the hold that ends now went.
func (m *Machine) finish(now time.Duration) {
	f := m.failover
	m.failover = nil
	if f == nil {
		m.info("serving", attrAddr("master", m.pair.addr), attrEpoch("epoch", m.pair.epoch),
			slog.String("why", m.why))
		return
	}
	f.mark(now, PhaseServing)
	f.To, f.Epoch, f.Took = m.pair.addr, m.pair.epoch, now-f.Started
	changed := f.To != f.From || f.Epoch != f.FromEpoch
	switch {
	case f.Outcome == OutcomeDown:
	case changed:
		f.Outcome = OutcomeFollowed
	default:
		f.Outcome = OutcomeCleared
	}
	if changed {
		m.info("master switched", attrAddr("from", f.From), attrAddr("to", f.To), attrEpoch("epoch", f.Epoch),
			slog.Duration("took", f.Took), slog.String("cause", f.Cause.String()), optional("follow", m.followed()), f.attrs())
	} else {
		m.info("hold cleared", attrAddr("master", f.To), attrEpoch("epoch", f.Epoch),
			slog.Duration("took", f.Took), slog.String("cause", f.Cause.String()))
	}
	m.emit(Finished{*f})
}

// move is the one place where the state changes.
func (m *Machine) move(now time.Duration, s topology.State, why string) {
	m.state, m.since, m.why = s, now, why
	m.stateGen = m.gen + 1
	m.replicas = m.readable(now)
	m.publish()
}

// publish gives out the route as it is now.
func (m *Machine) publish() {
	m.gen++
	m.emit(Publish{m.Route()})
}

// heldState is how a route that holds is called: an ended lease among the causes
// says more than the others.
func (m *Machine) heldState() topology.State {
	for _, c := range m.causes {
		if c.kind == CauseLeaseEnded {
			return topology.Fenced
		}
	}
	return topology.Holding
}

// phrase tells why we hold now: the lease, or the oldest open cause.
func (m *Machine) phrase() string {
	if m.heldState() == topology.Fenced {
		return CauseLeaseEnded.phrase()
	}
	if len(m.causes) > 0 {
		return m.causes[0].kind.phrase()
	}
	return m.why
}

// doubted reports whether any open cause says that promotion may have begun.
func (m *Machine) doubted() bool {
	return slices.ContainsFunc(m.causes, func(c *cause) bool { return c.kind.doubts() })
}

// suspected reports whether any open cause says that promotion may, but need not,
// have begun.
func (m *Machine) suspected() bool {
	return slices.ContainsFunc(m.causes, func(c *cause) bool { return c.kind.suspects() })
}

// selectedNow reports whether a replica was selected for promotion a moment ago.
func (m *Machine) selectedNow(now time.Duration) bool {
	return slices.ContainsFunc(m.causes, func(c *cause) bool {
		return c.kind == CauseSelected && now-c.at < selectedFresh
	})
}

// pace asks nodes and Sentinels faster while nothing is served.
func (m *Machine) pace(now time.Duration) {
	started := m.since
	if m.failover != nil {
		started = m.failover.Started
	}
	early := now-started < fastFor
	if fast := (m.state != topology.Serving || m.ahead.on) && early; fast != m.fast {
		m.fast = fast
		m.emit(SetFast{fast})
	}
	if now < m.nextAsk {
		return
	}
	if m.state == topology.Serving {
		if m.ahead.on {
			m.nextAsk = now + askSlow
			m.emit(AskNodes{[]topology.Addr{m.ahead.base.addr}})
		}
		return
	}
	m.nextAsk = now + askSlow
	if early {
		m.nextAsk = now + askFast
	}
	if len(m.watched) > 0 {
		m.emit(AskNodes{slices.Clone(m.watched)})
	}
}

// save tells the state file what is served, when that has changed.
func (m *Machine) save() {
	s := Saved{
		Group: m.group, Master: m.pair.addr, Epoch: m.pair.epoch,
		Replicas: m.listedReplicas(), DownAfter: m.downAfter,
	}
	l := m.lastSaved
	if s.Master == l.Master && s.Epoch == l.Epoch && s.DownAfter == l.DownAfter && slices.Equal(s.Replicas, l.Replicas) {
		return
	}
	m.lastSaved = s
	m.emit(Save{s})
}

// Next returns the time since boot at which the machine wants a [Tick] at the latest,
// always after now; [Never] if only events can change anything.
func (m *Machine) Next(now time.Duration) time.Duration {
	next := Never
	if m.state == topology.Serving {
		if m.lease != nil {
			next = m.leaseUntil
		}
		if m.regressing(pair{m.obs.Master, m.obs.Epoch}) {
			next = min(next, max(m.agreedSince+insist+1, now+askSlow))
		}
		for _, c := range m.deferred {
			next = min(next, m.calm[c.kind])
		}
		if m.ahead.on {
			next = min(next, m.nextAsk)
		}
		if m.policy.demotes() && !m.fencing.asking {
			next = min(next, m.rightsDue())
		}
	} else {
		next = m.nextAsk
		if limit := m.policy.HoldMax.in(m.knownDownAfter()); limit > 0 && m.failover != nil && m.state != topology.Down {
			next = min(next, m.failover.Started+limit)
		}
		for _, c := range m.causes {
			switch {
			case c.kind == CauseReplicaClosed && now < c.at+suspicionMax:
				next = min(next, c.at+suspicionMax)
			case c.kind == CauseSelected && now < c.at+selectedFresh:
				next = min(next, c.at+selectedFresh)
			case c.kind == CauseRefused && now < c.at+refusalMax:
				next = min(next, c.at+refusalMax)
			case c.kind == CauseSwitchover && m.switching != nil && !m.switching.committed:
				next = min(next, m.switching.until)
			}
		}
	}
	return max(next, now+time.Millisecond)
}

// State returns the route's state; 0 before the first Step.
func (m *Machine) State() topology.State { return m.state }

// Route returns the route as it was last published.
func (m *Machine) Route() topology.Route {
	return topology.Route{
		Group: m.group, Gen: m.gen, State: m.state, Master: m.pair.addr, Epoch: m.shown,
		Doubt: m.doubt, Suspect: m.suspect, Cut: m.state == topology.Down && m.cut, Since: m.since, Why: m.why, HoldTimeout: m.holdTimeout,
		Replicas: m.replicas, Lease: m.lease,
	}
}
