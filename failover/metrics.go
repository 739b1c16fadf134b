package failover

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// metrics are one group's. Counters are kept, the rest is read when collected.
type metrics struct {
	holds     *prometheus.CounterVec
	failovers *prometheus.CounterVec
	duration  *prometheus.HistogramVec

	state, epoch, master, lease, degraded, nodeUp *prometheus.Desc
}

// newMetrics returns metrics with every label value present from the start.
func newMetrics(group string) *metrics {
	labels := prometheus.Labels{"master_name": group}
	desc := func(name, help string, vars ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, vars, labels)
	}
	m := &metrics{
		holds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sentinelproxy_holds_total", ConstLabels: labels,
			Help: "Times the route left serving, by what began it.",
		}, []string{"cause"}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sentinelproxy_failovers_total", ConstLabels: labels,
			Help: "Ended holds by outcome: followed (another master or epoch), cleared (no failover after all), down (the circuit had opened).",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sentinelproxy_failover_duration_seconds", ConstLabels: labels,
			Help:    "Time from the first sign to serving again, by outcome.",
			Buckets: []float64{.002, .01, .05, .1, .2, .35, .5, 1, 1.3, 2, 3, 5, 10, 20, 40, 80},
		}, []string{"outcome"}),
		state:    desc("sentinelproxy_route_state", "1 for the state the route is in.", "state"),
		epoch:    desc("sentinelproxy_master_config_epoch", "Config epoch of the master that is served, or was last."),
		master:   desc("sentinelproxy_master_info", "1 for the master that is served, or was last.", "master_address"),
		lease:    desc("sentinelproxy_lease_remaining_seconds", "Time until the lease ends unless renewed; 0 when it has ended. Absent without a lease."),
		degraded: desc("sentinelproxy_degraded_reasons", "How many reasons the status gives for being degraded."),
		nodeUp:   desc("sentinelproxy_node_up", "1 if the data node answered its last probe.", "node", "role"),
	}
	for _, c := range route.Causes() {
		m.holds.WithLabelValues(c.String())
	}
	for _, o := range route.Outcomes() {
		m.failovers.WithLabelValues(o.String())
		m.duration.WithLabelValues(o.String())
	}
	return m
}

// Describe implements prometheus.Collector.
func (c *Controller) Describe(ch chan<- *prometheus.Desc) {
	m := c.metrics
	m.holds.Describe(ch)
	m.failovers.Describe(ch)
	m.duration.Describe(ch)
	for _, d := range []*prometheus.Desc{m.state, m.epoch, m.master, m.lease, m.degraded, m.nodeUp} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Controller) Collect(ch chan<- prometheus.Metric) {
	m := c.metrics
	m.holds.Collect(ch)
	m.failovers.Collect(ch)
	m.duration.Collect(ch)

	now := c.opts.Clock()
	c.mu.Lock()
	r, until := c.machine.Route(), c.machine.LeaseUntil()
	degraded, nodes := len(c.machine.Degraded()), c.machine.Nodes()
	c.mu.Unlock()

	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range topology.States() {
		in := 0.0
		if s == r.State {
			in = 1
		}
		gauge(m.state, in, s.String())
	}
	gauge(m.epoch, float64(r.Epoch))
	if r.Master != "" {
		gauge(m.master, 1, string(r.Master))
	}
	if r.Lease != nil {
		gauge(m.lease, max(0, until-now, r.Lease.Until()-now).Seconds())
	}
	gauge(m.degraded, float64(degraded))
	for _, n := range nodes {
		up := 0.0
		if n.Role != topology.RoleUnknown || n.NoAuth {
			up = 1
		}
		gauge(m.nodeUp, up, string(n.Addr), n.Role.String())
	}
}

// milliseconds is how the status prints durations.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
