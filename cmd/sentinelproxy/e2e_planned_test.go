package main

import (
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/proxy"
)

// ordered is one planned failover as a test saw it.
type ordered struct {
	asked, majority time.Time
}

// late returns how late anybody was at worst between the order and the majority's word.
func (p ordered) late(s *redistest.Strain) time.Duration { return s.Late(p.asked, p.majority) }

// unharmed ends the writers and checks that they noticed nothing but pauses.
//
// Where somebody was late in a failover a client may be answered -UNCERTAIN, and what was
// acknowledged before the sidecar heard of the selection may be lost, as with any client of
// Redis (docs/adr/0004-late-selections.md): that is told and no mistake. What is acknowledged
// from the switch on is never lost, however late somebody is.
func (w *writers) unharmed(tb testing.TB, master *redistest.Node, s *redistest.Strain, failovers ...ordered) {
	tb.Helper()
	w.told(tb, 0, master, s, failovers...)
}

// told is unharmed where each client may be answered -UNCERTAIN so often.
func (w *writers) told(tb testing.TB, mayBe int, master *redistest.Node, s *redistest.Strain, failovers ...ordered) {
	tb.Helper()
	w.finish()
	h := w.history()
	h.wantNoErrors(tb)
	excused := func(what string, at time.Time, until func(ordered) time.Time) bool {
		for _, f := range failovers {
			late := f.late(s)
			if late > disturbed && at.After(f.asked.Add(-late)) && at.Before(until(f).Add(late)) {
				tb.Logf("%s in a failover in which somebody was %v late", what, late)
				return true
			}
		}
		return false
	}
	uncertain := 0
	for _, one := range w.all {
		n := 0
		for _, at := range one.uncertain {
			if !excused("-UNCERTAIN", at, func(f ordered) time.Time { return f.majority.Add(time.Second) }) {
				n++
			}
		}
		uncertain = max(uncertain, n)
	}
	if uncertain > mayBe {
		tb.Errorf("a client got %d -UNCERTAIN; want %d at most", uncertain, mayBe)
	}
	lost, total := 0, 0
	for id, acks := range w.lostAcks(tb, master, nil) {
		for _, a := range acks {
			total++
			if !excused(key(id, a.seq)+" was lost", a.at, func(f ordered) time.Time { return w.resumed(tb, f.majority) }) {
				tb.Logf("%s, acknowledged at %v, is lost", key(id, a.seq), a.at)
				lost++
			}
		}
	}
	if lost > 0 {
		tb.Errorf("%d of %d acknowledged writes lost", lost, h.acked)
	}
	tb.Logf("acknowledged %d, lost %d, uncertain %d, longest pause %v", h.acked, total, h.uncertain, h.longestGap.Round(time.Millisecond))
	for _, f := range failovers {
		tb.Logf("a failover of %v, somebody %v late at worst", f.majority.Sub(f.asked).Round(time.Millisecond), f.late(s).Round(time.Millisecond))
	}
}

// Clients that write long values have connections to the master that they share with their
// like (docs/adr/0010-lanes.md). A planned failover is a pause for them as for others, and
// they have such connections to the new master, too.
func TestPlannedFailoverOfLongCommands(t *testing.T) {
	g := calmGroup(t)
	s := startRun(t, g, patiently()...)
	strain := g.WatchStrain(t)
	const long = 5000
	w := startWritersAs(t, s.addr, plainClients, func(w *writer) {
		if w.id < 4 {
			w.pad = long
		}
	})
	old := stable(t, g)
	laned := func() bool {
		return metric(t, s.admin, `sentinelproxy_backend_connections{master_name="mymaster",use="shared"}`) > float64(proxy.DefaultLoops())
	}
	waitFor(t, "connections for what is long", laned)
	watch := watchMajority(t, g, old)
	f := failOver(t, g, watch)
	watch.end()
	master := stable(t, g)
	if master == old {
		t.Error("no failover happened")
	}
	w.firstAckAfter(t, f.majority)
	waitFor(t, "such connections to the new master", laned)
	w.unharmed(t, master, strain, f)
}
