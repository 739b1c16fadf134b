package route

import (
	"maps"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestElect(t *testing.T) {
	good := func(a topology.Addr, change ...func(*Electable)) Electable {
		e := Electable{Addr: a, RunID: string(a), Priority: 100, Offset: 10, Flags: "slave", InfoAge: 9 * time.Second}
		for _, c := range change {
			c(&e)
		}
		return e
	}
	for name, tt := range map[string]struct {
		all  []Electable
		want topology.Addr
	}{
		"run id":         {[]Electable{good("b"), good("a")}, "a"},
		"run id's case":  {[]Electable{good("b"), good("c", func(e *Electable) { e.RunID = "A" })}, "c"},
		"offset":         {[]Electable{good("a"), good("b", func(e *Electable) { e.Offset = 11 })}, "b"},
		"priority first": {[]Electable{good("a", func(e *Electable) { e.Priority = 9 }), good("b", func(e *Electable) { e.Offset = 11 })}, "a"},
		"never":          {[]Electable{good("a", func(e *Electable) { e.Priority = 0 }), good("b")}, "b"},
		"down":           {[]Electable{good("a", func(e *Electable) { e.Flags = "slave,s_down" }), good("b")}, "b"},
		"old INFO":       {[]Electable{good("a", func(e *Electable) { e.InfoAge = time.Minute }), good("b")}, "b"},
		"no PONG":        {[]Electable{good("a", func(e *Electable) { e.PingAge = 6 * time.Second }), good("b")}, "b"},
		"link down":      {[]Electable{good("a", func(e *Electable) { e.LinkDown = time.Minute }), good("b")}, "b"},
		"nobody":         {[]Electable{good("a", func(e *Electable) { e.Flags = "slave,disconnected" })}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := Elect(tt.all, time.Second); got != tt.want || ok != (tt.want != "") {
				t.Errorf("elected %q, %v; want %q", got, ok, tt.want)
			}
		})
	}
}

func TestPrefer(t *testing.T) {
	type prio = map[topology.Addr]int
	for name, tt := range map[string]struct{ have, want prio }{
		"alone":         {prio{"a": 100}, prio{}},
		"wins already":  {prio{"a": 10, "b": 100}, prio{}},
		"others never":  {prio{"a": 10, "b": 0}, prio{}},
		"equal":         {prio{"a": 100, "b": 100}, prio{"a": 1}},
		"behind":        {prio{"a": 100, "b": 10, "c": 200}, prio{"a": 1}},
		"other is at 1": {prio{"a": 100, "b": 1, "c": 1}, prio{"a": 1, "b": 2, "c": 2}},
		"both are at 1": {prio{"a": 1, "b": 1}, prio{"b": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Prefer("a", tt.have)
			if !maps.Equal(got, tt.want) {
				t.Errorf("changes %v; want %v", got, tt.want)
			}
			after := maps.Clone(tt.have)
			maps.Copy(after, got)
			for a, p := range after {
				if a != "a" && p != 0 && p <= after["a"] {
					t.Errorf("%s at %d is not behind a at %d", a, p, after["a"])
				}
			}
		})
	}
}
