package certwatch

import "github.com/prometheus/client_golang/prometheus"

type collector struct {
	m                             *Monitor
	notAfter, expired, up, noRoom *prometheus.Desc
}

// Collector returns the metrics. Their series are bounded by the number of sources that
// are watched, 512.
func (m *Monitor) Collector() prometheus.Collector {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sentinelproxy_certificate"+name, help, []string{"master_name", "cert_role", "source"}, nil)
	}
	return collector{
		m:        m,
		notAfter: d("_not_after_timestamp_seconds", "When the first certificate of the chain ends, since the epoch."),
		expired:  d("_expired", "1 if the first certificate of the chain has ended."),
		up:       d("_probe_up", "1 if the last TLS handshake with the node went well, or the files in use are those on the disk."),
		noRoom:   prometheus.NewDesc("sentinelproxy_certificates_not_watched_total", "Times that a certificate was not watched for want of room.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.notAfter, c.expired, c.up, c.noRoom} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	one := map[bool]float64{true: 1}
	for _, s := range c.m.Status() {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Master, string(s.Role), s.Source)
		}
		if s.SeenAt == nil {
			continue
		}
		gauge(c.up, one[s.Up])
		if s.NotAfter != nil {
			gauge(c.notAfter, float64(s.NotAfter.Unix()))
			gauge(c.expired, one[s.Expired])
		}
	}
	c.m.mu.Lock()
	refused := c.m.refused
	c.m.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(c.noRoom, prometheus.CounterValue, float64(refused))
}
