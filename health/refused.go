package health

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// refused counts the requests that were answered 503 because others of their kind were
// being served. Its fields are safe for concurrent use.
type refused struct {
	streams, scrapes, lists atomic.Uint64
}

// Collector returns the metric sentinelproxy_admin_requests_refused_total, by what was
// asked for: a stream, a scrape or a list of clients.
func (s *Server) Collector() prometheus.Collector { return &s.refused }

func refusedDesc() *prometheus.Desc {
	return prometheus.NewDesc("sentinelproxy_admin_requests_refused_total",
		"Requests to the admin server answered 503 because as many as may be were being served.", []string{"what"}, nil)
}

// Describe implements prometheus.Collector.
func (*refused) Describe(ch chan<- *prometheus.Desc) { ch <- refusedDesc() }

// Collect implements prometheus.Collector.
func (r *refused) Collect(ch chan<- prometheus.Metric) {
	for what, n := range map[string]*atomic.Uint64{"stream": &r.streams, "scrape": &r.scrapes, "list": &r.lists} {
		ch <- prometheus.MustNewConstMetric(refusedDesc(), prometheus.CounterValue, float64(n.Load()), what)
	}
}

// counting counts the answers of h that are 503.
func counting(n *atomic.Uint64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(countedRefusals{w, n}, r) })
}

// countedRefusals counts an answer before its client can know of it.
type countedRefusals struct {
	http.ResponseWriter

	n *atomic.Uint64
}

// WriteHeader implements http.ResponseWriter.
func (w countedRefusals) WriteHeader(code int) {
	if code == http.StatusServiceUnavailable {
		w.n.Add(1)
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController find the connection.
func (w countedRefusals) Unwrap() http.ResponseWriter { return w.ResponseWriter }
