package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// pause lets the writers write. It is the length of the experiment, not a wait
// for something to happen.
func pause(tb testing.TB, d time.Duration) {
	tb.Helper()
	select {
	case <-time.After(d):
	case <-tb.Context().Done():
	}
}

// disturbed is how late nobody may have been for times to be judged.
const disturbed = 20 * time.Millisecond

// muchLate is how late nobody may have been where what is judged has time to spare: there
// must be no second failover, and no lease may run out.
const muchLate = 500 * time.Millisecond

// disturbedOr reports a mistake in times between from and to, unless somebody ran late then.
func disturbedOr(tb testing.TB, s *redistest.Strain, from, to time.Time, format string, args ...any) {
	tb.Helper()
	lateOr(tb, s, disturbed, from, to, format, args...)
}

// lateOr is disturbedOr where somebody may run late by as much as tolerated.
func lateOr(tb testing.TB, s *redistest.Strain, tolerated time.Duration, from, to time.Time, format string, args ...any) {
	tb.Helper()
	mistake := fmt.Sprintf(format, args...)
	if late := s.Late(from, to); late > tolerated {
		tb.Logf("not judged, somebody was %v late: %s", late, mistake)
		return
	}
	tb.Error(mistake)
}

// longestGap returns the longest time between two of times, and when it ended.
func longestGap(times []time.Time) (gap time.Duration, end time.Time) {
	slices.SortFunc(times, time.Time.Compare)
	for i := 1; i < len(times); i++ {
		if d := times[i].Sub(times[i-1]); d > gap {
			gap, end = d, times[i]
		}
	}
	return gap, end
}

// gapBetween returns the longest time without an acknowledgement in a window.
func (w *writers) gapBetween(from, to time.Time) time.Duration {
	times := []time.Time{from, to}
	for _, one := range w.all {
		for _, a := range one.acked {
			if a.at.After(from) && a.at.Before(to) {
				times = append(times, a.at)
			}
		}
	}
	gap, _ := longestGap(times)
	return gap
}

// failOver orders a failover, and returns when a majority names another master. A Sentinel
// that a busy machine keeps from running for two seconds does nothing for thirty (TILT), and
// calls off the failover that it leads: it is ordered again.
func failOver(tb testing.TB, g *redistest.Group, watch *majorityWatch) ordered {
	tb.Helper()
	order := func() {
		if err := g.Failover(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
	f := ordered{asked: time.Now()}
	order()
	looked := f.asked
	waitWithin(tb, 3*patience, "a majority for another master", func() bool {
		if watch.isNamed() {
			return true
		}
		if time.Since(looked) < time.Second {
			return false
		}
		looked = time.Now()
		if !calledOff(tb, g, watch.old) {
			return false
		}
		tb.Log("the failover was called off: it is ordered again")
		// A node that was promoted for nothing must not be chosen again with its old data. Not
		// every group can be stable: one that cannot is asked all the same.
		ctx, cancel := context.WithTimeout(tb.Context(), patience)
		defer cancel()
		if err := g.WaitStable(ctx); err != nil {
			tb.Log(err)
		}
		order()
		return false
	})
	f.majority = watch.named(tb)
	return f
}

// failOverFrom is failOver for a test that watches nothing else of it.
func failOverFrom(tb testing.TB, g *redistest.Group, old *redistest.Node) ordered {
	tb.Helper()
	watch := watchMajority(tb, g, old)
	defer watch.end()
	return failOver(tb, g, watch)
}

// calledOff reports whether every Sentinel still has that master, and no failover of it
// under way. The one that was told to fail over has it from then on.
func calledOff(tb testing.TB, g *redistest.Group, master string) bool {
	tb.Helper()
	for _, s := range g.Sentinels() {
		m, err := masterAt(tb, s, g.Name())
		if err != nil || m["flags"] != "master" || net.JoinHostPort(m["ip"], m["port"]) != master {
			return false
		}
	}
	return true
}

// epochOf returns the epoch of a Sentinel's master.
func epochOf(tb testing.TB, s *redistest.Node, name string) int {
	tb.Helper()
	m, err := masterAt(tb, s, name)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(m["config-epoch"])
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// masterAt returns what a Sentinel says of a master.
func masterAt(tb testing.TB, s *redistest.Node, name string) (map[string]string, error) {
	tb.Helper()
	v, err := s.Do(tb.Context(), "SENTINEL", "MASTER", name)
	row, _ := v.([]any)
	m := make(map[string]string)
	for i := 0; i+1 < len(row); i += 2 {
		m[fmt.Sprint(row[i])] = fmt.Sprint(row[i+1])
	}
	return m, err
}

// downReplicas returns how many replicas the Sentinels call down: the fewest that one does.
func downReplicas(tb testing.TB, g *redistest.Group) int {
	tb.Helper()
	fewest := len(g.Nodes())
	for _, s := range g.Sentinels() {
		rows, _ := do(tb, s, "SENTINEL", "REPLICAS", g.Name()).([]any)
		n := 0
		for _, row := range rows {
			if strings.Contains(flat(row), "s_down") {
				n++
			}
		}
		fewest = min(fewest, n)
	}
	return fewest
}

// flat prints a nested reply on one line.
func flat(v any) string {
	switch v := v.(type) {
	case []any:
		var b strings.Builder
		for _, e := range v {
			b.WriteString(flat(e) + " ")
		}
		return b.String()
	case map[any]any:
		var b strings.Builder
		for k, e := range v {
			b.WriteString(flat(k) + "=" + flat(e) + " ")
		}
		return b.String()
	case string:
		return v
	}
	return ""
}
