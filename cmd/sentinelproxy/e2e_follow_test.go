package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// These tests have plain clients write through failovers that go wrong somewhere.
// None of them costs an error, a connection or an acknowledged write.

// quickGroup is whole again some four seconds after a failover. It is a calm one unless o
// says otherwise.
func quickGroup(tb testing.TB, o redistest.Options) *redistest.Group {
	tb.Helper()
	o.DownAfter, o.FailoverTimeout, o.Quick = cmp.Or(o.DownAfter, calm), cmp.Or(o.FailoverTimeout, calm), true
	return redistest.New(tb, o)
}

// do sends a command to a Sentinel or node, and fails the test if that is refused.
func do(tb testing.TB, n *redistest.Node, args ...any) any {
	tb.Helper()
	v, err := n.Do(tb.Context(), args...)
	if err != nil {
		tb.Fatalf("%v at %s: %v", args, n.Name(), err)
	}
	return v
}

// otherThan returns the data nodes but for one.
func otherThan(g *redistest.Group, not *redistest.Node) []*redistest.Node {
	var all []*redistest.Node
	for _, n := range g.Nodes() {
		if n != not {
			all = append(all, n)
		}
	}
	return all
}

// modes are the values of --follow.
func modes() []string { return []string{"majority", "fast"} }

// The leading Sentinel dies between its election and the promotion: there is no
// failover, and nobody notices.
func TestLeaderDiesBeforePromotion(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := startRun(t, g, patiently("--follow", mode)...)
			strain := g.WatchStrain(t)
			w := startWriters(t, s.addr, plainClients)
			master := stable(t, g)
			leader := g.Sentinels()[0]
			do(t, leader, "SENTINEL", "SIMULATE-FAILURE", "crash-after-election")
			if err := g.FailoverOn(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the leader's death", func() bool { return !leader.Alive() })
			pause(t, time.Second)
			if err := leader.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now := stable(t, g); now != master {
				t.Fatalf("%s is master; want still %s", now.Name(), master.Name())
			}
			w.unharmed(t, master, strain)
		})
	}
}

// The leading Sentinel dies right after the promotion, before it has told anyone,
// and comes back: it is held until then, or with follow: fast the promoted node is
// served at once.
func TestLeaderDiesAfterPromotion(t *testing.T) {
	g := quickGroup(t, redistest.Options{DownAfter: 2 * time.Second, FailoverTimeout: 3 * time.Second}) // the others wait for both
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := startRun(t, g, patiently("--follow", mode)...)
			strain := g.WatchStrain(t)
			w := startWriters(t, s.addr, plainClients)
			old := stable(t, g)
			leader := g.Sentinels()[0]
			do(t, leader, "SENTINEL", "SIMULATE-FAILURE", "crash-after-promotion")
			watch := watchMajority(t, g, old)
			f := ordered{asked: time.Now()}
			if err := g.FailoverOn(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the leader's death", func() bool { return !leader.Alive() })
			pause(t, time.Second)
			if err := leader.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			master := stable(t, g)
			if master == old {
				t.Fatal("the failover was forgotten")
			}
			f.majority = watch.named(t)
			watch.end()
			w.unharmed(t, master, strain, f)
		})
	}
}

// The candidate hangs before it has heard of its promotion, so Sentinel calls the
// failover off. Commands go back to the old master; when the candidate wakes it
// obeys, too late, and is made a replica again. Until then nobody knows which of the
// two remains: a write in flight when the sidecar sees it may be answered -UNCERTAIN.
func TestFailoverAborted(t *testing.T) {
	g := quickGroup(t, redistest.Options{Replicas: 1, FailoverTimeout: 2 * time.Second})
	s := startRun(t, g, patiently()...)
	w := startWriters(t, s.addr, plainClients)
	master := stable(t, g)
	candidate := otherThan(g, master)[0]
	events := watchEvents(t, g, "-failover-abort-slave-timeout", "+failover-state-wait-promotion")
	if err := candidate.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := g.FailoverOn(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	events.wait(t, "+failover-state-wait-promotion")
	events.wait(t, "-failover-abort-slave-timeout")
	aborted := time.Now()
	t.Logf("an acknowledgement %v after the abort", w.firstAckAfter(t, aborted).Sub(aborted))
	woke := time.Now()
	if err := candidate.Resume(); err != nil {
		t.Fatal(err)
	}
	if now := stable(t, g); now != master {
		t.Fatalf("%s is master; want still %s", now.Name(), master.Name())
	}
	w.firstAckAfter(t, time.Now())
	w.finish()
	h := w.history()
	h.wantNoErrors(t)
	t.Logf("acknowledged %d, uncertain %d, longest pause %v", h.acked, h.uncertain, h.longestGap.Round(time.Millisecond))
	for _, one := range w.all {
		if n := len(one.uncertain); n > 1 || n == 1 && one.uncertain[0].Before(woke) {
			t.Errorf("a client got %d -UNCERTAIN, at %v; want one at most, after the candidate woke at %v", n, one.uncertain, woke)
		}
	}
	if lost := w.lost(t, master, nil); len(lost) > 0 {
		t.Errorf("%d of %d acknowledged writes lost, such as %v", len(lost), h.acked, lost[:min(3, len(lost))])
	}
}

// Two Sentinels are told to fail over at the same moment: both call themselves
// elected, at one epoch, and may promote two nodes. Following fast may then have
// served the one that loses, which its clients are told.
//
// The two nodes may be told to follow each other. Then the Sentinels call their masters down
// when down-after is over, and elect another when twice the failover-timeout is.
func TestTwoFailoversAtOnce(t *testing.T) {
	g := quickGroup(t, redistest.Options{Replicas: 3, DownAfter: 5 * time.Second, FailoverTimeout: 5 * time.Second})
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := startRun(t, g, patiently("--follow", mode)...)
			strain := g.WatchStrain(t)
			w := startWriters(t, s.addr, plainClients)
			old := stable(t, g)
			watch := watchMajority(t, g, old)
			f := ordered{asked: time.Now()}
			done := make(chan error, 2)
			for i := range 2 {
				go func() { done <- g.FailoverOn(t.Context(), i) }()
			}
			for range 2 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			waitFor(t, "another master", func() bool {
				m, err := g.Master(t.Context())
				return err == nil && m != old
			})
			w.firstAckAfter(t, time.Now())
			master := stable(t, g)
			if mode != "fast" {
				f.majority = watch.named(t)
				// There are two selections. What the first has us keep back waits for the second,
				// too, and the promotion by the first may be over before that is known.
				w.told(t, 1, master, strain, f)
				return
			}
			w.finish()
			h := w.history()
			h.wantNoErrors(t)
			t.Logf("acknowledged %d, uncertain %d, lost %d, longest pause %v", h.acked, h.uncertain, len(w.lost(t, master, nil)), h.longestGap)
			// It had one command in flight at the old master, and one at the new if both chose the
			// same replica: whoever promotes has the node end its connections (CLIENT KILL TYPE
			// normal in sentinelSendSlaveOf), and the first had us go on by then.
			if h.maxUncertain > 2 {
				t.Errorf("a client got %d -UNCERTAIN; want at most two", h.maxUncertain)
			}
		})
	}
}

// A second failover follows as soon as the first one's new master is known. Sentinel
// may choose a replica that does not follow the first new master yet: what that one
// acknowledged is then lost, whoever asked. Nothing is after the second switch.
func TestSecondFailoverAtOnce(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := startRun(t, g, patiently("--follow", mode)...)
			w := startWriters(t, s.addr, plainClients)
			watch := watchMajority(t, g, stable(t, g))
			if err := g.FailoverOn(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			watch.named(t)
			watch.end()
			between, err := g.Master(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			watch = watchMajority(t, g, between)
			if err := g.FailoverOn(t.Context(), 1); err != nil { // as soon as that is possible
				t.Fatal(err)
			}
			second := watch.named(t)
			master := settle(t, g)
			w.finish()
			h := w.history()
			h.wantNoErrors(t)
			after := func(a ack) bool { return a.at.After(second) }
			if lost := w.lost(t, master, after); len(lost) > 0 {
				t.Errorf("%d writes acknowledged after the second switch are lost, such as %v", len(lost), lost[:min(3, len(lost))])
			}
			t.Logf("acknowledged %d, lost between the failovers %d, longest pause %v", h.acked, len(w.lost(t, master, nil)), h.longestGap)
			if n := strings.Count(s.log.String(), `msg="master switched"`); n != 2 {
				t.Errorf("%d switches in the log; want 2", n)
			}
		})
	}
}

// settle is stable for a group in which two failovers overlapped. A Sentinel that hears of
// the second's epoch while it still ends the first, which it leads, takes that epoch for its
// own promotion's (sentinelProcessHelloMessage and sentinelFailoverSwitchToPromotedSlave in
// redis/src/sentinel.c), and no message corrects it: whoever runs it has it monitor anew.
func settle(t *testing.T, g *redistest.Group) *redistest.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if g.WaitStable(ctx) == nil {
		return stable(t, g)
	}
	var master *redistest.Node
	waitFor(t, "a master that a majority names", func() (ok bool) {
		var err error
		master, err = g.Master(t.Context())
		return err == nil
	})
	host, port := master.Addr().Split()
	for _, v := range g.Sentinels() {
		if got := do(t, v, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name()); fmt.Sprint(got) == fmt.Sprint([]any{host, port}) {
			continue
		}
		t.Logf("%s names another master than the majority: it monitors anew", v.Name())
		do(t, v, "SENTINEL", "REMOVE", g.Name())
		monitor(t, v, g.Name(), host, port)
	}
	return stable(t, g)
}

// monitor has a Sentinel monitor a master as it does those of a calm group, and not with
// its own times, of half a minute and three minutes.
func monitor(tb testing.TB, v *redistest.Node, name, host string, port int) {
	tb.Helper()
	do(tb, v, "SENTINEL", "MONITOR", name, host, port, 2)
	do(tb, v, "SENTINEL", "SET", name, "down-after-milliseconds", calm.Milliseconds(), "failover-timeout", calm.Milliseconds())
}

// A replica that can't follow the new master makes the leader's +switch-master wait
// for its failover-timeout. Nobody waits for that.
func TestReplicaCannotResync(t *testing.T) {
	g := quickGroup(t, redistest.Options{FailoverTimeout: 8 * time.Second})
	s := startRun(t, g, patiently()...)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	for _, n := range otherThan(g, old) {
		do(t, n, "CONFIG", "SET", "masterauth", "wrong") // for whichever is not promoted
	}
	watch := watchMajority(t, g, old)
	strain := g.WatchStrain(t)
	f := failOver(t, g, watch)
	resumed := w.firstAckAfter(t, f.majority)
	if _, leader := watch.result(t); !resumed.Before(leader) {
		disturbedOr(t, strain, f.asked, resumed, "resumed %v after the leader's +switch-master", resumed.Sub(leader))
	} else {
		t.Logf("resumed %v after the majority, %v before the leader's +switch-master", resumed.Sub(f.majority), leader.Sub(resumed))
	}
	for _, n := range otherThan(g, old) {
		do(t, n, "CONFIG", "SET", "masterauth", "")
	}
	w.unharmed(t, stable(t, g), strain, f)
}

// An operator has every Sentinel forget the group and monitor it anew, at another
// node and from epoch 0; later the Sentinels are reset.
func TestMonitoredAnewAndReset(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	s := startRun(t, g, patiently()...)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	failOverFrom(t, g, old) // so that the epoch is not 0
	master := stable(t, g)
	for _, v := range g.Sentinels() {
		do(t, v, "SENTINEL", "RESET", g.Name())
	}
	w.firstAckAfter(t, time.Now())
	stable(t, g)

	// The writers rest: outside a failover by Sentinel nobody keeps a write that the
	// operator overtakes.
	for _, v := range g.Sentinels() {
		do(t, v, "SENTINEL", "REMOVE", g.Name())
	}
	next := otherThan(g, master)[0]
	host, port := next.Addr().Split()
	do(t, next, "REPLICAOF", "NO", "ONE")
	for _, n := range otherThan(g, next) {
		do(t, n, "REPLICAOF", host, port)
	}
	for _, v := range g.Sentinels() {
		monitor(t, v, g.Name(), host, port)
	}
	asked := time.Now()
	waitFor(t, "the new master to be served", func() bool { return strings.Contains(s.log.String(), "lower epoch accepted") })
	t.Logf("resumed %v after MONITOR", w.firstAckAfter(t, time.Now()).Sub(asked))
	w.finish()
	h := w.history()
	h.wantNoErrors(t)
}

// The promoted node is behind a slow network.
func TestSlowNetwork(t *testing.T) {
	g := quickGroup(t, redistest.Options{Relays: true})
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := startRun(t, g, patiently("--follow", mode)...)
			strain := g.WatchStrain(t)
			w := startWriters(t, s.addr, plainClients)
			old := stable(t, g)
			watch := watchMajority(t, g, old)
			for _, n := range otherThan(g, old) {
				n.Relay().Delay(60*time.Millisecond, 20*time.Millisecond)
			}
			f := failOver(t, g, watch)
			w.firstAckAfter(t, time.Now())
			for _, n := range otherThan(g, old) {
				n.Relay().Heal()
			}
			w.unharmed(t, stable(t, g), strain, f)
		})
	}
}
