package endpoint

import "github.com/prometheus/client_golang/prometheus"

// metrics are the endpoint's, of all masters together: most commands name none.
type metrics struct {
	connections *prometheus.Desc
	accepted    prometheus.Counter
	refused     prometheus.Counter
	strangers   prometheus.Counter
	breaches    prometheus.Counter
	commands    *prometheus.CounterVec
}

// newMetrics returns metrics with every label value present from the start.
func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sentinelproxy_sentinel_endpoint_" + name, Help: help})
	}
	m := &metrics{
		connections: prometheus.NewDesc("sentinelproxy_sentinel_endpoint_connections", "Clients connected to the Sentinel endpoint.", nil, nil),
		accepted:    counter("connections_total", "Clients that the Sentinel endpoint accepted."),
		refused:     counter("connections_refused_total", "Clients that the Sentinel endpoint turned away at its limit."),
		strangers:   counter("connections_denied_total", "Clients that the Sentinel endpoint turned away because of their network."),
		breaches:    counter("protocol_errors_total", "Clients of the Sentinel endpoint that broke the protocol or sent too much at once."),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sentinelproxy_sentinel_endpoint_commands_total", Help: "Commands answered by the Sentinel endpoint.",
		}, []string{"command"}),
	}
	for _, c := range commands() {
		m.commands.WithLabelValues(string(c))
	}
	return m
}

func (m *metrics) count(c command) { m.commands.WithLabelValues(string(c)).Inc() }

func (m *metrics) describe(ch chan<- *prometheus.Desc) {
	ch <- m.connections
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

func (m *metrics) collect(ch chan<- prometheus.Metric, connections int64) {
	ch <- prometheus.MustNewConstMetric(m.connections, prometheus.GaugeValue, float64(connections))
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.accepted, m.refused, m.strangers, m.breaches, m.commands}
}
