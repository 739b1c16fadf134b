package sentinel

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// pollResult is the label of sentinelproxy_sentinel_polls_total.
type pollResult uint8

const (
	pollOK       pollResult = iota // it named a master
	pollUnknown                    // it answered that it does not know the group
	pollRefused                    // it answered an error, or what no Sentinel answers
	pollTimedOut                   // it did not answer in time
	pollFailed                     // it could not be reached, or hung up
	pollResults                    // how many there are
)

func (r pollResult) String() string {
	switch r {
	case pollOK:
		return "ok"
	case pollUnknown:
		return "unknown_master"
	case pollRefused:
		return "refused"
	case pollTimedOut:
		return "timeout"
	case pollFailed:
		return "failed"
	case pollResults:
	}
	return "invalid"
}

// metrics counts for one Follower. It is safe for concurrent use. The group is
// a constant label, so that the Followers of several groups share a registry.
// Series that name a Sentinel are at most maxSentinels each.
type metrics struct {
	up, subscribed, agreement, known, events, polls *prometheus.Desc
	configEpoch, viewAge, switchLag                 *prometheus.Desc

	eventCount map[string]*atomic.Uint64 // by event, and eventOther; never changes after New
	pollCount  [pollResults]atomic.Uint64
	observed   atomic.Pointer[topology.Observation]            // the last; nil before the first
	lags       atomic.Pointer[map[topology.Addr]time.Duration] // of the last switch; nil before the first
}

func newMetrics(group string, rules map[string]rule) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sentinelproxy_"+name, help, labels, prometheus.Labels{"master_name": group})
	}
	m := &metrics{
		up:          desc("sentinel_up", "1 if the Sentinel answered its last poll.", "sentinel"),
		subscribed:  desc("sentinel_subscribed", "1 if the Sentinel's events reach us, 0 if it is only polled.", "sentinel"),
		agreement:   desc("sentinel_agreement", "1 if the Sentinel names the agreed master and config epoch.", "sentinel"),
		configEpoch: desc("sentinel_config_epoch", "Config epoch of the master that the Sentinel names.", "sentinel"),
		viewAge:     desc("sentinel_view_age_seconds", "How long ago the poll was sent that the Sentinel answered last.", "sentinel"),
		switchLag:   desc("sentinel_switch_lag_seconds", "How much later than the first Sentinel this one told us of the last switch of the master. Absent if it has not told of it.", "sentinel"),
		known:       desc("sentinels_known", "Sentinels that count for a majority, silent and dead ones too."),
		events:      desc("sentinel_events_total", "Events received from Sentinels.", "event"),
		polls:       desc("sentinel_polls_total", "Polls of Sentinels by result.", "result"),
		eventCount:  map[string]*atomic.Uint64{eventOther: {}},
	}
	for ev := range rules {
		m.eventCount[ev] = new(atomic.Uint64)
	}
	return m
}

func (m *metrics) event(channel string) {
	n, ok := m.eventCount[channel]
	if !ok {
		n = m.eventCount[eventOther]
	}
	n.Add(1)
}

func (m *metrics) poll(r pollResult) { m.pollCount[r].Add(1) }

// Describe implements prometheus.Collector.
func (f *Follower) Describe(ch chan<- *prometheus.Desc) {
	m := f.metrics
	for _, d := range []*prometheus.Desc{
		m.up, m.subscribed, m.agreement, m.known, m.events, m.polls, m.configEpoch, m.viewAge, m.switchLag,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Discovered Sentinels appear once
// they have answered for the group, and go when they are forgotten.
func (f *Follower) Collect(ch chan<- prometheus.Metric) {
	m := f.metrics
	one := map[bool]float64{true: 1}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for ev, n := range m.eventCount {
		ch <- prometheus.MustNewConstMetric(m.events, prometheus.CounterValue, float64(n.Load()), ev)
	}
	for r := range pollResults {
		ch <- prometheus.MustNewConstMetric(m.polls, prometheus.CounterValue, float64(m.pollCount[r].Load()), r.String())
	}
	if lags := m.lags.Load(); lags != nil {
		for addr, lag := range *lags {
			gauge(m.switchLag, lag.Seconds(), string(addr))
		}
	}
	o, now := m.observed.Load(), f.clock()
	if o == nil {
		gauge(m.known, 0)
		return
	}
	gauge(m.known, float64(o.Known))
	for _, v := range o.Views {
		s := string(v.Sentinel)
		gauge(m.up, one[v.Up], s)
		gauge(m.subscribed, one[v.Subscribed], s)
		gauge(m.agreement, one[o.Agreed && v.Up && names(v, o.Master, o.Epoch)], s)
		if v.SentAt == 0 {
			continue // it has never answered
		}
		gauge(m.configEpoch, float64(v.Epoch), s)
		gauge(m.viewAge, max(0, now-v.SentAt).Seconds(), s)
	}
}
