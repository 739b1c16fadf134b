package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// drilled runs a whole `sentinelproxy drill` on real Redis, and returns what it
// wrote and its exit code. How long pauses are is not judged: the machine may be
// busy.
//
// It is to break as many objectives.
func drilled(t *testing.T, breaches int, args ...string) (drill.Report, string, int) {
	t.Helper()
	return fairly(t, new(redistest.Group).WatchStrain(t), breaches, func() (drill.Report, string, int) { return drilledOnce(t, args...) })
}

// fairly runs a drill that is to break as many objectives, and again, five times in all,
// if it breaks others or has seen a promotion late, this process, and with it the sidecar, ran late meanwhile, and it did
// nothing that no lateness excuses: a write lost to a stale master, or executed twice or
// though it was refused.
func fairly(
	t *testing.T, strain *redistest.Strain, breaches int, once func() (drill.Report, string, int),
) (drill.Report, string, int) {
	t.Helper()
	for n := 1; ; n++ {
		began := time.Now()
		r, text, code := once()
		late, broken, excused := strain.Late(began, time.Now()), 0, true
		for _, round := range r.Rounds {
			c := round.Columns[0]
			broken += len(c.Breaches)
			excused = excused && c.Lost.Stale+c.Duplicated+c.RefusedExecuted == 0
		}
		if broken == breaches && !sawLate(r) && (code == exitOK || breaches > 0) || late <= disturbed || !excused || n == 5 {
			return r, text, code
		}
		t.Logf("a drill broke %d objectives, with exit code %d, and somebody was %v late: again", broken, code, late)
	}
}

// sawLate reports whether a drill, which asks the nodes every few milliseconds, has seen a
// promotion only after what followed from it.
func sawLate(r drill.Report) bool {
	for _, round := range r.Rounds {
		for _, f := range round.Failovers {
			at := func(name string) int {
				return slices.IndexFunc(f.Steps, func(s drill.Step) bool { return s.Name == name })
			}
			if switched := at("route_switched"); switched >= 0 && at("promoted") > switched {
				return true
			}
		}
	}
	return false
}

func drilledOnce(t *testing.T, args ...string) (drill.Report, string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	out := new(buffer)
	args = append([]string{"drill", "--ephemeral", "--quick", "--slo", "max-pause=any", "--json", file}, args...)
	code := run(t.Context(), args, out, out)
	t.Log("\n" + out.String())
	if code == exitEnvironment && strings.Contains(out.String(), redistest.ErrNoRedis.Error()) {
		redistest.Single(t, redistest.Options{}) // it knows when to skip and when to fail
	}
	var r drill.Report
	b, err := os.ReadFile(file)
	if err != nil {
		t.Logf("no report: %v", err)
		return r, out.String(), code
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r, out.String(), code
}

// firstColumn is what a drill's first round found of the sidecar.
func firstColumn(t *testing.T, r drill.Report) drill.Column {
	t.Helper()
	if len(r.Rounds) == 0 {
		t.Fatalf("no round: %+v", r)
	}
	return r.Rounds[0].Columns[0]
}

// inOrder fails the test unless the fault has these steps, in this order.
func inOrder(t *testing.T, f drill.Failover, want ...string) {
	t.Helper()
	var got []string
	for _, s := range f.Steps {
		if slices.Contains(want, s.Name) {
			got = append(got, s.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("after %s came %v; want %v of them in this order", f.Fault, f.Steps, want)
	}
}

// Failover, crash and hang end with the verdict that README promises.
func TestDrills(t *testing.T) {
	t.Parallel()
	for kind, uncertain := range map[string]int{"failover": 0, "crash": 20, "hang": 20} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r, text, code := drilled(t, 0, kind)
			if code != exitOK || !r.Passed() || !strings.Contains(text, "drill "+kind+": PASS") {
				t.Fatalf("exit code %d, verdict %q", code, r.Verdict)
			}
			c := firstColumn(t, r)
			if c.Acknowledged == 0 || c.Errors+c.Disconnects+c.Duplicated+c.Lost.Stale > 0 || c.Uncertain > uncertain {
				t.Errorf("found %+v", c.Findings)
			}
			if len(r.Rounds[0].Failovers) != 1 || !r.Rounds[0].Failovers[0].Switched {
				t.Fatalf("failovers %+v; want one", r.Rounds[0].Failovers)
			}
			inOrder(t, r.Rounds[0].Failovers[0], "fault", "route_held", "promoted", "route_switched", "first_success", "switch_master_leader")
		})
	}
}

// Clients that are cut off with the old master are told so, lose what the lease
// allows and no more, and are served again. A leader that dies when it is elected
// costs nothing.
func TestDrillVariants(t *testing.T) {
	t.Parallel()
	t.Run("minority", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS != "linux" {
			t.Skip("only Linux has all of 127.0.0.0/8")
		}
		r, text, code := drilled(t, 0, "partition", "--side", "minority", "--slo", "max-pause=any,max-recovery=any")
		c := firstColumn(t, r)
		if code != exitOK || !r.Passed() || r.Variant != "minority" || !strings.Contains(text, "drill partition (minority): PASS") {
			t.Fatalf("exit code %d, verdict %q of %q", code, r.Verdict, r.Variant)
		}
		if c.Fenced == 0 || c.Lost.Unexplained() > 0 || c.RecoveryMS == 0 {
			t.Errorf("%d fenced, %+v lost, served after %v ms; want some fenced, and losses within the lease alone", c.Fenced, c.Lost, c.RecoveryMS)
		}
		for _, l := range c.Losses {
			if l.LagBytes == nil || !strings.Contains(l.Why, "behind") {
				t.Fatalf("%+v; want it explained", l)
			}
		}
	})
	t.Run("election", func(t *testing.T) {
		t.Parallel()
		r, _, code := drilled(t, 0, "leader-loss", "--when", "election")
		if code != exitOK || !r.Passed() || r.Variant != "election" || len(r.Rounds) == 0 || r.Rounds[0].Failovers[0].Switched {
			t.Fatalf("exit code %d, verdict %q, rounds %+v", code, r.Verdict, r.Rounds)
		}
	})
	for name, args := range map[string][]string{"switchover": nil, "strict switchover": {"--strict"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, text, code := drilled(t, 0, append(args, "switchover")...)
			if code != exitOK || !r.Passed() || !strings.Contains(text, "switchover: release ok") {
				t.Fatalf("exit code %d, verdict %q", code, r.Verdict)
			}
			c := r.Rounds[0].Columns[0]
			if c.Errors+c.Uncertain+c.Disconnects+c.Lost.Total+c.Duplicated > 0 || !r.Rounds[0].Failovers[0].Switched {
				t.Errorf("found %+v", c.Findings)
			}
		})
	}
}

// An objective that cannot be met fails the drill, and the page tells it; HAProxy
// beside it is not judged.
func TestDrillFails(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "report.html")
	args := []string{"failover", "--slo", "max-pause=1ms", "--html", page}
	if _, err := exec.LookPath("haproxy"); err == nil {
		args = append(args, "--beside-haproxy")
	}
	r, text, code := drilled(t, 1, args...)
	if code != exitVerdict || r.Passed() || !strings.Contains(text, "max-pause is 1") {
		t.Errorf("exit code %d, verdict %q; want the pause to fail it", code, r.Verdict)
	}
	if n := len(firstColumn(t, r).Breaches); n != 1 {
		t.Errorf("%d breaches; want one, for the pause", n)
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	html := string(b)
	for _, want := range []string{"FAIL", "<svg", "max-pause is 1", "route_switched"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if columns := len(r.Rounds[0].Columns); columns == 2 && r.Rounds[0].Columns[1].Name != "haproxy" || columns > 2 {
		t.Errorf("%d columns, the last is %q", columns, r.Rounds[0].Columns[columns-1].Name)
	}
	for _, not := range []string{"http://", "https://", "src=", "@import", "<script", "ZgotmplZ"} {
		if strings.Contains(html, not) {
			t.Errorf("the page has %q; want it self-contained", not)
		}
	}
}

func TestDrillFlags(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want []string // what standard error must say
	}{
		"no kind":      {nil, []string{"found 0 kinds of drill; want one of failover, "}},
		"two kinds":    {[]string{"hang", "crash"}, []string{"found 2 kinds of drill"}},
		"unknown kind": {[]string{"earthquake", "--ephemeral"}, []string{`"earthquake": no such drill`, "rolling-restart"}},
		"no Sentinel":  {[]string{"failover"}, []string{"--sentinel: is missing", "--ephemeral drills a group of its own"}},
		"needs more": {
			[]string{"partition", "--sentinel", "x:1", "--side", "left", "--prefix", "a*", "--client-user", "u"},
			[]string{"--side: found \"left\"", "want --cut-cmd and --heal-cmd", "--prefix: found \"a*\"", "--client-password-file is missing"},
		},
		"needs a supervisor": {[]string{"crash", "--sentinel", "x:1"}, []string{"crash ends processes: want --supervised"}},
		"needs its own":      {[]string{"soak", "--sentinel", "x:1"}, []string{"soak is for a group of the drill's own"}},
		"not here": {
			[]string{"failover", "--sentinel", "x:1", "--quick", "--down-after", "1s", "--follow", "fast"},
			[]string{"--quick is for a group of the drill's own", "--down-after is", "--follow is"},
		},
		"not there": {
			[]string{"failover", "--ephemeral", "--yes", "--master", "m", "--cut-cmd", "x"},
			[]string{"--yes is for a sidecar that runs", "--master is", "--cut-cmd is"},
		},
		"every mistake": {
			[]string{"crash", "--ephemeral", "--side", "minority", "--times", "-1", "--follow", "me", "--via", "x:1", "--clients", "0", "--pace", "0s", "--down-after", "1h", "--slo", "max-luck=1,max-lost=x", "--json", "-", "--html", "-"},
			[]string{"--side is for partition", "--times", "follow: found \"me\"", "with --via there is none", "--clients", "--pace", "--down-after", "--slo: \"max-luck\"", "--slo: max-lost=x", "only one can be standard output"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs buffer
			code := run(t.Context(), append([]string{"drill"}, tt.args...), &out, &errs)
			if code != exitUsage {
				t.Errorf("exit code %d; want %d", code, exitUsage)
			}
			for _, want := range tt.want {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("standard error %q; want it to say %q", errs.String(), want)
				}
			}
		})
	}
}
