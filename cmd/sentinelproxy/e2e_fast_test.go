package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// TestPlannedFailoverFast checks that following fast loses nothing either, and that
// writes go on before a majority names the new master.
func TestPlannedFailoverFast(t *testing.T) {
	g := calmGroup(t)
	s := startRun(t, g, patiently("--follow", "fast")...)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, plainClients)
	var failovers []ordered
	for range 5 {
		old := stable(t, g)
		watch := watchMajority(t, g, old)
		pause(t, 500*time.Millisecond)
		f := failOver(t, g, watch)
		watch.result(t)
		watch.end()
		failovers = append(failovers, f)
		if role, err := old.Role(t.Context()); err != nil || role != topology.RoleReplica {
			disturbedOr(t, strain, f.asked, time.Now(), "the old master is %v (%v); want a replica by now", role, err)
		}
	}
	master := stable(t, g)
	w.finish()
	gaps := make([]time.Duration, 0, len(failovers))
	for _, f := range failovers {
		gaps = append(gaps, w.gapBetween(f.asked, f.majority))
		const shortly = 200 * time.Millisecond // a majority takes about 800 ms more than the promotion
		if w.gapBetween(f.majority.Add(-shortly), f.majority) >= shortly {
			disturbedOr(t, strain, f.asked, f.majority, "nothing was acknowledged in the %v before the majority", shortly)
		}
	}
	slices.Sort(gaps)
	t.Logf("pause: median %v of %v", gaps[len(gaps)/2], gaps)
	w.unharmed(t, master, strain, failovers...)
}

// TestFastNeedsRights checks that a sidecar whose account may not demote a master
// refuses to start.
func TestFastNeedsRights(t *testing.T) {
	g := redistest.New(t, redistest.Options{
		Replicas: 1, RedisConfig: []string{"user default on nopass ~* &* +@all -replicaof"},
	})
	log := new(buffer)
	args := []string{"run", "--listen", freeAddr(t), "--admin", "off", "--master", g.Name(), "--follow", "fast"}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	if code := run(t.Context(), args, log, log); code != exitEnvironment {
		t.Errorf("exit code %d; want %d\n%s", code, exitEnvironment, log.String())
	}
	if got := log.String(); !strings.Contains(got, "follow: fast needs an account that may call REPLICAOF") {
		t.Errorf("the log does not say which right is missing:\n%s", got)
	}
}

// TestMasterKilledFast is TestMasterKilled, followed fast.
func TestMasterKilledFast(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g, patiently("--follow", "fast", "--fence-demote", "auto")...)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, plainClients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	pause(t, 500*time.Millisecond)
	killed := time.Now()
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
	t.Logf("a majority named the new master %v after the kill", majority.Sub(killed))
	if resumed := w.checkCrash(t, g, strain, watch, master, old); !resumed.Before(majority) {
		disturbedOr(t, strain, killed, resumed, "the pause ended %v after the majority; want before it", resumed.Sub(majority))
	}
}
