package evloop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// tlsConfigs makes a server's certificate and the configurations of both ends.
func tlsConfigs(tb testing.TB, version uint16) (server, client *tls.Config) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   version, MaxVersion: version,
	}
	client = &tls.Config{
		RootCAs: pool, ServerName: "127.0.0.1",
		MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	return server, client
}

func eachTLS(t *testing.T, test func(t *testing.T, version uint16, d Driver)) {
	t.Helper()
	for driver, d := range drivers() {
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(driver+" "+tls.VersionName(v), func(t *testing.T) { test(t, v, d) })
		}
	}
}

// serveTLS accepts on the loop, does the handshakes in goroutines, and gives the
// connections back to the loop.
func (r *rig) serveTLS(cfg *tls.Config, setup func(h *handler)) net.Addr {
	r.tb.Helper()
	ln, err := new(net.ListenConfig).Listen(r.tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.tb.Fatal(err)
	}
	var shaking sync.WaitGroup
	r.tb.Cleanup(shaking.Wait)
	ctx := r.tb.Context()
	r.do(func() {
		err = r.Listen(ln, func(s Socket) { shaking.Go(func() { r.shake(ctx, s, cfg, setup) }) })
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	return ln.Addr()
}

func (r *rig) shake(ctx context.Context, s Socket, cfg *tls.Config, setup func(h *handler)) {
	nc, err := s.NetConn()
	if err != nil {
		r.tb.Error(err)
		return
	}
	conn, err := ServerTLS(ctx, nc, cfg, r.driver, nil)
	if err != nil {
		r.tb.Error(err)
		return
	}
	if err := r.Post(func() { r.addTLS(conn, setup) }); err != nil {
		conn.Close()
	}
}

func (r *rig) addTLS(conn *TLS, setup func(h *handler)) *handler {
	h := &handler{tb: r.tb}
	if _, err := r.AddTLS(conn, func(c *Conn) Handler {
		h.c = c
		setup(h)
		return h
	}); err != nil {
		r.tb.Errorf("AddTLS: %v", err)
	}
	return h
}

func TestTLSEcho(t *testing.T) {
	eachTLS(t, func(t *testing.T, version uint16, d Driver) {
		t.Helper()
		server, client := tlsConfigs(t, version)
		r := newRig(t, d)
		addr := r.serveTLS(server, echo)
		for i := range 5 { // from the second on with a session ticket
			tc := tls.Client(dial(t, addr), client)
			for j := range 20 {
				msg := fmt.Appendf(nil, "message %d of %d", j, i)
				mustWrite(t, tc, msg)
				mustRead(t, tc, msg)
			}
			if got := tc.ConnectionState().DidResume; got != (i > 0) {
				t.Errorf("connection %d: resumed = %v", i, got)
			}
			large := pattern(4 << 20)
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = tc.Write(large) })
			mustRead(t, tc, large)
			wg.Wait()
			_ = tc.Close()
		}
		r.until("all closed", func() bool { return r.Len() == 0 })
	})
}

func TestTLSRooms(t *testing.T) {
	eachTLS(t, func(t *testing.T, version uint16, d Driver) {
		t.Helper()
		server, client := tlsConfigs(t, version)
		r := newRig(t, d)
		tc := tls.Client(dial(t, r.serveTLS(server, echoRooms)), client)
		big := pattern(3 << 20)
		go func() { _, _ = tc.Write(big) }()
		mustRead(t, tc, big)
		_ = tc.Close()
	})
}

func TestTLSHalfClose(t *testing.T) {
	eachTLS(t, func(t *testing.T, version uint16, d Driver) {
		t.Helper()
		server, client := tlsConfigs(t, version)
		r := newRig(t, d)
		answer := pattern(2 << 20)
		var h *handler
		addr := r.serveTLS(server, func(conn *handler) {
			h = conn
			h.onEOF = func() {
				h.say(answer[:10], answer[10:])
				h.c.CloseFlushed()
			}
		})
		tc := tls.Client(dial(t, addr), client)
		mustWrite(t, tc, []byte("question"))
		if err := tc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		mustRead(t, tc, answer)
		mustEOF(t, tc)
		r.until("Closed", func() bool { return h.closeds == 1 })
		r.do(func() {
			if h.eofs != 1 || string(h.received) != "question" || h.err != nil {
				t.Errorf("%d EOFs, received %q, closed with %v", h.eofs, h.received, h.err)
			}
		})
	})
}

// TestTLSClient has the client's end on the loop: with TLS 1.3 the session
// tickets come after the handshake.
func TestTLSClient(t *testing.T) {
	eachTLS(t, func(t *testing.T, version uint16, d Driver) {
		t.Helper()
		server, client := tlsConfigs(t, version)
		r := newRig(t, d)
		ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		for i := range 3 {
			var served sync.WaitGroup
			served.Go(func() {
				nc, err := ln.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(nc, nc)
				_ = nc.Close()
			})
			conn, err := ClientTLS(t.Context(), dial(t, ln.Addr()), client, d)
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.State().DidResume; got != (i > 0) {
				t.Errorf("connection %d: resumed = %v", i, got)
			}
			want := pattern(1 << 20)
			var h *handler
			r.do(func() {
				h = r.addTLS(conn, func(h *handler) { h.say(want[:5], want[5:]) })
			})
			r.until("the echo", func() bool { return len(h.received) == len(want) })
			r.do(func() {
				if !bytes.Equal(h.received, want) {
					t.Error("received something else")
				}
				h.c.CloseFlushed()
			})
			served.Wait()
		}
	})
}

// holdback is a net.Conn that can keep what is written, to send it together with
// what comes next.
type holdback struct {
	net.Conn

	hold bool
	b    []byte
}

func (h *holdback) Write(b []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(b)
	}
	h.b = append(h.b, b...)
	return len(b), nil
}

// TestTLSOverread sends the end of the handshake and the first data in one
// segment, so that the handshake's goroutine reads both.
func TestTLSOverread(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			server, client := tlsConfigs(t, tls.VersionTLS13)
			r := newRig(t, d)
			addr := r.serveTLS(server, echo)
			nc := &holdback{Conn: dial(t, addr)}
			helloSent := false
			client.VerifyConnection = func(tls.ConnectionState) error { // before our Finished
				helloSent, nc.hold = true, true
				return nil
			}
			tc := tls.Client(nc, client)
			if err := tc.HandshakeContext(t.Context()); err != nil || !helloSent {
				t.Fatal(err)
			}
			mustWrite(t, tc, []byte("early"))
			mustWrite(t, nc.Conn, nc.b)
			nc.hold = false
			mustRead(t, tc, []byte("early"))
			mustWrite(t, tc, []byte("late"))
			mustRead(t, tc, []byte("late"))
		})
	}
}

func TestTLSHandshakeFails(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			before := openFiles(t)
			ours, theirs := socketPair(t)
			mustWrite(t, theirs, []byte("PING\r\n"))
			server, _ := tlsConfigs(t, tls.VersionTLS13)
			_, err := ServerTLS(t.Context(), ours, server, d, nil)
			if r, ok := errors.AsType[tls.RecordHeaderError](err); !ok || r.Conn == nil || r.RecordHeader[0] != 'P' {
				t.Fatalf("%v; want the peer's first bytes", err)
			}
			_, _ = ours.Write([]byte("sorry")) // it is still open
			_ = ours.Close()
			_, _ = io.Copy(io.Discard, theirs)
			_ = theirs.Close()
			if now := openFiles(t); now > before {
				t.Errorf("%d descriptors are open; there were %d", now, before)
			}
		})
	}
}

// A peer that says nothing is left when the context ends, and holds no place in
// the gate meanwhile.
func TestTLSHandshakeEndsWithItsContext(t *testing.T) {
	server, client := tlsConfigs(t, tls.VersionTLS13)
	gate := make(Gate, 1)
	silent, theirs := socketPair(t)
	defer theirs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := ServerTLS(ctx, silent, server, DriverPortable, gate)
		ended <- err
	}()
	ours, other := socketPair(t)
	go func() { _ = tls.Client(other, client).HandshakeContext(ctx) }()
	conn, err := ServerTLS(ctx, ours, server, DriverPortable, gate)
	if err != nil {
		t.Fatalf("beside a silent peer: %v", err)
	}
	conn.Close()
	_ = other.Close()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v; want the context's end", err)
	}
	if n, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes; want the connection closed", n)
	}
}

// socketPair returns both ends of a TCP connection.
func socketPair(tb testing.TB) (ours, theirs net.Conn) {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	theirs = dial(tb, ln.Addr())
	ours, err = ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ours.Close() })
	return ours, theirs
}

// tlsPair is a tlsHandler and its peer after the handshake, with no network
// between them: the test carries the ciphertext.
type tlsPair struct {
	h     *tlsHandler
	inner *handler
	peer  *tls.Conn
	wire  *tlsWire // the peer's
	keys  *strings.Builder
}

func newTLSPair(t *testing.T, version uint16) *tlsPair {
	t.Helper()
	server, client := tlsConfigs(t, version)
	server.SessionTicketsDisabled = true
	p := &tlsPair{keys: &strings.Builder{}}
	client.KeyLogWriter = p.keys
	ours, theirs := socketPair(t)
	wire := &tlsWire{nc: ours}
	tc := tls.Server(wire, server)
	p.wire = &tlsWire{nc: theirs}
	p.peer = tls.Client(p.wire, client)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := tc.HandshakeContext(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := p.peer.HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	wire.nc, p.wire.nc = nil, nil

	l, err := New(Options{Driver: DriverPortable})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = socketPair(t) // nothing is sent over it
	_ = theirs
	t.Cleanup(func() {
		l.reap()
		l.Close()
	})
	sock, err := Detach(ours, DriverPortable)
	if err != nil {
		t.Fatal(err)
	}
	p.inner = &handler{tb: t}
	c, err := l.Add(sock, func(c *Conn) Handler {
		p.inner.c = c
		p.h = &tlsHandler{c: c, inner: p.inner, tc: tc, wire: wire}
		return p.h
	})
	if err != nil || c == nil {
		t.Fatal(err)
	}
	return p
}

// say returns what the peer sends to say b.
func (p *tlsPair) say(t *testing.T, b []byte) []byte {
	t.Helper()
	p.wire.out = nil
	mustWrite(t, p.peer, b)
	return p.wire.out
}

// output takes n bytes at a time of what the handler has to say.
func (p *tlsPair) output(n int) (all []byte) {
	for {
		bufs := p.h.Output(nil)
		if len(bufs) == 0 {
			return all
		}
		k := min(n, len(bufs[0]))
		all = append(all, bufs[0][:k]...)
		p.h.Wrote(k)
	}
}

// TestTLSSplit feeds ciphertext in pieces of every size, and takes it in pieces.
func TestTLSSplit(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			p := newTLSPair(t, version)
			var want []byte
			for _, size := range []int{1, 2, 3, 5, 6, 7, 21, 22, 23, 100, 1 << 14, 1<<14 + 1, 70000} {
				msg := pattern(size)
				for _, step := range []int{1, 2, 3, 7, 1000, 1 << 14, 1 << 16} {
					if step < size/1000 {
						continue // the same again and again
					}
					want = append(want, msg...)
					for c := p.say(t, msg); len(c) > 0; {
						n := min(step, len(c))
						p.h.Data(c[:n])
						c = c[n:]
					}
					if !bytes.Equal(p.inner.received, want) {
						t.Fatalf("size %d, step %d: received %d bytes, want %d", size, step, len(p.inner.received), len(want))
					}
					p.inner.say(msg[:size/2], nil, msg[size/2:])
					p.wire.in = p.output(step)
					mustRead(t, p.peer, msg)
				}
			}
		})
	}
}

// TestTLSPause has the inner handler pause at its first byte: what is already
// opened waits, in order, until it resumes.
func TestTLSPause(t *testing.T) {
	p := newTLSPair(t, tls.VersionTLS13)
	want := pattern(60 << 10)
	p.inner.onData = func(b []byte) {
		p.inner.received = append(p.inner.received, b...)
		p.inner.c.Pause()
	}
	cipher := p.say(t, want)
	p.h.Data(cipher[:len(cipher)/2])
	got := len(p.inner.received)
	if got == 0 || got == len(want) {
		t.Fatalf("received %d bytes before the pause", got)
	}
	p.h.Data(cipher[len(cipher)/2:]) // a driver does not do this
	if len(p.inner.received) != got {
		t.Error("Data while paused")
	}
	p.inner.onData = nil
	p.inner.c.Resume()
	if err := p.inner.c.loop.turn(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.inner.received, want) {
		t.Errorf("received %d bytes after the resume; want %d", len(p.inner.received), len(want))
	}
	if p.h.held != nil {
		t.Error("still holds bytes")
	}
	p.inner.onEOF = func() {}
	p.inner.c.Pause()
	p.h.Data(p.say(t, []byte("unheard")))
	p.h.EOF()
	p.h.EOF()
	if p.inner.eofs != 1 {
		t.Errorf("%d EOFs; want 1", p.inner.eofs)
	}
}

func TestTLSBroken(t *testing.T) {
	p := newTLSPair(t, tls.VersionTLS13)
	cipher := p.say(t, []byte("hello"))
	cipher[len(cipher)-1] ^= 1
	p.h.Data(cipher)
	if !p.inner.c.Closed() || p.inner.c.err == nil || p.inner.reads != 0 {
		t.Errorf("a forged record: closed %v, with %v, %d reads", p.inner.c.Closed(), p.inner.c.err, p.inner.reads)
	}

	p = newTLSPair(t, tls.VersionTLS13)
	p.inner.onEOF = func() {}
	p.h.Data(p.say(t, []byte("hello"))[:7]) // cut off
	p.h.EOF()
	if p.inner.eofs != 1 || p.inner.reads != 0 {
		t.Errorf("a cut record: %d EOFs, %d reads; want 1, 0", p.inner.eofs, p.inner.reads)
	}
	if errors.Is(p.inner.c.err, errTLSAgain) {
		t.Error("the temporary error came out")
	}
}

// A peer that takes nothing of the handshake holds no place in the gate either.
func TestTLSHandshakeWaitsForTheKernelOutsideTheGate(t *testing.T) {
	server, client := tlsConfigs(t, tls.VersionTLS13)
	gate := make(Gate, 1)
	stuck, theirs := net.Pipe() // whose Write waits for a reader
	defer theirs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := ServerTLS(ctx, stuck, server, DriverPortable, gate)
		ended <- err
	}()
	said := make(chan error, 1)
	go func() { // its hello, and no ear for the answer
		said <- tls.Client(&deaf{theirs}, client).HandshakeContext(ctx)
	}()
	if err := <-said; err == nil {
		t.Fatal("a deaf peer has finished its handshake")
	}
	ours, other := socketPair(t)
	go func() { _ = tls.Client(other, client).HandshakeContext(ctx) }()
	conn, err := ServerTLS(ctx, ours, server, DriverPortable, gate)
	if err != nil {
		t.Fatalf("beside a peer that reads nothing: %v", err)
	}
	conn.Close()
	_ = other.Close()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v; want the context's end", err)
	}
}

// A peer that does not speak TLS can be told so, by a caller that is in no gate.
func TestTLSPlainPeerIsToldOutsideTheGate(t *testing.T) {
	server, _ := tlsConfigs(t, tls.VersionTLS13)
	ours, theirs := socketPair(t)
	_, _ = io.WriteString(theirs, "*1\r\n$4\r\nPING\r\n")
	_, err := ServerTLS(t.Context(), ours, server, DriverPortable, make(Gate, 1))
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || record.Conn == nil {
		t.Fatalf("got %v; want a record header error with its connection", err)
	}
	told := make(chan error, 1)
	go func() {
		_, err := io.WriteString(record.Conn, "no TLS")
		_ = record.Conn.Close()
		told <- err
	}()
	_ = theirs.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(theirs); err != nil || string(b) != "no TLS" {
		t.Fatalf("the peer reads %q (%v)", b, err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
}

// deaf is a connection that is never read.
type deaf struct{ net.Conn }

func (*deaf) Read([]byte) (int, error) { return 0, errors.New("deaf") }

func (*deaf) Close() error { return nil }
