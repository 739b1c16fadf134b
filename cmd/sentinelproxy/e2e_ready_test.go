package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// readyAnswer is one answer of /readyz?verbose and when it was asked for and came.
type readyAnswer struct {
	asked, came time.Time
	code        int
	why         string    // of the check that failed
	route       time.Time // since when the route is as it is
}

func askReady(tb testing.TB, admin string) readyAnswer {
	tb.Helper()
	var a readyAnswer
	var body string
	waitFor(tb, "an answer of /readyz", func() bool { // a busy machine may leave one out
		a.asked = time.Now()
		a.code, body = get(tb, addrOf(admin), "/readyz?verbose")
		a.came = time.Now()
		return a.code != 0
	})
	var page struct {
		OK     bool
		Checks []struct {
			Name, Reason string
			OK, Required bool
			Since        time.Time
		}
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || page.OK != (a.code == 200) {
		tb.Fatalf("/readyz?verbose: %d %s: %v", a.code, body, err)
	}
	for _, c := range page.Checks {
		if !c.OK && c.Required && a.why == "" {
			a.why = c.Name + ": " + c.Reason
		}
		if c.Name == "route" {
			a.route = c.Since
		}
	}
	return a
}

// When the master dies /readyz says so, with the hold as its reason, before there is
// another one; and it is ready again with the route's change, and not before.
func TestReadinessFollowsTheRoute(t *testing.T) {
	g := redistest.New(t, redistest.Options{DownAfter: 5 * time.Second}) // it is asked many times before there is another
	s := startRun(t, g)
	master := stable(t, g)
	before := askReady(t, s.admin)
	if before.code != 200 {
		t.Fatalf("/readyz before: %+v", before)
	}
	died := time.Now()
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	var first, again readyAnswer
	waitFor(t, "/readyz to say 503", func() bool {
		first = askReady(t, s.admin)
		return first.code == 503
	})
	if !strings.HasPrefix(first.why, "route: holding: ") {
		t.Errorf("the reason is %q; want the hold", first.why)
	}
	if first.route.Before(died) {
		t.Errorf("the route holds since %v; the master died at %v", first.route, died)
	}
	waitWithin(t, 3*patience, "/readyz to say 200", func() bool {
		a := askReady(t, s.admin)
		if a.code == 200 {
			again = a
		} else if !strings.HasPrefix(a.why, "route: ") {
			t.Logf("not ready with another reason: %s", a.why)
		}
		return a.code == 200
	})
	// The route tells when it changed; no answer before that was ready.
	if again.route.Before(first.came) || again.route.After(again.came) {
		t.Errorf("ready at %v, by a route since %v; want it after the 503 at %v", again.came, again.route, first.came)
	}
	code, body := get(t, addrOf(s.admin), "/readyz")
	if code != 200 || !strings.HasPrefix(body, "ok\n") {
		t.Errorf("/readyz: %d %q", code, body)
	}
	t.Logf("503 %v after the death; 200 %v after the switch", first.came.Sub(died).Round(time.Millisecond), again.came.Sub(again.route).Round(time.Millisecond))
}

// A master that hangs is told before any Sentinel calls it down, and again when it answers.
func TestReadinessTellsOfAHang(t *testing.T) {
	g := quickGroup(t, redistest.Options{}) // calm: no Sentinel calls it down meanwhile
	s := startRun(t, g)
	master := stable(t, g)
	if a := askReady(t, s.admin); a.code != 200 {
		t.Fatalf("/readyz before: %+v", a)
	}
	hung := time.Now()
	if err := master.Pause(); err != nil {
		t.Fatal(err)
	}
	var first readyAnswer
	waitFor(t, "/readyz to say 503", func() bool {
		first = askReady(t, s.admin)
		return first.code == 503
	})
	if want := "master_answers: the master " + string(master.Addr()) + " does not answer: "; !strings.HasPrefix(first.why, want) {
		t.Errorf("the reason is %q; want %q and why", first.why, want)
	}
	if err := master.Resume(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "/readyz to say 200", func() bool { return askReady(t, s.admin).code == 200 })
	t.Logf("503 %v after the master stood still", first.came.Sub(hung).Round(time.Millisecond))
}
