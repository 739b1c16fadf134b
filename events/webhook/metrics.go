package webhook

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how a delivery ended. Together with those that wait they are all that were
// accepted.
type outcome uint8

const (
	outcomeDelivered outcome = iota
	outcomeRejected          // the receiver will never take it
	outcomeDropped           // a newer one needed its place in the queue
	outcomeExpired           // it was not taken within a day
	outcomeStopped           // it waited when the hook or the sidecar ended
	outcomes                 // how many there are
)

func (o outcome) String() string {
	switch o {
	case outcomeDelivered:
		return "delivered"
	case outcomeRejected:
		return "rejected"
	case outcomeDropped:
		return "dropped"
	case outcomeExpired:
		return "expired"
	case outcomeStopped:
		return "stopped"
	case outcomes:
	}
	return "invalid"
}

// counts are one hook's.
type counts struct {
	accepted, suppressed atomic.Uint64
	ended                [outcomes]atomic.Uint64
	tries                [tries]atomic.Uint64
	queued               atomic.Int64
	last                 atomic.Int64 // when one was last taken, in Unix seconds; 0: never
}

// Describe implements prometheus.Collector.
func (*Sender) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs() {
		ch <- d
	}
}

type desc uint8

const (
	descDeliveries desc = iota
	descSuppressed
	descTries
	descQueued
	descLast
)

func descs() map[desc]*prometheus.Desc {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sentinelproxy_webhook_"+name, help, append([]string{"webhook"}, labels...), nil)
	}
	return map[desc]*prometheus.Desc{
		descDeliveries: d("deliveries_total", "Events for a webhook by how that ended: delivered, rejected (answered 3xx or 4xx), dropped (the queue was full), expired (not taken within a day), stopped.", "outcome"),
		descSuppressed: d("suppressed_total", "Events that a webhook's cooldown kept back."),
		descTries:      d("requests_total", "Requests to a webhook by result: ok, refused (3xx or 4xx), error (5xx or 429), unreachable.", "result"),
		descQueued:     d("queued_events", "Events that wait for a webhook."),
		descLast:       d("last_delivery_timestamp_seconds", "When a webhook last took an event, since the epoch; 0 for never."),
	}
}

// Collect implements prometheus.Collector.
func (s *Sender) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	all := maps.Clone(s.counts)
	var wanted []string
	for _, h := range s.want {
		wanted = append(wanted, h.Name)
	}
	s.mu.Unlock()
	ds := descs()
	counter := func(d desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(ds[d], prometheus.CounterValue, float64(v), labels...)
	}
	for name, c := range all {
		if !slices.Contains(wanted, name) {
			continue
		}
		for o := range outcomes {
			counter(descDeliveries, c.ended[o].Load(), name, o.String())
		}
		counter(descSuppressed, c.suppressed.Load(), name)
		for t := range tries {
			counter(descTries, c.tries[t].Load(), name, t.String())
		}
		ch <- prometheus.MustNewConstMetric(ds[descQueued], prometheus.GaugeValue, float64(c.queued.Load()), name)
		ch <- prometheus.MustNewConstMetric(ds[descLast], prometheus.GaugeValue, float64(c.last.Load()), name)
	}
}
