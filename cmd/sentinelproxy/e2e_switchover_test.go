package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// inProcess runs a sidecar before g in this process, so that a test can ask it for a
// switchover and act between the steps.
func inProcess(tb testing.TB, g *redistest.Group) *group {
	tb.Helper()
	cfg := testConfig()
	m := &cfg.Masters[0]
	m.Name, m.Sentinels = g.Name(), g.SentinelAddrs()
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

// logSteps returns a tell that prints each step.
func logSteps(tb testing.TB) func(topology.SwitchoverStep) {
	tb.Helper()
	return func(s topology.SwitchoverStep) {
		tb.Logf("%-10s %-7s %10v  %s", s.Name, s.Status, s.Took.Round(10*time.Microsecond), s.Detail)
	}
}

// A switchover is a pause and nothing else: no error, no disconnect, no acknowledged
// write lost.
func TestSwitchover(t *testing.T) {
	for name, tt := range map[string]struct {
		strict bool
		times  int
	}{
		"fast":   {false, 3},
		"strict": {true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			g := calmGroup(t)
			s := inProcess(t, g)
			w := startWriters(t, s.Addrs()[0].String(), plainClients)
			if testing.Short() {
				tt.times = 1
			}
			type window struct{ from, to time.Time }
			var windows []window
			var pauses, gaps []time.Duration
			for range tt.times {
				old := stable(t, g)
				pause(t, 500*time.Millisecond)
				asked := time.Now()
				tell := logSteps(t)
				r := switchNow(t, s, topology.SwitchoverRequest{Strict: tt.strict}, tell)
				if r.From != old.Addr() || r.To == r.From || r.To == "" || r.Epoch == 0 {
					t.Errorf("result %+v; want a switch from %s", r, old.Addr())
				}
				pause(t, 200*time.Millisecond)
				pauses = append(pauses, r.Pause)
				windows = append(windows, window{asked, time.Now()})
				if role, err := old.Role(t.Context()); !tt.strict && (err != nil || role != topology.RoleReplica) {
					t.Errorf("the old master is %v (%v); want a replica by now", role, err)
				}
				if tt.strict {
					demote(t, g, old)
				}
			}
			master := stable(t, g)
			w.finish()
			h := w.history()
			for _, win := range windows {
				gaps = append(gaps, w.gapBetween(win.from, win.to))
			}
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
	req.MaxPause = cmp.Or(req.MaxPause, calm) // what a busy machine needs is no reason to call it off
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

// replicas returns the nodes that are not master.
func replicas(tb testing.TB, g *redistest.Group) []*redistest.Node {
	tb.Helper()
	master := stable(tb, g)
	return slices.DeleteFunc(g.Nodes(), func(n *redistest.Node) bool { return n == master })
}

// priorityOf returns a node's replica-priority.
func priorityOf(tb testing.TB, n *redistest.Node) string {
	tb.Helper()
	v, err := n.Do(tb.Context(), "CONFIG", "GET", "replica-priority")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(strings.NewReplacer("replica-priority", "", "=", "").Replace(flat(v)))
}

// A replica that is asked for by name is promoted, whichever the Sentinels would have
// chosen, and the priorities are as before in the end.
func TestSwitchoverTo(t *testing.T) {
	g := calmGroup(t)
	s := inProcess(t, g)
	w := startWriters(t, s.Addrs()[0].String(), plainClients)
	all := replicas(t, g)
	for _, n := range all { // the one that would be chosen is not the one
		if n != all[1] {
			if _, err := n.Do(t.Context(), "CONFIG", "SET", "replica-priority", "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	tell := logSteps(t)
	r := switchNow(t, s, topology.SwitchoverRequest{To: all[1].Addr()}, tell)
	if r.To != all[1].Addr() {
		t.Errorf("%s is master; want %s", r.To, all[1].Addr())
	}
	for i, want := range []string{"1", "100"} {
		if got := priorityOf(t, all[i]); got != want {
			t.Errorf("priority of replica %d is %s; want %s again", i, got, want)
		}
	}
	master := stable(t, g)
	w.finish()
	h := w.history()
	t.Logf("acknowledged %d, pause %v", h.acked, r.Pause)
	h.wantNoErrors(t)
	if lost := w.lost(t, master, nil); len(lost) > 0 {
		t.Errorf("%d of %d acknowledged writes lost", len(lost), h.acked)
	}
}

// What stops a switchover between preflight and the point of no return costs the
// clients a pause within --max-pause, and no error.
func TestSwitchoverIsCalledOff(t *testing.T) {
	for name, tt := range map[string]struct {
		maxPause time.Duration
		at       string // the step after which it happens
		do       func(replica *redistest.Node, leave context.CancelFunc) error
		says     string
	}{
		"a replica hangs": {700 * time.Millisecond, topology.StepPriority, func(replica *redistest.Node, _ context.CancelFunc) error {
			return replica.Pause()
		}, "--max-pause 700ms would not suffice any more"},
		"the caller leaves": {calm / 2, topology.StepHold, func(_ *redistest.Node, leave context.CancelFunc) error {
			leave()
			return nil
		}, "the caller went away"},
	} {
		t.Run(name, func(t *testing.T) {
			g := redistest.New(t, redistest.Options{DownAfter: calm})
			s := inProcess(t, g)
			strain := g.WatchStrain(t)
			all := replicas(t, g)
			old := stable(t, g)
			w := startWriters(t, s.Addrs()[0].String(), plainClients)
			pause(t, 300*time.Millisecond)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			tell := logSteps(t)
			asked := time.Now()
			r, err := s.Switchover(ctx, topology.SwitchoverRequest{MaxPause: tt.maxPause}, func(st topology.SwitchoverStep) {
				if tell(st); st.Name != tt.at {
					return
				}
				if err := tt.do(all[0], leave); err != nil {
					t.Error(err)
				}
			})
			if err == nil || r.Outcome != topology.SwitchoverAborted || r.To != old.Addr() || !strings.Contains(r.Err, tt.says) {
				t.Errorf("%+v %v; want it called off: %s", r, err, tt.says)
			}
			pause(t, 300*time.Millisecond)
			until := time.Now()
			_ = all[0].Resume() // no error where it was not paused
			if role, err := old.Role(t.Context()); err != nil || role != topology.RoleMaster {
				t.Errorf("the master is %v now: %v", role, err)
			}
			w.finish()
			h := w.history()
			t.Logf("acknowledged %d, pause %v", h.acked, r.Pause)
			h.wantNoErrors(t)
			if h.uncertain > 0 {
				t.Errorf("%d -UNCERTAIN; want none", h.uncertain)
			}
			if gap := w.gapBetween(asked, until); gap > tt.maxPause+100*time.Millisecond {
				disturbedOr(t, strain, asked, until, "nothing was acknowledged for %v; want at most %v", gap, tt.maxPause)
			}
		})
	}
}

// A caller that leaves after the point of no return changes nothing any more.
func TestSwitchoverGoesOn(t *testing.T) {
	g := calmGroup(t)
	s := inProcess(t, g)
	old := stable(t, g)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	tell := logSteps(t)
	r, err := s.Switchover(ctx, topology.SwitchoverRequest{MaxPause: calm}, func(st topology.SwitchoverStep) {
		if tell(st); st.Name == topology.StepFailover {
			leave()
		}
	})
	if err != nil || r.Outcome != topology.SwitchoverDone || r.From != old.Addr() || r.To == old.Addr() {
		t.Errorf("%+v %v; want it done", r, err)
	}
}

// socketOf is where a test's sidecar takes orders.
func socketOf(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sp") //nolint:usetesting // the test's own may be too long for a socket's path
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "c.sock")
}

// command runs `sentinelproxy switchover` and returns its exit code and all it printed.
func command(tb testing.TB, args ...string) (int, string) {
	tb.Helper()
	out := new(buffer)
	code := run(tb.Context(), append([]string{"switchover"}, args...), out, out)
	tb.Logf("switchover %s: exit code %d\n%s", strings.Join(args, " "), code, out.String())
	return code, out.String()
}

// The command, as an operator meets it.
func TestSwitchoverCommand(t *testing.T) {
	g := calmGroup(t)
	socket := socketOf(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startRun(t, g, "--control", "unix:"+socket, "--control-token-file", token)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v; want mode 0600", info.Mode(), err)
	}
	old := stable(t, g)

	code, out := command(t, "--control", "unix:"+socket, "--dry-run")
	if code != exitOK || !strings.Contains(out, "ready: nothing is in the way of "+string(old.Addr())) {
		t.Errorf("dry run: %d", code)
	}
	if got := stable(t, g); got != old || strings.Contains(s.log.String(), "route holds") {
		t.Error("a dry run changed something")
	}

	if code, _ := command(t, "--control", "unix:"+socket, "--to", string(old.Addr())); code != exitEnvironment {
		t.Errorf("to the master itself: %d; want %d", code, exitEnvironment)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("fedcba9876543210"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := command(t, "--admin", s.admin, "--token-file", wrong); code != exitEnvironment || !strings.Contains(out, "not the control token") {
		t.Errorf("with a wrong token: %d", code)
	}

	code, out = command(t, "--admin", s.admin, "--token-file", token, "--json", "--max-pause", calm.String())
	if code != exitOK {
		t.Fatalf("with the token: %d", code)
	}
	var last struct {
		Result struct {
			OK       bool
			From, To string
			PauseMS  float64 `json:"pause_ms"`
		}
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !last.Result.OK || last.Result.From != string(old.Addr()) || last.Result.PauseMS <= 0 {
		t.Errorf("last line %q: %v", lines[len(lines)-1], err)
	}
	if now := stable(t, g); string(now.Addr()) != last.Result.To {
		t.Errorf("%s is master; want %s", now.Addr(), last.Result.To)
	}
	for _, line := range []string{"switchover ended", "outcome=done"} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("the log lacks %q", line)
		}
	}
	if strings.Contains(s.log.String(), "0123456789abcdef") {
		t.Error("the log holds the token")
	}
	_, metrics := get(t, addrOf(s.admin), "/metrics")
	for _, want := range []string{
		fmt.Sprintf("sentinelproxy_switchovers_total{master_name=%q,outcome=\"done\"} 1", g.Name()),
		fmt.Sprintf("sentinelproxy_switchovers_total{master_name=%q,outcome=\"ready\"} 1", g.Name()),
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// What is in the way of a switchover is told all at once, with exit code 3, and no
// command waits for it.
func TestSwitchoverImpossible(t *testing.T) {
	g := realGroup(t)
	socket := socketOf(t)
	startRun(t, g, "--control", "unix:"+socket)
	for _, n := range replicas(t, g) {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the Sentinels to call the replicas down", func() bool { return downReplicas(t, g) == 2 })
	waitFor(t, "that to be told", func() bool {
		code, out := command(t, "--control", "unix:"+socket)
		return code == exitEnvironment && strings.Contains(out, "no replica may be promoted") && strings.Contains(out, "s_down")
	})
	for _, n := range g.Sentinels()[1:] {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the lost majority to be told", func() bool {
		code, out := command(t, "--control", "unix:"+socket)
		return code == exitEnvironment && strings.Contains(out, "no majority") && strings.Contains(out, "NOQUORUM")
	})
	if code, out := command(t, "--control", "unix:"+socket+".none"); code != exitEnvironment || !strings.Contains(out, "can't be reached") {
		t.Errorf("without a sidecar: %d", code)
	}
}

// A sidecar whose account lacks the rights says which, and what can be done instead.
func TestSwitchoverNeedsRights(t *testing.T) {
	g := redistest.New(t, redistest.Options{
		DownAfter: calm, RedisConfig: []string{"user default on nopass ~* &* +@all -replicaof -config|set"},
	})
	s := inProcess(t, g)
	to := replicas(t, g)[0].Addr()
	r, err := s.Switchover(t.Context(), topology.SwitchoverRequest{To: to}, nil)
	if err == nil || r.Outcome != topology.SwitchoverImpossible ||
		!strings.Contains(r.Err, "+replicaof") || !strings.Contains(r.Err, "--strict") || !strings.Contains(r.Err, "+config|set") {
		t.Errorf("%+v %v", r, err)
	}
	tell := logSteps(t)
	if r := switchNow(t, s, topology.SwitchoverRequest{Strict: true}, tell); r.Outcome != topology.SwitchoverDone {
		t.Errorf("strict: %+v", r)
	}
}

// A caller that is killed before the point of no return calls it off; the sidecar
// serves on.
func TestSwitchoverCallerKilled(t *testing.T) {
	g := calmGroup(t)
	socket := socketOf(t)
	s := startRun(t, g, "--control", "unix:"+socket)
	old := stable(t, g)
	w := startWriters(t, s.addr, plainClients)
	all := replicas(t, g)
	// Lowering a priority takes seconds, in which the caller goes.
	for _, n := range all[1:] {
		if _, err := n.Do(t.Context(), "CONFIG", "SET", "replica-priority", "50"); err != nil {
			t.Fatal(err)
		}
	}
	c := control.NewUnixClient(socket)
	defer c.Close()
	ctx, leave := context.WithCancel(t.Context())
	_, err := c.Switchover(ctx, topology.SwitchoverRequest{To: all[0].Addr()}, func(st topology.SwitchoverStep) {
		if st.Name == topology.StepPreflight {
			leave()
		}
	})
	if err == nil {
		t.Error("the caller got an answer")
	}
	waitFor(t, "the switchover to end", func() bool { return strings.Contains(s.log.String(), "outcome=aborted") })
	if got := priorityOf(t, all[0]); got != "100" {
		t.Errorf("priority %s; want 100 again", got)
	}
	if now := stable(t, g); now != old {
		t.Errorf("%s is master; want %s still", now.Addr(), old.Addr())
	}
	w.finish()
	h := w.history()
	h.wantNoErrors(t)
}

func TestSwitchoverUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		says string
	}{
		"where":      {nil, "which sidecar?"},
		"both":       {[]string{"--control", "unix:/x", "--admin", "127.0.0.1:1", "--token-file", "x"}, "want one of them"},
		"no socket":  {[]string{"--control", "127.0.0.1:1"}, "want unix:/path"},
		"no token":   {[]string{"--admin", "127.0.0.1:1"}, "needs --token-file"},
		"no file":    {[]string{"--admin", "127.0.0.1:1", "--token-file", "/nonexistent"}, "--token-file:"},
		"to":         {[]string{"--control", "unix:/x", "--to", "b"}, "--to:"},
		"pause":      {[]string{"--control", "unix:/x", "--max-pause", "-1s"}, "--max-pause:"},
		"arguments":  {[]string{"orders"}, "unknown command"},
		"no unit":    {[]string{"--control", "unix:/x", "--max-pause", "2"}, "max-pause"},
		"token file": {[]string{"--control", "unix:/x", "--token-file", "x"}, "the socket needs none"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out := command(t, tt.args...); code != exitUsage || !strings.Contains(out, tt.says) {
				t.Errorf("exit code %d, %q; want %d with %q", code, out, exitUsage, tt.says)
			}
		})
	}
}
