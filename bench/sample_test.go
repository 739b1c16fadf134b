package main

import (
	"math"
	"slices"
	"testing"
)

var aCell = cell{50, 1, 64, cmdGet}

// withThroughput files samples of these rates.
func withThroughput(r results, name string, rates ...float64) {
	for _, rate := range rates {
		r.add(name, aCell, sample{load: load{rps: rate}})
	}
}

func TestQuantile(t *testing.T) {
	for name, tt := range map[string]struct {
		values []float64
		q      float64
		want   float64
	}{
		"one":              {[]float64{7}, 0.5, 7},
		"odd":              {[]float64{9, 1, 5}, 0.5, 5},
		"even":             {[]float64{4, 1, 3, 2}, 0.5, 2.5},
		"lower quartile":   {[]float64{5, 4, 3, 2, 1}, 0.25, 2},
		"between":          {[]float64{1, 2, 3, 4}, 0.75, 3.25},
		"highest":          {[]float64{1, 2, 3}, 1, 3},
		"one bad outlier ": {[]float64{1, 1, 1, 1, 900}, 0.5, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := quantile(tt.values, tt.q); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("quantile(%v, %v) = %v; want %v", tt.values, tt.q, got, tt.want)
			}
		})
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v; want NaN", got)
	}
}

func TestNoise(t *testing.T) {
	for name, tt := range map[string]struct {
		haproxy, again []float64
		want           float64
	}{
		"steady and equal":  {[]float64{100, 100, 100}, []float64{100, 100, 100}, 0},
		"medians apart":     {[]float64{100, 100, 100}, []float64{110, 110, 110}, 0.1},
		"equal but jittery": {[]float64{100, 100, 100, 100, 100}, []float64{80, 80, 100, 120, 120}, 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			r := results{}
			withThroughput(r, nameHAProxy, tt.haproxy...)
			withThroughput(r, nameHAProxyAA, tt.again...)
			if got, ok := r.noise(aCell, throughput); !ok || math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("noise = %v, %v; want %v", got, ok, tt.want)
			}
		})
	}
	r := results{}
	withThroughput(r, nameHAProxy, 100)
	if got, ok := r.noise(aCell, throughput); ok {
		t.Errorf("noise without an A/A row = %v; want none", got)
	}
}

func TestTurnsAreFair(t *testing.T) {
	const n = 5
	at := [n][n]int{} // how often candidate i was at place j
	for first := range 3 * n {
		order := turns(n, first)
		for j, i := range order {
			at[i][j]++
		}
		if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
			t.Fatalf("turns(%d, %d) = %v; want each once", n, first, order)
		}
	}
	for i := range at {
		for j := range at[i] {
			if at[i][j] != 3 {
				t.Errorf("candidate %d had place %d %d times; want 3", i, j, at[i][j])
			}
		}
	}
}
