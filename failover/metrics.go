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
	phases    *prometheus.HistogramVec
	steps     *prometheus.HistogramVec
	demotions *prometheus.CounterVec

	switchovers     *prometheus.CounterVec
	switchoverPause *prometheus.HistogramVec

	state, epoch, master, lease, degraded, follow, ahead *prometheus.Desc

	nodeUp, nodeInfo, lagBytes, lagSeconds *prometheus.Desc
}

// failoverBuckets are close to each other where a pause is noticed and where Sentinel's
// defaults put it.
func failoverBuckets() []float64 {
	return []float64{.002, .01, .05, .1, .2, .35, .5, 1, 1.3, 2, 3, 5, 10, 20, 40, 80}
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
			Buckets: failoverBuckets(),
		}, []string{"outcome"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sentinelproxy_failover_phase_reached_seconds", ConstLabels: labels,
			Help:    "Time from the first sign to each phase of a failover that ended with another master or epoch.",
			Buckets: failoverBuckets(),
		}, []string{"phase"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sentinelproxy_failover_phase_duration_seconds", ConstLabels: labels,
			Help:    "Time that each phase of such a failover took since the phase before it, or the first sign.",
			Buckets: failoverBuckets(),
		}, []string{"phase"}),
		demotions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sentinelproxy_demotions_total", ConstLabels: labels,
			Help: "Attempts to make a deposed master a replica, by outcome: done, skipped (nothing was sent: the roles had changed or a node was out of reach), forbidden (our account may not), failed.",
		}, []string{"outcome"}),
		switchovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sentinelproxy_switchovers_total", ConstLabels: labels,
			Help: "Switchovers that were asked for, by outcome: done, ready (a dry run), impossible (preflight found something), busy, aborted (called off in time), failed.",
		}, []string{"outcome"}),
		switchoverPause: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sentinelproxy_switchover_pause_seconds", ConstLabels: labels,
			Help:    "How long commands waited in a switchover, by outcome.",
			Buckets: []float64{.05, .1, .15, .2, .25, .3, .4, .5, 1, 1.3, 2, 3, 5, 10},
		}, []string{"outcome"}),
		follow:   desc("sentinelproxy_follow_mode", "1 for the mode in force: fast falls back to majority while our account may not demote the master.", "mode"),
		ahead:    desc("sentinelproxy_route_ahead", "1 while a master is served that no majority names yet."),
		state:    desc("sentinelproxy_route_state", "1 for the state the route is in.", "state"),
		epoch:    desc("sentinelproxy_master_config_epoch", "Config epoch of the master that is served, or was last."),
		master:   desc("sentinelproxy_master_info", "1 for the master that is served, or was last.", "master_address"),
		lease:    desc("sentinelproxy_lease_remaining_seconds", "Time until the lease ends unless renewed; 0 when it has ended. Absent without a lease."),
		degraded: desc("sentinelproxy_degraded_reasons", "How many reasons the status gives for being degraded."),
		nodeUp:   desc("sentinelproxy_node_up", "1 if the data node answered its last probe.", "node"),
		nodeInfo: desc("sentinelproxy_node_info", "1 for the role that the data node last said.", "node", "role"),

		lagBytes:   desc("sentinelproxy_replica_lag_bytes", "How much of the served master's replication stream the replica has not read yet.", "node"),
		lagSeconds: desc("sentinelproxy_replica_lag_seconds", "How long ago the served master's replication stream was where the replica is now; half a minute at most is remembered.", "node"),
	}
	for _, c := range route.Causes() {
		m.holds.WithLabelValues(c.String())
	}
	for _, p := range route.Phases() {
		m.phases.WithLabelValues(p)
		m.steps.WithLabelValues(p)
	}
	for _, d := range route.Demotions() {
		m.demotions.WithLabelValues(d.String())
	}
	for _, o := range topology.SwitchoverOutcomes() {
		m.switchovers.WithLabelValues(string(o))
	}
	for _, o := range []topology.SwitchoverOutcome{topology.SwitchoverDone, topology.SwitchoverAborted, topology.SwitchoverFailed} {
		m.switchoverPause.WithLabelValues(string(o))
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
	m.phases.Describe(ch)
	m.steps.Describe(ch)
	m.demotions.Describe(ch)
	m.switchovers.Describe(ch)
	m.switchoverPause.Describe(ch)
	for _, d := range []*prometheus.Desc{
		m.state, m.epoch, m.master, m.lease, m.degraded, m.follow, m.ahead, m.nodeUp, m.nodeInfo, m.lagBytes, m.lagSeconds,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Controller) Collect(ch chan<- prometheus.Metric) {
	m := c.metrics
	m.holds.Collect(ch)
	m.failovers.Collect(ch)
	m.duration.Collect(ch)
	m.phases.Collect(ch)
	m.steps.Collect(ch)
	m.demotions.Collect(ch)
	m.switchovers.Collect(ch)
	m.switchoverPause.Collect(ch)

	now := c.opts.Clock()
	c.mu.Lock()
	r, until := c.machine.Route(), c.machine.LeaseUntil()
	degraded, nodes := len(c.machine.Degraded()), c.machine.Nodes()
	epoch, mode, ahead := c.machine.Epoch(), c.machine.Follow(), c.machine.Ahead()
	lags := c.lags
	c.mu.Unlock()

	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	flag := func(on bool) float64 {
		if on {
			return 1
		}
		return 0
	}
	for _, s := range topology.States() {
		gauge(m.state, flag(s == r.State), s.String())
	}
	for _, f := range []route.FollowMode{route.FollowMajority, route.FollowFast} {
		gauge(m.follow, flag(f == mode), f.String())
	}
	gauge(m.ahead, flag(ahead))
	gauge(m.epoch, float64(epoch))
	if r.Master != "" {
		gauge(m.master, 1, string(r.Master))
	}
	if r.Lease != nil {
		gauge(m.lease, max(0, until-now, r.Lease.Until()-now).Seconds())
	}
	gauge(m.degraded, float64(degraded))
	for _, n := range nodes {
		gauge(m.nodeUp, flag(n.Role != topology.RoleUnknown || n.NoAuth), string(n.Addr))
		gauge(m.nodeInfo, 1, string(n.Addr), n.Role.String())
	}
	for addr, l := range lags {
		gauge(m.lagBytes, float64(l.bytes), string(addr))
		gauge(m.lagSeconds, l.late.Seconds(), string(addr))
	}
}

// milliseconds is how the status prints durations.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
