package route

import (
	"log/slog"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// observe takes what all Sentinels say together.
func (m *Machine) observe(now time.Duration, o topology.Observation) {
	before := m.obs
	m.obs = o
	m.heard = m.heard || o.Answering > 0
	if o.DownAfter > 0 && o.DownAfter != m.downAfter {
		m.downAfter = o.DownAfter
		m.learned()
	}
	p := pair{o.Master, o.Epoch}
	switch {
	case !o.Agreed:
		m.agreedSince = 0
	case m.agreedSince == 0 || p != (pair{before.Master, before.Epoch}):
		m.agreedSince = now
	}
	if o.Agreed && m.ahead.on && p.addr == m.pair.addr && p.epoch > m.floor() {
		m.confirm(now, p.epoch)
	}
	if o.Agreed && m.served && p == m.pair {
		m.failsafe, m.fromFile = m.upReplicas(), false
		m.save()
	}
	if o.Agreed && m.served && p != m.pair && p.epoch >= m.pair.epoch {
		m.reach(now, PhaseMajority, o.Master)
	}
	if m.served && before.Answering > 0 && o.Answering == 0 {
		m.warn("no sentinel answers", attrAddr("master", m.pair.addr), slog.Int("known", o.Known))
	}
	if m.served && before.Group != "" && before.Answering == 0 && o.Answering > 0 {
		m.info("sentinels answer again", slog.Int("answering", o.Answering), slog.Int("known", o.Known))
	}
	m.claims(now)
}

// claims raises what contradicts our pair in any single view, and notes what was
// withdrawn. One view is enough: the highest epoch fences, the majority decides.
func (m *Machine) claims(now time.Duration) {
	p := m.reference()
	if p.addr == "" {
		return
	}
	for _, v := range m.obs.Views {
		if !v.Up || v.Master == "" {
			continue
		}
		claimed := pair{v.Master, v.Epoch}
		for _, c := range m.causes {
			if c.kind.sign() && c.addr == v.Master && v.Epoch > p.epoch {
				c.epoch = max(c.epoch, v.Epoch)
			}
		}
		if m.ignored[v.Sentinel] == claimed {
			continue
		}
		delete(m.ignored, v.Sentinel)
		switch {
		case m.ahead.on && claimed.addr == p.addr:
			m.withdraw(v.Sentinel) // one more that knows our master by now
		case claimed.epoch > p.epoch:
			m.raise(now, cause{kind: CauseHigherEpoch, addr: v.Master, epoch: v.Epoch, sentinel: v.Sentinel})
		case claimed.epoch == p.epoch && claimed.addr != p.addr:
			m.raise(now, cause{kind: CauseConflict, addr: v.Master, epoch: v.Epoch, sentinel: v.Sentinel})
		default:
			m.withdraw(v.Sentinel)
		}
	}
}

// withdraw notes that a Sentinel does not claim any more what it did.
func (m *Machine) withdraw(sentinel topology.Addr) {
	for _, c := range m.causes {
		if c.kind.claim() && c.sentinel == sentinel {
			c.withdrawn = true
		}
	}
}

// sign takes one event of one Sentinel. It proves nothing, and holds at once.
func (m *Machine) sign(now time.Duration, s topology.Sign) {
	c := cause{addr: s.Candidate, sentinel: s.Sentinel}
	switch s.Kind {
	case topology.SignSelected:
		c.kind = CauseSelected
	case topology.SignPromoting:
		c.kind = CausePromoting
	case topology.SignPromoted:
		c.kind = CausePromoted
	case topology.SignSwitched:
		c.kind = CauseSwitched
	case topology.SignAborted:
		for _, old := range m.causes {
			if (old.kind.sign() || old.kind == CauseSwitchover) && old.sentinel == s.Sentinel {
				old.aborted = true
			}
		}
		return
	case topology.SignDemoted:
		if m.isMaster(s.Candidate) {
			m.raise(now, cause{kind: CauseDemoting, addr: s.Candidate})
		}
		return
	case topology.SignDown:
		if m.served {
			m.emit(AskNodes{[]topology.Addr{m.pair.addr}})
		}
		return
	case topology.SignUp, topology.SignRepoll:
		return // the follower asks again by itself
	default:
		return
	}
	if m.isMaster(s.Candidate) {
		return // the end of the failover that made it ours
	}
	if c.kind == CauseSwitched && s.Candidate == "" && m.served && s.Old != "" && s.Old != m.pair.addr {
		return // +config-update-from of a Sentinel that leaves a former master only now
	}
	// A later failover away from a candidate replaces the one that was to promote it.
	kept := m.causes[:0]
	for _, old := range m.causes {
		if old.kind.sign() && old.addr != "" && old.addr == s.Old {
			continue
		}
		kept = append(kept, old)
	}
	clear(m.causes[len(kept):])
	m.causes = kept
	m.raise(now, c)
	m.reach(now, PhaseSelected, s.Candidate)
}

// report takes the data path's word. Only what it says of the master we serve now
// counts; a loop that has not seen the last route yet speaks of the past.
func (m *Machine) report(now time.Duration, r topology.Report) {
	if r.Kind == topology.ReportHeld {
		if m.state != topology.Serving && r.Gen >= m.stateGen {
			m.failover.mark(now, PhaseHeld)
		}
		return
	}
	if m.state != topology.Serving || r.Gen < m.stateGen {
		return
	}
	if !m.isMaster(r.Addr) {
		return
	}
	switch r.Kind {
	case topology.ReportReadOnly:
		m.told(now, cause{kind: CauseReadOnly, addr: r.Addr})
	case topology.ReportNotMaster:
		m.told(now, cause{kind: CauseMasterDemoted, addr: r.Addr})
	case topology.ReportUnreachable:
		m.told(now, cause{kind: CauseUnreachable, addr: r.Addr})
	case topology.ReportRefused:
		m.raise(now, cause{kind: CauseRefused, addr: r.Addr})
	case topology.ReportLost:
		m.lost(now)
	case topology.ReportLeaseEnded:
		// The lease's end is judged by our own evidence after every event: it may
		// have been renewed since the loop looked.
	case topology.ReportVerified, topology.ReportHeld:
	}
}

// told raises what the data path says of the master, unless the same was said and
// disproved within the last second: a client can provoke it (a script may answer
// -READONLY by itself), and must not hold everybody again and again. Then the master
// is asked, whose own word holds at once, and the report counts when the second is
// over; its sender does not repeat itself before the next route.
func (m *Machine) told(now time.Duration, c cause) {
	if m.calm[c.kind] <= now {
		m.raise(now, c)
		return
	}
	m.lost(now)
	if !slices.ContainsFunc(m.deferred, func(d cause) bool { return d.kind == c.kind }) {
		m.deferred = append(m.deferred, c)
	}
}

// resume raises the reports whose time has come.
func (m *Machine) resume(now time.Duration) {
	m.deferred = slices.DeleteFunc(m.deferred, func(c cause) bool {
		due := m.calm[c.kind] <= now
		if due {
			m.raise(now, c)
		}
		return due
	})
}

// agreedOn reports whether a majority, asked after the given time, names p.
func (m *Machine) agreedOn(p pair, after time.Duration) bool {
	return m.obs.Agreed && p == (pair{m.obs.Master, m.obs.Epoch}) && m.obs.AgreedAt > after
}

// majorityElsewhere reports whether a majority names a newer pair than ours.
func (m *Machine) majorityElsewhere() bool {
	return m.obs.Agreed && m.obs.Epoch > m.floor()
}

// confirmed reports whether, since the given time, a majority named our pair or
// every replica said that it follows our master. Without fencing by lease the
// master's own word must do while no Sentinel answers.
func (m *Machine) confirmed(after time.Duration) bool {
	p := m.reference()
	if m.agreedOn(p, after) {
		return true
	}
	if !m.served {
		return false
	}
	if since, ok := m.follows(m.failsafe, p.addr); ok && since > after {
		return true
	}
	return m.policy.Fence != FenceLease && m.obs.Answering == 0
}

// allAsked reports whether every Sentinel that answers was asked after the given time.
func (m *Machine) allAsked(after time.Duration) bool {
	asked := false
	for _, v := range m.obs.Views {
		if !v.Up {
			continue
		}
		if v.SentAt <= after {
			return false
		}
		asked = true
	}
	return asked
}

// upReplicas returns the replicas that no Sentinel calls down.
func (m *Machine) upReplicas() []topology.Addr {
	var up []topology.Addr
	for _, r := range m.obs.Replicas {
		if r.Up {
			up = append(up, r.Addr)
		}
	}
	return up
}

// reference is the pair that causes speak against: the one we serve or served last,
// or, before that, the one a majority names.
func (m *Machine) reference() pair {
	if m.served {
		return m.pair
	}
	if m.obs.Agreed {
		return pair{m.obs.Master, m.obs.Epoch}
	}
	return pair{}
}

// learned reacts to a new down-after.
func (m *Machine) learned() {
	if m.downAfter+failoverCost > clientTimeout && !m.toldSlow {
		m.toldSlow = true
		m.warn("failovers may outlast client timeouts",
			slog.Duration("down_after", m.downAfter), slog.Duration("failover_takes", m.downAfter+failoverCost))
	}
}
