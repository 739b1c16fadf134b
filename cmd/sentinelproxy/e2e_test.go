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
	s := launch(tb, g, more...)
	s.waitReady(tb, s.admin)
	return s
}

// waitReady waits until it is ready, by what /readyz says at an address that takes
// everybody.
func (*started) waitReady(tb testing.TB, at string) {
	tb.Helper()
	waitFor(tb, "readiness", func() bool {
		code, _ := get(tb, addrOf(at), "/readyz")
		return code == 200
	})
}

// launch is startRun, and does not wait until it is ready.
func launch(tb testing.TB, g *redistest.Group, more ...string) *started {
	tb.Helper()
	s := &started{addr: freeAddr(tb), admin: freeAddr(tb), log: new(buffer)}
	args := []string{"run", "--listen", s.addr, "--admin", s.admin, "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	runInTest(tb, s.log, append(args, more...)...)
	return s
}

// runInTest runs the program until the test ends.
func runInTest(tb testing.TB, log *buffer, args ...string) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, log, log) }()
	tb.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			tb.Errorf("run: exit code %d", code)
		}
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
}

// freeAddr returns an address of loopback that is the test's until it ends.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	return redistest.FreeAddr(tb)
}

type addrOf string

func (addrOf) Network() string  { return "tcp" }
func (a addrOf) String() string { return string(a) }

const plainClients = 16

// realGroup elects another master soon after one is gone.
func realGroup(tb testing.TB) *redistest.Group {
	tb.Helper()
	return redistest.New(tb, redistest.Options{DownAfter: 2 * time.Second})
}

// patiently has commands wait for as long as an election takes: one in which two Sentinels
// have split the votes is held again after twice the failover-timeout, which is longer than
// they wait by default.
func patiently(more ...string) []string {
	return append([]string{"--hold-timeout", patience.String(), "--hold-max", (2 * patience).String()}, more...)
}

// calm is a down-after that no busy machine mistakes for a dead node, for tests in which
// nobody waits for it.
const calm = 10 * time.Second

// calmGroup fails over when it is told to, and not because a busy machine has kept a node
// from answering.
func calmGroup(tb testing.TB) *redistest.Group {
	tb.Helper()
	return redistest.New(tb, redistest.Options{DownAfter: calm, FailoverTimeout: calm})
}

// acks waits until the writers together got n more acknowledgements, as the
// sidecar's clients saw it.
func stable(tb testing.TB, g *redistest.Group) *redistest.Node {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
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

// demote makes old a replica of the new master at once. Sentinel does so some ten seconds
// after a failover: tests that are not about that need not wait for it.
func demote(tb testing.TB, g *redistest.Group, old *redistest.Node) {
	tb.Helper()
	master, err := g.Master(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(string(master.Addr()))
	if _, err := old.Do(tb.Context(), "REPLICAOF", host, port); err != nil || master == old {
		tb.Fatalf("REPLICAOF %s of %s: %v", master.Addr(), old.Addr(), err)
	}
}

// A planned failover is a pause: no error, no disconnect, no acknowledged write
// lost, and writes go on before the leader publishes +switch-master.
func TestPlannedFailover(t *testing.T) {
	g := calmGroup(t)
	s := startRun(t, g, patiently()...)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, plainClients)
	var failedOver *redistest.Node
	var delays []time.Duration
	var failovers []ordered
	const judged, atMost = 3, 8 // failovers; one that is slow because somebody was late is not judged
	const soon = 100 * time.Millisecond
	for i := 0; i < atMost && len(delays) < judged; i++ {
		if i > 0 {
			demote(t, g, failedOver)
		}
		old := stable(t, g)
		failedOver = old
		watch := watchMajority(t, g, old)
		pause(t, 500*time.Millisecond)
		f := failOver(t, g, watch)
		majority, leader := watch.result(t)
		watch.end()
		failovers = append(failovers, f)
		resumed := w.firstAckAfter(t, majority)
		if late := strain.Late(f.asked, resumed); late > disturbed && (resumed.Sub(majority) > soon || !resumed.Before(leader)) {
			t.Logf("failover %d is not judged by its times: somebody was %v late: resumed %v after the majority, %v before the leader's +switch-master",
				i, late, resumed.Sub(majority), leader.Sub(resumed))
			continue
		}
		if !resumed.Before(leader) {
			t.Errorf("writes resumed %v after the leader's +switch-master", resumed.Sub(leader))
		}
		delays = append(delays, resumed.Sub(majority))
		t.Logf("resumed %v after a majority named the new master, %v before the leader's +switch-master",
			resumed.Sub(majority), leader.Sub(resumed))
	}
	w.unharmed(t, stable(t, g), strain, failovers...) // the last one stays a second master for ten seconds
	slices.Sort(delays)
	if len(delays) > 0 && delays[len(delays)/2] > soon {
		t.Errorf("writes resumed %v (median) after a majority named the new master; want at most %v", delays[len(delays)/2], soon)
	}
	if n := strings.Count(s.log.String(), "level=INFO"); n > len(failovers)*10+5 {
		t.Errorf("%d info lines for %d failovers and a start; want under ten each", n, len(failovers))
	}
}

// kill -9 of the master, restarted after 3 s and when another was elected.
func TestMasterKilled(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g, patiently()...)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	pause(t, 3*time.Second)
	watch.named(t) // else it would be master again
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	majority, _ := watch.result(t)
	master := stable(t, g)
	w.finish()
	resumed := w.checkCrash(t, g, strain, watch, master, old)
	notBefore(t, strain, resumed, majority)
}

// With retry.writes: idempotent a plain SET whose reply died with the master is sent
// again: nobody is told anything.
func TestMasterKilledIdempotent(t *testing.T) {
	g := quickGroup(t, redistest.Options{DownAfter: 3 * time.Second})
	s := startRun(t, g, patiently("--retry-writes", "idempotent")...)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	killed := time.Now()
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	majority := watch.named(t)
	w.firstAckAfter(t, majority)
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	master := stable(t, g)
	w.finish()
	h := w.history()
	h.wantNoErrors(t)
	again := failedOverAgain(t, g, watch, strain, killed)
	if h.uncertain > 0 && !again {
		t.Errorf("%d -UNCERTAIN; want none", h.uncertain)
	}
	w.keptAfter(t, master, w.resumed(t, majority), again)
	t.Logf("acknowledged %d, uncertain %d, longest gap %v", h.acked, h.uncertain, h.longestGap)
}

// failedOverAgain reports whether somebody was so late that a second failover followed the
// one that a test had begun at from. It is another crash to the Sentinels: what the first
// new master had acknowledged, and not replicated, is lost.
func failedOverAgain(tb testing.TB, g *redistest.Group, watch *majorityWatch, s *redistest.Strain, from time.Time) bool {
	tb.Helper()
	late, now := s.Late(from, time.Now()), epochOf(tb, g.Sentinels()[0], g.Name())
	if late <= muchLate || now <= watch.epoch+1 {
		return false
	}
	tb.Logf("somebody was %v late, and the epoch rose from %d to %d: there may have been two failovers", late, watch.epoch, now)
	return true
}

// keptAfter checks that no write that was acknowledged since the switch is lost, unless there
// was another.
func (w *writers) keptAfter(tb testing.TB, master *redistest.Node, resumed time.Time, again bool) {
	tb.Helper()
	lost := w.lost(tb, master, func(a ack) bool { return !a.at.Before(resumed) })
	switch {
	case len(lost) == 0:
	case again:
		tb.Logf("%d writes acknowledged after the first switch are lost", len(lost))
	default:
		tb.Errorf("%d writes acknowledged after the switch are lost, such as %v", len(lost), lost[:min(3, len(lost))])
	}
}

// SIGSTOP of the master for 6 s, and until another was elected: what it answers on waking
// reaches nobody as a success.
func TestMasterHangs(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g, patiently()...)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	if err := old.Pause(); err != nil {
		t.Fatal(err)
	}
	pause(t, 6*time.Second)
	watch.named(t)
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	majority, _ := watch.result(t)
	master := stable(t, g)
	pause(t, time.Second)
	w.finish()
	resumed := w.checkCrash(t, g, strain, watch, master, old)
	notBefore(t, strain, resumed, majority)
}

// notBefore checks that writes went on with a majority's word, and not before.
func notBefore(tb testing.TB, s *redistest.Strain, resumed, majority time.Time) {
	tb.Helper()
	if resumed.Before(majority.Add(-50 * time.Millisecond)) {
		disturbedOr(tb, s, resumed, majority, "writes resumed %v before a majority named the new master", majority.Sub(resumed))
	}
}

// resumed returns when the first write after a failover was acknowledged: it ended the
// longest pause of those that began before a majority named the new master, within a minute.
func (w *writers) resumed(tb testing.TB, majority time.Time) time.Time {
	tb.Helper()
	var times []time.Time
	first := time.Time{} // after the majority; what comes later may be the machine's
	for _, one := range w.all {
		for _, a := range one.acked {
			if !a.at.After(majority) {
				if a.at.After(majority.Add(-time.Minute)) {
					times = append(times, a.at)
				}
			} else if first.IsZero() || a.at.Before(first) {
				first = a.at
			}
		}
	}
	if first.IsZero() || len(times) == 0 {
		tb.Fatal("no write was acknowledged before, or none after a majority named another master")
	}
	_, end := longestGap(append(times, first))
	return end
}

// checkCrash checks what a crash or a hang may cost: one -UNCERTAIN for each
// command in flight, and nothing after the switch. It returns when writes resumed. Where
// somebody is late a master may be taken for lost once more, which costs as much again.
func (w *writers) checkCrash(
	tb testing.TB, g *redistest.Group, s *redistest.Strain, watch *majorityWatch, master, old *redistest.Node,
) (resumed time.Time) {
	tb.Helper()
	if master == old {
		tb.Fatal("no failover happened")
	}
	h := w.history()
	tb.Logf("acknowledged %d, uncertain %d, longest gap %v", h.acked, h.uncertain, h.longestGap)
	h.wantNoErrors(tb)
	for _, one := range w.all {
		undisturbed := slices.DeleteFunc(slices.Clone(one.uncertain), func(at time.Time) bool {
			return s.Late(at.Add(-2*time.Second), at) > disturbed
		})
		if len(undisturbed) > 1 {
			tb.Errorf("a client got %d -UNCERTAIN; want at most one: it had one command in flight", len(one.uncertain))
			break
		}
	}
	resumed = w.resumed(tb, watch.named(tb))
	w.keptAfter(tb, master, resumed, failedOverAgain(tb, g, watch, s, watch.began))
	return resumed
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
	waitFor(t, "the sidecar to have heard so", func() bool {
		_, body := get(t, addrOf(s.admin), "/api/v1/status")
		return strings.Contains(body, "s_down")
	})
	strain := g.WatchStrain(t)
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
		disturbedOr(t, strain, cut, end, "longest gap %v without Sentinels, %v in the window before", after, before)
	}
	if lost := w.lost(t, master, nil); len(lost) > 0 {
		t.Errorf("%d acknowledged writes lost", len(lost))
	}
	waitFor(t, "200 of /readyz, visibly degraded", func() bool {
		code, body := get(t, addrOf(s.admin), "/readyz")
		return code == 200 && strings.Contains(strings.ToLower(body), "sentinel")
	})
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
