package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/doctor"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// asking is how a test asks an admin server; the answer of nobody is 0.
type asking struct {
	bearer, password string
	tls              *tls.Config
}

func (a asking) get(tb testing.TB, addr net.Addr, path string) (int, string, http.Header) {
	tb.Helper()
	scheme := "http://"
	if a.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, scheme+addr.String()+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	if a.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+a.bearer)
	}
	if a.password != "" {
		req.SetBasicAuth("anybody", a.password)
	}
	t := &http.Transport{TLSClientConfig: a.tls, DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func poolOf(ca *certtest.CA) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	return pool
}

// The admin token opens everything that is read, for programs and for browsers; so does the
// control token. Orders are given with the latter alone.
func TestAdminToken(t *testing.T) {
	const old, next, orders = config.Secret("the admin token, old"), config.Secret("the admin token, new"), config.Secret("the control token, long")
	cfg := testConfig()
	cfg.Admin.TokenFile, cfg.Admin.Token, cfg.Admin.Probes = "t", old, "127.0.0.1:0"
	cfg.Control.TokenFile, cfg.Control.Token = "c", orders
	s, _ := startFakes(t, newFakes(), cfg)
	for name, tt := range map[string]struct {
		with asking
		want int
	}{
		"nothing":           {asking{}, 401},
		"the token":         {asking{bearer: old.Reveal()}, 200},
		"as password":       {asking{password: old.Reveal()}, 200},
		"the control token": {asking{bearer: orders.Reveal()}, 200},
		"a wrong one":       {asking{bearer: "the admin token, odd"}, 401},
		"a part of it":      {asking{bearer: old.Reveal()[:10]}, 401},
		"a wrong password":  {asking{password: "x"}, 401},
	} {
		for _, path := range []string{"/livez", "/metrics", "/api/v1/status", "/api/v1/clients", "/api/v1/events", "/api/v1/certificates"} {
			code, body, h := tt.with.get(t, s.AdminAddr(), path)
			if code != tt.want {
				t.Errorf("%s, %s: %d %s; want %d", name, path, code, body, tt.want)
			}
			if c := strings.Join(h.Values("WWW-Authenticate"), ", "); code == 401 && (!strings.Contains(c, "Bearer realm=") || !strings.Contains(c, "Basic realm=")) {
				t.Errorf("%s, %s: challenged with %q", name, path, c)
			}
			if strings.Contains(body, old.Reveal()) || strings.Contains(body, orders.Reveal()) {
				t.Errorf("%s, %s: a token is told", name, path)
			}
		}
	}
	c := dialRaw(t, s.AdminAddr().String())
	_ = c.nc.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c.nc, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if b, err := io.ReadAll(c.r); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 401") {
		t.Errorf("who is refused may keep its connection: %q, %v", b, err)
	}
	if code := order(t, s.AdminAddr(), "", old.Reveal()); code != http.StatusForbidden {
		t.Errorf("an order with the admin token: %d; want 403", code)
	}
	if code := order(t, s.AdminAddr(), "", orders.Reveal()); code != http.StatusOK {
		t.Errorf("an order with the control token: %d; want 200", code)
	}
	if code, body := get(t, s.admin.probes.Addr(), "/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("a probe without a token: %d %q", code, body)
	}
	if code, _ := get(t, s.admin.probes.Addr(), "/metrics"); code != http.StatusNotFound {
		t.Errorf("metrics beside the probes: %d; want 404", code)
	}

	rotated := cfg
	rotated.Admin.Token = next
	newReloader(s, func() (config.Config, error) { return rotated, nil }, new(slog.LevelVar)).reload()
	for token, want := range map[config.Secret]int{old: 401, next: 200} {
		if code, _, _ := (asking{bearer: token.Reveal()}).get(t, s.AdminAddr(), "/livez"); code != want {
			t.Errorf("%q after a reload: %d; want %d", token.Reveal(), code, want)
		}
	}
}

// The admin server speaks TLS, takes changed files, and with a client CA lets in those whom
// it has signed; they see clients, too.
func TestAdminTLS(t *testing.T) {
	ca, strangers := certtest.MustCA(t), certtest.MustCA(t)
	files := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{Name: "first"}))
	cfg := testConfig()
	cfg.Certificates = config.Certificates{WarnDays: 30, CheckCooldown: time.Hour, EventCooldown: time.Hour}
	cfg.Admin.TLS = config.TLS{CertFile: files.Cert, KeyFile: files.Key, CAFile: files.CA, ClientAuth: config.ClientAuthRequire, MinVersion: tls.VersionTLS13}
	log := new(buffer)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := startSidecar(ctx, cfg, slog.New(slog.NewTextHandler(log, nil)), newFakes().parts())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	defer func() {
		cancel()
		if err := s.Wait(); err != nil {
			t.Error(err)
		}
	}()
	identity := func(from *certtest.CA) []tls.Certificate {
		pair := from.MustIssue(t, certtest.Leaf{Name: "client"})
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{cert}
	}
	known := asking{tls: &tls.Config{RootCAs: poolOf(ca), Certificates: identity(ca)}}
	if code, body, _ := known.get(t, s.AdminAddr(), "/api/v1/clients"); code != 200 {
		t.Errorf("with a certificate: %d %s", code, body)
	}
	for name, c := range map[string]*tls.Config{
		"no certificate": {RootCAs: poolOf(ca)},
		"another's":      {RootCAs: poolOf(ca), Certificates: identity(strangers)},
		"TLS 1.2":        {RootCAs: poolOf(ca), Certificates: identity(ca), MaxVersion: tls.VersionTLS12},
	} {
		if code, body, _ := (asking{tls: c}).get(t, s.AdminAddr(), "/livez"); code != 0 {
			t.Errorf("%s: %d %s; want no answer", name, code, body)
		}
	}
	waitFor(t, "the certificates among those that are watched", func() bool {
		_, body, _ := known.get(t, s.AdminAddr(), "/api/v1/certificates")
		return strings.Contains(body, files.Cert) && strings.Contains(body, files.CA)
	})
	_, body, _ := known.get(t, s.AdminAddr(), "/metrics")
	for _, want := range []string{
		`sentinelproxy_certificate_expiry_timestamp_seconds{file="cert",leg="admin",master_name=""}`,
		`sentinelproxy_tls_reloads_total{leg="admin",master_name="",result="ok"} 0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}

	// A check finds it in its place, or says what it would need to know.
	shows := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{Name: "client"}))
	here := cfg
	here.Admin.Listen = s.AdminAddr().String()
	for want, trust := range map[doctor.Finding]adminTrust{
		{Severity: doctor.Info, Reason: "a sidecar with these masters runs here"}:        {cert: shows.Cert, key: shows.Key},
		{Severity: doctor.Warning, Reason: "its admin server tells only to who shows a"}: {},
	} {
		list := checkHere(t.Context(), here, trust)
		if !slices.ContainsFunc(list, func(f doctor.Finding) bool {
			return f.Subject == here.Admin.Listen && f.Severity == want.Severity && strings.Contains(f.Reason, want.Reason)
		}) {
			t.Errorf("check with %+v: %+v; want %v: %s", trust, list, want.Severity, want.Reason)
		}
	}

	shown := func() string {
		d := tls.Dialer{Config: known.tls}
		c, err := d.DialContext(t.Context(), "tcp", s.AdminAddr().String())
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName //nolint:forcetypeassert // as tls.Dialer says
	}
	if got := shown(); got != "first" {
		t.Errorf("it shows %q", got)
	}
	certtest.MustWrite(t, filepath.Dir(files.Cert), ca, ca.MustIssue(t, certtest.Leaf{Name: "second"}))
	waitWithin(t, 3*patience, "the new certificate", func() bool { return shown() == "second" })
	if !strings.Contains(log.String(), "tls files reloaded") {
		t.Errorf("the log does not tell of the new files: %s", log)
	}
	// What is no good changes nothing.
	if err := os.WriteFile(files.Key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.admin.reload()
	if got := shown(); got != "second" {
		t.Errorf("with a broken key on the disk it shows %q", got)
	}
}

// Every command that asks an admin server finds its way in: with an authority, or on the
// sidecar's machine with its own settings.
func TestCommandsAskAGuardedSidecar(t *testing.T) {
	g := redistest.New(t, redistest.Options{Quick: true, DownAfter: calm})
	control := filepath.Join(t.TempDir(), "control-token")
	if err := os.WriteFile(control, []byte("the token of orders\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startGuarded(t, g, "--control-token-file", control)
	var master *redistest.Node
	stable(t, g)
	file := filepath.Join(t.TempDir(), "c.yaml")
	settings := "admin: {listen: '" + s.admin + "', probes: '" + s.probes + "', token_file: " + s.tokenFile + ", tls: {cert_file: " + s.files.Cert + ", key_file: " + s.files.Key + "}}\n" +
		"control: {token_file: " + control + "}\nlisten: " + s.addr + "\nmaster: " + g.Name() + "\nsentinels: ['" + string(g.SentinelAddrs()[0]) + "']\n"
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := certtest.MustCA(t)
	wrong := certtest.MustWrite(t, "", stranger, stranger.MustIssue(t, certtest.Leaf{}))
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"status, an authority":          {[]string{"status", "--admin", s.admin, "--admin-token-file", s.tokenFile, "--admin-ca-file", s.files.CA}, exitOK, "sidecar   ready"},
		"status, its own certificate":   {[]string{"status", "--admin", s.admin, "--admin-token-file", s.tokenFile, "--admin-tls-cert-file", s.files.Cert}, exitOK, "sidecar   ready"},
		"status, its own settings":      {[]string{"status", "--config", file}, exitOK, "sidecar   ready"},
		"status, another authority":     {[]string{"status", "--config", file, "--admin-ca-file", wrong.CA}, exitEnvironment, "signed by unknown authority"},
		"status, another certificate":   {[]string{"status", "--config", file, "--admin-tls-cert-file", wrong.Cert}, exitEnvironment, "it is not the one in"},
		"status, no token":              {[]string{"status", "--admin", s.admin, "--admin-ca-file", s.files.CA}, exitEnvironment, "it wants its token: --admin-token-file"},
		"status, without TLS":           {[]string{"status", "--admin", s.admin}, exitEnvironment, "it speaks TLS: --admin-ca-file"},
		"status, the control token":     {[]string{"status", "--config", file, "--admin-token-file", control}, exitOK, "sidecar   ready"},
		"status, a token that is none":  {[]string{"status", "--config", file, "--admin-token-file", filepath.Join(t.TempDir(), "none")}, exitUsage, "--admin-token-file: found"},
		"status, elsewhere, in clear":   {[]string{"status", "--admin", "gateway-1.invalid:9180", "--admin-token-file", s.tokenFile}, exitUsage, "the token would go to another machine without TLS"},
		"status, elsewhere, as told":    {[]string{"status", "--admin", "gateway-1.invalid:9180", "--admin-token-file", s.tokenFile, "--admin-insecure"}, exitEnvironment, "gateway-1.invalid"},
		"switchover, in clear":          {[]string{"switchover", "--admin", "gateway-1.invalid:9180", "--token-file", control, "--dry-run"}, exitUsage, "the token would go to another machine without TLS"},
		"drill, in clear":               {[]string{"drill", "failover", "--yes", "--master", "m", "--sentinel", "127.0.0.1:1", "--admin", "gateway-1.invalid:9180", "--control-token-file", control}, exitUsage, "the token would go to another machine without TLS"},
		"healthcheck, its own settings": {[]string{"healthcheck", "--config", file}, exitOK, "ok"},
		"healthcheck, no token":         {[]string{"healthcheck", "--admin", s.admin, "--admin-ca-file", s.files.CA}, exitVerdict, "401 Unauthorized"},
		"healthcheck, probes":           {[]string{"healthcheck", "--admin", "off", "--admin-probes", s.probes}, exitOK, "ok"},
		"check":                         {[]string{"check", "--config", file}, -1, "a sidecar with these masters runs here"},
		"switchover, an authority":      {[]string{"switchover", "--admin", s.admin, "--token-file", control, "--admin-ca-file", s.files.CA, "--dry-run"}, exitOK, "ready: nothing is in the way"},
		"switchover, its certificate":   {[]string{"switchover", "--admin", s.admin, "--token-file", control, "--admin-tls-cert-file", s.files.Cert, "--dry-run"}, exitOK, "ready: nothing is in the way"},
		"switchover, the admin token":   {[]string{"switchover", "--admin", s.admin, "--token-file", s.tokenFile, "--admin-ca-file", s.files.CA, "--dry-run"}, exitEnvironment, "not the control token"},
		"switchover, another authority": {[]string{"switchover", "--admin", s.admin, "--token-file", control, "--admin-ca-file", wrong.CA, "--dry-run"}, exitEnvironment, "can't be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			var out buffer
			code := run(t.Context(), tt.args, &out, &out)
			if tt.code >= 0 && code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("exit code %d, %s; want %d and %q", code, out.String(), tt.code, tt.want)
			}
			for _, secret := range []string{s.token, "the token of orders"} {
				if strings.Contains(out.String(), secret) || strings.Contains(s.log.String(), secret) {
					t.Error("a token is told")
				}
			}
		})
	}

	// A drill finds the sidecar's state, and tells it of itself.
	_, text, code := fairly(t, g.WatchStrain(t), 0, func() (drill.Report, string, int) {
		master = stable(t, g)
		return drillNow(t, "drill", "failover", "--config", file, "--yes", "--times", "1", "--slo", "max-pause=any,max-lost=any")
	})
	if code != exitOK || strings.Contains(text, "could not be told") {
		t.Errorf("drill: exit code %d, %s", code, text)
	}
	if body := s.page(t, "/api/v1/events?limit=1000"); !strings.Contains(body, "DrillBegun") || !strings.Contains(body, "DrillEnded") {
		t.Errorf("the sidecar was not told of the drill")
	}
	if now := stable(t, g); now == master {
		t.Error("the drill has moved nothing")
	}
}
