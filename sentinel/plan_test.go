package sentinel

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestPlan(t *testing.T) {
	up := func(addr, id string, peers ...peer) member {
		return member{addr: topology.Addr(addr), configured: true, runID: id, up: true, knows: true, peers: peers}
	}
	found := func(m member) member { m.configured = false; return m }
	lost := func(m member) member { m.up, m.knows = false, false; return m }
	p := func(addr, id string) peer { return peer{addr: topology.Addr(addr), runID: id} }
	many := make([]peer, 50)
	for i := range many {
		many[i] = p(fmt.Sprintf("p%02d:1", i), fmt.Sprint(i))
	}
	for name, tt := range map[string]struct {
		members        []member
		follow, forget []topology.Addr
	}{
		"follows who is named":               {[]member{up("a:1", "A", p("c:1", "C"), p("b:1", "B"))}, []topology.Addr{"b:1", "c:1"}, nil},
		"once":                               {[]member{up("a:1", "A", p("b:1", "B")), up("b:1", "B", p("a:1", "A"))}, nil, nil},
		"not a configured one's other name":  {[]member{up("a:1", "A", p("10.0.0.2:1", "B")), lost(up("b:1", "B"))}, nil, nil},
		"a discovered one that moved":        {[]member{up("a:1", "A", p("b:2", "B")), found(lost(up("b:1", "B")))}, []topology.Addr{"b:2"}, []topology.Addr{"b:1"}},
		"not on a silent one's old word":     {[]member{lost(up("a:1", "A", p("b:1", "B")))}, nil, nil},
		"keeps who is named and silent":      {[]member{up("a:1", "A", p("b:1", "B")), found(lost(up("b:1", "B")))}, nil, nil},
		"keeps who answers and is not named": {[]member{up("a:1", "A"), found(up("b:1", "B"))}, nil, nil},
		"forgets who is neither":             {[]member{up("a:1", "A"), found(lost(up("b:1", "B")))}, nil, []topology.Addr{"b:1"}},
		"never a configured one":             {[]member{up("a:1", "A"), lost(up("b:1", "B"))}, nil, nil},
		"nobody while nobody answers":        {[]member{lost(up("a:1", "A")), found(lost(up("b:1", "B")))}, nil, nil},
		"at most the cap":                    {[]member{up("a:1", "A", many...)}, addrsOf(many[:maxSentinels-1]), nil},
	} {
		t.Run(name, func(t *testing.T) {
			follow, forget := plan(tt.members)
			if !slices.Equal(follow, tt.follow) || !slices.Equal(forget, tt.forget) {
				t.Errorf("follow %v, forget %v; want %v, %v", follow, forget, tt.follow, tt.forget)
			}
		})
	}
}

func addrsOf(peers []peer) []topology.Addr {
	var out []topology.Addr
	for _, p := range peers {
		out = append(out, p.addr)
	}
	return out
}

func TestPace(t *testing.T) {
	for _, tt := range []struct{ downAfter, want time.Duration }{
		{0, 250 * time.Millisecond},
		{time.Millisecond, 20 * time.Millisecond},
		{500 * time.Millisecond, 87500 * time.Microsecond},
		{time.Second, 175 * time.Millisecond},
		{5 * time.Second, 875 * time.Millisecond},
		{30 * time.Second, time.Second},
	} {
		if got := pollEvery(tt.downAfter); got != tt.want {
			t.Errorf("pollEvery(%v) = %v; want %v", tt.downAfter, got, tt.want)
		}
	}
	var b backoff
	for i := range 100 {
		d := b.next(backoffMax)
		if limit := min(backoffMax, backoffMin<<min(i, 10)); d < limit/2 || d > limit {
			t.Fatalf("failure %d waits %v; want %v to %v", i, d, limit/2, limit)
		}
		if s := shorten(time.Second); s > time.Second || s < 900*time.Millisecond {
			t.Fatalf("shorten(1s) = %v", s)
		}
		if l := lengthen(fastPoll); l < fastPoll || l > 25*time.Millisecond {
			t.Fatalf("lengthen(%v) = %v", fastPoll, l)
		}
	}
}
