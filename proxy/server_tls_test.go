package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// transport is the TLS that a test runs over, with clients and with Redis.
type transport struct {
	driver         evloop.Driver
	files          certtest.Files
	server, client *tls.Config
}

// testTransport is what startServer uses; nil: plain. Tests of this package do not
// run in parallel.
var testTransport *transport

// Client implements NodeTLS.
func (tr *transport) Client(string) *tls.Config { return tr.client }

// Explain implements NodeTLS.
func (*transport) Explain(_ context.Context, _ string, err error) error {
	if err != nil {
		return fmt.Errorf("explained: %w", err)
	}
	return nil
}

func newTransport(tb testing.TB, version uint16, d evloop.Driver) *transport {
	tb.Helper()
	ca := certtest.MustCA(tb)
	pair := ca.MustIssue(tb, certtest.Leaf{})
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	return &transport{
		driver: d, files: certtest.MustWrite(tb, "", ca, pair),
		server: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		client: &tls.Config{
			Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: "127.0.0.1",
			MinVersion: version, MaxVersion: version,
		},
	}
}

// nodeTLS is for the Redis of a test.
func nodeTLS(testing.TB) *redistest.TLS {
	if testTransport == nil {
		return nil
	}
	f := testTransport.files
	return &redistest.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key, AuthClients: true}
}

func useTransport(tb testing.TB, version uint16, d evloop.Driver) *transport {
	tb.Helper()
	testTransport = newTransport(tb, version, d)
	tb.Cleanup(func() { testTransport = nil })
	return testTransport
}

// What holds for plain connections holds over TLS, with clients and with Redis.
func TestServerOverTLS(t *testing.T) {
	for name, tt := range map[string]struct {
		version uint16
		driver  evloop.Driver
	}{
		"1.3":          {tls.VersionTLS13, evloop.DriverDefault},
		"1.2":          {tls.VersionTLS12, evloop.DriverDefault},
		"1.3 portable": {tls.VersionTLS13, evloop.DriverPortable},
	} {
		t.Run(name, func(t *testing.T) {
			useTransport(t, tt.version, tt.driver)
			for name, test := range map[string]func(*testing.T){
				"long pipeline": TestLongPipelineIsSentBeforeTheFirstRead,
				"a million":     TestMillionCommandsBeforeTheFirstRead,
				"large values":  TestLargeValues,
				"half closed":   TestHalfClosedClientGetsItsReplies,
				"many clients":  TestManyClients,
				"drain":         TestDrain,
				"drain timeout": TestDrainTimeoutEndsTheRest,
				"never reads":   TestMemoryOfAClientThatNeverReads,
				"logins":        TestPassthroughLogin,
				"own account":   TestOwnAccount,
				"hold":          TestHoldKeepsClientsWaiting,
			} {
				if name == "a million" && (tt.version != tls.VersionTLS13 || tt.driver != evloop.DriverDefault) {
					continue // they take long, and differ in nothing that the long pipeline has not
				}
				t.Run(name, test)
			}
		})
	}
}

// Clients that do not finish their handshakes take places of max-clients, keep
// nobody else out, and are left when their time is over.
func TestSlowAndGarbageHandshakes(t *testing.T) {
	const handshakes = 5 * time.Second // longer than a busy machine needs for one
	useTransport(t, tls.VersionTLS13, evloop.DriverDefault)
	log := new(syncBuffer)
	r := startServer(t, redistest.Single(t, redistest.Options{}), func(o *Options) {
		o.MaxClients, o.HandshakeTimeout, o.DrainTimeout = 50, handshakes, time.Minute
		o.NodeTLS = nil
		o.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	var silent []*raw
	for range 40 {
		silent = append(silent, dialRaw(t, "tcp", r.addr))
	}
	for _, garbage := range []string{"\x00\x01\x02\x03\x04\x05", "\x16\x03\x01\x00\x05hello"} {
		c := dialRaw(t, "tcp", r.addr)
		c.send(garbage)
		_, _ = io.Copy(io.Discard, c) // an alert, perhaps
	}
	for range 20 {
		c := r.raw()
		c.send("PING\r\n")
		c.expect("+PONG\r\n")
		_ = c.Close()
	}
	for _, c := range silent {
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("a silent client read %d bytes, %v; want it closed", n, err)
		}
	}
	r.waitClients(0)
	eventually(t, "no handshake under way", func() (bool, string) {
		n := r.server.clients.Load()
		return n == 0, fmt.Sprint(n)
	})
	if got := r.server.shakes.done[shakeTimeout].Load(); got != 40 {
		t.Errorf("%d handshakes timed out; want 40", got)
	}
	if n := strings.Count(log.String(), "did not finish its tls handshake"); n != 1 {
		t.Errorf("%d lines about them; want 1", n)
	}
}

// Past max-clients a handshake is not even begun, and a drain waits for none of
// those under way. No handshake times out meanwhile.
func TestFullOfHandshakes(t *testing.T) {
	tr := useTransport(t, tls.VersionTLS13, evloop.DriverDefault)
	r := startServer(t, redistest.Single(t, redistest.Options{}), func(o *Options) {
		o.MaxClients, o.HandshakeTimeout, o.DrainTimeout = 50, time.Hour, time.Hour
		o.NodeTLS = nil
	})
	for range 50 {
		dialRaw(t, "tcp", r.addr)
	}
	eventually(t, "a full server", func() (bool, string) {
		n := r.server.clients.Load()
		return n == 50, fmt.Sprint(n)
	})
	c := dialRaw(t, "tcp", r.addr)
	if err := tls.Client(c.Conn, tr.client).HandshakeContext(t.Context()); err == nil {
		t.Error("a client too many was let in")
	}
	if n := r.server.refusedTLS.Load(); n != 1 {
		t.Errorf("%d refused; want 1", n)
	}
	if err := r.stop(); err != nil { // it gives up after testWait
		t.Errorf("the drain waited for handshakes: %v", err)
	}
}

// A master whose certificate is no good is told in the reason for not being ready.
func TestMasterWithAnotherAuthority(t *testing.T) {
	theirs := newTransport(t, tls.VersionTLS13, evloop.DriverDefault)
	useTransport(t, tls.VersionTLS13, evloop.DriverDefault)
	f := theirs.files
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: &redistest.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key}}))
	r.raw().send("PING\r\n")
	eventually(t, "the reason", func() (bool, string) {
		ok, why := r.server.Ready()
		return !ok && strings.Contains(why, "explained: ") && strings.Contains(why, "signed by unknown authority"), why
	})
}

// A master that wants a certificate says so only after the handshake.
func TestMasterThatWantsACertificate(t *testing.T) {
	tr := useTransport(t, tls.VersionTLS13, evloop.DriverDefault)
	node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
	client := tr.client.Clone()
	tr.client = client.Clone()
	tr.client.Certificates = nil
	tr.server.ClientAuth = tls.NoClientCert
	r := startServer(t, node)
	r.raw().send("PING\r\n")
	eventually(t, "the reason", func() (bool, string) {
		ok, why := r.server.Ready()
		return !ok && strings.Contains(why, "explained: ") && strings.Contains(why, "certificate required"), why
	})
}

// syncBuffer is an io.Writer that several goroutines may use.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestTLSListenerNeedsAConfiguration(t *testing.T) {
	if _, err := New(Options{Group: "orders", TLSListeners: []net.Listener{nil}}); err == nil {
		t.Error("no error")
	}
}

func TestSometimes(t *testing.T) {
	var s sometimes
	for i, want := range []bool{true, false, false} {
		if _, ok := s.now(); ok != want {
			t.Errorf("call %d: %v", i, ok)
		}
	}
	s.last = s.last.Add(-warnEvery)
	if n, ok := s.now(); !ok || n != 2 {
		t.Errorf("after a while: %d, %v; want 2 that were not logged", n, ok)
	}
}
