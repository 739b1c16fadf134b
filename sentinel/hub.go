package sentinel

import (
	"context"
	"maps"
	"slices"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// origin says why a Sentinel is followed.
type origin uint8

const (
	byConfig origin = iota // its view counts whether it has answered or not
	byPeers                // its view counts once it has itself answered for the group
)

// followed is what Run keeps of one Sentinel.
type followed struct {
	watcher *watcher
	last    viewed // its newest word
	counts  bool   // view goes into Merge
	warned  bool   // its announced address was called unreachable
}

// hub is the part of Follower that Run's goroutine owns.
type hub struct {
	f       *Follower
	start   func(*watcher, context.Context) // runs a watcher until its context ends
	members map[topology.Addr]*followed
	journal journal
	changed bool // a view came since the last publish

	switches switches
}

func newHub(f *Follower, start func(*watcher, context.Context)) *hub {
	return &hub{
		f: f, start: start,
		members: make(map[topology.Addr]*followed),
		journal: newJournal(f.log, f.group, f.clock, f.tellEvent),
	}
}

// follow starts to watch addr.
func (h *hub) follow(ctx context.Context, addr topology.Addr, why origin) {
	ctx, stop := context.WithCancel(ctx)
	w := newWatcher(h.f, addr, why, stop)
	h.members[addr] = &followed{
		watcher: w,
		last:    viewed{from: w, view: topology.View{Sentinel: addr, Err: "not asked yet"}},
		counts:  why == byConfig,
	}
	h.start(w, ctx)
}

// forget ends a watcher without waiting for it: Run does, at its end. What it
// still says is not listened to.
func (h *hub) forget(addr topology.Addr) {
	h.members[addr].watcher.stop()
	delete(h.members, addr)
	h.journal.forget(addr)
	if h.switches.forget(addr) {
		h.keepLags()
	}
	h.f.log.Debug("sentinel forgotten", "sentinel", addr)
	h.changed = true
}

// keepLags puts the lags of the last switch where a scrape sees them.
func (h *hub) keepLags() {
	lags := maps.Clone(h.switches.lag)
	h.f.metrics.lags.Store(&lags)
}

func (h *hub) wakeAll(s scope) {
	for _, m := range h.members {
		m.watcher.wakeUp(s)
	}
}

// take acts on one message. A Sign goes on at once; a view waits for publish.
func (h *hub) take(ctx context.Context, msg message) {
	switch msg := msg.(type) {
	case heard:
		if m := h.members[msg.from.addr]; m == nil || m.watcher != msg.from {
			return
		}
		h.f.log.Debug("sentinel event", "sentinel", msg.sign.Sentinel, "event", msg.sign.Event,
			"sign", msg.sign.Kind, "candidate", msg.sign.Candidate, "old", msg.sign.Old)
		h.f.onSign(msg.sign)
		if h.switches.heard(msg.sign) {
			h.keepLags()
		}
		if msg.reach == reachAll {
			h.wakeAll(scopeVote)
		}
	case viewed:
		m := h.members[msg.from.addr]
		if m == nil || m.watcher != msg.from {
			return
		}
		if msg.peers == nil {
			msg.peers = m.last.peers
		}
		m.last = msg
		m.counts = m.counts || msg.knows
		h.changed = h.changed || m.counts
		if m.counts {
			h.journal.view(msg)
		} else if msg.failures >= announcedTries && !m.warned {
			m.warned = true
			h.warnUnreachable(msg.view)
		}
		h.replan(ctx)
	}
}

// replan follows and forgets Sentinels as the peers' lists say.
func (h *hub) replan(ctx context.Context) {
	members := make([]member, 0, len(h.members))
	for addr, m := range h.members {
		members = append(members, member{
			addr: addr, configured: m.watcher.why == byConfig, runID: m.last.view.RunID,
			up: m.last.view.Up, knows: m.last.knows, peers: m.last.peers,
		})
	}
	follow, forget := plan(members)
	for _, addr := range forget {
		h.forget(addr)
	}
	for _, addr := range follow {
		h.f.log.Debug("sentinel discovered", "sentinel", addr)
		h.follow(ctx, addr, byPeers)
	}
}

// warnUnreachable tells of a Sentinel that others name and that has never
// answered here. If they can't reach it either, it is a dead entry, which makes
// a majority harder to reach; else its announced address is likely to be one
// that only they can reach.
func (h *hub) warnUnreachable(v topology.View) {
	var namedBy []topology.Addr
	dead := false
	for addr, m := range h.members {
		for _, p := range m.last.peers {
			if p.addr == v.Sentinel {
				namedBy = append(namedBy, addr)
				dead = dead || p.dead
			}
		}
	}
	slices.Sort(namedBy)
	hint := "check sentinel announce-ip and announce-port there, and the network from here"
	if dead {
		hint = "the others call it down too: if it is gone for good, run SENTINEL RESET on each of them, one at a time"
	}
	h.f.log.Warn("announced sentinel unreachable", "sentinel", v.Sentinel, "named_by", namedBy, "err", v.Err, "hint", hint)
}

// publish merges the views that count and passes the result on, if any came.
func (h *hub) publish() {
	if !h.changed {
		return
	}
	h.changed = false
	views := make([]topology.View, 0, len(h.members))
	for _, m := range h.members {
		if m.counts {
			views = append(views, m.last.view)
		}
	}
	o := Merge(h.f.group, views)
	h.f.downAfter.Store(int64(o.DownAfter))
	h.f.metrics.observed.Store(&o)
	h.journal.observation(o)
	h.f.onObservation(o)
}
