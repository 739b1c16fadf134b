package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// tlsRun is a sidecar with a plain and a TLS listener, before a group that speaks
// TLS alone and wants certificates, as the listener does.
type tlsRun struct {
	*started

	group  *redistest.Group
	ca     *certtest.CA
	dir    string // of the sidecar's files, which every leg uses
	secure string // where the TLS listener is
	client *tls.Config
}

func startTLSRun(tb testing.TB, downAfter time.Duration, more ...string) *tlsRun {
	tb.Helper()
	ca := certtest.MustCA(tb)
	f := certtest.MustWrite(tb, "", ca, ca.MustIssue(tb, certtest.Leaf{Name: "node"}))
	r := &tlsRun{ca: ca, dir: tb.TempDir(), secure: freeAddr(tb)}
	own := certtest.MustWrite(tb, r.dir, ca, ca.MustIssue(tb, certtest.Leaf{Name: "first"}))
	r.group = redistest.New(tb, redistest.Options{
		DownAfter: downAfter,
		TLS:       &redistest.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key, AuthClients: true},
	})
	args := []string{"--listen", "tls://" + r.secure, "--tls-client-ca-file", own.CA, "--tls-cert-file", own.Cert, "--tls-key-file", own.Key}
	for _, leg := range []string{"--redis-tls", "--sentinel-tls"} {
		args = append(args, leg, "true", leg+"-ca-file", own.CA, leg+"-cert-file", own.Cert, leg+"-key-file", own.Key)
	}
	r.started = startRun(tb, r.group, append(args, more...)...)
	pair := ca.MustIssue(tb, certtest.Leaf{Name: "client"})
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	r.client = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert}}
	return r
}

// shownName returns the name in the certificate that the listener shows.
func (r *tlsRun) shownName(tb testing.TB) string {
	tb.Helper()
	d := tls.Dialer{Config: r.client}
	c, err := d.DialContext(tb.Context(), "tcp", r.secure)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName //nolint:forcetypeassert // as tls.Dialer says
}

// TLS on all legs, mutual: a planned failover is a pause, and a certificate is
// changed under load, without one connection lost.
func TestTLSEverywhere(t *testing.T) {
	r := startTLSRun(t, calm, patiently()...)
	strain := r.group.WatchStrain(t)
	old := stable(t, r.group)
	w := startWritersAs(t, r.secure, plainClients, func(w *writer) { w.tls = r.client })
	pause(t, 500*time.Millisecond)

	if got := r.shownName(t); got != "first" {
		t.Errorf("the listener shows %q", got)
	}
	certtest.MustWrite(t, r.dir, r.ca, r.ca.MustIssue(t, certtest.Leaf{Name: "second"}))
	waitFor(t, "the new certificate", func() bool { return r.shownName(t) == "second" })

	watch := watchMajority(t, r.group, old)
	f := failOver(t, r.group, watch)
	watch.end()
	master := stable(t, r.group)
	if master == old {
		t.Error("no failover happened")
	}
	pause(t, 500*time.Millisecond)
	w.unharmed(t, master, strain, f)

	// Clients that mix up the ports.
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.secure)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "*1\r\n$4\r\nPING\r\n")
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "-ERR this port speaks TLS only") {
		t.Errorf("a plain client on the tls port reads %q", b)
	}
	p, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(p, r.client).HandshakeContext(t.Context()); err == nil {
		t.Error("a handshake on the plain port went well")
	}
	_ = p.Close()
	for _, want := range []string{
		`msg="a client spoke plain redis on a tls port" `, `client=` + c.LocalAddr().String(),
		`msg="a client began a tls handshake on a port without tls" `, `client=` + p.LocalAddr().String(),
		`msg="tls files reloaded" leg=clients master_name=mymaster`, "leg=redis", "leg=sentinels",
	} {
		waitFor(t, want, func() bool { return strings.Contains(r.log.String(), want) })
	}
	_, metrics := get(t, addrOf(r.admin), "/metrics")
	for _, want := range []string{
		`sentinelproxy_certificate_expiry_timestamp_seconds{file="cert",leg="clients",master_name="mymaster"} `,
		`sentinelproxy_tls_reloads_total{leg="redis",master_name="mymaster",result="ok"} `,
		`sentinelproxy_tls_handshakes_total{master_name="mymaster",result="plain"} 1`,
		`sentinelproxy_client_protocol_errors_total{master_name="mymaster",reason="tls"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}

	// The plain listener beside it, and a client without a certificate.
	plain := redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1, ReadTimeout: patience})
	defer plain.Close()
	if err := plain.Set(t.Context(), "plain", 1, 0).Err(); err != nil {
		t.Errorf("the plain listener: %v", err)
	}
	anonymous := r.client.Clone()
	anonymous.Certificates = nil
	stranger := redis.NewClient(&redis.Options{Addr: r.secure, TLSConfig: anonymous, MaxRetries: -1, DialerRetries: 1, ReadTimeout: patience})
	defer stranger.Close()
	if err := stranger.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a client without a certificate: %v; want it refused", err)
	}
}

// Crashes, hangs and following fast are over TLS what they are without.
func TestTLSCrashAndHang(t *testing.T) {
	for name, tt := range map[string]struct {
		stop, back func(*redistest.Node) error
		more       []string
	}{
		"hangs": {(*redistest.Node).Pause, (*redistest.Node).Resume, nil},
		"killed, follow fast": {
			(*redistest.Node).Kill, func(n *redistest.Node) error { return n.Restart(t.Context()) },
			[]string{"--follow", "fast", "--fence-demote", "auto"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := startTLSRun(t, 2*time.Second, patiently(tt.more...)...)
			strain := r.group.WatchStrain(t)
			w := startWritersAs(t, r.secure, plainClients, func(w *writer) { w.tls = r.client })
			old := stable(t, r.group)
			watch := watchMajority(t, r.group, old)
			pause(t, 500*time.Millisecond)
			if err := tt.stop(old); err != nil {
				t.Fatal(err)
			}
			pause(t, 4*time.Second)
			watch.named(t)
			if err := tt.back(old); err != nil {
				t.Fatal(err)
			}
			majority, _ := watch.result(t)
			master := stable(t, r.group)
			w.finish()
			resumed := w.checkCrash(t, r.group, strain, watch, master, old)
			if tt.more == nil { // else it does not wait for one
				notBefore(t, strain, resumed, majority)
			}
		})
	}
}

// A group that speaks TLS, and a sidecar that does not know: the log says what to
// set.
func TestPlainSidecarBeforeTLS(t *testing.T) {
	ca := certtest.MustCA(t)
	f := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{}))
	g := redistest.New(t, redistest.Options{Replicas: 1, TLS: &redistest.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key}})
	for want, more := range map[string][]string{
		"sentinel.tls.enabled is needed": nil,
		"redis.tls.enabled is needed":    {"--sentinel-tls", "true", "--sentinel-tls-ca-file", f.CA},
	} {
		log, admin := new(buffer), freeAddr(t)
		args := []string{"run", "--listen", freeAddr(t), "--admin", admin, "--master", g.Name(), "--drain-timeout", "1ms"}
		for _, a := range g.SentinelAddrs() {
			args = append(args, "--sentinel", string(a))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() { ended <- run(ctx, append(args, more...), log, log) }()
		waitFor(t, want, func() bool { return strings.Contains(log.String(), want) })
		code, body := get(t, addrOf(admin), "/readyz")
		t.Logf("/readyz: %d %s", code, body)
		cancel()
		<-ended
	}
}

// A broken file changes nothing but the log and a counter.
func TestTLSReloadOfABrokenFile(t *testing.T) {
	r := startTLSRun(t, calm)
	broken := r.ca.MustIssue(t, certtest.Leaf{Name: "second"})
	broken.Key = []byte("gone")
	certtest.MustWrite(t, r.dir, r.ca, broken)
	const want = "changed tls files not loaded, the old ones stay in use"
	waitFor(t, want, func() bool { return strings.Contains(r.log.String(), want) })
	if got := r.shownName(t); got != "first" {
		t.Errorf("the listener shows %q", got)
	}
}
