package main

import (
	"strings"
	"testing"
)

const loadHeader = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"` + "\n"

func TestParseLoad(t *testing.T) {
	want := load{rps: 90909.09, p50: 0.295, p99: 0.527}
	for name, out := range map[string]string{
		"plain":             loadHeader + `"SET","90909.09","0.305","0.104","0.295","0.407","0.527","0.607"` + "\n",
		"after a warning":   "WARNING: Could not fetch server CONFIG\n" + loadHeader + `"SET","90909.09","0.305","0.104","0.295","0.407","0.527","0.607"` + "\n",
		"among others":      loadHeader + `"GET","1.00","1","1","1","1","1","1"` + "\n" + `"SET","90909.09","0.305","0.104","0.295","0.407","0.527","0.607"` + "\n",
		"in another order":  `"test","p99_latency_ms","p50_latency_ms","rps"` + "\n" + `"SET","0.527","0.295","90909.09"` + "\n",
		"with new a column": `"test","new","rps","p50_latency_ms","p99_latency_ms"` + "\n" + `"SET","x","90909.09","0.295","0.527"` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseLoad(out, cmdSet)
			if err != nil || got != want {
				t.Errorf("parseLoad(%q) = %+v, %v; want %+v", out, got, err, want)
			}
		})
	}
}

func TestParseLoadRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ out, want string }{
		"nothing":       {"", "no table"},
		"error reply":   {loadHeader + "Error from server: READONLY You can't write\n", "READONLY"},
		"other command": {loadHeader + `"GET","1.00","1","1","1","1","1","1"` + "\n", "no row for SET"},
		"old release":   {`"test","rps"` + "\n" + `"SET","1.00"` + "\n", "no column"},
		"no number":     {loadHeader + `"SET","fast","1","1","1","1","1","1"` + "\n", "fast"},
		"standstill":    {loadHeader + `"SET","0.00","1","1","1","1","1","1"` + "\n", "more than 0"},
		"cut row":       {loadHeader + `"SET","1.0"` + "\n", "wrong number of fields"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseLoad(tt.out, cmdSet)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parseLoad(%q) = %+v, %v; want an error with %q", tt.out, got, err, tt.want)
			}
		})
	}
}

func FuzzParseLoad(f *testing.F) {
	f.Add(loadHeader + `"SET","90909.09","0.305","0.104","0.295","0.407","0.527","0.607"` + "\n")
	f.Add(loadHeader + "\"SET\"")
	f.Fuzz(func(t *testing.T, out string) {
		if got, err := parseLoad(out, cmdSet); err == nil && !(got.rps > 0) {
			t.Errorf("parseLoad(%q) = %+v without an error", out, got)
		}
	})
}
