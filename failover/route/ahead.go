package route

import (
	"log/slog"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Following fast: a new master is served about a second before a majority names it.
// Role master alone is not enough for that (if the leading Sentinel dies right after
// the promotion, the others turn the promoted node back and all its writes are lost),
// so the old master must first be no master any more: demoted by us, or gone.
//
// Until a majority names it the route is "ahead" of the Sentinels. Its epoch is then
// a guess, one more than the last: no less than that can come. It counts for nothing
// against what a majority names at a newer epoch than the last.

// ahead is what a route that is ahead of the Sentinels rests on.
type ahead struct {
	on    bool
	base  pair          // the pair before, which a majority named
	since time.Duration // when it began
}

// floor is the newest epoch at which a majority was followed: what it names at that
// or a lower one is the past.
func (m *Machine) floor() uint64 {
	if m.ahead.on {
		return m.ahead.base.epoch
	}
	return m.pair.epoch
}

// candidate returns the one node that everything we know of calls the next master.
// Any contradiction is reason enough to wait for the majority: two candidates, a sign
// that names none, an aborted failover, a third node that says master.
func (m *Machine) candidate() (topology.Addr, bool) {
	var next topology.Addr
	named, elected := true, false
	name := func(a topology.Addr) {
		if next == "" {
			next = a
		}
		named = named && a != "" && a == next
	}
	for _, c := range m.causes {
		switch {
		case c.kind.sign():
			name(c.addr)
			elected = true
			named = named && !c.aborted
		case c.kind.claim():
			if c.withdrawn {
				continue
			}
			name(c.addr)
			elected = true
			named = named && c.epoch > m.pair.epoch
		case c.kind == CauseReplicaMaster:
			name(c.addr)
		case c.kind == CauseSwitchover:
			// We had it elected. Whom, the node's own word tells: there must be one.
			elected = elected || m.switching != nil && m.switching.committed
			named = named && !c.aborted
		}
	}
	for a, n := range m.nodes {
		if n.probed && n.last.Role == topology.RoleMaster && a != m.pair.addr {
			name(a)
		}
	}
	return next, named && elected && next != "" && next != m.pair.addr && !m.obs.Conflict
}

// leap returns the candidate if it may be served before a majority names it. Where
// only the old master's role is in the way, it orders the demotion.
func (m *Machine) leap(now time.Duration) (choice, bool) {
	if !m.mayLeap() || !m.served || m.ahead.on || m.fromFile || m.failover == nil ||
		m.majorityElsewhere() {
		return choice{}, false
	}
	next, ok := m.candidate()
	if !ok {
		return choice{}, false
	}
	since := max(m.failover.Started, now-recent)
	n, ok := m.answered(next, since)
	if !ok || n.Role != topology.RoleMaster || !m.nodes[next].wasReplica {
		return choice{}, false
	}
	others := m.others(next)
	for _, a := range others[1:] {
		if !m.saysReplica(a, now-recent) {
			return choice{}, false // it may be another candidate
		}
	}
	old := m.pair.addr
	switch o, ok := m.answered(old, since); {
	case !ok:
		return choice{}, false
	case o.Role == topology.RoleMaster:
		m.demote(now, old, next)
		return choice{}, false
	case o.Role == topology.RoleReplica && o.Master == next:
		m.failover.mark(now, PhaseDemoted)
	case m.gone(old, max(since, now-goneFor)):
	default:
		return choice{}, false // it hangs, is out of reach, or follows a third: nothing is proven
	}
	return choice{
		pair: pair{next, m.pair.epoch + 1}, why: "it was promoted and the old master is demoted or gone",
		ahead: true, failsafe: others,
	}, true
}

// others returns the nodes that must be no masters while next is served ahead: the
// old master, which comes first, and every replica that no Sentinel calls down.
func (m *Machine) others(next topology.Addr) []topology.Addr {
	all := []topology.Addr{m.pair.addr}
	for _, a := range m.upReplicas() {
		if a != next && a != m.pair.addr {
			all = append(all, a)
		}
	}
	return all
}

// unrivalled reports whether none of others is master, and the send time of the
// oldest of these answers: each says replica, of whomever, or is the old master and
// gone. It renews the lease while the route is ahead, in place of the replicas' word
// that they follow us: a dead leader has not told them to.
func (m *Machine) unrivalled(others []topology.Addr) (time.Duration, bool) {
	old := m.pair.addr
	if m.ahead.on {
		old = m.ahead.base.addr
	}
	oldest := Never
	for _, a := range others {
		n := m.nodes[a]
		if n == nil || !n.probed || n.last.Role != topology.RoleReplica && (a != old || !n.last.Refused) {
			return 0, false
		}
		oldest = min(oldest, n.last.SentAt)
	}
	return oldest, len(others) > 0
}

// confirm ends being ahead: a majority names our master. Routes keep the epoch they
// were given, so that nothing in flight is judged as another master's.
func (m *Machine) confirm(now time.Duration, epoch uint64) {
	m.info("majority confirms the master", attrAddr("master", m.pair.addr), attrEpoch("epoch", epoch),
		slog.Duration("ahead_for", now-m.ahead.since))
	m.ahead = ahead{}
	m.pair.epoch = epoch
}

// overtaken reports whether being ahead has come to nothing: a majority still stands
// by the pair before, whose node says master, and ours does not any more.
func (m *Machine) overtaken(now time.Duration) bool {
	if !m.ahead.on || m.failover == nil {
		return false
	}
	base, since := m.ahead.base, max(m.failover.Started, now-recent)
	return m.agreedOn(base, since) && m.saysMaster(base.addr, since) && !m.disputed(now, base) &&
		(m.saysReplica(m.pair.addr, since) || now-m.failover.Started > insist && m.silent(m.pair.addr, since))
}

// followed returns "fast" while the route is ahead, for the log.
func (m *Machine) followed() string {
	if m.ahead.on {
		return FollowFast.String()
	}
	return ""
}

// watchOld holds a route that is ahead when what it rests on ends: the old master
// says master again, or neither answers nor is proven gone any more.
func (m *Machine) watchOld(now time.Duration) {
	old := m.ahead.base.addr
	if m.ahead.on && m.state == topology.Serving && !m.gone(old, now-goneFor) && !m.saysReplica(old, 0) {
		m.raise(now, cause{kind: CauseOldMaster, addr: old})
	}
}

// subdueOld demotes an old master that is back, if ours still says master too and no
// Sentinel speaks of another failover: that may be one back to it.
func (m *Machine) subdueOld(now time.Duration) {
	old := m.ahead.base.addr
	if !m.ahead.on || !m.saysMaster(old, now-recent) || !m.saysMaster(m.pair.addr, now-recent) ||
		slices.ContainsFunc(m.causes, func(c *cause) bool { return c.kind.sign() || c.kind.claim() && !c.withdrawn }) {
		return
	}
	m.demote(now, old, m.pair.addr)
}

// gone reports whether nothing listened at addr when it was asked after the given
// time: its process has ended. That a node can't be reached proves nothing.
func (m *Machine) gone(addr topology.Addr, after time.Duration) bool {
	n, ok := m.answered(addr, after)
	return ok && n.Refused
}
