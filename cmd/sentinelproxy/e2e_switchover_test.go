package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// inProcess runs a sidecar before g in this process, so that a test can ask it for a
// switchover and act between the steps.
func inProcess(tb testing.TB, g *redistest.Group, change func(*config.Master)) *group {
	tb.Helper()
	cfg := testConfig()
	m := &cfg.Masters[0]
	m.Name, m.Sentinels = g.Name(), g.SentinelAddrs()
	if change != nil {
		change(m)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	log := new(buffer)
	s, err := startSidecar(ctx, cfg, slog.New(slog.NewTextHandler(log, nil)), realParts())
	if err != nil {
		cancel()
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		if err := s.Wait(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
	grp := s.group(g.Name())
	waitFor(tb, "readiness", func() bool { ok, _ := grp.Ready(); return ok })
	return grp
}

// logSteps returns a tell that prints each step and remembers it.
func logSteps(tb testing.TB) (tell func(topology.SwitchoverStep), steps func() []topology.SwitchoverStep) {
	tb.Helper()
	var all []topology.SwitchoverStep
	return func(s topology.SwitchoverStep) {
		all = append(all, s)
		tb.Logf("%-10s %-7s %10v  %s", s.Name, s.Status, s.Took.Round(10*time.Microsecond), s.Detail)
	}, func() []topology.SwitchoverStep { return all }
}

// settled is stable, and long enough after it that Sentinel promotes anybody again.
func settled(tb testing.TB, g *redistest.Group) *redistest.Node {
	tb.Helper()
	return stable(tb, g)
}

// A switchover is a pause and nothing else: no error, no disconnect, no acknowledged
// write lost.
func TestSwitchover(t *testing.T) {
	for name, tt := range map[string]struct {
		strict bool
		limit  time.Duration
	}{
		"fast":   {false, 300 * time.Millisecond},
		"strict": {true, 1300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			g := realGroup(t)
			s := inProcess(t, g, nil)
			w := startWriters(t, s.Addrs()[0].String(), plainClients)
			times := 5
			if testing.Short() {
				times = 1
			}
			var pauses, gaps []time.Duration
			for range times {
				old := settled(t, g)
				pause(t, 500*time.Millisecond)
				asked := time.Now()
				tell, _ := logSteps(t)
				r := switchNow(t, s, topology.SwitchoverRequest{Strict: tt.strict}, tell)
				if r.From != old.Addr() || r.To == r.From || r.To == "" || r.Epoch == 0 {
					t.Errorf("result %+v; want a switch from %s", r, old.Addr())
				}
				pause(t, 200*time.Millisecond)
				pauses = append(pauses, r.Pause)
				gaps = append(gaps, w.gapBetween(asked, time.Now()))
				if role, err := old.Role(t.Context()); !tt.strict && (err != nil || role != topology.RoleReplica) {
					t.Errorf("the old master is %v (%v); want a replica by now", role, err)
				}
			}
			master := stable(t, g)
			w.finish()
			h := w.history()
			slices.Sort(pauses)
			slices.Sort(gaps)
			t.Logf("acknowledged %d; pause: median %v of %v; as clients saw it: median %v of %v",
				h.acked, pauses[len(pauses)/2], pauses, gaps[len(gaps)/2], gaps)
			h.wantNoErrors(t)
			if h.uncertain > 0 {
				t.Errorf("%d -UNCERTAIN; want none", h.uncertain)
			}
			if lost := w.lost(t, master, nil); len(lost) > 0 {
				t.Errorf("%d of %d acknowledged writes lost, such as %v", len(lost), h.acked, lost[:min(3, len(lost))])
			}
		})
	}
}

// switchNow asks for a switchover, again while Sentinel does not let go of the last one.
func switchNow(
	tb testing.TB, s *group, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep),
) topology.SwitchoverResult {
	tb.Helper()
	for {
		r, err := s.Switchover(tb.Context(), req, tell)
		if r.Outcome == topology.SwitchoverImpossible && tb.Context().Err() == nil {
			pause(tb, time.Second)
			continue
		}
		if err != nil {
			tb.Fatalf("%+v: %v", r, err)
		}
		return r
	}
}

var _ = errors.New
