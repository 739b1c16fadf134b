package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// runStatus runs the command and returns its exit code and what it printed.
func runStatus(tb testing.TB, args ...string) (code int, out, errs string) {
	tb.Helper()
	var o, e bytes.Buffer
	code = run(tb.Context(), append([]string{"status"}, args...), &o, &e)
	return code, o.String(), e.String()
}

// What the sidecar knows of a real group is shown, before and after a failover.
func TestStatusOfARealGroup(t *testing.T) {
	g := redistest.New(t, redistest.Options{Quick: true, DownAfter: calm})
	s := startRun(t, g)
	old := stable(t, g)
	shows := func(want ...string) {
		t.Helper()
		var code int
		var out string
		waitFor(t, strings.Join(want, ", "), func() bool {
			code, out, _ = runStatus(t, "--admin", s.admin)
			for _, w := range want {
				if !strings.Contains(out, w) {
					return false
				}
			}
			return code == 0
		})
		if strings.Contains(out, "\x1b") {
			t.Errorf("colours where there is no terminal: %q", out)
		}
	}
	shows("sidecar   ready", "route      serving for ", "master     "+string(old.Addr())+", epoch ", "linked, ", " behind",
		"agree: 3 of 3 answer, 3 name "+string(old.Addr()), "  agrees\n", "clients    0 on "+s.addr, "lately\n")
	failOverFrom(t, g, old)
	master := stable(t, g)
	shows("failover ", string(old.Addr())+", ", "then "+string(master.Addr())+" at epoch ", "(followed)", " +")

	code, out, _ := runStatus(t, "--admin", s.admin, "--json")
	var page struct {
		Status struct{ Ready bool }
		Readyz struct{ OK bool }
		Events []struct{ Event string }
	}
	if err := json.Unmarshal([]byte(out), &page); err != nil || code != 0 || !page.Status.Ready || !page.Readyz.OK || len(page.Events) == 0 {
		t.Errorf("--json: %d %v %.200s", code, err, out)
	}
	// While it waits for a master the exit code says so, and the reason is told.
	for _, n := range g.Nodes() {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "a status that is not ready", func() bool {
		code, out, errs := runStatus(t, "--admin", s.admin)
		return code == exitVerdict && strings.Contains(out, "sidecar   not ready") && strings.Contains(errs, "not ready: holding: ")
	})
}

func TestStatusWithoutASidecar(t *testing.T) {
	code, out, errs := runStatus(t, "--admin", freeAddr(t))
	if code != exitEnvironment || out != "" {
		t.Errorf("exit code %d, printed %q", code, out)
	}
	oneLine(t, errs, "does it run, with admin there?")
	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	code, _, errs = runStatus(t, "--admin", strings.TrimPrefix(stranger.URL, "http://"))
	if code != exitEnvironment {
		t.Errorf("a stranger: exit code %d", code)
	}
	oneLine(t, errs, "no sidecar")
	for _, bad := range [][]string{{"--admin", "nowhere"}, {"--every", "1ms"}, {"--admin", "off"}} {
		if code, _, errs := runStatus(t, bad...); code != exitUsage || errs == "" {
			t.Errorf("%v: exit code %d, %q", bad, code, errs)
		}
	}
}

// With --watch it goes on: also when the sidecar is gone, until it is interrupted.
func TestStatusWatch(t *testing.T) {
	f := newFakes()
	sc, stop := startFakes(t, f, testConfig())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"status", "--admin", sc.AdminAddr().String(), "--watch", "--every", "100ms"}, &out, &errs)
	}()
	waitFor(t, "two pages", func() bool { return strings.Count(out.String(), "sidecar   ready") > 1 })
	_ = stop()
	waitFor(t, "word that it is gone", func() bool { return strings.Contains(out.String(), "no sidecar answers on") })
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("it speaks to a terminal where there is none")
	}
}
