package sentineltest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Kill ends the node at addr as kill -9 does: connections are reset and new ones
// refused until Restart. After DownAfter the Sentinels call it down; if it was
// the master, and they can agree, they fail over on their own. Killing what is
// dead or unknown does nothing.
func (g *Group) Kill(addr topology.Addr) {
	n := g.Node(addr)
	if n == nil || !n.Alive() {
		return
	}
	g.mu.Lock()
	g.deaths[n]++
	death := g.deaths[n]
	g.mu.Unlock()
	n.kill()
	g.log.Info("node killed", "node", addr)
	g.spawn(func(ctx context.Context) {
		if wait(ctx, g.o.DownAfter) {
			g.noticeDeath(ctx, n, death)
		}
	})
}

func (g *Group) noticeDeath(ctx context.Context, n *Node, death int) {
	g.mu.Lock()
	still := !n.Alive() && g.deaths[n] == death
	if still {
		g.markDown(n.Addr(), time.Now())
	}
	g.mu.Unlock()
	if still {
		g.reconsider(ctx)
	}
}

// markDown makes every running Sentinel call addr down. g.mu is held.
func (g *Group) markDown(addr topology.Addr, since time.Time) {
	if n := g.Node(addr); n == nil || n.Alive() {
		return
	}
	for _, s := range g.sentinels {
		if _, known := s.view.sdown[addr]; known || !s.running {
			continue
		}
		s.view.sdown[addr] = since
		s.emit("+sdown", s.nodePayload(addr))
	}
}

// nodePayload names a node as this Sentinel sees it: master or replica.
func (s *Sentinel) nodePayload(addr topology.Addr) string {
	if addr == s.view.listed {
		return s.masterPayload(addr)
	}
	return s.slavePayload(addr, s.view.listed)
}

// reconsider lets the Sentinels fail over if their master is down and enough of
// them say so. Aborted failovers are tried again when something changes: a node
// or Sentinel comes back, or a partition heals.
func (g *Group) reconsider(ctx context.Context) {
	g.mu.Lock()
	var leader *Sentinel
	for _, s := range g.sentinels {
		if s.running && g.votes(s) >= g.o.Quorum {
			g.declareDown(s)
			if leader == nil || len(g.side(s)) > len(g.side(leader)) {
				leader = s
			}
		}
	}
	g.mu.Unlock()
	if leader == nil {
		return
	}
	f, err := g.begin(leader, "", false)
	if errors.Is(err, ErrInProgress) {
		return // whoever runs it reconsiders at its end
	}
	if err == nil {
		err = f.perform(ctx)
	}
	if err != nil && ctx.Err() == nil {
		g.log.Warn("failover failed", "err", err)
	}
}

// votes is how many of s' side, itself included, call s' master down; 0 if s
// does not. g.mu is held.
func (g *Group) votes(s *Sentinel) int {
	if _, down := s.view.sdown[s.view.listed]; !down {
		return 0
	}
	n := 0
	for _, other := range g.side(s) {
		if _, down := other.view.sdown[s.view.listed]; down {
			n++
		}
	}
	return n
}

func (g *Group) declareDown(s *Sentinel) {
	if !s.view.odown.IsZero() {
		return
	}
	s.view.odown = time.Now()
	s.emit("+odown", fmt.Sprintf("%s #quorum %d/%d", s.masterPayload(s.view.listed), g.votes(s), g.o.Quorum))
}

// Restart brings a killed node back at its old address, in its old role, with
// its data. A stale master accepts writes again until the Sentinels demote it,
// DemoteAfter later.
func (g *Group) Restart(addr topology.Addr) error {
	n := g.Node(addr)
	if n == nil {
		return fmt.Errorf("sentineltest: restart %v: no such node", addr)
	}
	if n.Alive() {
		return nil
	}
	// The port was ours a moment ago: listen itself bounds the wait for it.
	if err := n.revive(context.Background()); err != nil {
		return err
	}
	g.log.Info("node restarted", "node", addr)
	g.mu.Lock()
	master := addr
	if v := g.newest(func(s *Sentinel) bool { return s.running }); v != nil {
		master = v.master
	}
	for _, s := range g.sentinels {
		s.noticeReturn(n)
	}
	g.mu.Unlock()
	if master == addr {
		return nil
	}
	if n.Role() == topology.RoleReplica {
		if to := g.Node(master); to != nil {
			n.follow(to)
		}
		g.spawn(g.reconsider) // it may be what a failover lacked
		return nil
	}
	g.spawn(func(ctx context.Context) { _ = g.demote(ctx, addr) }) // fails only with ctx
	return nil
}

// noticeReturn is a Sentinel reaching n again. g.mu is held.
func (s *Sentinel) noticeReturn(n *Node) {
	addr := n.Addr()
	if n.Role() == topology.RoleMaster && addr != s.view.listed {
		s.emit("-role-change", s.slavePayload(addr, s.view.listed)+" new reported role is master")
	}
	if _, down := s.view.sdown[addr]; !down {
		return
	}
	delete(s.view.sdown, addr)
	s.emit("-sdown", s.nodePayload(addr))
	if addr == s.view.listed && !s.view.odown.IsZero() {
		s.view.odown = time.Time{}
		s.emit("-odown", s.masterPayload(addr))
	}
}

// loseSentinels lets each Sentinel call those down that it cannot reach, after
// DownAfter.
func (g *Group) loseSentinels(ctx context.Context) {
	if !wait(ctx, g.o.DownAfter) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sentinels {
		for _, other := range g.sentinels {
			_, lost := s.view.lost[other.index]
			if s == other || lost || !s.running || (other.running && g.together(s, other)) {
				continue
			}
			s.view.lost[other.index] = struct{}{}
			s.emit("+sdown", s.sentinelPayload(other, s.view.listed))
		}
	}
}

// findSentinels lets each Sentinel see those again that it can reach. g.mu is
// held.
func (g *Group) findSentinels() {
	for _, s := range g.sentinels {
		for i := range s.view.lost {
			if other := g.sentinels[i]; s.running && other.running && g.together(s, other) {
				delete(s.view.lost, i)
				s.emit("-sdown", s.sentinelPayload(other, s.view.listed))
			}
		}
	}
}
