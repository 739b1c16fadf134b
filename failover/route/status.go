package route

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Hold returns the hold under way, with the phases seen so far; ok is false while
// there is none.
func (m *Machine) Hold() (f Failover, ok bool) {
	if m.failover == nil {
		return Failover{}, false
	}
	f = *m.failover
	f.Phases = slices.Clone(f.Phases)
	return f, true
}

// Epoch returns the newest config epoch known for the route's master. While [Machine.Ahead]
// it is a guess. Routes keep the epoch that a master was first served at.
func (m *Machine) Epoch() uint64 { return m.pair.epoch }

// Ahead reports whether the route's master was followed fast and no majority names it
// yet.
func (m *Machine) Ahead() bool { return m.ahead.on }

// Follow returns the mode in force: FollowFast falls back to FollowMajority while our
// account lacks the right to demote.
func (m *Machine) Follow() FollowMode {
	if m.fencing.right == rightDenied {
		return FollowMajority
	}
	return m.policy.Follow
}

// LeaseUntil returns the end of the lease, as a time since boot; 0 if there is none.
func (m *Machine) LeaseUntil() time.Duration { return m.leaseUntil }

// Open returns the causes that are open, oldest first.
func (m *Machine) Open() []Cause {
	open := make([]Cause, 0, len(m.causes))
	for _, c := range m.causes {
		open = append(open, c.kind)
	}
	return open
}

// Nodes returns the last probe of every node that has been probed, sorted by address.
func (m *Machine) Nodes() []NodeSeen {
	all := make([]NodeSeen, 0, len(m.watched))
	for _, a := range m.watched {
		if n := m.nodes[a]; n != nil && n.probed {
			all = append(all, n.last)
		}
	}
	return all
}

// Degraded returns, as phrases, what is wrong though commands may well flow: of nodes
// first what is wrong with the one that the Sentinels call master.
func (m *Machine) Degraded() []string {
	var why []string
	switch {
	case m.obs.Group == "":
		why = append(why, "no Sentinel has been asked yet")
	case m.obs.Answering == 0:
		why = append(why, "no Sentinel answers")
	case m.obs.Master == "":
		why = append(why, fmt.Sprintf("none of the %d Sentinels that answer knows this master", m.obs.Answering))
	case !m.obs.Agreed:
		why = append(why, fmt.Sprintf("no majority: %d of %d known Sentinels name %s at epoch %d",
			m.obs.Support, m.obs.Known, m.obs.Master, m.obs.Epoch))
	case m.obs.Answering < m.obs.Known:
		why = append(why, fmt.Sprintf("%d of %d known Sentinels answer", m.obs.Answering, m.obs.Known))
	}
	if m.ahead.on {
		why = append(why, fmt.Sprintf("no majority names %s yet (followed fast)", m.pair.addr))
	}
	if m.policy.demotes() && m.fencing.right == rightDenied {
		why = append(why, fmt.Sprintf("our account may not demote %s: following the majority alone", m.pair.addr))
	}
	if m.fromFile {
		why = append(why, "the master is known from the state file alone")
	}
	for _, v := range m.obs.Views {
		if p, ok := m.ignored[v.Sentinel]; ok {
			why = append(why, fmt.Sprintf("the claim of Sentinel %s is ignored: %s at epoch %d", v.Sentinel, p.addr, p.epoch))
		}
	}
	nodes := m.watched
	if i := slices.Index(nodes, m.obs.Master); i > 0 {
		nodes = slices.Concat(nodes[i:i+1], nodes[:i], nodes[i+1:])
	}
	for _, a := range nodes {
		n := m.nodes[a]
		switch {
		case n == nil || !n.probed:
		case n.last.NoAuth:
			why = append(why, fmt.Sprintf("our account may not call ROLE on %s", a))
		case n.last.Role == topology.RoleUnknown:
			why = append(why, fmt.Sprintf("%s does not answer: %s", a, n.last.Err))
		case m.served && n.last.Role == topology.RoleMaster && a != m.pair.addr:
			why = append(why, fmt.Sprintf("%s says it is master too", a))
		}
	}
	return why
}

// Silence returns why a probe of the master that is served was not answered, or not as a
// command wants to be, and when the first of those was sent; "" if the last one was
// answered, or none is served.
// It is no sign of a failover: a master that hangs may be back in a moment, and commands
// wait for it meanwhile.
func (m *Machine) Silence() (why string, since time.Duration) {
	n := m.nodes[m.pair.addr]
	if m.state != topology.Serving || n == nil || n.silent == 0 {
		return "", 0
	}
	if n.last.Role == topology.RoleMaster {
		return fmt.Sprintf("the master %s is busy: %s", m.pair.addr, n.last.Err), n.silent
	}
	return fmt.Sprintf("the master %s does not answer: %s", m.pair.addr, n.last.Err), n.silent
}

// Everyday reports whether a hold for this cause is no reason to look: a suspicion that
// mostly comes to nothing, or somebody asked for it.
func (c Cause) Everyday() bool { return c.level() == slog.LevelInfo }

// level is how loud a hold for this cause is: suspicions are everyday life, and a switchover
// was asked for.
func (c Cause) level() slog.Level {
	if c.suspicion() || c == CauseSwitchover {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func (m *Machine) emit(a Action) { m.out = append(m.out, a) }

func (m *Machine) note(l slog.Level, msg string, attrs ...slog.Attr) {
	m.emit(Note{Level: l, Msg: msg, Attrs: slices.DeleteFunc(attrs, func(a slog.Attr) bool { return a.Key == "" })})
}

func (m *Machine) info(msg string, attrs ...slog.Attr) { m.note(slog.LevelInfo, msg, attrs...) }
func (m *Machine) warn(msg string, attrs ...slog.Attr) { m.note(slog.LevelWarn, msg, attrs...) }

func attrAddr(key string, a topology.Addr) slog.Attr { return optional(key, string(a)) }
func attrSentinel(a topology.Addr) slog.Attr         { return optional("sentinel", string(a)) }
func attrNode(a topology.Addr) slog.Attr             { return optional("node", string(a)) }
func attrErr(s string) slog.Attr                     { return optional("err", s) }
func attrEpoch(key string, e uint64) slog.Attr       { return slog.Uint64(key, e) }

// optional is a fact that note leaves out where it is not known.
func optional(key, value string) slog.Attr {
	if value == "" {
		return slog.Attr{}
	}
	return slog.String(key, value)
}
