package route

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// sim is a group as a machine meets it: nodes that answer its questions a
// millisecond after they were asked, and Sentinels that are polled at the pace it
// wants. It is deterministic.
type sim struct {
	m     *Machine
	now   time.Duration
	start time.Duration

	nodes     map[topology.Addr]*simNode
	views     []simView
	known     int
	replicas  []topology.Replica
	downAfter time.Duration
	muted     bool // no observation reaches the machine

	queue   []simEvent
	seq     int
	fast    bool
	watched []topology.Addr
	every   time.Duration
	probeAt time.Duration // next round of ordinary probes
	pollAt  time.Duration // next round of ordinary polls

	refused string // why the machine refused its policy

	log   []string
	check func(*sim, Action) // sees every action
}

type simNode struct {
	role    topology.Role
	master  topology.Addr
	refused bool
	hung    bool
	noAuth  bool
	guarded bool // our account may not demote it
	offset  int64
}

type simView struct {
	addr  topology.Addr
	epoch uint64
	up    bool
	tilt  bool
}

type simEvent struct {
	at  time.Duration
	seq int
	ev  Event
}

func newSim(p Policy, saved Saved) *sim {
	const start = 1000 * time.Second
	s := &sim{
		m: New("g", p, saved), now: start, start: start, downAfter: time.Second, every: watchDef,
		nodes: make(map[topology.Addr]*simNode), probeAt: start, pollAt: start,
	}
	return s
}

// merge is the Follower's rule, as far as these tests need it.
func (s *sim) merge() topology.Observation {
	o := topology.Observation{Group: "g", Known: s.known, DownAfter: s.downAfter, Replicas: slices.Clone(s.replicas)}
	if o.Known == 0 {
		o.Known = len(s.views)
	}
	support := map[pair]int{}
	for i, v := range s.views {
		a := topology.Addr(fmt.Sprintf("s%d", i+1))
		o.Views = append(o.Views, topology.View{
			Sentinel: a, RunID: string(a), Up: v.up, SentAt: s.now, Master: v.addr, Epoch: v.epoch,
			DownAfter: s.downAfter, Tilt: v.tilt,
		})
		if !v.up {
			continue
		}
		o.Answering++
		if !v.tilt {
			support[pair{v.addr, v.epoch}]++
		}
		switch {
		case v.epoch > o.MaxEpoch || o.MaxAddr == "":
			o.MaxEpoch, o.MaxAddr, o.Conflict = v.epoch, v.addr, false
		case v.epoch == o.MaxEpoch && v.addr != o.MaxAddr:
			o.Conflict = true
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(support), func(a, b pair) int {
		return cmp.Or(cmp.Compare(b.epoch, a.epoch), cmp.Compare(a.addr, b.addr))
	}) {
		if n := support[p]; n > o.Support {
			o.Master, o.Epoch, o.Support = p.addr, p.epoch, n
		}
	}
	o.Agreed = o.Support*2 > o.Known
	o.Unanimous = o.Support > 0 && o.Support == o.Answering
	if o.Agreed {
		o.AgreedAt = s.now
		o.RoleReported = topology.RoleMaster
	}
	return o
}

func (s *sim) seen(a topology.Addr, sent time.Duration) NodeSeen {
	ev := NodeSeen{Addr: a, SentAt: sent, At: s.now}
	n := s.nodes[a]
	switch {
	case n == nil || n.refused:
		ev.Refused, ev.Err = true, "connection refused"
	case n.hung:
		ev.Err = "timeout"
	case n.noAuth:
		ev.NoAuth, ev.Err = true, "NOPERM"
	default:
		ev.Role, ev.Master, ev.LinkUp, ev.Offset = n.role, n.master, n.role == topology.RoleReplica, n.offset
	}
	return ev
}

// step gives the machine one event, and does what it asks.
func (s *sim) step(ev Event) {
	for _, a := range s.m.Step(s.now, ev) {
		if s.check != nil {
			s.check(s, a)
		}
		switch a := a.(type) {
		case Publish:
			s.logf("publish %s", printRoute(a.Route))
		case Note:
			s.logf("%s %s%s", strings.ToLower(a.Level.String()), a.Msg, printAttrs(a.Attrs))
		case Finished:
			s.logf("finished %s %s -> %s/%d phases%s", a.Outcome, a.From, a.To, a.Epoch, printPhases(a.Phases))
		case ExtendLease:
			a.Lease.Extend(a.Until)
		case Watch:
			s.watched, s.every = a.Addrs, a.Every
		case AskNodes:
			for _, addr := range a.Addrs {
				if slices.Contains(s.watched, addr) {
					s.ask(addr)
				}
			}
		case AskSentinels:
			s.pollAt = min(s.pollAt, s.now+time.Millisecond)
		case SetFast:
			s.fast = a.On
			s.pollAt = min(s.pollAt, s.now+time.Millisecond)
		case Demote:
			s.logf("demote %s -> %s", a.Target, a.Master)
			s.post(time.Millisecond, Demoted{Target: a.Target, Master: a.Master})
		case CheckRights:
			s.post(time.Millisecond, RightsSeen{Addr: a.Addr})
		case Refuse:
			s.logf("refuse %s", a.Why)
			s.refused = a.Why
		case Save:
			s.logf("save %s/%d", a.Master, a.Epoch)
		case Held:
		}
	}
}

// ask sends a probe now; its outcome is told a millisecond later, and what it was
// sent at lies just after the machine's question, as it does in life.
func (s *sim) ask(a topology.Addr) {
	sent := s.now + 100*time.Microsecond
	for _, e := range s.queue {
		if n, ok := e.ev.(NodeSeen); ok && n.Addr == a && n.SentAt == sent {
			return
		}
	}
	s.post(time.Millisecond, NodeSeen{Addr: a, SentAt: sent})
}

func (s *sim) post(after time.Duration, ev Event) {
	s.seq++
	s.queue = append(s.queue, simEvent{s.now + after, s.seq, ev})
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	end := s.now + d
	for {
		next := min(s.m.Next(s.now), s.probeAt, s.pollAt)
		slices.SortFunc(s.queue, func(a, b simEvent) int { return cmp.Or(cmp.Compare(a.at, b.at), a.seq-b.seq) })
		if len(s.queue) > 0 {
			next = min(next, s.queue[0].at)
		}
		if next > end {
			s.now = end
			return
		}
		s.now = max(s.now, next)
		switch {
		case len(s.queue) > 0 && s.queue[0].at <= s.now:
			ev := s.queue[0].ev
			s.queue = s.queue[1:]
			if n, ok := ev.(NodeSeen); ok {
				ev = s.seen(n.Addr, n.SentAt)
			}
			if d, ok := ev.(Demoted); ok {
				d = s.demote(d)
				if d.Outcome == DemotionDone {
					s.step(NodeClosed{d.Target}) // it ends its connections in the same transaction
				}
				ev = d
			}
			if r, ok := ev.(RightsSeen); ok {
				ev = s.rights(r)
			}
			s.step(ev)
		case s.pollAt <= s.now:
			s.pollAt = s.now + 175*time.Millisecond
			if s.fast {
				s.pollAt = s.now + 25*time.Millisecond
			}
			if !s.muted {
				s.step(Observed{s.merge()})
			}
		case s.probeAt <= s.now:
			s.probeAt = s.now + s.every
			for _, a := range s.watched {
				s.ask(a)
			}
		default:
			s.step(Tick{})
		}
	}
}

// demote does what the machine ordered a millisecond ago, as the controller does it.
func (s *sim) demote(d Demoted) Demoted {
	target, master := s.nodes[d.Target], s.nodes[d.Master]
	is := func(n *simNode) bool {
		return n != nil && !n.refused && !n.hung && !n.noAuth && n.role == topology.RoleMaster
	}
	switch {
	case !is(target) || !is(master):
		d.Outcome, d.Err = DemotionSkipped, "no master"
	case target.guarded:
		d.Outcome, d.Err = DemotionForbidden, "NOPERM"
	default:
		d.Outcome = DemotionDone
		target.role, target.master = topology.RoleReplica, d.Master
	}
	return d
}

// rights answers whether we may demote a node.
func (s *sim) rights(r RightsSeen) RightsSeen {
	switch n := s.nodes[r.Addr]; {
	case n == nil || n.refused || n.hung:
		r.Err = "unreachable"
	case n.guarded || n.noAuth:
		r.Denied, r.Err = true, "NOPERM"
	}
	return r
}

func (s *sim) logf(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf("%7.1fms ", float64(s.now-s.start)/1e6)+fmt.Sprintf(format, args...))
}

func printRoute(r topology.Route) string {
	out := r.State.String()
	if r.Master != "" {
		out += fmt.Sprintf(" %s/%d", r.Master, r.Epoch)
	}
	if r.Doubt {
		out += " doubt"
	}
	if r.Suspect {
		out += " suspect"
	}
	if len(r.Replicas) > 0 {
		out += fmt.Sprintf(" replicas=%s", r.Replicas)
	}
	return out + fmt.Sprintf(" timeout=%v: %s", r.HoldTimeout, r.Why)
}

func printAttrs(attrs []slog.Attr) string {
	var b strings.Builder
	for _, a := range attrs {
		if a.Value.Kind() != slog.KindGroup {
			fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		}
	}
	return b.String()
}

func printPhases(ps []Phase) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, " %s=%v", p.Name, p.After)
	}
	return b.String()
}
