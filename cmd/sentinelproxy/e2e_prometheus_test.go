package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/metricspage"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// guarded is a sidecar whose admin server speaks TLS and wants a token.
type guarded struct {
	*started

	files     certtest.Files
	token     string
	tokenFile string
	probes    string // where anybody may ask
	http      *http.Client
}

func startGuarded(tb testing.TB, g *redistest.Group, more ...string) *guarded {
	tb.Helper()
	ca := certtest.MustCA(tb)
	r := &guarded{
		files: certtest.MustWrite(tb, "", ca, ca.MustIssue(tb, certtest.Leaf{})),
		token: "a token of the test", tokenFile: filepath.Join(tb.TempDir(), "token"), probes: freeAddr(tb),
	}
	if err := os.WriteFile(r.tokenFile, []byte(r.token+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	r.http = &http.Client{Transport: t, Timeout: patience}
	r.started = launch(tb, g, append([]string{
		"--admin-token-file", r.tokenFile, "--admin-tls-cert-file", r.files.Cert, "--admin-tls-key-file", r.files.Key, "--admin-probes", r.probes,
	}, more...)...)
	r.waitReady(tb, r.probes)
	return r
}

// read asks the admin server for a path, with a token unless that is ""; code 0 is no answer.
func (r *guarded) read(tb testing.TB, path, token string) (int, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "https://"+r.admin+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// page is read with the token, and asks until there is an answer: a busy machine may leave
// one out.
func (r *guarded) page(tb testing.TB, path string) string {
	tb.Helper()
	var code int
	var body string
	waitFor(tb, "an answer to "+path, func() bool { code, body = r.read(tb, path, r.token); return code != 0 })
	if code != http.StatusOK {
		tb.Fatalf("%s: %d %s", path, code, body)
	}
	return body
}

// samples are the values of one metric, by one of its labels.
type samples map[string]float64

// samples reads those of the sidecar.
func (r *guarded) samples(tb testing.TB, metric, label string) samples {
	tb.Helper()
	body, all := r.page(tb, "/metrics"), samples{}
	for _, m := range regexp.MustCompile(`(?m)^`+metric+`\{([^}]*)\} (\S+)$`).FindAllStringSubmatch(body, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			tb.Fatal(err)
		}
		value := regexp.MustCompile(`\b` + label + `="([^"]*)"`).FindStringSubmatch(m[1])
		all[value[1]] = v
	}
	return all
}

// prometheusServer is a real Prometheus.
type prometheusServer struct{ addr string }

// startPrometheus runs one until the test ends.
func startPrometheus(tb testing.TB, config string) prometheusServer {
	tb.Helper()
	program := metricspage.Tool(tb, "prometheus")
	dir := tb.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	p := prometheusServer{freeAddr(tb)}
	var log buffer
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	cmd := exec.CommandContext(ctx, program, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", p.addr, "--log.level", "warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, patience
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // by the signal
		if tb.Failed() {
			tb.Log("prometheus: " + log.String())
		}
	})
	waitWithin(tb, 3*patience, "prometheus", func() bool { code, _ := get(tb, addrOf(p.addr), "/-/ready"); return code == http.StatusOK })
	return p
}

// data asks Prometheus' API until it answers, and decodes the answer's data. A query that
// took it too long is answered 503.
func (p prometheusServer) data(tb testing.TB, path string, into any) {
	tb.Helper()
	var code int
	var body string
	waitFor(tb, "prometheus to answer "+path, func() bool {
		code, body = get(tb, addrOf(p.addr), path)
		return code != 0 && code != http.StatusServiceUnavailable
	})
	answer := struct{ Data any }{into}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK {
		tb.Fatalf("%s: %d %v %s", path, code, err, body)
	}
}

// alert returns the state of an alert now: pending, firing, or "" while it is neither.
func (p prometheusServer) alert(tb testing.TB, name string) string {
	tb.Helper()
	var page struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	p.data(tb, "/api/v1/alerts", &page)
	for _, a := range page.Alerts {
		if a.Labels["alertname"] == name {
			return a.State
		}
	}
	return ""
}

// samples asks for an instant, by one label.
func (p prometheusServer) samples(tb testing.TB, query, label string) samples {
	tb.Helper()
	var page struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	p.data(tb, "/api/v1/query?query="+url.QueryEscape(query), &page)
	all := samples{}
	for _, r := range page.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			tb.Fatal(err)
		}
		all[r.Metric[label]] = v
	}
	return all
}

// notices are what an Alertmanager is told. It is safe for concurrent use.
type notices struct {
	mu       sync.Mutex
	resolved map[string]bool
}

// ServeHTTP takes alerts, as an Alertmanager does.
func (n *notices) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var list []struct {
		Labels map[string]string
		EndsAt time.Time
	}
	if json.NewDecoder(r.Body).Decode(&list) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range list {
		if !a.EndsAt.After(time.Now()) {
			n.resolved[a.Labels["alertname"]] = true
		}
	}
}

func (n *notices) hasResolved(alert string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.resolved[alert]
}

// A real Prometheus scrapes the sidecar, with token and TLS, and has the rules of
// examples/prometheus, with shorter times. The master dies: the alert is pending, fires, and
// is resolved when the failover is over. What it has counted then is what the sidecar says.
func TestPrometheusSeesAFailover(t *testing.T) {
	metricspage.Tool(t, "prometheus")
	// The failover waits until the alert was seen: the Sentinels hurry only then.
	g := redistest.New(t, redistest.Options{Quick: true, DownAfter: 3 * patience})
	s := startGuarded(t, g, "--hold-timeout", "2s", "--hold-max", (3 * patience).String(), "--outage-policy", "read:cache-*=nil")
	master := stable(t, g)

	rules, err := os.ReadFile("../../examples/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	patient := regexp.MustCompile(`(?m)^( +for: ).*$`)
	if !patient.Match(rules) {
		t.Fatal("no rule has a for")
	}
	rulesFile := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(rulesFile, patient.ReplaceAll(rules, []byte("${1}1s")), 0o600); err != nil {
		t.Fatal(err)
	}
	told := &notices{resolved: make(map[string]bool)}
	alertmanager := httptest.NewServer(told)
	defer alertmanager.Close()
	p := startPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 200ms}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
  - job_name: sentinelproxy
    scheme: https
    authorization: {credentials_file: %q}
    tls_config: {ca_file: %q}
    static_configs: [{targets: [%q]}]
`, rulesFile, strings.TrimPrefix(alertmanager.URL, "http://"), s.tokenFile, s.files.CA, s.admin))
	waitFor(t, "a scrape", func() bool { return p.samples(t, "up", "job")["sentinelproxy"] == 1 })
	const alert = "SentinelproxyNotServing"
	if state := p.alert(t, alert); state != "" {
		t.Fatalf("the alert is %s before anything happened", state)
	}

	w := startWriters(t, s.addr, 4)
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	// A read that was lost with the master has waited out its time before the outage begins.
	waitFor(t, "the route to hold", func() bool { return s.samples(t, "sentinelproxy_route_state", "state")["holding"] == 1 })
	reads := startReaders(t, s.addr)
	failedToo := leave(t, s)                                                                   // while commands wait
	waitFor(t, "the alert to be firing", func() bool { return p.alert(t, alert) == "firing" }) // that it was pending first is on record
	t.Logf("firing after %v", time.Since(begun).Round(10*time.Millisecond))
	for _, v := range g.Sentinels() {
		do(t, v, "SENTINEL", "SET", g.Name(), "down-after-milliseconds", 2000)
	}
	waitWithin(t, 3*patience, "the alert to be resolved", func() bool { return p.alert(t, alert) == "" && told.hasResolved(alert) })
	t.Logf("resolved after %v", time.Since(begun).Round(10*time.Millisecond))
	waitFor(t, "the alert that tells of failovers", func() bool { return p.alert(t, "SentinelproxyFailover") == "firing" })
	p.wantHistory(t, alert, begun)

	w.finish()
	nils := reads()
	const held, rejected = "sentinelproxy_held_commands_total", "sentinelproxy_rejected_commands_total"
	waitFor(t, "nobody to wait any more", func() bool { return s.samples(t, "sentinelproxy_held_commands", "master_name")[g.Name()] == 0 })
	ours, atOnce := s.samples(t, held, "outcome"), s.samples(t, rejected, "master_name")[g.Name()]
	waitFor(t, "prometheus to have the same counts", func() bool {
		theirs := p.samples(t, held, "outcome")
		return len(theirs) == len(ours) && !slices.ContainsFunc([]string{"sent", "failed", "policy", "client_gone"}, func(o string) bool { return theirs[o] != ours[o] })
	})
	sum := p.samples(t, "sum by (master_name) ("+held+") + sum by (master_name) (sentinelproxy_held_commands)", "master_name")[g.Name()]
	if want := ours["sent"] + ours["failed"] + ours["policy"] + ours["client_gone"]; sum != want {
		t.Errorf("%v commands were held, says prometheus; %v ended: %v", sum, want, ours)
	}
	for outcome, n := range ours {
		if n < 1 {
			t.Errorf("no wait ended as %s: %v", outcome, ours)
		}
	}
	// And it is what clients saw.
	if failed := w.errorsSoFar() + failedToo; float64(failed) != ours["failed"]+atOnce {
		t.Errorf("clients got %d errors; %v commands failed, %v at once", failed, ours["failed"], atOnce)
	}
	if float64(nils) < ours["policy"] {
		t.Errorf("clients got %d answers of the policy; %v ended so after a wait", nils, ours["policy"])
	}
	t.Logf("held %v: %v; rejected at once %v", sum, ours, atOnce)

	scrape := s.page(t, "/metrics")
	check := exec.CommandContext(t.Context(), metricspage.Tool(t, "promtool"), "check", "metrics")
	check.Stdin = strings.NewReader(scrape)
	if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v %s", err, out)
	}
}

// wantHistory looks whether an alert was pending first and fired then, as Prometheus has
// recorded it.
func (p prometheusServer) wantHistory(tb testing.TB, alert string, since time.Time) {
	tb.Helper()
	var page struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	q := url.Values{
		"query": {fmt.Sprintf("ALERTS{alertname=%q}", alert)}, "step": {"0.2"},
		"start": {fmt.Sprintf("%.3f", float64(since.Add(-time.Second).UnixMilli())/1000)}, "end": {fmt.Sprintf("%.3f", float64(time.Now().UnixMilli())/1000)},
	}
	p.data(tb, "/api/v1/query_range?"+q.Encode(), &page)
	first := make(map[string]float64)
	for _, r := range page.Result {
		if len(r.Values) > 0 {
			first[r.Metric["alertstate"]], _ = r.Values[0][0].(float64)
		}
	}
	if first["pending"] == 0 || first["firing"] <= first["pending"] {
		tb.Errorf("the alert was first pending at %v and firing at %v", first["pending"], first["firing"])
	}
}

// startReaders reads a key that the outage policy is for, over and over. What it returns
// ends that, and says how often the answer was nil.
func startReaders(tb testing.TB, addr string) (finish func() int64) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var nils atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		defer nc.Close()
		defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
		in := bufio.NewReader(nc)
		tick := time.NewTicker(writeEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := io.WriteString(nc, "GET cache-1\r\n"); err != nil {
				return
			}
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "$-1") || strings.HasPrefix(line, "_") {
				nils.Add(1)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	tb.Cleanup(stop)
	return func() int64 { stop(); return nils.Load() }
}

// leave has clients come, ask, and go away while they wait, until one is counted. It returns
// how many had an error first: a busy machine may have kept them here for too long.
func leave(tb testing.TB, s *guarded) (refused int) {
	tb.Helper()
	const held = "sentinelproxy_held_commands_total"
	before := s.samples(tb, held, "outcome")["client_gone"]
	waitFor(tb, "a client that leaves while it waits", func() bool {
		nc, err := new(net.Dialer).DialContext(tb.Context(), "tcp", s.addr)
		if err != nil {
			tb.Fatal(err)
		}
		_, _ = io.WriteString(nc, "SET left 1\r\n")
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		reply := make([]byte, 1)
		if n, _ := nc.Read(reply); n > 0 && reply[0] == '-' { // else it waits
			refused++
		}
		_ = nc.Close() // before the metrics are asked for, which may take longer than the hold
		return s.samples(tb, held, "outcome")["client_gone"] > before
	})
	return refused
}
