package health

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of scrapes: rendering takes processor time from the event loops.
const (
	scrapeTimeout = 5 * time.Second
	maxScrapes    = 3 // at once; more are answered 503
)

// Build says which program this is.
type Build struct {
	Version   string `json:"version"`    // a tag, or "(devel)"
	Revision  string `json:"revision"`   // of the source; "" if it was not recorded
	GoVersion string `json:"go_version"` // that built it
}

// Collector returns the metric sentinelproxy_build_info: always 1, the facts in
// its labels.
func (b Build) Collector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "sentinelproxy_build_info",
		Help:        "Always 1; the labels say which sentinelproxy this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion},
	}, func() float64 { return 1 })
}

// metrics serves the gatherer. A collector that fails costs its own series, not
// the scrape.
func (s *Server) metrics() http.Handler {
	return counting(&s.refused.scrapes, promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{s.o.Log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	}))
}

// scrapeLog passes promhttp's complaints on.
type scrapeLog struct{ log *slog.Logger }

// Println logs one complaint.
func (l scrapeLog) Println(v ...any) { l.log.Warn("scrape is incomplete", "err", fmt.Sprint(v...)) }
