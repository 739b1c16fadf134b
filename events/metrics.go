package events

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"
)

// collector exports what a stream counts.
type collector struct {
	s              *Stream
	events, missed *prometheus.Desc
}

// Collector returns the stream's metrics. Their series are bounded by the kinds and by the
// names of readers.
func (s *Stream) Collector() prometheus.Collector {
	return collector{
		s:      s,
		events: prometheus.NewDesc("sentinelproxy_events_total", "Events published.", []string{"event", "severity"}, nil),
		missed: prometheus.NewDesc("sentinelproxy_events_missed_total", "Events that a slow reader did not get.", []string{"reader"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.events
	ch <- c.missed
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.s.mu.Lock()
	counts, missed := maps.Clone(c.s.counts), maps.Clone(c.s.missed)
	c.s.mu.Unlock()
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(n), string(k.kind), k.severity.String())
	}
	for name, n := range missed {
		ch <- prometheus.MustNewConstMetric(c.missed, prometheus.CounterValue, float64(n), name)
	}
}
