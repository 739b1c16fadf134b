package sentineltest

import (
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// view is what one Sentinel believes. Group.mu guards it.
type view struct {
	master topology.Addr // GET-MASTER-ADDR-BY-NAME
	// listed is the address that SENTINEL MASTER shows. It stays behind master
	// on a leader that reconfigures the replicas.
	listed  topology.Addr
	config  uint64 // config-epoch
	current uint64 // the newest epoch seen, config or election

	state    string        // failover-state; "" when no failover of its own is under way
	forced   bool          // that failover was asked for by hand
	promoted topology.Addr // its candidate
	reconf   string        // "reconf_sent" or "reconf_done": how far the other replicas are

	votedFor   string // run id, "?" until the first vote
	votedEpoch uint64

	since time.Time                   // when master changed
	sdown map[topology.Addr]time.Time // nodes it cannot reach, since when
	odown time.Time                   // the master; zero if not
	lost  map[int]struct{}            // Sentinels it cannot reach
}

// set replaces the master, as a hello with a newer config epoch does.
func (v *view) set(master topology.Addr, epoch uint64) {
	v.master, v.listed, v.config = master, master, epoch
	v.current = max(v.current, epoch)
	v.state, v.promoted, v.reconf, v.forced = "", "", "", false
	v.odown, v.since = time.Time{}, time.Now()
	v.sdown = map[topology.Addr]time.Time{}
}

// side returns the running Sentinels that s can talk to, itself included if it
// runs, in order. g.mu is held.
func (g *Group) side(s *Sentinel) []*Sentinel {
	var list []*Sentinel
	for _, other := range g.sentinels {
		if other.running && g.together(s, other) {
			list = append(list, other)
		}
	}
	return list
}

// together reports whether no partition is between two Sentinels. g.mu is held.
func (g *Group) together(a, b *Sentinel) bool {
	_, x := g.cut[a.index]
	_, y := g.cut[b.index]
	return x == y
}

// spreadNewest makes every running Sentinel adopt the newest view of its side.
// g.mu is held.
func (g *Group) spreadNewest() {
	for _, s := range g.sentinels {
		if !s.running {
			continue
		}
		side := g.side(s)
		best := slices.MaxFunc(side, func(a, b *Sentinel) int { return int(a.view.config) - int(b.view.config) })
		s.adopt(best)
	}
}

// adopt takes over another Sentinel's master if its config epoch is higher: a
// lower or equal one is ignored, whatever it names. g.mu is held.
func (s *Sentinel) adopt(from *Sentinel) {
	if from.view.config <= s.view.config {
		return
	}
	old := s.view.listed
	to := from.view.master
	s.seeEpoch(from.view.current)
	s.view.set(to, from.view.config)
	s.emit("+config-update-from", s.sentinelPayload(from, old))
	s.emitSwitch(old, to)
	s.emitOldMaster(old)
}

// seeEpoch notes an epoch heard of. g.mu is held.
func (s *Sentinel) seeEpoch(epoch uint64) {
	if epoch <= s.view.current {
		return
	}
	s.view.current = epoch
	s.emit("+new-epoch", itoa(epoch))
}
