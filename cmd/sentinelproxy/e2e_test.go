package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// started is a `sentinelproxy run` under test.
type started struct {
	addr, admin string
	log         *buffer
}

// startRun runs the whole command before g, as a user would start it.
func startRun(tb testing.TB, g *redistest.Group, more ...string) *started {
	tb.Helper()
	s := &started{addr: freeAddr(tb), admin: freeAddr(tb), log: new(buffer)}
	args := []string{"run", "--listen", s.addr, "--admin", s.admin, "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, append(args, more...), s.log, s.log) }()
	tb.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			tb.Errorf("run: exit code %d", code)
		}
		if tb.Failed() {
			tb.Log(s.log.String())
		}
	})
	waitFor(tb, "readiness", func() bool {
		code, _ := get(tb, addrOf(s.admin), "/readyz")
		return code == 200
	})
	return s
}

// freeAddr returns an address of loopback that was free a moment ago.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	ln, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

type addrOf string

func (addrOf) Network() string  { return "tcp" }
func (a addrOf) String() string { return string(a) }

const plainClients = 16

func realGroup(tb testing.TB) *redistest.Group {
	tb.Helper()
	return redistest.New(tb, redistest.Options{DownAfter: time.Second})
}

// acks waits until the writers together got n more acknowledgements, as the
// sidecar's clients saw it.
func stable(tb testing.TB, g *redistest.Group) *redistest.Node {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 40*time.Second)
	defer cancel()
	if err := g.WaitStable(ctx); err != nil {
		tb.Fatalf("group does not settle: %v", err)
	}
	n, err := g.Master(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// A planned failover is a pause: no error, no disconnect, no acknowledged write
// lost, and writes go on before the leader publishes +switch-master.
func TestPlannedFailover(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g)
	w := startWriters(t, s.addr, plainClients)
	var delays []time.Duration
	for range 3 {
		old := stable(t, g)
		watch := watchMajority(t, g, old)
		pause(t, 500*time.Millisecond)
		if err := g.Failover(t.Context()); err != nil {
			t.Fatal(err)
		}
		majority, leader := watch.result(t)
		watch.end()
		resumed := w.firstAckAfter(t, majority)
		if !resumed.Before(leader) {
			t.Errorf("writes resumed %v after the leader's +switch-master", resumed.Sub(leader))
		}
		delays = append(delays, resumed.Sub(majority))
		t.Logf("resumed %v after a majority named the new master, %v before the leader's +switch-master",
			resumed.Sub(majority), leader.Sub(resumed))
	}
	master := stable(t, g)
	w.finish()
	h := w.history()
	t.Logf("acknowledged %d, longest gap %v", h.acked, h.longestGap)
	h.wantNoErrors(t)
	if h.uncertain > 0 {
		t.Errorf("%d -UNCERTAIN; want none", h.uncertain)
	}
	if lost := w.lost(t, master, nil); len(lost) > 0 {
		t.Errorf("%d of %d acknowledged writes lost, such as %v", len(lost), h.acked, lost[:min(3, len(lost))])
	}
	slices.Sort(delays)
	if m := delays[len(delays)/2]; m > 100*time.Millisecond {
		t.Errorf("writes resumed %v (median) after a majority named the new master; want at most 100ms", m)
	}
	if n := strings.Count(s.log.String(), "level=INFO"); n > 3*10+5 {
		t.Errorf("%d info lines for three failovers and a start; want under ten each", n)
	}
}

// kill -9 of the master, restarted after 3 s.
func TestMasterKilled(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	pause(t, 3*time.Second)
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	majority, _ := watch.result(t)
	master := stable(t, g)
	w.finish()
	w.checkCrash(t, master, old, majority)
}

// With retry.writes: idempotent a plain SET whose reply died with the master is sent
// again: nobody is told anything.
func TestMasterKilledIdempotent(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	s := startRun(t, g, "--retry-writes", "idempotent")
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	w.firstAckAfter(t, watch.named(t))
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	master := stable(t, g)
	w.finish()
	h := w.history()
	h.wantNoErrors(t)
	if h.uncertain > 0 {
		t.Errorf("%d -UNCERTAIN; want none", h.uncertain)
	}
	after := func(a ack) bool { return !a.at.Before(h.gapEnd) }
	if lost := w.lost(t, master, after); len(lost) > 0 {
		t.Errorf("%d writes acknowledged after the switch are lost, such as %v", len(lost), lost[:min(3, len(lost))])
	}
	t.Logf("acknowledged %d, longest gap %v", h.acked, h.longestGap)
}

// SIGSTOP of the master for 6 s: what it answers on waking reaches nobody as a
// success.
func TestMasterHangs(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	if err := old.Pause(); err != nil {
		t.Fatal(err)
	}
	pause(t, 6*time.Second)
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	majority, _ := watch.result(t)
	master := stable(t, g)
	pause(t, time.Second)
	w.finish()
	w.checkCrash(t, master, old, majority)
}

// checkCrash checks what a crash or a hang may cost: one -UNCERTAIN for each
// command in flight, and nothing after the switch.
func (w *writers) checkCrash(tb testing.TB, master, old *redistest.Node, majority time.Time) {
	tb.Helper()
	if master == old {
		tb.Fatal("no failover happened")
	}
	h := w.history()
	tb.Logf("acknowledged %d, uncertain %d, longest gap %v", h.acked, h.uncertain, h.longestGap)
	h.wantNoErrors(tb)
	if h.maxUncertain > 1 {
		tb.Errorf("a client got %d -UNCERTAIN; want at most one: it had one command in flight", h.maxUncertain)
	}
	if h.gapEnd.Before(majority.Add(-50 * time.Millisecond)) {
		tb.Errorf("the longest gap ended %v before a majority named the new master", majority.Sub(h.gapEnd))
	}
	after := func(a ack) bool { return !a.at.Before(h.gapEnd) }
	if lost := w.lost(tb, master, after); len(lost) > 0 {
		tb.Errorf("%d writes acknowledged after the switch are lost, such as %v", len(lost), lost[:min(3, len(lost))])
	}
}

// Every Sentinel stops under load, with one replica dead already: nothing is
// noticed.
func TestAllSentinelsStop(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g)
	master := stable(t, g)
	for _, n := range g.Nodes() {
		if n != master {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	waitFor(t, "the Sentinels to call the replica down", func() bool { return downReplicas(t, g) == 1 })
	w := startWriters(t, s.addr, plainClients)
	pause(t, 4*time.Second)
	cut := time.Now()
	for _, n := range g.Sentinels() {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	pause(t, 4*time.Second)
	end := time.Now()
	w.finish()
	h := w.history()
	h.wantNoErrors(t)
	if h.uncertain > 0 {
		t.Errorf("%d -UNCERTAIN; want none", h.uncertain)
	}
	before, after := w.gapBetween(cut.Add(-4*time.Second), cut), w.gapBetween(cut, end)
	t.Logf("acknowledged %d; longest gap with Sentinels %v, without %v", h.acked, before, after)
	if after > before+100*time.Millisecond {
		t.Errorf("longest gap %v without Sentinels, %v in the window before", after, before)
	}
	if lost := w.lost(t, master, nil); len(lost) > 0 {
		t.Errorf("%d acknowledged writes lost", len(lost))
	}
	code, body := get(t, addrOf(s.admin), "/readyz")
	if code != 200 || !strings.Contains(strings.ToLower(body), "sentinel") {
		t.Errorf("/readyz without Sentinels: %d %q; want 200, visibly degraded", code, body)
	}
}

func (h *history) wantNoErrors(tb testing.TB) {
	tb.Helper()
	if len(h.errors) > 0 {
		tb.Errorf("%d error replies, such as %q", len(h.errors), h.errors[0])
	}
	if len(h.disconnects) > 0 {
		tb.Errorf("%d disconnects, such as %v", len(h.disconnects), h.disconnects[0])
	}
	if h.acked == 0 {
		tb.Error("no write was acknowledged")
	}
}
