package health

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"
)

// explained asks a probe to explain itself.
func explained(tb testing.TB, addr, path string) (int, probePage) {
	tb.Helper()
	code, body := get(tb, addr, path)
	var p probePage
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		tb.Fatalf("%s: %d %q: %v", path, code, body, err)
	}
	return code, p
}

func TestProbesExplainThemselves(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a, b := &fakeGroup{name: "a", since: since}, &fakeGroup{name: "b", remark: "no Sentinel answers"}
	s, addr := start(t, Options{Groups: []Group{a, b}})
	check := func(path string, wantCode int, want ...string) {
		t.Helper()
		code, p := explained(t, addr, path)
		if code != wantCode || p.OK != (wantCode == 200) || p.At.IsZero() {
			t.Errorf("%s: %d, ok %v at %v; want %d", path, code, p.OK, p.At, wantCode)
		}
		var got []string
		for _, c := range p.Checks {
			word := "ok"
			if !c.OK {
				word = "not"
				if !c.Required {
					word = "advice"
				}
				word += ": " + c.Reason
			}
			got = append(got, c.Master+" "+c.Name+" "+word)
			if c.Since.IsZero() || c.ForSeconds < 0 {
				t.Errorf("%s: %s is so since %v, for %v s", path, c.Name, c.Since, c.ForSeconds)
			}
			if c.Name == "route" && c.Master == "a" && !c.Since.Equal(since) {
				t.Errorf("%s: a's route since %v; want %v", path, c.Since, since)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %q; want %q", path, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %q; want %q", path, got[i], want[i])
			}
		}
	}
	check("/livez?verbose", 200, " event_loops ok")
	check("/startupz?verbose=true", 200, " event_loops_turned ok")
	check("/readyz?verbose", 200, " not_draining ok", "a route ok", "a degraded ok", "b route ok", "b degraded advice: no Sentinel answers")
	a.set("holding: the master\nis lost", nil)
	check("/readyz?verbose", 503, " not_draining ok", "a route not: holding: the master is lost", "a degraded ok", "b route ok", "b degraded advice: no Sentinel answers")
	check("/readyz?master=b&verbose=1", 200, " not_draining ok", "b route ok", "b degraded advice: no Sentinel answers")
	if code, body := get(t, addr, "/readyz?verbose=false"); code != 503 || body != "not ready\na: holding: the master is lost\n" {
		t.Errorf("verbose=false: %d %q", code, body)
	}
	if code, _ := get(t, addr, "/readyz?verbose&master=c"); code != 404 {
		t.Errorf("an unknown master: %d", code)
	}
	s.Drain()
	check("/readyz?verbose&master=b", 503, " not_draining not: draining: the process is about to stop", "b route ok", "b degraded advice: no Sentinel answers")
}

// A process that was suspended finds its loops late for a moment: it lives all the same.
func TestLivezIsNotHasty(t *testing.T) {
	var stuck atomic.Bool
	s, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Alive: func() (bool, string) {
		return !stuck.Load(), "a: an event loop stands still"
	}})
	now := time.Now()
	if !s.live(now).OK {
		t.Fatal("not live at the start")
	}
	stuck.Store(true)
	if !s.live(now.Add(time.Millisecond)).OK {
		t.Error("one late look was believed")
	}
	if f := s.live(now.Add(time.Hour)); f.OK || f.Reason == "" {
		t.Errorf("an hour later: %+v; want it believed", f)
	}
	if code, p := explained(t, addr, "/livez?verbose"); code != 503 || p.OK || p.Checks[0].Reason != "a: an event loop stands still" {
		t.Errorf("/livez?verbose: %d %+v", code, p)
	}
}
