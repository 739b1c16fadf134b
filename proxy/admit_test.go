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

// Who does not log in is let in by what Redis says at that moment, not by what it said
// when the connection was made.
func TestKnock(t *testing.T) {
	const denied, closed = "-NOAUTH Authentication required.\r\n", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
	start := func(t *testing.T) (*rig, *fakeClient, *backend) {
		t.Helper()
		r := serving(t)
		c := r.client()
		b := warm(r, c)
		r.advance(openFor)
		return r, c, b
	}
	t.Run("open", func(t *testing.T) {
		r, _, b := start(t)
		c, d := r.client(), r.client()
		c.send("GET a", "GET b")
		b.expect("AUTH default ")
		b.reply("+OK\r\n")
		b.expect("GET a", "GET b")
		d.send("GET c") // was asked a moment ago
		b.expect("GET c")
		b.reply("$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")
		c.expect("$1\r\na\r\n$1\r\nb\r\n")
		d.expect("$1\r\nc\r\n")
	})
	t.Run("closed", func(t *testing.T) {
		r, in, b := start(t)
		c, d := r.client(), r.client()
		c.send("GET a", "GET b")
		d.send("HELLO 2")
		b.expect("AUTH default ", "AUTH default ")
		b.reply(closed + closed)
		c.expect(denied + denied)
		d.expectError("NOAUTH", "otherwise the HELLO AUTH <user> <pass> option") // as Redis 7.0 has it
		in.send("GET a")
		b.expect("GET a")
		b.reply("$-1\r\n")
		in.expect("$-1\r\n")
		r.advance(refusalTTL + openFor) // and open again
		c.send("GET a")
		b.expect("AUTH default ")
		b.reply("+OK\r\n")
		b.expect("GET a")
	})
	t.Run("changed a moment ago", func(t *testing.T) {
		for change, reply := range map[string]string{
			"ACL SETUSER default off": "+OK\r\n", "ACL LOAD": "+OK\r\n", "ACL DELUSER ann": ":1\r\n", "CONFIG SET requirepass pw": "+OK\r\n",
		} {
			r, in, b := start(t)
			c := r.client()
			c.send("GET a")
			b.expect("AUTH default ")
			b.reply("+OK\r\n")
			b.expect("GET a")
			b.reply("$-1\r\n")
			in.send(change)
			b.expect(change)
			b.reply(reply)
			d, e := r.client(), r.client()
			d.send("GET a")
			b.expect("AUTH default ") // asked before the next change, answered behind it
			in.send("MULTI", change, "EXEC")
			own := r.ownBackend()
			own.expect("MULTI", change, "EXEC")
			own.reply("+OK\r\n+QUEUED\r\n*1\r\n" + reply)
			b.reply(closed)
			d.expect(denied)
			e.send("GET a")
			b.expect("AUTH default ") // for the refusal is as old
			b.reply("+OK\r\n")
			b.expect("GET a")
		}
	})
	t.Run("login", func(t *testing.T) {
		r, _, b := start(t)
		c := r.client()
		c.send("AUTH ann pw")
		r.backend()
		b.expectNothing()
	})
	t.Run("an idle connection of its own", func(t *testing.T) {
		r, in, _ := start(t)
		in.send("BLPOP q 1")
		own := r.ownBackend()
		own.expect("BLPOP q 1")
		own.reply("*-1\r\n")
		in.expect("*-1\r\n")
		r.advance(openFor)
		c, d := r.client(), r.client()
		c.send("BLPOP q 1")
		own.expect("AUTH default ")
		own.reply("+OK\r\n")
		own.expect("BLPOP q 1")
		own.reply("*-1\r\n")
		c.expect("*-1\r\n")
		r.advance(openFor)
		d.send("BLPOP q 1")
		own.expect("AUTH default ")
		own.reply(closed)
		d.expect(denied)
	})
	t.Run("lost meanwhile", func(t *testing.T) {
		r, _, b := start(t)
		c := r.client()
		c.send("GET a")
		b.expect("AUTH default ")
		b.wire.peerReset()
		b = r.backend() // whose greeting tells
		b.expect("GET a")
		b.reply("$-1\r\n")
		c.expect("$-1\r\n")
	})
	t.Run("gone meanwhile", func(t *testing.T) {
		r, _, b := start(t)
		c := r.client()
		c.send("GET a")
		b.expect("AUTH default ")
		c.wire.peerReset()
		b.reply("+OK\r\n")
		b.expectNothing()
	})
	t.Run("past the limits of who must log in", func(t *testing.T) {
		r, _, b := start(t)
		c, d := r.client(), r.client()
		big := "SET a " + strings.Repeat("x", 32<<10)
		c.send(big)
		b.expect("AUTH default ")
		b.reply("+OK\r\n")
		b.expect(big)
		b.reply("+OK\r\n")
		c.expect("+OK\r\n")
		r.advance(openFor)
		d.send(big)
		b.expect("AUTH default ")
		b.reply(closed)
		d.expectError("ERR", "Protocol error: unauthenticated bulk length")
	})
	t.Run("AUTH has another name", func(t *testing.T) {
		r, _, b := start(t)
		c := r.client()
		c.send("GET a")
		b.expect("AUTH default ")
		b.reply("-ERR unknown command 'AUTH'\r\n")
		b.expect("GET a")
	})
}
