package faultnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is how long nothing must arrive for a test to believe that nothing will.
// A slow machine can only make such a test pass.
const quiet = 50 * time.Millisecond

// listen hands every connection made to it to serve, until the test ends, and
// returns its address.
func listen(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// echo answers what it gets, and ends when its client does.
func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("send %q: %v", s, err)
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

// expectNothing checks that nothing arrives and the connection stays.
func expectNothing(t *testing.T, c net.Conn) {
	t.Helper()
	setReadDeadline(t, c, quiet)
	n, err := c.Read(make([]byte, 1))
	if e, ok := errors.AsType[net.Error](err); n != 0 || !ok || !e.Timeout() {
		t.Fatalf("read %d bytes, %v; want a timeout", n, err)
	}
	setReadDeadline(t, c, time.Minute)
}

func setReadDeadline(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
}

func expectEnd(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("read %d bytes, %v; want %v", n, err, want)
	}
}

// waitFor polls until ok.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("timed out waiting until %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestRelayCarries(t *testing.T) {
	t.Parallel()
	r := New(t, listen(t, echo))
	c := dial(t, r.Addr())
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: more than all buffers
	go func() {
		_, _ = c.Write(want)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v; want the %d that were sent", len(got), err, len(want))
	}
	waitFor(t, "no connection is left", func() bool { return r.Connections() == 0 })
}

func TestStall(t *testing.T) {
	t.Parallel()
	for _, dir := range []Direction{ToTarget, ToClient, Both} {
		t.Run(dir.String(), func(t *testing.T) {
			t.Parallel()
			r := New(t, listen(t, echo))
			c := dial(t, r.Addr())
			send(t, c, "a")
			expect(t, c, "a")
			r.Stall(dir)
			send(t, c, "b")
			expectNothing(t, c)
			r.Heal()
			expect(t, c, "b")
		})
	}
}

func TestStallHidesEnds(t *testing.T) {
	t.Parallel()
	closeNow := make(chan struct{})
	r := New(t, listen(t, func(*net.TCPConn) { <-closeNow }))
	c := dial(t, r.Addr())
	waitFor(t, "the relay has connected", func() bool { return r.Connections() == 1 })
	r.Stall(ToClient)
	close(closeNow)
	expectNothing(t, c)
	r.Heal()
	expectEnd(t, c, io.EOF)
}

func TestStallHoldsBackDials(t *testing.T) {
	t.Parallel()
	accepted := make(chan struct{}, 1)
	r := New(t, listen(t, func(c *net.TCPConn) {
		accepted <- struct{}{}
		echo(c)
	}))
	r.Stall(Both)
	c := dial(t, r.Addr())
	send(t, c, "a")
	select {
	case <-accepted:
		t.Fatal("the target saw a connection through a partition")
	case <-time.After(quiet):
	}
	r.Heal()
	expect(t, c, "a")
}

func TestReset(t *testing.T) {
	t.Parallel()
	for name, stall := range map[string]bool{"flowing": false, "stalled": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := New(t, listen(t, echo))
			c := dial(t, r.Addr())
			send(t, c, "a")
			expect(t, c, "a")
			if stall {
				r.Stall(Both)
				send(t, c, "b")
			}
			r.Reset()
			expectEnd(t, c, syscall.ECONNRESET)
			waitFor(t, "no connection is left", func() bool { return r.Connections() == 0 })
		})
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	r := New(t, listen(t, echo))
	old := dial(t, r.Addr())
	send(t, old, "a")
	expect(t, old, "a")
	r.Refuse()
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, %v; want connection refused", c, err)
	}
	send(t, old, "b")
	expect(t, old, "b")
	r.Refuse() // twice is as once
	r.Admit()
	r.Admit()
	c := dial(t, r.Addr())
	send(t, c, "c")
	expect(t, c, "c")
}

func TestCutAfter(t *testing.T) {
	t.Parallel()
	r := New(t, listen(t, echo))
	old := dial(t, r.Addr())
	send(t, old, "abc")
	expect(t, old, "abc")
	r.CutAfter(ToClient, 3)
	for name, c := range map[string]*net.TCPConn{"old": old, "new": dial(t, r.Addr())} {
		send(t, c, "12")
		expect(t, c, "12")
		send(t, c, "345")
		expect(t, c, "3")
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: read %d bytes, %v after the cut; want the end", name, n, err)
		}
	}
	r.CutAfter(ToClient, 0)
	c := dial(t, r.Addr())
	send(t, c, "a")
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
	r.Heal()
	c = dial(t, r.Addr())
	send(t, c, "abcdef")
	expect(t, c, "abcdef")
}

func TestDelay(t *testing.T) {
	t.Parallel()
	r := New(t, listen(t, echo))
	c := dial(t, r.Addr())
	const d, jitter = 40 * time.Millisecond, 10 * time.Millisecond
	r.Delay(d, jitter)
	began := time.Now()
	for range 20 { // together, not one after the other
		send(t, c, "x")
	}
	expect(t, c, "xxxxxxxxxxxxxxxxxxxx")
	if took := time.Since(began); took < 2*(d-jitter) {
		t.Errorf("answered after %v; want %v or more", took, 2*(d-jitter))
	}

	r.Delay(time.Hour, 0)
	send(t, c, "held")
	expectNothing(t, c)
	r.Heal()
	expect(t, c, "held")
}

func TestLateness(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if got := (lateness{}).due(now, now.Add(time.Second)); got != now {
		t.Errorf("no delay: due %v after arrival; want at once", got.Sub(now))
	}
	l := lateness{base: 10 * time.Millisecond, jitter: 20 * time.Millisecond}
	var ahead time.Time
	for i := range 1000 {
		at := now.Add(time.Duration(i) * time.Millisecond)
		due := l.due(at, ahead)
		if due.Before(at) || due.Before(ahead) {
			t.Fatalf("chunk %d: due %v after its arrival, %v after the one ahead", i, due.Sub(at), due.Sub(ahead))
		}
		ahead = due
	}
}

func TestHalfClose(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	r := New(t, listen(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- string(b)
		_, _ = io.WriteString(c, "bye")
	}))
	c := dial(t, r.Addr())
	send(t, c, "abc")
	waitFor(t, "the relay has connected", func() bool { return r.Connections() == 1 })
	r.HalfClose(ToTarget)
	r.HalfClose(ToTarget)
	if s := <-got; s != "abc" && s != "" {
		t.Errorf("the target got %q; want %q or nothing", s, "abc")
	}
	expect(t, c, "bye")
	expectEnd(t, c, io.EOF)
}

func TestTargetGone(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", New(t, addr).Addr())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) { // be it while connecting
		t.Errorf("dial and read: %v; want connection reset", err)
	}
}

func TestCloseWhileStalled(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Relay, context.CancelFunc){
		"close":   func(*Relay, context.CancelFunc) {},
		"context": func(_ *Relay, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := Start(ctx, Config{Listen: "127.0.0.1:0", Target: listen(t, echo)})
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, r.Addr())
			send(t, c, "a")
			expect(t, c, "a")
			r.Stall(Both)
			waiting := dial(t, r.Addr()) // not passed on yet
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			end(r, cancel)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			expectEnd(t, c, syscall.ECONNRESET)
			expectEnd(t, waiting, syscall.ECONNRESET)
			r.Admit() // nothing to listen for
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// StallFrom holds back the clients of one host, those that exist and later ones,
// and nobody else.
func TestStallFrom(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	r := New(t, listen(t, echo))
	from := func(host string) *net.TCPConn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
		c, err := d.DialContext(t.Context(), "tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		setReadDeadline(t, c, time.Minute)
		return c.(*net.TCPConn)
	}
	one, other := from("127.0.0.2"), from("127.0.0.3")
	for _, c := range []net.Conn{one, other} {
		send(t, c, "a")
		expect(t, c, "a")
	}
	r.StallFrom("127.0.0.2")
	later := from("127.0.0.2")
	for _, c := range []net.Conn{one, other, later} {
		send(t, c, "b")
	}
	expect(t, other, "b")
	expectNothing(t, one)
	expectNothing(t, later)
	r.Heal()
	expect(t, one, "b")
	expect(t, later, "b")
}
