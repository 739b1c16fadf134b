package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events/webhook"
	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// hookServer keeps the events that a webhook is told.
type hookServer struct {
	*httptest.Server

	mu  sync.Mutex // guards got
	got []map[string]any
}

const hookSecret = "hmac-key-of-the-test"

// newHookServer starts one that checks each signature.
func newHookServer(tb testing.TB) *hookServer {
	tb.Helper()
	h := &hookServer{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Errorf("webhook: %v", err)
			return
		}
		at, err := strconv.ParseInt(r.Header.Get(webhook.HeaderTimestamp), 10, 64)
		if want := webhook.Sign(hookSecret, time.Unix(at, 0), body); err != nil || r.Header.Get(webhook.HeaderSignature) != want {
			tb.Errorf("webhook: signature %q at %q (%v)", r.Header.Get(webhook.HeaderSignature), r.Header.Get(webhook.HeaderTimestamp), err)
		}
		var one map[string]any
		if err := json.Unmarshal(body, &one); err != nil {
			tb.Errorf("webhook: %v: %s", err, body)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, one)
	}))
	tb.Cleanup(h.Close)
	return h
}

// args are the flags that have a sidecar tell it.
func (h *hookServer) args(tb testing.TB, more ...string) []string {
	tb.Helper()
	secret := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(hookSecret+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return append([]string{"--webhook-url", h.URL + "/path-with-a-secret", "--webhook-secret-file", secret, "--webhook-cooldown", "0s"}, more...)
}

// of returns what was told of one kind whose field, if it is not "", has that value.
func (h *hookServer) of(kind, field string, value any) []map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []map[string]any
	for _, e := range h.got {
		if e["event"] == kind && (field == "" || e[field] == value) {
			list = append(list, e)
		}
	}
	return list
}

// Redis and the Sentinels show a certificate with ten days left, our listener one with
// twenty: each role is told once, with all that is to be known, however many connections
// are made.
func TestCertificateWebhook(t *testing.T) {
	now := time.Now()
	ca := certtest.MustCAUntil(t, now.AddDate(3, 0, 0))
	nodes := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{Name: "redis node", NotAfter: now.AddDate(0, 0, 10)}))
	own := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{Name: "us", NotAfter: now.AddDate(1, 0, 0)}))
	dir := t.TempDir()
	ours := certtest.MustWrite(t, dir, ca, ca.MustIssue(t, certtest.Leaf{Name: "listener", NotAfter: now.AddDate(0, 0, 20)}))
	g := redistest.New(t, redistest.Options{
		DownAfter: calm,
		TLS:       &redistest.TLS{CA: nodes.CA, Cert: nodes.Cert, Key: nodes.Key, AuthClients: true},
	})
	hook := newHookServer(t)
	args := hook.args(t, "--listen", "tls://"+freeAddr(t), "--tls-client-ca-file", ours.CA, "--tls-cert-file", ours.Cert, "--tls-key-file", ours.Key,
		"--webhook-events", "CertificateExpiringSoon,CertificateExpired,RouteChanged", "--certificates-check-cooldown-seconds", "1")
	for _, leg := range []string{"--redis-tls", "--sentinel-tls"} {
		args = append(args, leg, "true", leg+"-ca-file", own.CA, leg+"-cert-file", own.Cert, leg+"-key-file", own.Key)
	}
	r := startRun(t, g, args...)
	roles := map[string]struct {
		name string
		days float64
	}{"upstream": {"redis node", 10}, "sentinel": {"redis node", 10}, "server": {"listener", 20}}
	for role := range roles {
		waitFor(t, "a webhook of role "+role, func() bool { return len(hook.of("CertificateExpiringSoon", "cert_role", role)) > 0 })
	}
	failOverFrom(t, g, stable(t, g)) // all connections are new
	master := stable(t, g)
	waitFor(t, "the failover's webhook", func() bool { return len(hook.of("RouteChanged", "", nil)) >= 2 })
	for role, want := range roles {
		list := hook.of("CertificateExpiringSoon", "cert_role", role)
		if len(list) != 1 {
			t.Errorf("%d webhooks of role %s; want one: %v", len(list), role, list)
			continue
		}
		e := list[0]
		end, err := time.Parse(time.RFC3339, fmt.Sprint(e["expires_at"]))
		if err != nil || end.Sub(now.AddDate(0, 0, int(want.days))).Abs() > time.Minute {
			t.Errorf("%s: expires_at %v", role, e["expires_at"])
		}
		if e["cert_name"] != want.name || e["days_remaining"] != want.days || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(fmt.Sprint(e["cert_id"])) ||
			e["message"] == "" || e["timestamp"] == nil || e["master_name"] != "mymaster" || e["severity"] != "warning" {
			t.Errorf("%s: %v", role, e)
		}
	}
	if n := len(hook.of("CertificateExpired", "", nil)); n > 0 {
		t.Errorf("%d certificates are called expired", n)
	}
	_, metrics := get(t, addrOf(r.admin), "/metrics")
	for _, want := range []string{
		fmt.Sprintf(`sentinelproxy_certificate_not_after_timestamp_seconds{cert_role="server",master_name="mymaster",source=%q} `, ours.Cert),
		fmt.Sprintf(`sentinelproxy_certificate_probe_up{cert_role="upstream",master_name="mymaster",source="%s"} 1`, master.Addr()),
		fmt.Sprintf(`sentinelproxy_certificate_expired{cert_role="client",master_name="mymaster",source=%q} 0`, own.Cert),
		`sentinelproxy_certificate_not_after_timestamp_seconds{cert_role="ca",`,
		`sentinelproxy_events_total{event="CertificateExpiringSoon",severity="warning"} 3`,
		`sentinelproxy_webhook_deliveries_total{outcome="delivered",webhook="127.0.0.1"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if code, body := get(t, addrOf(r.admin), "/api/v1/certificates"); code != 200 || !strings.Contains(body, `"cert_name": "listener"`) {
		t.Errorf("/api/v1/certificates: %d %s", code, body)
	}
	_, list := get(t, addrOf(r.admin), "/api/v1/events")
	for _, text := range []string{r.log.String(), metrics, list} {
		if strings.Contains(text, hookSecret) || strings.Contains(text, "path-with-a-secret") {
			t.Errorf("a secret is told: %s", text)
		}
	}
	if n := strings.Count(r.log.String(), `msg="certificate expiring soon"`); n != 3 {
		t.Errorf("%d log lines of certificates; want 3", n)
	}
}

// A failover on real Redis as events, over HTTP and in the log: nothing is logged twice.
func TestFailoverAsEvents(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	hook := newHookServer(t)
	r := startRun(t, g, hook.args(t, "--webhook-min-severity", "info")...)
	old := stable(t, g)
	failOverFrom(t, g, old)
	master := stable(t, g)
	waitFor(t, "the webhook of the new master", func() bool {
		return len(hook.of("RouteChanged", "to", string(master.Addr()))) > 0
	})
	changed := hook.of("RouteChanged", "to", string(master.Addr()))[0]
	if changed["from"] != string(old.Addr()) || changed["cause"] == "" || changed["took_ms"] == 0.0 || changed["phases"] == nil {
		t.Errorf("changed: %v", changed)
	}
	if held, released := len(hook.of("RouteHeld", "", nil)), len(hook.of("RouteReleased", "", nil)); held == 0 || held != released {
		t.Errorf("%d holds and %d ends of holds", held, released)
	}
	// That the old master says master until Sentinel demotes it is no reason to wake anybody.
	if alarms := hook.of("TwoMastersSeen", "", nil); len(alarms) > 0 {
		t.Errorf("a planned failover told %v", alarms)
	}
	code, body := get(t, addrOf(r.admin), "/api/v1/events?limit=1000")
	for _, want := range []string{`"event": "SidecarStarted"`, `"event": "RouteHeld"`, `"event": "RouteChanged"`, `"master_name": "mymaster"`} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("/api/v1/events: %d, without %s: %s", code, want, body)
		}
	}
	log := r.log.String()
	if n, changes := strings.Count(log, `msg="master switched"`), len(hook.of("RouteChanged", "", nil))-1; n != changes {
		t.Errorf("%d lines of %d switches", n, changes)
	}
	if strings.Contains(log, "event=RouteHeld") || strings.Contains(log, "event=RouteChanged") {
		t.Errorf("the log tells a failover twice: %s", log)
	}

	// The master's process is restarted before anybody is elected.
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := master.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the webhook of a restart, or of a failover", func() bool {
		return len(hook.of("MasterRestarted", "master", string(master.Addr()))) > 0 || len(hook.of("RouteChanged", "", nil)) >= 3
	})
	t.Logf("restart told: %v", hook.of("MasterRestarted", "", nil))
}
