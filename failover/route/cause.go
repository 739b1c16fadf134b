package route

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Cause is a reason to hold. Beside each stands what clears it: what brings the
// same pair back without a failover. "Confirmed" means by a majority asked since,
// or by every replica's word that it follows our master (the failsafe).
type Cause uint8

// The causes. The zero value is invalid.
const (
	// CauseSelected: a Sentinel is about to promote a replica. Cleared by its abort
	// event, or as CausePromoting is.
	CauseSelected Cause = 1 + iota
	// CausePromoting: a replica was told to be master. Cleared by a majority at our
	// pair with the master saying master and the candidate saying replica twice,
	// settle apart; or, after 5 s, if the candidate is out of reach and our pair
	// is confirmed.
	CausePromoting
	CausePromoted // a Sentinel saw a replica become master; cleared as CausePromoting
	CauseSwitched // a Sentinel calls another node master; cleared as CausePromoting
	// CauseMissed: events were dropped, any of them may have been a sign. Cleared as
	// CausePromoting, with every listed replica as candidate.
	CauseMissed
	// CauseReplicaClosed: a replica closed its connections, as at a promotion. Cleared
	// as soon as the master says master and the replica says replica or every
	// Sentinel has been asked again, but 100 ms at most once the master answers.
	CauseReplicaClosed
	// CauseReplicaMaster: a replica says master. Cleared when it says replica, or is
	// gone for 5 s, and our pair is confirmed.
	CauseReplicaMaster
	// CauseMasterDemoted: our master says replica, or is being made one. Cleared when
	// it says master again and our pair is confirmed.
	CauseMasterDemoted
	CauseDemoting    // a Sentinel says it turns our master into a replica; cleared as that, settle later
	CauseReadOnly    // our master answered READONLY or UNBLOCKED; cleared as CauseMasterDemoted
	CauseUnreachable // our master can't be reached; cleared as CauseMasterDemoted
	CauseRefused     // our master answers NOREPLICAS or LOADING; cleared after 1 s
	// CauseHigherEpoch: a Sentinel names a higher epoch. Cleared if for 5 s the
	// majority stands by our pair, the master says master and the claimed node is no
	// master (replica, or out of reach); the claim is then ignored until it changes.
	CauseHigherEpoch
	CauseConflict   // a Sentinel names another address at our epoch; cleared as CauseHigherEpoch
	CauseLeaseEnded // nobody renewed the lease; cleared when it is and the master says master
	CauseRegressed  // a majority has insisted on a lower epoch for 5 s; it is followed at once
	// CauseOldMaster: we serve ahead of the majority, and the old master is no longer
	// proven gone. Cleared when ours says master and the majority names it, or the old
	// one says replica (we demote it) or is gone again.
	CauseOldMaster
	// CauseSwitchover: a switchover is under way. Cleared when it is called off or its
	// deadline passes; once Sentinel was told to fail over by its abort event, or after
	// 5 s if the master says master and our pair is confirmed.
	CauseSwitchover

	causeEnd
)

// Causes lists every cause.
func Causes() []Cause {
	cs := make([]Cause, 0, causeEnd-1)
	for c := CauseSelected; c < causeEnd; c++ {
		cs = append(cs, c)
	}
	return cs
}

// String returns the cause's name, such as "replica_closed".
func (c Cause) String() string {
	switch c {
	case CauseSelected:
		return "selected"
	case CausePromoting:
		return "promoting"
	case CausePromoted:
		return "promoted"
	case CauseSwitched:
		return "switched"
	case CauseMissed:
		return "missed"
	case CauseReplicaClosed:
		return "replica_closed"
	case CauseReplicaMaster:
		return "replica_master"
	case CauseMasterDemoted:
		return "master_demoted"
	case CauseDemoting:
		return "demoting"
	case CauseReadOnly:
		return "read_only"
	case CauseUnreachable:
		return "unreachable"
	case CauseRefused:
		return "refused"
	case CauseHigherEpoch:
		return "higher_epoch"
	case CauseConflict:
		return "conflict"
	case CauseLeaseEnded:
		return "lease_ended"
	case CauseRegressed:
		return "regressed"
	case CauseOldMaster:
		return "old_master"
	case CauseSwitchover:
		return "switchover"
	case causeEnd:
	}
	return "invalid"
}

// phrase returns the cause as people read it, in Route.Why.
func (c Cause) phrase() string {
	switch c {
	case CauseSelected:
		return "a failover has begun"
	case CausePromoting, CausePromoted:
		return "a replica is being promoted"
	case CauseSwitched:
		return "a Sentinel names another master"
	case CauseMissed:
		return "events were lost"
	case CauseReplicaClosed:
		return "a replica closed its connections"
	case CauseReplicaMaster:
		return "a replica says it is master"
	case CauseMasterDemoted, CauseDemoting:
		return "the master is being demoted"
	case CauseReadOnly:
		return "the master refuses writes as a replica does"
	case CauseUnreachable:
		return "the master can't be reached"
	case CauseRefused:
		return "the master refuses commands for now"
	case CauseHigherEpoch:
		return "a Sentinel names a higher epoch"
	case CauseConflict:
		return "two masters are named at one epoch"
	case CauseLeaseEnded:
		return "neither a majority of the Sentinels nor the replicas confirm the master"
	case CauseRegressed:
		return "the Sentinels start again at a lower epoch"
	case CauseOldMaster:
		return "the old master may be back before a majority names the new one"
	case CauseSwitchover:
		return "a switchover is under way"
	case causeEnd:
	}
	return "invalid"
}

// doubts reports whether promotion may have begun when this cause is seen, so that
// a success which is still under way may already be lost.
func (c Cause) doubts() bool {
	switch c {
	case CauseSelected, CauseUnreachable, CauseRefused, CauseRegressed, CauseReplicaClosed, CauseOldMaster,
		CauseSwitchover:
		return false
	case CausePromoting, CausePromoted, CauseSwitched, CauseMissed, CauseReplicaMaster,
		CauseMasterDemoted, CauseDemoting, CauseReadOnly, CauseHigherEpoch, CauseConflict, CauseLeaseEnded, causeEnd:
	}
	return true
}

// suspects reports whether promotion may have begun when this cause is seen, but
// something harmless is likelier: a replica that closes its connections has been
// restarted more often than promoted.
func (c Cause) suspects() bool { return c == CauseReplicaClosed }

// suspicion reports whether the cause proves so little that it may not hold again
// and again.
func (c Cause) suspicion() bool { return c == CauseReplicaClosed || c == CauseRefused }

// calms reports whether a hold for this cause, once cleared, keeps the next one of
// its kind off for a while: a client can provoke these.
func (c Cause) calms() bool {
	return c.suspicion() || c == CauseReadOnly || c == CauseUnreachable || c == CauseMasterDemoted
}

// sign reports whether the cause came from a Sentinel's events.
func (c Cause) sign() bool { return c <= CauseMissed }

// claim reports whether the cause is a Sentinel's view that contradicts our pair.
func (c Cause) claim() bool { return c == CauseHigherEpoch || c == CauseConflict }

// loss reports whether even FenceOff holds: commands have nowhere to go, or somebody
// asked us to.
func (c Cause) loss() bool {
	return c == CauseUnreachable || c == CauseMasterDemoted || c == CauseReadOnly || c == CauseRegressed || c == CauseSwitchover
}

// cause is one open reason to hold. There is one per Sentinel that gives signs, one
// per Sentinel that claims, and one per kind and node otherwise, so their number is
// bounded by the group's size.
type cause struct {
	kind     Cause
	addr     topology.Addr // the node it is about: the candidate, the claimed master, ours; "" if unknown
	sentinel topology.Addr // who gave the sign or the claim
	epoch    uint64        // of a claim; of a sign: at which a Sentinel names addr; 0 if none does
	at       time.Duration // when it was last given: only younger answers clear it

	aborted   bool // a sign or a switchover: its Sentinel called the failover off
	withdrawn bool // a claim: its Sentinel now says otherwise

	candidate twice // a sign: addr said replica
	master    twice // a sign: the master said master
}

// twice notes the same answer given to two polls.
type twice struct{ first, last time.Duration }

// note takes the answer to a poll that was sent at the given time.
func (t *twice) note(sent time.Duration, good bool) {
	switch {
	case !good:
		*t = twice{}
	case t.first == 0:
		t.first, t.last = sent, sent
	default:
		t.last = sent
	}
}

// done reports whether two polls, settle or more apart, agreed.
func (t *twice) done() bool { return t.first > 0 && t.last-t.first >= settle }

// same reports whether d is another word of whoever raised c.
func (c *cause) same(d cause) bool {
	switch {
	case c.kind.sign() && d.kind.sign(), c.kind.claim() && d.kind.claim():
		return c.sentinel == d.sentinel
	}
	return c.kind == d.kind && c.addr == d.addr
}

// polled lets a sign hear the outcome of a poll of a node.
func (c *cause) polled(ev NodeSeen, master topology.Addr) {
	if !c.kind.sign() || ev.SentAt <= c.at {
		return
	}
	if ev.Addr == c.addr {
		c.candidate.note(ev.SentAt, ev.Role == topology.RoleReplica)
	}
	if ev.Addr == master {
		c.master.note(ev.SentAt, ev.Role == topology.RoleMaster)
	}
}

// raise opens a cause, or renews it if it is open.
func (m *Machine) raise(now time.Duration, c cause) {
	if m.policy.Fence == FenceOff && !c.kind.loss() {
		if !c.kind.claim() || !m.majorityElsewhere() {
			return
		}
	}
	if m.state == topology.Serving && c.kind.suspicion() && m.calm[c.kind] > now {
		m.emit(AskSentinels{})
		return
	}
	c.at = now
	for _, old := range m.causes {
		if !old.same(c) {
			continue
		}
		if c.kind.claim() && old.addr == c.addr && old.epoch == c.epoch {
			old.withdrawn = false // the same claim goes on: its age counts
			return
		}
		*old = c
		return
	}
	m.causes = append(m.causes, &c)
	m.emit(AskSentinels{})
}

// cleared reports whether c no longer speaks against the reference pair.
func (m *Machine) cleared(now time.Duration, c *cause) bool {
	p := m.reference()
	old := now-c.at > insist
	switch c.kind {
	case CauseSelected, CausePromoting, CausePromoted, CauseSwitched, CauseMissed:
		return m.signCleared(now, c)
	case CauseReplicaClosed:
		return m.saysMaster(p.addr, c.at) &&
			(m.saysReplica(c.addr, c.at) || m.saysMaster(c.addr, c.at) || m.allAsked(c.at) || now-c.at >= suspicionMax)
	case CauseReplicaMaster:
		return m.saysMaster(p.addr, c.at) && m.confirmed(c.at) &&
			(m.saysReplica(c.addr, c.at) || old && m.silent(c.addr, now-recent))
	case CauseMasterDemoted, CauseReadOnly, CauseUnreachable:
		// Where only the Sentinels' word stands for the role, it may be a second old.
		n := m.nodes[p.addr]
		if n != nil && n.last.NoAuth && n.last.Role == topology.RoleUnknown && now-c.at < time.Second {
			return false
		}
		return m.saysMaster(p.addr, c.at) && m.confirmed(c.at)
	case CauseDemoting:
		return m.saysMaster(p.addr, c.at+settle) && m.confirmed(c.at+settle)
	case CauseRefused:
		return now-c.at >= refusalMax
	case CauseHigherEpoch, CauseConflict:
		return m.claimCleared(now, c)
	case CauseLeaseEnded:
		return m.leaseEnd(choice{pair: p, failsafe: m.failsafe, ahead: m.ahead.on}) > now && m.saysMaster(p.addr, c.at)
	case CauseOldMaster:
		return m.saysMaster(p.addr, c.at) && (!m.ahead.on || m.saysReplica(c.addr, c.at) || m.gone(c.addr, c.at))
	case CauseSwitchover:
		return m.switchoverCleared(now, c)
	case CauseRegressed, causeEnd:
	}
	return false
}

// signCleared is the rule for a failover that was announced and did not come.
func (m *Machine) signCleared(now time.Duration, c *cause) bool {
	p := m.reference()
	if c.kind == CauseSelected && c.aborted && m.saysMaster(p.addr, c.at) {
		return true
	}
	if !m.saysMaster(p.addr, c.at+settle) {
		return false
	}
	late := now-c.at > insist
	if c.addr == "" {
		// Nobody knows the candidate: every replica must say that it is none.
		since, all := m.follows(m.upReplicas(), p.addr)
		return all && since > c.at+settle && m.confirmed(c.at+settle) || late && m.confirmed(c.at+settle)
	}
	if m.agreedOn(p, c.at+settle) && c.candidate.done() && (c.master.done() || m.nodes[p.addr].last.NoAuth) {
		return true
	}
	return late && m.confirmed(c.at+settle) &&
		(m.saysReplica(c.addr, c.at+settle) || m.silent(c.addr, now-recent))
}

// claimCleared is the rule for a lying, cut off or early Sentinel.
func (m *Machine) claimCleared(now time.Duration, c *cause) bool {
	p := m.reference()
	if !m.agreedOn(p, c.at) || !m.saysMaster(p.addr, c.at) {
		return false
	}
	if c.addr == p.addr {
		return true // the same node at a higher epoch is no rival
	}
	return m.overruled(now, c) && (m.saysReplica(c.addr, c.at) || m.silent(c.addr, max(c.at, now-recent)))
}

// overruled reports whether a claim counts no longer against what a majority names:
// its Sentinel took it back, or 5 s have passed and the claimed node is no master.
func (m *Machine) overruled(now time.Duration, c *cause) bool {
	return c.withdrawn || now-c.at > insist &&
		(m.saysReplica(c.addr, c.at) || m.silent(c.addr, max(c.at, now-recent)))
}

// outranks reports whether a claim stands against p.
func (c *cause) outranks(p pair) bool {
	return c.epoch > p.epoch || c.epoch == p.epoch && c.addr != p.addr
}

// ignore puts a claim aside until its Sentinel says something else.
func (m *Machine) ignore(c *cause) {
	m.ignored[c.sentinel] = pair{c.addr, c.epoch}
	m.warn("claim of a sentinel ignored", attrSentinel(c.sentinel),
		attrAddr("claimed", c.addr), attrEpoch("claimed_epoch", c.epoch),
		attrAddr("master", m.pair.addr), attrEpoch("epoch", m.pair.epoch))
}

// clear drops the causes that no longer hold, and says so of claims.
func (m *Machine) clear(now time.Duration) {
	kept := m.causes[:0]
	for _, c := range m.causes {
		if !m.cleared(now, c) {
			kept = append(kept, c)
			continue
		}
		if c.kind.calms() {
			m.calm[c.kind] = now + suspicionGap
		}
		if c.kind.claim() && !c.withdrawn {
			m.ignore(c)
		}
		if c.kind == CauseSwitchover {
			m.switching = nil
		}
	}
	clear(m.causes[len(kept):])
	m.causes = kept
}
