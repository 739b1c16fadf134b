package route

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// A switchover is a failover that somebody asked us for. The machine holds for it with
// CauseSwitchover, so that all that was sent can be answered and replicated before a
// Sentinel is told to fail over. From then on it is a failover like any other, of which
// one thing is known beforehand: that it is meant.
//
// Whoever carries it out may die or be cut off at any time. Before the commit the
// deadline releases the hold, after it the rule for a failover that did not come.

// SwitchoverBegun asks for a hold. It does nothing unless the route serves what a
// majority names; see [Machine.Switchover].
type SwitchoverBegun struct {
	Until time.Duration // the hold ends then, unless it was committed
	Fast  bool          // demote the old master and go ahead of the majority
}

// SwitchoverCommitted asks for the right to tell Sentinel to fail over. It is given if
// nothing but the switchover holds: then a failover that comes is this one. After it
// the hold no longer ends by its deadline.
type SwitchoverCommitted struct{ Sentinel topology.Addr }

// SwitchoverRefused says that the Sentinel of the last commit has refused, so that no
// failover comes of it: the commit is taken back.
type SwitchoverRefused struct{}

// SwitchoverEnded calls the switchover off. After the commit it does nothing.
type SwitchoverEnded struct{}

func (SwitchoverBegun) event()     {}
func (SwitchoverCommitted) event() {}
func (SwitchoverRefused) event()   {}
func (SwitchoverEnded) event()     {}

// switchover is the one under way; it lives as long as its cause is open.
type switchover struct {
	until     time.Duration
	fast      bool
	committed bool
	ended     bool
}

// Switchover reports whether a switchover holds the route, and whether it is committed.
func (m *Machine) Switchover() (under, committed bool) {
	return m.switching != nil, m.switching != nil && m.switching.committed
}

// begin holds for a switchover, if all is well.
func (m *Machine) begin(now time.Duration, ev SwitchoverBegun) {
	if m.state != topology.Serving || m.ahead.on || m.fromFile || m.switching != nil || ev.Until <= now {
		return
	}
	m.switching = &switchover{until: ev.Until, fast: ev.Fast}
	m.raise(now, cause{kind: CauseSwitchover})
}

// commit makes the hold outlast its deadline, if it is for the switchover alone.
func (m *Machine) commit(now time.Duration, ev SwitchoverCommitted) {
	s := m.switching
	if s == nil || s.ended || now >= s.until || len(m.causes) != 1 || m.state != topology.Holding {
		return
	}
	s.committed = true
	m.causes[0].sentinel, m.causes[0].at, m.causes[0].aborted = ev.Sentinel, now, false
}

// switchoverCleared is the rule for a switchover that does not come. Once it was
// committed it is that of a sign which names no candidate, except that five seconds must
// pass: nobody says that the promotion follows within a moment.
func (m *Machine) switchoverCleared(now time.Duration, c *cause) bool {
	s := m.switching
	switch {
	case s == nil:
		return true
	case !s.committed:
		return s.ended || now >= s.until
	case c.aborted:
		return m.saysMaster(m.reference().addr, c.at)
	}
	return now-c.at > insist && m.saysMaster(m.reference().addr, c.at+settle) && m.confirmed(c.at+settle)
}

// mayLeap reports whether a promoted node may be served ahead of the majority: a
// switchover says so for itself, whatever the mode.
func (m *Machine) mayLeap() bool {
	if m.switching != nil && m.switching.committed {
		return m.switching.fast
	}
	return m.policy.Follow == FollowFast
}

// Preflight returns what speaks against a switchover as far as the machine knows, all
// of it, each as one line that says what to change. with is what is going to be asked.
func (m *Machine) Preflight(now time.Duration, with SwitchoverBegun) []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if m.state != topology.Serving {
		add("the route is %s: %s", m.state, m.why)
		if !m.served {
			return found
		}
	}
	o := &m.obs
	if m.ahead.on {
		add("no majority names %s yet: wait until one does", m.pair.addr)
	} else if m.fromFile {
		add("the master is known from the state file alone: bring the Sentinels back")
	}
	switch {
	case o.Answering == 0:
		add("no Sentinel answers: bring them back")
	case !o.Agreed:
		add("no majority: %d of %d known Sentinels name %s at epoch %d", o.Support, o.Known, o.Master, o.Epoch)
	case !m.ahead.on && (pair{o.Master, o.Epoch}) != m.pair:
		add("a majority names %s at epoch %d, and %s at %d is served", o.Master, o.Epoch, m.pair.addr, m.pair.epoch)
	case o.AgreedAt < now-recent:
		add("the last majority is %s old: are the Sentinels slow?", (now - o.AgreedAt).Round(time.Millisecond))
	}
	for _, v := range o.Views {
		found = append(found, m.objections(v)...)
	}
	for _, a := range m.watched {
		n := m.nodes[a]
		if n.probed && n.last.Role == topology.RoleMaster && a != m.pair.addr {
			add("%s says it is master too: wait until Sentinel has made it a replica, or do so", a)
		}
	}
	if n := m.nodes[m.pair.addr]; n != nil && n.last.NoAuth {
		add("our account may not call ROLE on %s: grant +role to redis.user", m.pair.addr)
	}
	if with.Fast && m.policy.Fence == FenceOff {
		add("with fence.mode off the signs of a promotion are ignored: use --strict")
	}
	pause := with.Until - now
	if m.holdTimeout < pause {
		add("hold.timeout is %v, so commands would fail within a pause of %v: lower --max-pause, or raise hold.timeout", m.holdTimeout, pause)
	}
	if limit := m.policy.HoldMax.in(m.knownDownAfter()); limit > 0 && limit < pause {
		add("hold.max is %v, so commands would fail within a pause of %v: lower --max-pause, or raise hold.max", limit, pause)
	}
	return found
}

// objections returns what one Sentinel's view says against a switchover.
func (m *Machine) objections(v topology.View) []string {
	var found []string
	add := func(format string, args ...any) {
		found = append(found, fmt.Sprintf("Sentinel %s "+format, append([]any{v.Sentinel}, args...)...))
	}
	switch {
	case !v.Up: // a majority does without it
		return nil
	case v.Master == "":
		add("does not know the group %q", m.group)
		return found
	case (pair{v.Master, v.Epoch}) != m.pair && !m.ahead.on:
		add("names %s at epoch %d; want %s at %d from all that answer", v.Master, v.Epoch, m.pair.addr, m.pair.epoch)
	}
	if v.Tilt {
		add("is in tilt mode, its clock jumped: wait half a minute")
	}
	for flag := range strings.SplitSeq(v.Flags, ",") {
		switch flag {
		case "failover_in_progress":
			add("has a failover under way: wait for its end")
		case "s_down", "o_down":
			add("calls the master down (%s)", flag)
		}
	}
	return found
}

// SwitchoverReplicas returns the replicas that Sentinel may promote as far as the
// Observation says: up, with a priority above 0. Sorted by address.
func (m *Machine) SwitchoverReplicas() []topology.Replica {
	return slices.DeleteFunc(slices.Clone(m.obs.Replicas), func(r topology.Replica) bool {
		return !r.Up || r.Priority == 0
	})
}
