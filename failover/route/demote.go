package route

import (
	"log/slog"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Demotion says what became of a [Demote].
type Demotion uint8

// The outcomes of a demotion. The zero value is invalid.
const (
	DemotionDone      Demotion = 1 + iota // the target follows the master
	DemotionSkipped                       // nothing was sent: a node is out of reach, or no master any more
	DemotionForbidden                     // our account may not; nothing was done
	DemotionFailed                        // it was sent, and whether it was done is not known
)

// Demotions lists every outcome.
func Demotions() []Demotion {
	return []Demotion{DemotionDone, DemotionSkipped, DemotionForbidden, DemotionFailed}
}

// String returns "done", "skipped", "forbidden" or "failed".
func (d Demotion) String() string {
	switch d {
	case DemotionDone:
		return "done"
	case DemotionSkipped:
		return "skipped"
	case DemotionForbidden:
		return "forbidden"
	case DemotionFailed:
		return "failed"
	}
	return "invalid"
}

// right is whether our account may demote the master that is served.
type right uint8

const (
	rightUnknown right = iota
	rightHeld
	rightDenied
)

// fencing is what the machine knows about demoting old masters.
type fencing struct {
	right   right
	asked   time.Duration // when the right was last asked for
	asking  bool          // the answer is under way
	old     topology.Addr // the master before ours; "" if there was none
	ordered Demote        // the last demotion
	busy    bool          // it is under way
	again   time.Duration // no demotion before this time
	retired bool          // the one demotion of fence.demote was sent at this epoch
	retire  time.Duration // when it last asked everybody whether it may; 0: never
}

// demotes reports whether this policy ever demotes a master.
func (p Policy) demotes() bool { return p.Follow == FollowFast || p.Demote == DemoteAuto }

// demote orders target to follow master. One demotion is under way at a time.
func (m *Machine) demote(now time.Duration, target, master topology.Addr) bool {
	f := &m.fencing
	if f.right == rightDenied || f.busy || now < f.again {
		return false
	}
	f.ordered, f.busy = Demote{Target: target, Master: master}, true
	m.emit(f.ordered)
	return true
}

// demoted takes the outcome of a demotion.
func (m *Machine) demoted(now time.Duration, d Demoted) {
	f := &m.fencing
	f.busy, f.again = false, now+demoteGap
	facts := []slog.Attr{attrNode(d.Target), attrAddr("master", d.Master), attrErr(d.Err)}
	switch d.Outcome {
	case DemotionDone:
		m.failover.mark(now, PhaseDemoted)
		m.info("old master demoted", facts...)
		m.emit(AskNodes{[]topology.Addr{d.Target}})
	case DemotionSkipped:
		f.retired = false
		m.note(slog.LevelDebug, "old master not demoted", facts...)
	case DemotionForbidden:
		f.right = rightDenied
		m.warn("account may not demote a master: following the majority alone", facts...)
	case DemotionFailed:
		m.warn("old master not demoted", facts...)
	}
}

// rights takes the answer to a [CheckRights].
func (m *Machine) rights(ev RightsSeen) {
	f := &m.fencing
	f.asking = false
	if ev.Err != "" && !ev.Denied || m.served && !m.isMaster(ev.Addr) {
		return // not known, or about a former master: asked again in a second
	}
	switch {
	case !ev.Denied:
		if f.right == rightDenied {
			m.info("account may demote a master again", attrNode(ev.Addr))
		}
		f.right = rightHeld
	case !m.served && m.policy.Follow == FollowFast:
		m.emit(Refuse{Why: "follow: fast needs an account that may call REPLICAOF, CLIENT KILL, MULTI and EXEC on " +
			string(ev.Addr) + ": " + ev.Err})
	case f.right != rightDenied:
		f.right = rightDenied
		m.warn("account may not demote a master: following the majority alone", attrNode(ev.Addr), attrErr(ev.Err))
	}
}

// mayServeFirst reports whether the first master may be served. Before that, fast
// asks for its right, so that one who lacks it learns so at the start and not in the
// first failover.
func (m *Machine) mayServeFirst(now time.Duration, a topology.Addr) bool {
	if m.served || m.policy.Follow != FollowFast || m.fencing.right == rightHeld {
		return true
	}
	m.checkRights(now, a)
	return false
}

// checkRights asks whether our account may demote a: once a second until that is
// known, and once a minute while it may not.
func (m *Machine) checkRights(now time.Duration, a topology.Addr) {
	f := &m.fencing
	if !m.policy.demotes() || f.asking || now < m.rightsDue() {
		return
	}
	f.asked, f.asking = now, true
	m.emit(CheckRights{a})
}

// rightsDue returns when the right to demote is to be asked for.
func (m *Machine) rightsDue() time.Duration {
	f := &m.fencing
	switch {
	case f.right == rightHeld:
		return Never
	case f.asked == 0:
		return 0
	case f.right == rightDenied:
		return f.asked + rightsGap
	}
	return f.asked + time.Second
}

// retireOld is fence.demote: auto. It demotes the master before ours, once per epoch,
// if everybody, asked at this moment, agrees: a majority names our pair, no Sentinel
// a newer epoch, and both nodes say master.
func (m *Machine) retireOld(now time.Duration) {
	f := &m.fencing
	if m.policy.Demote != DemoteAuto || m.ahead.on || m.fromFile || f.retired || f.old == "" || f.old == m.pair.addr {
		return
	}
	if f.retire == 0 || now-f.retire > time.Second && m.saysMaster(f.old, now-recent) {
		f.retire = now
		m.emit(AskSentinels{})
		m.emit(AskNodes{[]topology.Addr{f.old, m.pair.addr}})
		return
	}
	if m.agreedOn(m.pair, f.retire) && m.allAsked(f.retire) && m.obs.MaxEpoch <= m.pair.epoch && !m.obs.Conflict &&
		m.saysMaster(m.pair.addr, f.retire) && m.saysMaster(f.old, f.retire) {
		f.retired = m.demote(now, f.old, m.pair.addr)
	}
}

// succeeded notes that another master than before is served.
func (f *fencing) succeeded(old topology.Addr) {
	f.old, f.retired, f.retire = old, false, 0
	f.right, f.asked = rightUnknown, 0
}
