package failover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func kinds(list []events.Body) string {
	var names []string
	for _, b := range list {
		names = append(names, string(events.KindOf(b)))
	}
	return strings.Join(names, " ")
}

// events returns what was published so far.
func (r *rig) events() []events.Body {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]events.Body(nil), r.told...)
}

// A failover, and then no master at all until the circuit opens, as events: each hold has
// its end.
func TestControllerTellsEvents(t *testing.T) {
	const holdMax = 3 * time.Second // a busy machine must not need it for the failover, which is no outage
	a := newFake(t, func(string) string { return roleMaster })
	b := newFake(t, func(string) string { return followerOf(a.addr) })
	r := rigged(t, Options{Policy: route.Policy{HoldMax: route.After(holdMax)}})
	r.serves(t, a.addr, func() topology.Observation { return agree(a.addr, 1, b.addr) })
	eventually(t, "what is told at the start", func() bool { return kinds(r.events()) == "RouteChanged" })
	if c := r.events()[0].(events.RouteChanged); c.From != "" || c.To != a.addr || c.Epoch != 1 { //nolint:forcetypeassert // as above
		t.Errorf("at the start: %+v", c)
	}
	r.Sign(topology.Sign{Kind: topology.SignSelected, Group: "g", Sentinel: "s1:1", Candidate: b.addr})
	eventually(t, "a hold", func() bool { return r.last().State == topology.Holding })
	b.says(roleMaster)
	a.says(followerOf(b.addr))
	r.serves(t, b.addr, func() topology.Observation { return agree(b.addr, 2, a.addr) })
	eventually(t, "what is told of a failover", func() bool { // after the route is published
		return kinds(r.events()) == "RouteChanged RouteHeld RouteReleased RouteChanged"
	})
	got := r.events()
	if h := got[1].(events.RouteHeld); h.Master != a.addr || h.Epoch != 1 || h.Cause != "selected" || h.Why != "a failover has begun" || h.Everyday { //nolint:forcetypeassert // as above
		t.Errorf("held: %+v", h)
	}
	if c := got[3].(events.RouteChanged); c.From != a.addr || c.To != b.addr || c.Epoch != 2 || c.Took <= 0 || len(c.Steps) == 0 || c.Cause != "selected" { //nolint:forcetypeassert // as above
		t.Errorf("changed: %+v", c)
	}

	b.says("-LOADING busy\r\n") // no master anywhere
	r.Sign(topology.Sign{Kind: topology.SignPromoted, Group: "g", Sentinel: "s1:1", Candidate: a.addr})
	eventually(t, "an open circuit", func() bool { return r.last().State == topology.Down })
	b.says(roleMaster)
	r.serves(t, b.addr, func() topology.Observation { return agree(b.addr, 3, a.addr) })
	eventually(t, "what is told of an outage", func() bool {
		return kinds(r.events()[4:]) == "RouteHeld BreakerOpened BreakerClosed RouteReleased RouteChanged"
	})
	got = r.events()
	if o, ok := got[5].(events.BreakerOpened); !ok || o.Held < events.Milliseconds(holdMax.Milliseconds()) || o.Cause != "promoted" {
		t.Errorf("opened: %+v", got[5])
	}
}

// probes drives a journal.
type probes struct {
	*nodeJournal

	now time.Duration
}

func (p *probes) master(a topology.Addr, offset int64, more ...func(*route.NodeSeen)) string {
	return p.probe(route.NodeSeen{Addr: a, Role: topology.RoleMaster, Offset: offset}, more...)
}

func (p *probes) replica(a topology.Addr, offset int64) string {
	return p.probe(route.NodeSeen{Addr: a, Role: topology.RoleReplica, Master: "m:1", LinkUp: true, Offset: offset})
}

func (p *probes) gone(a topology.Addr) string {
	return p.probe(route.NodeSeen{Addr: a, Err: "refused"})
}

func (p *probes) probe(ev route.NodeSeen, more ...func(*route.NodeSeen)) string {
	ev.At, ev.SentAt = p.now, p.now
	for _, f := range more {
		f(&ev)
	}
	var all []string
	for _, b := range p.seen("m:1", true, ev) {
		all = append(all, strings.TrimPrefix(fmt.Sprintf("%T%+v", b, b), "events."))
	}
	return strings.Join(all, " ")
}

func client(id int64) func(*route.NodeSeen) { return func(ev *route.NodeSeen) { ev.Client = id } }

func TestReplicaLostAndBack(t *testing.T) {
	p := &probes{newNodeJournal(), time.Minute}
	want := func(at time.Duration, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("at %v told %q; want %q", at, got, want)
		}
	}
	for range 10 { // one that never answered is not known to be a replica
		p.now += time.Second
		want(p.now, p.gone("x:1"), "")
	}
	want(p.now, p.replica("r:1", 7), "")
	p.now += time.Second
	want(p.now, p.gone("r:1"), "")
	p.now += lostAfter - time.Millisecond
	want(p.now, p.gone("r:1"), "")
	p.now += time.Millisecond
	want(p.now, p.gone("r:1"), "ReplicaLost{Replica:r:1 Err:refused}")
	p.now += time.Second
	want(p.now, p.gone("r:1"), "") // once
	p.now += time.Second
	want(p.now, p.replica("r:1", 7), "ReplicaBack{Replica:r:1 Away:7000}")
	want(p.now, p.replica("r:1", 7), "")
	p.now += time.Second
	want(p.now, p.gone("r:1"), "") // a moment is nothing
	p.now += time.Second
	want(p.now, p.replica("r:1", 7), "")
	p.probe(route.NodeSeen{Addr: "m:1", Err: "refused"})
	p.now += time.Minute
	want(p.now, p.gone("m:1"), "") // the master's loss is the route's to tell
	p.watch([]topology.Addr{"m:1"})
	if len(p.nodes) != 1 {
		t.Errorf("%d nodes kept", len(p.nodes))
	}
}

func TestReplicaLag(t *testing.T) {
	p := &probes{newNodeJournal(), time.Minute}
	var told []string
	// The master writes 1000 bytes a second. The replica keeps up, stands still for
	// twenty seconds, and catches up at four times the pace.
	replica := int64(0)
	for s := range int64(60) {
		p.now += time.Second
		if got := p.master("m:1", 1000*s); got != "" {
			t.Errorf("second %d: %s", s, got)
		}
		switch {
		case s < 10:
			replica = 1000*s - 400
		case s < 30:
		default:
			replica = min(replica+4000, 1000*s-400)
		}
		if got := p.replica("r:1", replica); got != "" {
			told = append(told, fmt.Sprintf("%d %s", s, got))
		}
		if want, ok := map[int64]lag{
			5:  {400, time.Second}, // to the second: it has what the master had at the last sample but one
			19: {10_400, 11 * time.Second},
			29: {20_400, 21 * time.Second},
		}[s]; ok && p.lags()["r:1"] != want {
			t.Errorf("second %d: lag %+v; want %+v", s, p.lags()["r:1"], want)
		}
	}
	if len(told) != 2 || !strings.HasPrefix(told[0], "18 ReplicaLagging{Replica:r:1 Lag:10000 Bytes:9400 LinkUp:true}") || !strings.Contains(told[1], "ReplicaCaughtUp{Replica:r:1 After:") {
		t.Errorf("told %q", told)
	}
	if len(p.samples) > samplesMax {
		t.Errorf("%d samples", len(p.samples))
	}
	// A master that is idle has replicas that are not late, however long ago it wrote.
	for range 60 {
		p.now += time.Second
		if got := p.master("m:1", 59_000) + p.replica("r:1", 59_000); got != "" {
			t.Errorf("idle: %s", got)
		}
	}
	if got := p.lags(); len(got) != 1 || got["r:1"] != (lag{}) {
		t.Errorf("idle: %+v", got)
	}
	// Whose lag is not known has none: one that does not answer, one of another master.
	if p.replica("r:2", 1); len(p.lags()) != 2 {
		t.Errorf("two replicas: %+v", p.lags())
	}
	p.gone("r:2")
	if _, ok := p.lags()["r:2"]; ok {
		t.Errorf("a silent one: %+v", p.lags())
	}
	p.watch([]topology.Addr{"m:1"})
	if len(p.lags()) != 0 {
		t.Errorf("a forgotten one: %+v", p.lags())
	}
}

func TestTwoMasters(t *testing.T) {
	p := &probes{newNodeJournal(), time.Minute}
	p.master("m:1", 5)
	if got := p.master("o:1", 5); got != "" {
		t.Errorf("at once: %s", got)
	}
	p.now += secondMasterAfter
	if got := p.master("o:1", 6); got != "TwoMastersSeen{Master:m:1 Other:o:1 For:2000}" {
		t.Errorf("after two seconds: %s", got)
	}
	p.now += time.Minute
	if got := p.master("o:1", 7); got != "" {
		t.Errorf("told twice: %s", got)
	}
	p.replica("o:1", 7)
	if got := p.master("o:1", 8); got != "" {
		t.Errorf("anew: %s", got)
	}
	p.now += secondMasterAfter
	if got := p.master("o:1", 8); !strings.HasPrefix(got, "TwoMastersSeen") {
		t.Errorf("anew, after two seconds: %s", got)
	}
	// While nothing is served a node that says master is being promoted.
	p.replica("o:1", 8)
	for range 10 {
		p.now += time.Second
		if got := p.seen("m:1", false, route.NodeSeen{Addr: "o:1", Role: topology.RoleMaster, Offset: 9, At: p.now}); len(got) > 0 {
			t.Errorf("during a hold: %v", got)
		}
	}
}

// After every failover the old master says master until Sentinel demotes it, and then has
// everything to copy.
func TestOldMasterIsNoNews(t *testing.T) {
	p := &probes{newNodeJournal(), time.Minute}
	serves := func() {
		p.seen("a:1", true, route.NodeSeen{Addr: "a:1", Role: topology.RoleMaster, Offset: 5, At: p.now})
	}
	serves()
	told := func(length time.Duration) (all []string) {
		for end := p.now + length; p.now < end; {
			p.now += time.Second
			for _, ev := range []route.NodeSeen{
				{Addr: "b:1", Role: topology.RoleMaster, Offset: int64(p.now / time.Millisecond), At: p.now},
				{Addr: "a:1", Role: topology.RoleMaster, Offset: 5, At: p.now},
			} {
				for _, body := range p.seen("b:1", true, ev) {
					all = append(all, fmt.Sprintf("%T", body))
				}
			}
		}
		return all
	}
	if got := told(12 * time.Second); len(got) > 0 {
		t.Errorf("before Sentinel demotes it: %q", got)
	}
	// Demoted, it is far behind for a moment.
	behind := route.NodeSeen{Addr: "a:1", Role: topology.RoleReplica, Master: "b:1", LinkUp: true, Offset: 5, At: p.now}
	if got := p.seen("b:1", true, behind); len(got) > 0 {
		t.Errorf("just demoted: %v", got)
	}
	behind.At += laggingFrom
	if got := p.seen("b:1", true, behind); len(got) != 1 {
		t.Errorf("far behind for %v: %v; want ReplicaLagging", laggingFrom, got)
	}

	// One that nobody demotes is told.
	p = &probes{newNodeJournal(), time.Minute}
	serves()
	if got := told(oldMasterAfter + 2*time.Second); len(got) != 1 || got[0] != "events.TwoMastersSeen" {
		t.Errorf("%v after the failover: %q", oldMasterAfter, got)
	}
}

func TestMasterRestarted(t *testing.T) {
	for name, tt := range map[string]struct {
		probes func(p *probes) []string
		want   string
	}{
		"offset fell": {
			func(p *probes) []string {
				return []string{p.master("m:1", 900), p.gone("m:1"), p.master("m:1", 0), p.master("m:1", 5)}
			},
			"MasterRestarted{Master:m:1 Before:900 After:0 Fell:true}",
		},
		"client id fell": {
			func(p *probes) []string {
				return []string{p.master("m:1", 0), p.master("m:1", 0, client(70)), p.master("m:1", 0), p.master("m:1", 0, client(3)), p.master("m:1", 0, client(3))}
			},
			"MasterRestarted{Master:m:1 Before:0 After:0 Fell:false}",
		},
		"both": {
			func(p *probes) []string {
				return []string{p.master("m:1", 9, client(70)), p.master("m:1", 0), p.master("m:1", 0, client(3))}
			},
			"MasterRestarted{Master:m:1 Before:9 After:0 Fell:true}",
		},
		"a new connection": {
			func(p *probes) []string {
				return []string{p.master("m:1", 9, client(70)), p.master("m:1", 9), p.master("m:1", 9, client(71))}
			},
			"",
		},
		"another node": {
			func(p *probes) []string {
				return []string{p.master("o:1", 9, client(70)), p.master("o:1", 0, client(7))}
			},
			"",
		},
		"a replica before": {
			func(p *probes) []string { return []string{p.replica("m:1", 900), p.master("m:1", 800)} },
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &probes{newNodeJournal(), time.Minute}
			if got := strings.TrimSpace(strings.Join(tt.probes(p), " ")); strings.Join(strings.Fields(got), " ") != tt.want {
				t.Errorf("told %q; want %q", got, tt.want)
			}
		})
	}
}
