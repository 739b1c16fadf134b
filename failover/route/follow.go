package route

import (
	"log/slog"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// choice is a pair that may be served now, and what goes with it.
type choice struct {
	pair

	why      string
	failsafe []topology.Addr // whose word renews the lease beside the Sentinels'
	file     bool            // it rests on the state file alone
	ahead    bool            // no majority names it yet
	note     Note            // said when it is served; none if Msg is empty
}

// choose returns what to serve now, if there is anything.
func (m *Machine) choose(now time.Duration) (choice, bool) {
	if m.served && len(m.causes) == 0 {
		return choice{
			pair: m.pair, why: "the same master is confirmed", failsafe: m.failsafe, file: m.fromFile, ahead: m.ahead.on,
		}, true
	}
	agreed := pair{m.obs.Master, m.obs.Epoch}
	if m.obs.Agreed && m.mayFollow(now, agreed) {
		return choice{pair: agreed, why: "a majority names it and it says master", failsafe: m.upReplicas()}, true
	}
	if m.insisted(now, agreed) {
		return choice{
			pair: agreed, why: "a majority insists on it and it says master", failsafe: m.upReplicas(),
			note: Note{slog.LevelWarn, "lower epoch accepted", []slog.Attr{
				attrAddr("master", agreed.addr), attrEpoch("epoch", agreed.epoch),
				attrEpoch("before", m.pair.epoch), slog.Duration("agreed_for", now-m.agreedSince),
			}},
		}, true
	}
	if m.unanimous(now) {
		return choice{
			pair: agreed, why: "all that answer name it and every replica follows it", failsafe: m.listedReplicas(),
			note: Note{slog.LevelWarn, "followed without a majority: sentinels list dead peers, run SENTINEL RESET", []slog.Attr{
				attrAddr("master", agreed.addr), attrEpoch("epoch", agreed.epoch),
				slog.Int("known", m.obs.Known), slog.Int("answering", m.obs.Answering),
			}},
		}, true
	}
	if m.overtaken(now) {
		return choice{
			pair: m.ahead.base, why: "the failover came to nothing and the old master is back", failsafe: m.upReplicas(),
			note: Note{slog.LevelWarn, "failover undone: writes to the promoted node are lost", []slog.Attr{
				attrAddr("promoted", m.pair.addr), attrAddr("master", m.ahead.base.addr),
				attrEpoch("epoch", m.ahead.base.epoch),
			}},
		}, true
	}
	if c, ok := m.leap(now); ok {
		return c, true
	}
	return m.remembered(now)
}

// mayFollow reports whether the agreed pair p is new enough, undisputed and
// verified.
func (m *Machine) mayFollow(now time.Duration, p pair) bool {
	since := m.agreedSince // discovering: the role is asked after the agreement
	if m.served {
		if p.epoch <= m.floor() {
			return false
		}
		since = m.since
		if m.failover != nil {
			since = m.failover.Started
		}
	}
	if m.obs.AgreedAt < now-recent || !m.saysMaster(p.addr, max(since, now-recent)) {
		return false
	}
	return !m.disputed(now, p)
}

// disputed reports whether an open cause speaks against following p.
func (m *Machine) disputed(now time.Duration, p pair) bool {
	for _, c := range m.causes {
		switch {
		case c.kind.claim():
			if c.outranks(p) && !m.overruled(now, c) {
				return true
			}
		case c.kind.sign():
			// The next failover may be on its way already; one that a Sentinel has
			// seen end at a lower epoch than p's is past.
			if 0 < c.epoch && c.epoch < p.epoch {
				continue
			}
			if c.addr != "" && c.addr != p.addr && now-c.at <= insist && !c.candidate.done() {
				return true
			}
		}
	}
	return false
}

// insisted reports whether the one thing that lowers an epoch has happened: SENTINEL
// REMOVE and MONITOR, seen as a majority that for 5 s names p, contradicted by none
// that still names ours at the same epoch, with p's own word that it is master.
func (m *Machine) insisted(now time.Duration, p pair) bool {
	if !m.regressing(p) || now-m.agreedSince <= insist || m.obs.AgreedAt < now-recent {
		return false
	}
	for _, v := range m.obs.Views {
		if v.Up && v.Master != "" && v.Epoch == p.epoch && v.Master != p.addr {
			return false
		}
	}
	for _, c := range m.causes {
		if c.kind.claim() && c.epoch > m.floor() && !m.overruled(now, c) {
			return false
		}
	}
	return m.saysMaster(p.addr, max(m.agreedSince, now-recent))
}

// regressing reports whether a majority names p although we have served a pair that
// outranks it.
func (m *Machine) regressing(p pair) bool {
	behind := m.ahead.on && p == m.ahead.base // of us: that is what being ahead means
	return m.served && m.obs.Agreed && p != m.pair && p.epoch <= m.floor() && !behind
}

// unanimous reports whether dead entries in the Sentinels' lists make a majority
// impossible while all that lives agrees, and has for 5 s. Every replica that is
// listed must say so, one that is down too: a replica out of our reach may be the
// other side's master.
func (m *Machine) unanimous(now time.Duration) bool {
	p := pair{m.obs.Master, m.obs.Epoch}
	ok := m.obs.Unanimous && !m.obs.Agreed && p.addr != "" &&
		(!m.served || p == m.pair || p.epoch > m.floor()) &&
		m.saysMaster(p.addr, now-recent)
	if ok {
		since, all := m.follows(m.listedReplicas(), p.addr)
		ok = all && since > now-recent
	}
	if !ok {
		m.unanimousSince = 0
		return false
	}
	if m.unanimousSince == 0 || m.unanimousPair != p {
		m.unanimousSince, m.unanimousPair = now, p
	}
	return now-m.unanimousSince > insist && !m.disputed(now, p)
}

// listedReplicas returns every replica that any Sentinel naming the master lists.
func (m *Machine) listedReplicas() []topology.Addr {
	all := make([]topology.Addr, 0, len(m.obs.Replicas))
	for _, r := range m.obs.Replicas {
		all = append(all, r.Addr)
	}
	return all
}

// remembered decides from the state file, while no Sentinel has answered since the
// start: exactly one of the saved nodes says master, every other that can be reached
// follows it, and each has been asked.
func (m *Machine) remembered(now time.Duration) (choice, bool) {
	if m.served || m.heard || m.saved.Master == "" || now-m.since < unheard {
		return choice{}, false
	}
	var master topology.Addr
	var replicas []topology.Addr
	for _, a := range append([]topology.Addr{m.saved.Master}, m.saved.Replicas...) {
		n, ok := m.answered(a, now-recent)
		switch {
		case !ok:
			return choice{}, false
		case n.Role == topology.RoleMaster && master != "" && master != a:
			return choice{}, false
		case n.Role == topology.RoleMaster:
			master = a
		case n.Role == topology.RoleReplica && !slices.Contains(replicas, a):
			replicas = append(replicas, a)
		}
	}
	if master == "" {
		return choice{}, false
	}
	if _, ok := m.follows(replicas, master); !ok {
		return choice{}, false
	}
	return choice{
		pair: pair{master, m.saved.Epoch}, why: "the state file and the nodes name it", failsafe: replicas, file: true,
		note: Note{slog.LevelWarn, "serving from the state file: no sentinel answers", []slog.Attr{
			attrAddr("master", master), attrEpoch("epoch", m.saved.Epoch),
		}},
	}, true
}
