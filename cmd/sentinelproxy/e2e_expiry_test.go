//go:build unix

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// The listener's certificate ends while a client is connected: the webhook is told, once, and
// the client goes on, while nobody new gets in who looks at the date.
func TestCertificateExpiresUnderAConnection(t *testing.T) {
	g := redistest.New(t, redistest.Options{DownAfter: calm})
	hook := newHookServer(t)
	ca := certtest.MustCA(t)
	secure := freeAddr(t)
	const life = 20 * time.Second // longer than a busy machine needs for a start and a handshake
	end := time.Now().Add(life).Truncate(time.Second)
	f := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{Name: "listener", NotAfter: end}))
	file := filepath.Join(t.TempDir(), "sentinelproxy.yaml")
	checkAfter := func(seconds int) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, "certificates: {check_cooldown_seconds: %d}\n", seconds), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checkAfter(1)
	r := startRun(t, g, hook.args(t, "--config", file, "--listen", "tls://"+secure, "--tls-cert-file", f.Cert, "--tls-key-file", f.Key,
		"--webhook-events", "CertificateExpiringSoon,CertificateExpired")...)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}}
	c, err := d.DialContext(t.Context(), "tcp", secure)
	if err != nil {
		t.Fatalf("a client before the end: %v", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	replies := bufio.NewReader(c)
	ping := func() {
		t.Helper()
		if _, err := io.WriteString(c, "PING\r\n"); err != nil {
			t.Fatalf("PING: %v", err)
		}
		if line, err := replies.ReadString('\n'); line != "+PONG\r\n" {
			t.Fatalf("PING: %q, %v", line, err)
		}
	}
	ping()
	waitFor(t, "the webhook that it ends soon", func() bool { return len(hook.of("CertificateExpiringSoon", "cert_role", "server")) > 0 })
	if n := len(hook.of("CertificateExpired", "", nil)); n > 0 {
		t.Errorf("%d certificates are called expired before the end", n)
	}

	waitFor(t, "the end", func() bool { ping(); return time.Now().After(end) })
	// Dates are looked at once a minute; a setting of theirs that changes has them looked at now.
	checkAfter(2)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the webhook that it has ended", func() bool { return len(hook.of("CertificateExpired", "", nil)) > 0 })
	ping()
	list := hook.of("CertificateExpired", "", nil)
	if e := list[0]; len(list) != 1 || e["cert_role"] != "server" || e["days_since_expiry"] != 0.0 || e["cert_name"] != "listener" ||
		e["severity"] != "critical" || e["master_name"] != g.Name() {
		t.Errorf("told %v; want the listener's certificate, once, and no day ago", list)
	}
	if at, err := time.Parse(time.RFC3339, fmt.Sprint(list[0]["expires_at"])); err != nil || !at.Equal(end) {
		t.Errorf("expires_at %v; want %v", list[0]["expires_at"], end)
	}
	if v := metric(t, r.admin, fmt.Sprintf(`sentinelproxy_certificate_expired{cert_role="server",master_name=%q,source=%q}`, g.Name(), f.Cert)); v != 1 {
		t.Errorf("certificate_expired is %v; want 1", v)
	}
	if late, err := d.DialContext(t.Context(), "tcp", secure); err == nil {
		_ = late.Close()
		t.Error("a client that comes after the end, and looks at it, is let in")
	} else if !strings.Contains(err.Error(), "expired") {
		t.Errorf("a client that comes after the end: %v; want that it has expired", err)
	}
	ping()
}
