package main

import (
	"bufio"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
	in := bufio.NewReader(strings.NewReader("+OK\r\n$3\r\nabc\r\n$-1\r\n:7\r\n-ERR no\r\n$5\r\nab"))
	for _, want := range []string{"+OK", "$3", "$-1", ":7", "-ERR no"} {
		if got, err := readReply(in); got != want || err != nil {
			t.Errorf("readReply = %q, %v; want %q", got, err, want)
		}
	}
	if got, err := readReply(in); err == nil {
		t.Errorf("readReply of half a string = %q; want an error", got)
	}
}

// Clients of a server that answers are answered, in the window in which they were due.
func TestSteady(t *testing.T) {
	a, err := startAnswerer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.stop()
	s := startSteady(t.Context(), a.addr(), 4, 400, "first")
	defer s.stop()
	answered := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.window.ok >= 20
	}
	if err := until(t.Context(), answered); err != nil {
		t.Fatal(err)
	}
	one := s.next("second")
	if err := until(t.Context(), answered); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*window{one, s.stop()} {
		if w.ok < 20 || w.refused+w.broken > 0 || w.firstOK.IsZero() || int(w.latency.TotalCount()) != w.ok {
			t.Errorf("window %+v", w)
		}
	}
	if one.name != "first" || !strings.Contains(one.row(), "| first |") {
		t.Errorf("row %q", one.row())
	}
}

func TestOutageVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*outageResult)
		want   outcome
	}{
		"nothing happened":            {func(*outageResult) {}, outcomeMet},
		"a late answer":               {func(r *outageResult) { r.open.sidecar.overTen = 1 }, outcomeMissed},
		"the machine is as late":      {func(r *outageResult) { r.open.sidecar.overTen, r.open.noise.overTen = 2, 1 }, outcomeWithinNoise},
		"far later than the machine":  {func(r *outageResult) { r.open.sidecar.overTen, r.open.noise.overTen = 3, 1 }, outcomeMissed},
		"a success from nowhere":      {func(r *outageResult) { r.open.sidecar.ok = 1 }, outcomeMissed},
		"a client was dropped":        {func(r *outageResult) { r.open.sidecar.broken = 1 }, outcomeMissed},
		"back too late":               {func(r *outageResult) { r.back = outageMaxBack + 1 }, outcomeMissed},
		"back just in time":           {func(r *outageResult) { r.back = outageMaxBack }, outcomeMet},
		"an error without a Sentinel": {func(r *outageResult) { r.without.sidecar.refused = 1 }, outcomeMissed},
		"refusals while it is open":   {func(r *outageResult) { r.open.sidecar.refused = 9 }, outcomeMet},
		"the noise alone is not ours": {func(r *outageResult) { r.open.noise.overTen = 9 }, outcomeMet},
	} {
		t.Run(name, func(t *testing.T) {
			w := func() windows { return windows{newWindow("a"), newWindow("b")} }
			r := outageResult{withSentinels: w(), without: w(), open: w()}
			tt.change(&r)
			if got := r.verdict(); got != tt.want {
				t.Errorf("verdict = %v; want %v", got, tt.want)
			}
		})
	}
}
