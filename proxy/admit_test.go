package proxy

import (
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestNetworks(t *testing.T) {
	elsewhere, here := mustAllow(t, "192.0.2.0/24"), mustAllow(t, "127.0.0.0/8")
	log := new(sharedLog)
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}), func(o *Options) {
		o.Allow, o.Log = elsewhere, slog.New(slog.NewTextHandler(log, nil))
	})
	for range 3 {
		c := dialRaw(t, "tcp", r.addr)
		if b, _ := io.ReadAll(c.r); len(b) > 0 {
			t.Errorf("a client that may not connect was told %q", b)
		}
	}
	local := dialRaw(t, "unix", r.unix)
	local.send("PING\r\n")
	local.expect("+PONG\r\n")
	r.server.SetAllow(here)
	c := r.raw()
	c.send("PING\r\n")
	c.expect("+PONG\r\n")
	r.server.SetAllow(elsewhere) // who is connected stays
	c.send("PING\r\n")
	c.expect("+PONG\r\n")
	if n := r.server.notAllowed.Load(); n != 3 {
		t.Errorf("%d clients are counted as turned away; want 3", n)
	}
	if n := strings.Count(log.String(), "turned away"); n != 1 {
		t.Errorf("%d log lines about them; want 1: %s", n, log)
	}
}

func mustAllow(tb testing.TB, v string) allow.List {
	tb.Helper()
	l, err := allow.Parse(v)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// sharedLog is a log that several goroutines write.
type sharedLog struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Loops that ask each other while both queues are full must not wait for each other.
func TestLoopsAskEachOtherWithFullQueues(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	loops := r.server.loops
	standing, release := make(chan struct{}, len(loops)), make(chan struct{})
	answered := make(chan found, len(loops)) // one from each
	for i, l := range loops {
		h := &loopHost{server: r.server, loop: l, index: i}
		if err := l.Post(func() {
			standing <- struct{}{}
			<-release
			h.everywhere(func(_ *worker, done func(found)) { done(found{n: 1}) }, func(f found) { answered <- f })
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range loops {
		<-standing
	}
	for _, l := range loops { // each stands in a function: its queue only grows
		for l.TryPost(runtime.Gosched) == nil {
		}
	}
	close(release)
	for range loops {
		if f := <-answered; f.n != len(loops) {
			t.Errorf("%d loops were asked; want %d", f.n, len(loops))
		}
	}
}
