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
	last    topology.Route
	started bool
}

func (g *guard) check(s *sim, a Action) {
	p, ok := a.(Publish)
	if !ok {
		return
	}
	r := p.Route
	fail := func(format string, args ...any) {
		g.t.Fatalf("seed %d at %v: %s: %+v\n%s", g.seed, s.now-s.start, fmt.Sprintf(format, args...), r,
			strings.Join(s.log[max(0, len(s.log)-30):], "\n"))
	}
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

// chaos does one random thing to the group or to what is said of it.
func (s *sim) chaos(r *rand.Rand) {
	addrs := []topology.Addr{"a", "b", "c", "d"}
	addr := func() topology.Addr { return addrs[r.IntN(len(addrs))] }
	epoch := func() uint64 { return uint64(r.IntN(6)) }
	sentinel := func() topology.Addr { return topology.Addr(fmt.Sprintf("s%d", 1+r.IntN(4))) }
	switch r.IntN(12) {
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
	held := 0
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newSim(Policy{}, Saved{})
		g := &guard{t: t, seed: seed, served: map[uint64]topology.Addr{}}
		s.check = g.check
		s.views = make([]simView, 3)
		s.heal("a", 1)
		s.run(300 * time.Millisecond)
		for range 120 {
			s.chaos(r)
			s.run(time.Duration(r.IntN(400)) * time.Millisecond)
		}
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
		if got := s.m.Route(); got.State != topology.Serving || got.Master != master || got.Epoch != epoch {
			t.Fatalf("seed %d: healed, but %+v; causes %v\n%s", seed, got, s.m.Open(), strings.Join(s.log[max(0, len(s.log)-20):], "\n"))
		}
		if slices.ContainsFunc(s.log, func(l string) bool { return strings.Contains(l, "publish holding") }) {
			held++
		}
	}
	if held < runs/2 {
		t.Errorf("%d of %d runs held: the events are too tame", held, runs)
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
