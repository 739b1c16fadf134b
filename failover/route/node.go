package route

import (
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// node is what we know of one data node: its last probe, and what it was before.
type node struct {
	last   NodeSeen // its outcome; valid if probed
	probed bool
	silent time.Duration // since when it has not answered; 0: it did the last time
	// wasReplica says that it called itself replica since the pair we serve was
	// first served. Only of such a node is role master a promotion; of others it is
	// a former master that no Sentinel has converted yet (for about 10 s).
	wasReplica bool
}

// seen takes one probe's outcome. An answer older than the last one is dropped.
func (m *Machine) seen(now time.Duration, ev NodeSeen) {
	n := m.nodes[ev.Addr]
	if n == nil {
		return // no longer watched
	}
	if n.probed && ev.SentAt < n.last.SentAt {
		return
	}
	n.last, n.probed = ev, true
	switch {
	case ev.Err == "" || ev.NoAuth: // with a role and an error a script keeps it busy
		n.silent = 0
	case n.silent == 0:
		n.silent = ev.SentAt
	}
	if ev.NoAuth && !m.toldNoAuth {
		m.toldNoAuth = true
		m.warn("account may not call role", attrNode(ev.Addr), attrErr(ev.Err))
	}
	for _, c := range m.causes {
		c.polled(ev, m.reference().addr)
	}
	switch ev.Role {
	case topology.RoleReplica:
		n.wasReplica = true
		if m.isMaster(ev.Addr) {
			m.raise(now, cause{kind: CauseMasterDemoted, addr: ev.Addr})
			m.renounced(now, ev)
		}
	case topology.RoleMaster:
		if m.served && !m.isMaster(ev.Addr) {
			if n.wasReplica {
				m.reach(now, PhasePromoted, ev.Addr)
				m.raise(now, cause{kind: CauseReplicaMaster, addr: ev.Addr})
			}
		}
	case topology.RoleUnknown:
		lost := m.lostAt > 0 && now-m.lostAt < lostFor
		if m.isMaster(ev.Addr) && !ev.NoAuth && (ev.Refused || lost) {
			m.raise(now, cause{kind: CauseUnreachable, addr: ev.Addr})
		}
	}
}

// renounced warns, once per hold, of a master that follows another which the
// Sentinels do not name: somebody ran FAILOVER or REPLICAOF behind their back. Until
// they notice (after 20 s and more) and elect, the route holds.
func (m *Machine) renounced(now time.Duration, ev NodeSeen) {
	if (Demote{ev.Addr, ev.Master}) == m.fencing.ordered {
		return // that was us
	}
	if m.failover == nil || m.failover.renounced || !m.agreedOn(m.pair, now-recent) {
		return
	}
	if x, ok := m.answered(ev.Master, now-recent); ok && x.Role == topology.RoleMaster {
		m.failover.renounced = true
		m.warn("nodes switched behind the sentinels' back", attrAddr("master", ev.Addr), attrAddr("follows", ev.Master))
	}
}

// closed takes a node's closing of its idle connection.
func (m *Machine) closed(now time.Duration, addr topology.Addr) {
	n := m.nodes[addr]
	if n == nil {
		return
	}
	m.emit(AskNodes{[]topology.Addr{addr}})
	switch {
	case m.isMaster(addr):
		m.lost(now)
	case m.served && n.last.Role == topology.RoleReplica && (n.last.Master == m.pair.addr || n.last.Master == ""):
		// One that did not follow our master yet is being reconfigured, which
		// closes its connections too.
		m.raise(now, cause{kind: CauseReplicaClosed, addr: addr})
	}
}

// lost takes the end of a connection to the master. It proves nothing (CLIENT KILL,
// ACL DELUSER and output limits end connections too), so the master is asked.
func (m *Machine) lost(now time.Duration) {
	m.lostAt = now
	m.emit(AskNodes{[]topology.Addr{m.pair.addr}})
	m.emit(AskSentinels{})
}

func (m *Machine) isMaster(a topology.Addr) bool { return m.served && a == m.pair.addr }

// answered returns the last probe of addr if it was sent after the given time.
func (m *Machine) answered(addr topology.Addr, after time.Duration) (NodeSeen, bool) {
	n := m.nodes[addr]
	if n == nil || !n.probed || n.last.SentAt <= after {
		return NodeSeen{}, false
	}
	return n.last, true
}

// saysMaster reports whether addr has said, to a question sent after the given
// time, that it is master. Where our account may not ask, the Sentinels' word is
// taken: every backend handshake of the data path checks the role itself.
func (m *Machine) saysMaster(addr topology.Addr, after time.Duration) bool {
	n, ok := m.answered(addr, after)
	if !ok {
		return false
	}
	return n.Role == topology.RoleMaster ||
		n.NoAuth && n.Role == topology.RoleUnknown &&
			m.obs.Master == addr && m.obs.RoleReported == topology.RoleMaster
}

func (m *Machine) saysReplica(addr topology.Addr, after time.Duration) bool {
	n, ok := m.answered(addr, after)
	return ok && n.Role == topology.RoleReplica
}

// silent reports whether a question sent to addr after the given time brought no
// role: nobody answered, or our account may not ask.
func (m *Machine) silent(addr topology.Addr, after time.Duration) bool {
	n, ok := m.answered(addr, after)
	return ok && n.Role == topology.RoleUnknown
}

// follows reports whether every one of addrs says that it follows master, and the
// send time of the oldest of these answers. No address at all counts as yes, from
// the time the master itself last said that it is one.
func (m *Machine) follows(addrs []topology.Addr, master topology.Addr) (time.Duration, bool) {
	oldest := time.Duration(0)
	others := 0
	for _, a := range addrs {
		if a == master {
			continue
		}
		n := m.nodes[a]
		if n == nil || !n.probed || n.last.Role != topology.RoleReplica || n.last.Master != master {
			return 0, false
		}
		if others == 0 || n.last.SentAt < oldest {
			oldest = n.last.SentAt
		}
		others++
	}
	if others > 0 {
		return oldest, true
	}
	n := m.nodes[master]
	if n == nil || !n.probed || n.last.Role != topology.RoleMaster {
		return 0, false
	}
	return n.last.SentAt, true
}

// rewatch brings the set of watched nodes up to date.
func (m *Machine) rewatch() {
	var want []topology.Addr
	add := func(a topology.Addr) {
		if a != "" && len(want) < watchCap && !slices.Contains(want, a) {
			want = append(want, a)
		}
	}
	// The most needed first: a lying Sentinel may list more than the cap.
	add(m.pair.addr)
	add(m.obs.Master)
	add(m.ahead.base.addr)
	if m.policy.Demote == DemoteAuto {
		add(m.fencing.old)
	}
	for _, c := range m.causes {
		add(c.addr)
	}
	for _, v := range m.obs.Views {
		if v.Up {
			add(v.Master)
		}
	}
	for _, r := range m.obs.Replicas {
		add(r.Addr)
	}
	for _, a := range m.failsafe {
		add(a)
	}
	if !m.served && m.obs.Answering == 0 {
		add(m.saved.Master)
		for _, a := range m.saved.Replicas {
			add(a)
		}
	}
	slices.Sort(want)
	every := watchDef
	if m.downAfter > 0 {
		every = min(m.leaseLength()/4, watchMax)
	}
	if slices.Equal(want, m.watched) && every == m.every {
		return
	}
	m.watched, m.every = want, every
	for a := range m.nodes {
		if _, ok := slices.BinarySearch(want, a); !ok {
			delete(m.nodes, a)
		}
	}
	for _, a := range want {
		if m.nodes[a] == nil {
			m.nodes[a] = &node{}
		}
	}
	m.emit(Watch{Addrs: slices.Clone(want), Every: every})
}
