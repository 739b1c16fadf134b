package proxy

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Latency is how long commands took, of all names together but those that are meant
// to wait (BLPOP and kin, XREAD, WAIT). All of it counts from the start.
type Latency struct {
	// Bounds are the upper bounds of Counts, which has one more for what is above.
	Bounds []float64 `json:"bounds_seconds"`
	Counts []uint64  `json:"counts"`
	Sum    float64   `json:"sum_seconds"`
	Count  uint64    `json:"count"`
}

// Latency's bounds are every second one of the native histogram, between these: 61 µs
// and 64 s.
const latencyFirst, latencyLast = -56, 24

func latencyOf(tallies []tally) Latency {
	var l Latency
	for i := latencyFirst; i <= latencyLast; i += 2 {
		l.Bounds = append(l.Bounds, math.Exp2(float64(i)/4))
	}
	l.Counts = make([]uint64, len(l.Bounds)+1)
	micros := uint64(0)
	for i := range tallies {
		t := &tallies[i]
		if c := t.cmd.class; c == classBlock || c == classMayBlock || c == classWait {
			continue
		}
		micros += t.micros
		for cell, n := range t.cells {
			// The first bound that is not below the cell's native bucket.
			b := (durations.native[cell] - latencyFirst + 1) / 2
			l.Counts[min(max(b, 0), len(l.Bounds))] += n
			l.Count += n
		}
	}
	l.Sum = float64(micros) / 1e6
	return l
}

// byCommand adds up what loops have counted of each command, in the order of their
// labels, each of which is there once. other, which has what is counted without a name,
// is always there.
func byCommand(tallies []tally, other *command) []tally {
	sums := map[string]*tally{other.label(): {cmd: other}}
	for i := range tallies {
		t := &tallies[i]
		name := t.cmd.label()
		if sums[name] == nil {
			sums[name] = &tally{}
		}
		sums[name].add(t)
	}
	all := make([]tally, 0, len(sums))
	for _, t := range sums {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b tally) int { return cmp.Compare(a.cmd.label(), b.cmd.label()) })
	return all
}

// label is the name of a command in metrics: as Redis' commandstats has it.
func (c *command) label() string {
	if c.id == 0 {
		return "other"
	}
	return strings.ToLower(c.name)
}

// command writes what is known of one command.
func (e exporter) command(t *tally) {
	name := t.cmd.label()
	const help = "Commands that were answered, by name, and by whether with an error."
	n := t.count()
	e.counter("commands_total", help, n-t.errors, "command", name, "outcome", "ok")
	e.counter("commands_total", help, t.errors, "command", name, "outcome", "error")
	d := prometheus.NewDesc("sentinelproxy_command_duration_seconds",
		"How long commands took, from their last byte to their reply, by name.", []string{"master_name", "command"}, nil)
	e.ch <- t.histogram(d, e.began, e.group, name)
}

// histogram is the tally's durations as a metric, classic and native in one: scrapes in
// the text format show the first, those in the protobuf format both.
func (t *tally) histogram(d *prometheus.Desc, began time.Time, labels ...string) prometheus.Metric {
	classic := make(map[float64]uint64, len(classicBounds))
	native := make(map[int]int64)
	var n, zero uint64
	at := 0
	for cell, c := range t.cells {
		n += c
		switch b := durations.native[cell]; {
		case c == 0:
		case b == nativeFirst:
			zero += c
		default:
			native[b] += int64(c) //nolint:gosec // counts of commands
		}
		if at < len(classicBounds) && cell < len(durations.bounds) && durations.bounds[cell] == classicBounds[at] {
			classic[float64(classicBounds[at])/1e6] = n
			at++
		}
	}
	sum := float64(t.micros) / 1e6
	return bothHistograms{
		prometheus.MustNewConstHistogram(d, n, sum, classic, labels...),
		prometheus.MustNewConstNativeHistogram(d, n, sum, native, nil, zero, nativeSchema, math.Exp2(nativeFirst/4), began, labels...),
	}
}

// bothHistograms is a classic histogram with the buckets of a native one of the same
// observations, as client_golang's own histograms write themselves.
type bothHistograms struct {
	prometheus.Metric

	native prometheus.Metric
}

// Write implements prometheus.Metric.
func (h bothHistograms) Write(out *dto.Metric) error {
	var m dto.Metric
	if err := h.native.Write(&m); err != nil {
		return err
	}
	if err := h.Metric.Write(out); err != nil {
		return err
	}
	to, from := out.Histogram, m.Histogram
	to.Schema, to.ZeroThreshold, to.ZeroCount = from.Schema, from.ZeroThreshold, from.ZeroCount
	to.PositiveSpan, to.PositiveDelta, to.CreatedTimestamp = from.PositiveSpan, from.PositiveDelta, from.CreatedTimestamp
	return nil
}
