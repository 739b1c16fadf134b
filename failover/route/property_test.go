package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// guard checks, action by action, what must hold whatever happens.
type guard struct {
	t       *testing.T
	seed    uint64
	gen     uint64
	epoch   uint64
	served  map[uint64]topology.Addr // since the last accepted regression
	base    pair                     // the last that was served on a majority's word
	leapt   bool                     // it was ahead at least once
	demoted bool                     // it demoted at least once
	asked   bool                     // a switchover had it go fast since it served last
	last    topology.Route
	started bool
}

func (g *guard) check(s *sim, a Action) {
	fail := func(format string, args ...any) {
		g.t.Fatalf("seed %d at %v: %s: %+v\n%s", g.seed, s.now-s.start, fmt.Sprintf(format, args...), a,
			strings.Join(s.log[max(0, len(s.log)-30):], "\n"))
	}
	if sw := s.m.switching; sw != nil && sw.committed && sw.fast {
		g.asked = true
	}
	if d, ok := a.(Demote); ok {
		g.checkDemote(s, d, fail)
	}
	p, ok := a.(Publish)
	if !ok {
		return
	}
	r := p.Route
	if r.Gen <= g.gen {
		fail("gen %d after %d", r.Gen, g.gen)
	}
	g.gen = r.Gen
	switch r.State {
	case topology.Serving:
		if r.Doubt || r.Suspect {
			fail("a serving route doubts or suspects")
		}
		if r.Lease == nil || !r.Lease.Held(s.now) {
			fail("serving without a lease")
		}
		if s.m.Ahead() {
			g.checkAhead(s, r.Master != g.last.Master, fail)
			g.last = r
			return // its epoch is a guess, and counts for nothing
		}
		regressed := s.m.obs.Agreed && s.now-s.m.agreedSince > insist
		if r.Epoch < g.epoch && !regressed {
			fail("epoch %d after %d", r.Epoch, g.epoch)
		}
		if other, ok := g.served[r.Epoch]; ok && other != r.Master && !regressed {
			fail("%s and %s served at epoch %d", other, r.Master, r.Epoch)
		}
		if r.Epoch < g.epoch || g.served[r.Epoch] != r.Master {
			clear(g.served)
		}
		g.epoch, g.served[r.Epoch] = r.Epoch, r.Master
		if n := s.nodes[r.Master]; n == nil {
			fail("an unknown node is served")
		}
		g.base = pair{r.Master, r.Epoch}
	case topology.Discovering:
		if g.started {
			fail("back to discovering")
		}
	case topology.Holding, topology.Fenced, topology.Down:
		if r.Doubt != g.last.Doubt && !r.Doubt {
			fail("a hold stops doubting")
		}
		if r.State == g.last.State && r.Since != g.last.Since {
			fail("since moved within a state")
		}
	default:
		fail("invalid state")
	}
	g.started = g.started || r.State != topology.Discovering
	g.last = r
}

// checkAhead checks what being ahead of the majority rests on.
func (g *guard) checkAhead(s *sim, leap bool, fail func(string, ...any)) {
	g.leapt = true
	if s.m.policy.Follow != FollowFast && !g.asked {
		fail("ahead without follow: fast")
	}
	old, now := s.m.nodes[s.m.ahead.base.addr], s.m.nodes[s.m.pair.addr]
	if s.m.ahead.base.addr == s.m.pair.addr || old == nil || now == nil {
		fail("ahead of %v", s.m.ahead.base)
	}
	if old.last.Role != topology.RoleReplica && (!old.last.Refused || s.now-old.last.SentAt > goneFor) {
		fail("ahead while the old master may live: %+v", old.last)
	}
	if now.last.Role == topology.RoleReplica || leap && now.last.Role != topology.RoleMaster {
		fail("ahead with a master that says %v", now.last.Role)
	}
}

// checkDemote checks that only a master that was replaced is demoted.
func (g *guard) checkDemote(s *sim, d Demote, fail func(string, ...any)) {
	g.demoted = true
	m := s.m
	switch {
	case !m.policy.demotes() && !g.asked || d.Target == d.Master || d.Master == "":
		fail("not to be demoted")
	case m.state == topology.Serving && (d.Master != m.pair.addr || d.Target == m.pair.addr):
		fail("the master that is served is demoted")
	case m.policy.Follow == FollowMajority && !g.asked && (!m.obs.Agreed || m.obs.Master != d.Master || m.obs.MaxEpoch > m.obs.Epoch):
		fail("demoted against the Sentinels")
	}
	if n := m.nodes[d.Target]; n == nil || n.last.Role != topology.RoleMaster {
		fail("demoted though it does not say master")
	}
	if n := m.nodes[d.Master]; n == nil || n.last.Role != topology.RoleMaster {
		fail("demoted below a node that does not say master")
	}
}

// failover is what chaos alone would seldom do: a whole failover away from the
// master that is served, its parts in order, some of them left out.
func (s *sim) failover(r *rand.Rand) {
	old := s.m.pair
	to := topology.Addr([]string{"a", "b", "c", "d"}[r.IntN(4)])
	if to == old.addr {
		return
	}
	sentinel := topology.Addr(fmt.Sprintf("s%d", 1+r.IntN(3)))
	pause := func() { s.run(time.Duration(r.IntN(200)) * time.Millisecond) }
	sign := func(k topology.SignKind) {
		if r.IntN(5) > 0 {
			s.step(Signed{topology.Sign{Kind: k, Group: "g", Sentinel: sentinel, Candidate: to, Old: old.addr, At: s.now}})
		}
	}
	switch r.IntN(4) {
	case 0:
		s.nodes[old.addr] = &simNode{refused: true}
	case 1:
		s.nodes[old.addr] = &simNode{hung: true}
	}
	switchover := r.IntN(2) == 0
	if switchover {
		s.step(SwitchoverBegun{Until: s.now + time.Second, Fast: r.IntN(3) > 0})
		s.run(10 * time.Millisecond)
		s.step(SwitchoverCommitted{Sentinel: sentinel})
	}
	sign(topology.SignSelected)
	pause()
	sign(topology.SignPromoting)
	s.nodes[to] = &simNode{role: topology.RoleMaster}
	s.step(NodeClosed{to})
	pause()
	if r.IntN(4) == 0 {
		return // the leader died
	}
	sign(topology.SignPromoted)
	for i := range s.views {
		s.views[i] = simView{addr: to, epoch: old.epoch + 1 + uint64(r.IntN(2)*r.IntN(3)), up: true}
		pause()
	}
}

// policies are those that the properties are checked for.
func policies() map[string]Policy {
	return map[string]Policy{
		"majority":      {},
		"fast":          {Follow: FollowFast},
		"demote":        {Demote: DemoteAuto},
		"fast demoting": {Follow: FollowFast, Demote: DemoteAuto},
		"offering":      {OfferReplicas: true},
	}
}

// chaos does one random thing to the group or to what is said of it.
func (s *sim) chaos(r *rand.Rand) {
	addrs := []topology.Addr{"a", "b", "c", "d"}
	addr := func() topology.Addr { return addrs[r.IntN(len(addrs))] }
	epoch := func() uint64 { return uint64(r.IntN(6)) }
	sentinel := func() topology.Addr { return topology.Addr(fmt.Sprintf("s%d", 1+r.IntN(4))) }
	switch r.IntN(13) {
	case 0:
		s.nodes[addr()] = &simNode{role: topology.RoleMaster}
	case 1, 2:
		s.nodes[addr()] = &simNode{role: topology.RoleReplica, master: addr()}
	case 3:
		s.nodes[addr()] = &simNode{refused: r.IntN(2) == 0, hung: true, noAuth: r.IntN(8) == 0}
	case 4, 5:
		s.views[r.IntN(len(s.views))] = simView{addr(), epoch(), r.IntN(5) > 0, r.IntN(10) == 0}
	case 6:
		v := simView{addr: addr(), epoch: epoch(), up: true}
		for i := range s.views {
			s.views[i] = v
		}
	case 7:
		k := topology.SignKind(1 + r.IntN(int(topology.SignDemoted)))
		s.step(Signed{topology.Sign{Kind: k, Group: "g", Sentinel: sentinel(), Candidate: addr(), Old: addr(), At: s.now}})
	case 8:
		s.step(NodeClosed{addr()})
	case 9:
		k := topology.ReportKind(1 + r.IntN(int(topology.ReportLeaseEnded)))
		s.step(Reported{topology.Report{Kind: k, Group: "g", Gen: s.m.gen - uint64(r.IntN(2)), Addr: addr(), At: s.now}})
	case 10:
		s.replicas = nil
		for _, a := range addrs {
			if r.IntN(3) > 0 {
				s.replicas = append(s.replicas, topology.Replica{Addr: a, Up: r.IntN(3) > 0})
			}
		}
	case 11:
		switch r.IntN(4) {
		case 0:
			s.step(SwitchoverBegun{Until: s.now + time.Duration(r.IntN(5000))*time.Millisecond, Fast: r.IntN(2) == 0})
		case 1:
			s.step(SwitchoverCommitted{Sentinel: sentinel()})
		case 2:
			s.step(SwitchoverRefused{})
		case 3:
			s.step(SwitchoverEnded{})
		}
	case 12:
		if r.IntN(4) == 0 {
			s.step(Missed{})
		} else {
			s.now += time.Duration(r.IntN(2000)) * time.Millisecond // suspended
			s.step(Tick{})
		}
	}
}

// heal makes all agree on one master at this epoch.
func (s *sim) heal(master topology.Addr, epoch uint64) {
	s.replicas = nil
	for _, a := range []topology.Addr{"a", "b", "c", "d"} {
		if a == master {
			s.nodes[a] = &simNode{role: topology.RoleMaster}
			continue
		}
		s.nodes[a] = &simNode{role: topology.RoleReplica, master: master}
		s.replicas = append(s.replicas, topology.Replica{Addr: a, Up: true})
	}
	for i := range s.views {
		s.views[i] = simView{addr: master, epoch: epoch, up: true}
	}
}

// TestAnyOrder drives machines through random events and checks that nothing
// forbidden happens, and that every hold has a release: a healed group is served.
func TestAnyOrder(t *testing.T) {
	runs := 40 // each is about 30 s of simulated time
	if testing.Short() {
		runs = 8
	}
	for name, policy := range policies() {
		t.Run(name, func(t *testing.T) { anyOrder(t, policy, runs) })
	}
}

func anyOrder(t *testing.T, policy Policy, runs int) {
	t.Helper()
	held, leapt, demoted := 0, false, false
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newSim(policy, Saved{})
		g := &guard{t: t, seed: seed, served: map[uint64]topology.Addr{}}
		s.check = g.check
		s.views = make([]simView, 3)
		s.heal("a", 1)
		s.run(300 * time.Millisecond)
		for range 120 {
			if r.IntN(6) == 0 {
				s.heal(s.m.pair.addr, s.m.pair.epoch)
				s.run(time.Duration(r.IntN(1000)) * time.Millisecond)
				s.failover(r)
			} else {
				s.chaos(r)
			}
			s.run(time.Duration(r.IntN(400)) * time.Millisecond)
		}
		leapt, demoted = leapt || g.leapt, demoted || g.demoted
		s.known = 0
		master, epoch := topology.Addr([]string{"a", "b", "c", "d"}[r.IntN(4)]), uint64(0)
		switch seed % 3 {
		case 0: // a failover
			epoch = 100
		case 1: // nothing happened after all
			master, epoch = s.m.pair.addr, s.m.pair.epoch
		case 2: // the operator started again with REMOVE and MONITOR
		}
		s.heal(master, epoch)
		s.run(insist + time.Second)
		if got := s.m.Route(); got.State != topology.Serving || got.Master != master || s.m.Epoch() != epoch || s.m.Ahead() {
			t.Fatalf("seed %d: healed, but %+v; causes %v\n%s", seed, got, s.m.Open(), strings.Join(s.log[max(0, len(s.log)-20):], "\n"))
		}
		if slices.ContainsFunc(s.log, func(l string) bool { return strings.Contains(l, "publish holding") }) {
			held++
		}
	}
	if held < runs/2 {
		t.Errorf("%d of %d runs held: the events are too tame", held, runs)
	}
	if !leapt || !demoted { // a switchover does both in every mode
		t.Errorf("ahead %v, demoted %v: the events are too tame", leapt, demoted)
	}
}

// TestDeterministic checks that the same events give the same actions.
func TestDeterministic(t *testing.T) {
	play := func() string {
		r := rand.New(rand.NewPCG(7, 7))
		s := newSim(Policy{}, Saved{})
		s.views = make([]simView, 3)
		s.heal("a", 1)
		for range 200 {
			s.chaos(r)
			s.run(time.Duration(r.IntN(300)) * time.Millisecond)
		}
		return strings.Join(s.log, "\n")
	}
	if a, b := play(), play(); a != b {
		t.Errorf("two runs of the same events differ:\n%s\n\n%s", a, b)
	}
}

// TestReleases opens each cause alone while serving and checks that the same pair is
// served again although nothing changed: no cause lacks a release.
func TestReleases(t *testing.T) {
	for name, ev := range map[string]Event{
		"selected":       Signed{topology.Sign{Kind: topology.SignSelected, Sentinel: "s1", Candidate: "b"}},
		"promoting":      Signed{topology.Sign{Kind: topology.SignPromoting, Sentinel: "s1", Candidate: "b"}},
		"promoted":       Signed{topology.Sign{Kind: topology.SignPromoted, Sentinel: "s1", Candidate: "b"}},
		"switched":       Signed{topology.Sign{Kind: topology.SignSwitched, Sentinel: "s1", Candidate: "b"}},
		"unknown node":   Signed{topology.Sign{Kind: topology.SignSwitched, Sentinel: "s1", Candidate: "nowhere"}},
		"no candidate":   Signed{topology.Sign{Kind: topology.SignSelected, Sentinel: "s1"}},
		"demoting":       Signed{topology.Sign{Kind: topology.SignDemoted, Sentinel: "s1", Candidate: "a"}},
		"missed":         Missed{},
		"replica closed": NodeClosed{"b"},
		"read only":      Reported{topology.Report{Kind: topology.ReportReadOnly, Addr: "a", Gen: 1 << 20}},
		"not master":     Reported{topology.Report{Kind: topology.ReportNotMaster, Addr: "a", Gen: 1 << 20}},
		"unreachable":    Reported{topology.Report{Kind: topology.ReportUnreachable, Addr: "a", Gen: 1 << 20}},
		"refused":        Reported{topology.Report{Kind: topology.ReportRefused, Addr: "a", Gen: 1 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(Policy{}, Saved{})
			s.views = []simView{{"a", 1, true, false}, {"a", 1, true, false}, {"a", 1, true, false}}
			s.replicas = []topology.Replica{{Addr: "b", Up: true}}
			s.nodes["a"] = &simNode{role: topology.RoleMaster}
			s.nodes["b"] = &simNode{role: topology.RoleReplica, master: "a"}
			s.run(300 * time.Millisecond)
			gen := s.m.Route().Gen
			s.step(ev)
			if got := s.m.State(); got != topology.Holding {
				t.Fatalf("state %v after the event; want holding", got)
			}
			s.run(insist + 500*time.Millisecond)
			if got := s.m.Route(); got.State != topology.Serving || got.Master != "a" || got.Gen <= gen {
				t.Errorf("route %+v; want serving a again\n%s", got, strings.Join(s.log, "\n"))
			}
		})
	}
}

// TestSwitchoverReleases leaves a switchover alone in every way that whoever carries it
// out may vanish, and checks that the same pair is served again.
func TestSwitchoverReleases(t *testing.T) {
	for name, events := range map[string][]Event{
		"before the commit":      nil,
		"after it":               {SwitchoverCommitted{Sentinel: "s1"}},
		"after a refusal":        {SwitchoverCommitted{Sentinel: "s1"}, SwitchoverRefused{}},
		"ended after the commit": {SwitchoverCommitted{Sentinel: "s1"}, SwitchoverEnded{}},
		"committed twice":        {SwitchoverCommitted{Sentinel: "s1"}, SwitchoverCommitted{Sentinel: "s2"}},
	} {
		for mode, policy := range policies() {
			t.Run(name+", "+mode, func(t *testing.T) {
				s := newSim(policy, Saved{})
				s.views = make([]simView, 3)
				s.heal("a", 1)
				s.run(300 * time.Millisecond)
				gen := s.m.Route().Gen
				s.step(SwitchoverBegun{Until: s.now + time.Second, Fast: true})
				for _, ev := range events {
					s.run(10 * time.Millisecond)
					s.step(ev)
				}
				if got := s.m.State(); got != topology.Holding {
					t.Fatalf("state %v; want holding", got)
				}
				s.run(insist + 500*time.Millisecond)
				if got := s.m.Route(); got.State != topology.Serving || got.Master != "a" || got.Gen <= gen || s.m.switching != nil {
					t.Errorf("route %+v; want serving a again\n%s", got, strings.Join(s.log, "\n"))
				}
			})
		}
	}
}
