package main

import (
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/metricspage"
	"github.com/sentinelproxy/sentinelproxy/proxy"
	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
)

// measured runs a sidecar of the real parts with everything on that exports something,
// and takes it through a failover.
func measured(tb testing.TB) *sidecar {
	tb.Helper()
	ca := certtest.MustCA(tb)
	files := certtest.MustWrite(tb, tb.TempDir(), ca, ca.MustIssue(tb, certtest.Leaf{}))
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	tb.Cleanup(hook.Close)
	g := sentineltest.New(tb, sentineltest.Fast())

	cfg := testConfig()
	cfg.SentinelListen = "127.0.0.1:0"
	cfg.Webhooks = []config.Webhook{{Name: "hook", URL: config.Secret(hook.URL), MinSeverity: events.Info, Timeout: time.Second}}
	cfg.Certificates = config.Certificates{WarnDays: 30, CheckCooldown: time.Hour, EventCooldown: time.Hour}
	m := &cfg.Masters[0]
	m.Name, m.Sentinels = g.Name(), g.SentinelAddrs()
	m.Listen = append(m.Listen, config.Listen{Network: "tcp", Address: "127.0.0.1:0", TLS: true})
	m.TLS = config.TLS{CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key, MinVersion: tls.VersionTLS12}
	s := startReal(tb, cfg)
	waitReady(tb, s)
	if err := g.Failover(tb.Context(), ""); err != nil {
		tb.Fatal(err)
	}
	if err := client(tb, s.groups[0]).Ping(tb.Context()).Err(); err != nil {
		tb.Fatal(err)
	}
	waitFor(tb, "every kind of metric", func() bool {
		families, err := s.registry.Gather()
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range []string{"replica_lag_bytes", "sentinel_switch_lag_seconds", "certificate_expired", "events_missed_total", "webhook_queued_events"} {
			if family(families, "sentinelproxy_"+name) == nil {
				return false
			}
		}
		return true
	})
	return s
}

// family returns the metrics of that name, or nil.
func family(families []*dto.MetricFamily, name string) *dto.MetricFamily {
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	return nil
}

// gathered is what a registry says of one metric.
func gathered(f *dto.MetricFamily) metricspage.Metric {
	d := metricspage.Metric{Type: strings.ToLower(f.GetType().String()), Labels: make(map[string][]string)}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(d.Labels[l.GetName()], l.GetValue()) {
				d.Labels[l.GetName()] = append(d.Labels[l.GetName()], l.GetValue())
			}
		}
	}
	return d
}

// ours reports whether a metric is the sidecar's own. Of the others the page lists some,
// since which there are depends on the system and on Go.
func ours(name string) bool { return strings.HasPrefix(name, "sentinelproxy_") }

// ofProcess reports whether a metric is of all groups together.
func ofProcess(name string) bool {
	for _, p := range []string{"admin_", "build_info", "certificates_not_watched_total", "events_", "webhook_", "sentinel_endpoint_"} {
		if strings.HasPrefix(name, "sentinelproxy_"+p) {
			return true
		}
	}
	return !ours(name)
}

// occasional are the labels whose values come with what they are about.
func occasional() []string { return []string{"severity", "cert_role", "role", "leg"} }

// docs/metrics.md is the one list of metrics beside the code: names, types, units, labels
// and the values of those that have a fixed set.
func TestMetricsPage(t *testing.T) {
	page, err := metricspage.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := measured(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name, got := f.GetName(), gathered(f)
		want, listed := page[name]
		if !listed {
			if ours(name) {
				t.Errorf("%s is not in docs/metrics.md", name)
			}
			continue
		}
		if got.Type != want.Type {
			t.Errorf("%s is a %s; the page says %s", name, got.Type, want.Type)
		}
		if unit := unitOf(name); unit != "" && unit != want.Unit || unit == "" && slices.Contains([]string{"seconds", "bytes", "Unix seconds"}, want.Unit) {
			t.Errorf("%s: the page says %q; its name says %q", name, want.Unit, unit)
		}
		if _, has := got.Labels["master_name"]; has == ofProcess(name) {
			t.Errorf("%s: labelled master_name: %v; want the opposite", name, has)
		}
		delete(got.Labels, "master_name") // of all others, as the page says at its top
		if a, b := slices.Sorted(maps.Keys(got.Labels)), slices.Sorted(maps.Keys(want.Labels)); !slices.Equal(a, b) {
			t.Errorf("%s has the labels %v; the page says %v", name, a, b)
			continue
		}
		for l, values := range want.Labels {
			for _, v := range got.Labels[l] {
				if values != nil && !slices.Contains(values, v) {
					t.Errorf("%s has %s=%q, which the page does not list", name, l, v)
				}
			}
			for _, v := range values {
				if !slices.Contains(got.Labels[l], v) && !slices.Contains(occasional(), l) {
					t.Errorf("the page lists %s=%q of %s, which is not there", l, v, name)
				}
			}
		}
	}
	for name := range page {
		if family(families, name) == nil && (ours(name) || runtime.GOOS == "linux") {
			t.Errorf("docs/metrics.md lists %s, which is not exported", name)
		}
	}
}

// unitOf returns the unit that a name says; "" for none.
func unitOf(name string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"), strings.HasSuffix(name, "_start_time_seconds"):
		return "Unix seconds"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasSuffix(name, "_bytes"), name == "sentinelproxy_bytes":
		return "bytes"
	}
	return ""
}

// Prometheus' own conventions, as its library and, where it is there, its tool know them.
func TestMetricsConventions(t *testing.T) {
	s := measured(t)
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	tool := metricspage.Tool(t, "promtool")
	_, text := get(t, s.AdminAddr(), "/metrics")
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// scrapeProto reads /metrics as a Prometheus does that takes native histograms.
func scrapeProto(t *testing.T, s *sidecar) []*dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.AdminAddr().String()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var families []*dto.MetricFamily
	d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	for {
		f := new(dto.MetricFamily)
		switch err := d.Decode(f); {
		case errors.Is(err, io.EOF):
			return families
		case err != nil:
			t.Fatal(err)
		}
		families = append(families, f)
	}
}

// label returns the value of a metric's label; "" if it has none of that name.
func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// What a scrape says of commands adds up, and in protobuf it has native histograms.
func TestCommandMetricsAddUp(t *testing.T) {
	s := measured(t)
	c := client(t, s.groups[0])
	for range 3 {
		if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Do(t.Context(), "SHUTDOWN").Err(); err == nil { // deny_commands has it
		t.Fatal("SHUTDOWN was not refused")
	}
	families := scrapeProto(t, s)
	answered, failed := map[string]float64{}, 0.0
	for _, m := range family(families, "sentinelproxy_commands_total").GetMetric() {
		answered[label(m, "command")] += m.GetCounter().GetValue()
		if label(m, "outcome") == "error" {
			failed += m.GetCounter().GetValue()
		}
	}
	if answered["set"] < 3 || answered["shutdown"] != 1 {
		t.Errorf("answered: %v; want three set and one shutdown", answered)
	}
	if _, ok := answered["other"]; !ok {
		t.Error("nothing of command=other, which is there from the start")
	}
	for _, m := range family(families, "sentinelproxy_error_replies_total").GetMetric() {
		failed -= m.GetCounter().GetValue()
	}
	if failed != 0 {
		t.Errorf("errors by command and by word differ by %v", failed)
	}
	durations := family(families, "sentinelproxy_command_duration_seconds").GetMetric()
	if len(durations) != len(answered) {
		t.Errorf("%d histograms for %d commands", len(durations), len(answered))
	}
	total := uint64(0)
	for _, m := range durations {
		h, name := m.GetHistogram(), label(m, "command")
		total += h.GetSampleCount()
		if float64(h.GetSampleCount()) != answered[name] {
			t.Errorf("%s: %d durations of %v commands", name, h.GetSampleCount(), answered[name])
		}
		if h.Schema == nil || len(h.GetPositiveSpan()) == 0 && h.GetZeroThreshold() == 0 || len(h.GetBucket()) == 0 {
			t.Errorf("%s: not both a native and a classic histogram: %v", name, h)
		}
	}
	_, text := get(t, s.AdminAddr(), "/metrics")
	if !strings.Contains(text, `sentinelproxy_command_duration_seconds_bucket{command="set",master_name=`) || !strings.Contains(text, `le="0.00005"`) && !strings.Contains(text, `le="5e-05"`) {
		t.Error("no classic buckets in the text format")
	}
	st, ok := s.groups[0].server.Status(t.Context()).(proxy.Status)
	if !ok || st.Commands < total || st.Latency.Count == 0 || st.CommandErrors == 0 {
		t.Errorf("status: %d commands, %d errors, %d durations; the scrape before had %d", st.Commands, st.CommandErrors, st.Latency.Count, total)
	}
}
