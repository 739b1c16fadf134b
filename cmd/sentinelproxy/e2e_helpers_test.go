package main

import (
	"fmt"
	"slices"
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

// disturbedOr reports a mistake in times between from and to, unless somebody ran late then.
func disturbedOr(tb testing.TB, s *redistest.Strain, from, to time.Time, format string, args ...any) {
	tb.Helper()
	mistake := fmt.Sprintf(format, args...)
	if late := s.Late(from, to); late > disturbed {
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

// downReplicas returns how many replicas the first Sentinel calls down.
func downReplicas(tb testing.TB, g *redistest.Group) int {
	tb.Helper()
	v, err := g.Sentinels()[0].Do(tb.Context(), "SENTINEL", "MASTER", g.Name())
	if err != nil {
		tb.Fatal(err)
	}
	_ = v
	v, err = g.Sentinels()[0].Do(tb.Context(), "SENTINEL", "REPLICAS", g.Name())
	if err != nil {
		tb.Fatal(err)
	}
	rows, _ := v.([]any)
	n := 0
	for _, row := range rows {
		if strings.Contains(flat(row), "s_down") {
			n++
		}
	}
	return n
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
