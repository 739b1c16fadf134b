package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/faultnet"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// On the losing side of a partition the sidecar still reaches the old master, but
// neither a majority of the Sentinels nor the replicas: writes stop within the
// lease, and go on by themselves when the partition heals.
func TestPartitionFences(t *testing.T) {
	const downAfter = 5 * time.Second // 1.5 s of it are for a busy machine
	g := redistest.New(t, redistest.Options{DownAfter: downAfter, Relays: true})
	s := startRun(t, g, "--hold-timeout", "300ms", "--hold-max", "off")
	master := stable(t, g)
	strain := g.WatchStrain(t)
	w := startWriters(t, s.addr, 4)
	pause(t, time.Second)
	cut := time.Now()
	for _, n := range g.Sentinels() {
		if err := n.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range g.Nodes() {
		if n != master {
			n.Relay().Stall(faultnet.Both)
		}
	}
	waitFor(t, "the route to be fenced", func() bool {
		code, body := get(t, addrOf(s.admin), "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, topology.Fenced.String())
	})
	waitFor(t, "a command to be told", func() bool { return w.errorsSoFar() > 0 })
	fenced := time.Now()
	pause(t, time.Second)
	for _, n := range g.Nodes() {
		if n != master {
			n.Relay().Heal()
		}
	}
	for _, n := range g.Sentinels() {
		if err := n.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	healed := time.Now()
	w.firstAckAfter(t, healed)
	w.finish()
	h := w.history()
	t.Logf("acknowledged %d, refused %d, uncertain %d", h.acked, len(h.errors), h.uncertain)
	for _, e := range h.errors {
		if !strings.HasPrefix(e, "-NOREPLICAS fenced") || !strings.HasSuffix(e, "(sentinelproxy)") {
			t.Fatalf("error reply %q; want NOREPLICAS", e)
		}
	}
	if len(h.disconnects) > 0 {
		t.Errorf("%d disconnects, such as %v", len(h.disconnects), h.disconnects[0])
	}
	// 0.7 x down-after is when the lease ends; the rest is what this machine may
	// take to notice, and still before any Sentinel could have promoted a replica.
	for _, one := range w.all {
		for _, a := range one.acked {
			if a.at.After(cut.Add(downAfter)) && a.at.Before(fenced) {
				lateOr(t, strain, muchLate, cut, fenced, "a write was acknowledged %v after the cut", a.at.Sub(cut))
			}
		}
	}
}
