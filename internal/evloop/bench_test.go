package evloop

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// echoer answers what it hears without allocating: its buffer is reused once all
// of it is written.
type echoer struct {
	c    *Conn
	out  []byte
	sent int
}

func newEchoer(c *Conn) Handler { return &echoer{c: c} }

func (e *echoer) Data(b []byte) {
	e.out = append(e.out, b...)
	e.c.Flush()
}

func (e *echoer) EOF() { e.c.Close() }

func (e *echoer) Output(bufs [][]byte) [][]byte {
	if e.sent == len(e.out) {
		return bufs
	}
	return append(bufs, e.out[e.sent:])
}

func (e *echoer) Wrote(n int) {
	if e.sent += n; e.sent == len(e.out) {
		e.out, e.sent = e.out[:0], 0
	}
}

func (*echoer) Closed(error) {}

// echoLoop runs a loop of echoers until the benchmark or test ends.
func echoLoop(tb testing.TB, d Driver, network string) net.Addr {
	tb.Helper()
	l, err := New(Options{Driver: d})
	if err != nil {
		tb.Fatal(err)
	}
	addr := "127.0.0.1:0"
	if network == networkUnix {
		addr = filepath.Join(shortDir(tb), "s")
	}
	ln, err := new(net.ListenConfig).Listen(tb.Context(), network, addr)
	if err != nil {
		tb.Fatal(err)
	}
	err = l.Listen(ln, func(s Socket) {
		if _, err := l.Add(s, newEchoer); err != nil {
			tb.Error(err)
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	runLoop(tb, l)
	return ln.Addr()
}

func runLoop(tb testing.TB, l *Loop) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

func roundTrip(tb testing.TB, rw io.ReadWriter, msg, buf []byte) {
	tb.Helper()
	if _, err := rw.Write(msg); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(rw, buf[:len(msg)]); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkEcho is one client's round trip of 64 bytes, the client included.
func BenchmarkEcho(b *testing.B) {
	for driver, d := range drivers() {
		for _, network := range []string{"tcp", networkUnix} {
			b.Run(driver+"/"+network, func(b *testing.B) {
				nc := dial(b, echoLoop(b, d, network))
				msg, buf := pattern(64), make([]byte, 64)
				b.ReportAllocs()
				for b.Loop() {
					roundTrip(b, nc, msg, buf)
				}
			})
		}
	}
}

// BenchmarkTLSEcho is BenchmarkEcho over TLS 1.3, on the loop and, to compare,
// with a goroutine for the connection.
func BenchmarkTLSEcho(b *testing.B) {
	server, client := tlsConfigs(b, tls.VersionTLS13)
	run := func(b *testing.B, nc net.Conn) {
		b.Helper()
		tc := tls.Client(nc, client)
		msg, buf := pattern(64), make([]byte, 64)
		roundTrip(b, tc, msg, buf)
		b.ReportAllocs()
		for b.Loop() {
			roundTrip(b, tc, msg, buf)
		}
	}
	b.Run("loop", func(b *testing.B) {
		l, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		runLoop(b, l)
		ours, theirs := socketPair(b)
		shaken := make(chan *TLS)
		go func() {
			defer close(shaken)
			conn, err := ServerTLS(b.Context(), ours, server, DriverDefault, nil)
			if err != nil {
				b.Error(err)
				return
			}
			shaken <- conn
		}()
		tc := tls.Client(theirs, client)
		if err := tc.HandshakeContext(b.Context()); err != nil {
			b.Fatal(err)
		}
		conn := <-shaken
		if err := l.Post(func() { _, _ = l.AddTLS(conn, newEchoer) }); err != nil {
			b.Fatal(err)
		}
		msg, buf := pattern(64), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			roundTrip(b, tc, msg, buf)
		}
	})
	b.Run("goroutine", func(b *testing.B) {
		ours, theirs := socketPair(b)
		tc := tls.Server(ours, server)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.CopyBuffer(struct{ io.Writer }{tc}, struct{ io.Reader }{tc}, make([]byte, 4096))
		}()
		run(b, theirs)
		_ = theirs.Close()
		<-done
	})
}

// TestEchoAllocates guards the path of a message: nothing is allocated for it.
func TestEchoAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, network := range []string{"tcp", networkUnix} {
		t.Run(network, func(t *testing.T) {
			nc := dial(t, echoLoop(t, DriverDefault, network))
			msg, buf := pattern(64), make([]byte, 64)
			for range 100 { // until every buffer has its size
				roundTrip(t, nc, msg, buf)
			}
			if got := testing.AllocsPerRun(1000, func() { roundTrip(t, nc, msg, buf) }); got != 0 {
				t.Errorf("%v allocations per message; want 0", got)
			}
		})
	}
}
