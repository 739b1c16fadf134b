package main

import (
	"math"
	"slices"
)

// sample is what one run of one candidate showed.
type sample struct {
	load

	proxyCPU float64 // microseconds per command; 0 for direct
	redisCPU float64 // microseconds per command of the master

	// Of subscribers only; their commands are deliveries.
	published float64 // messages per second
	longest   float64 // milliseconds
	resident  float64 // megabytes of the proxy's process, with all connected
}

// metric is one figure of a sample. The zero value is invalid.
type metric int

// The figures of a sample.
const (
	_          metric = iota
	throughput        // commands per second
	p50               // milliseconds
	p99               // milliseconds
	proxyCPU          // microseconds per command
	redisCPU          // microseconds per command
	published         // messages per second
	longest           // milliseconds
	resident          // megabytes
)

// String returns the metric's name as the report prints it.
func (m metric) String() string {
	switch m {
	case throughput:
		return "throughput"
	case p50:
		return "p50"
	case p99:
		return "p99"
	case proxyCPU:
		return "proxy CPU"
	case redisCPU:
		return "Redis CPU"
	case published:
		return "published"
	case longest:
		return "max"
	case resident:
		return "resident"
	}
	return "invalid"
}

// of returns the figure of s.
func (m metric) of(s sample) float64 {
	switch m {
	case throughput:
		return s.rps
	case p50:
		return s.p50
	case p99:
		return s.p99
	case proxyCPU:
		return s.proxyCPU
	case redisCPU:
		return s.redisCPU
	case published:
		return s.published
	case longest:
		return s.longest
	case resident:
		return s.resident
	}
	return math.NaN()
}

// results holds every sample, in the order of the rounds. Index i of two
// candidates' samples of one cell is the same round.
type results map[string]map[cell][]sample

// add files a sample of the named candidate.
func (r results) add(name string, c cell, s sample) {
	if r[name] == nil {
		r[name] = map[cell][]sample{}
	}
	r[name][c] = append(r[name][c], s)
}

// median returns the median of m over the rounds; ok is false if the candidate
// was not measured in the cell.
func (r results) median(name string, c cell, m metric) (v float64, ok bool) {
	values := r.values(name, c, m)
	return median(values), len(values) > 0
}

// ratio returns the candidate's median divided by the base's.
func (r results) ratio(name, base string, c cell, m metric) (v float64, ok bool) {
	a, okA := r.median(name, c, m)
	b, okB := r.median(base, c, m)
	return a / b, okA && okB && b > 0
}

// noise returns how far apart two identical candidates came out: the larger of
// |ratio of their medians − 1| and half the interquartile range of the ratios
// round by round. A difference below it shows nothing.
func (r results) noise(c cell, m metric) (v float64, ok bool) {
	of, ok := r.ratio(nameHAProxyAA, nameHAProxy, c, m)
	if !ok {
		return 0, false
	}
	a, b := r.values(nameHAProxyAA, c, m), r.values(nameHAProxy, c, m)
	var ratios []float64
	for i := range min(len(a), len(b)) {
		ratios = append(ratios, a[i]/b[i])
	}
	return max(math.Abs(of-1), (quantile(ratios, 0.75)-quantile(ratios, 0.25))/2), true
}

func (r results) values(name string, c cell, m metric) []float64 {
	var values []float64
	for _, s := range r[name][c] {
		values = append(values, m.of(s))
	}
	return values
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the q-quantile, interpolated between neighbours; NaN of
// nothing.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}
