package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// steady sends commands at a fixed rate over plain connections, SET and GET in
// turn, whatever the answers are. Each command's latency counts from when it was
// due, so that one late answer shows in those that it keeps waiting; a connection
// that is more than one of its turns late goes on from now, and the turns it missed
// are counted.
type steady struct {
	addr  topology.Addr
	conns int
	rate  int // commands a second, all connections together

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards the field below and what it points to
	window *window
}

// window is what clients saw between two calls of steady.next.
type window struct {
	name        string
	latency     *hdrhistogram.Histogram // microseconds, of commands that were due in it
	ok, refused int
	missed      int // turns
	broken      int // connections
	firstError  string
	firstOK     time.Time
	overTen     int // answers after more than 10 ms
}

// maxLatency is more than any command is held.
const maxLatency = time.Minute

func newWindow(name string) *window {
	return &window{name: name, latency: hdrhistogram.New(1, maxLatency.Microseconds(), 3)}
}

// startSteady connects and begins, in a window of that name. Its owner calls stop.
func startSteady(ctx context.Context, addr topology.Addr, conns, rate int, name string) *steady {
	ctx, cancel := context.WithCancel(ctx)
	s := &steady{addr: addr, conns: conns, rate: rate, cancel: cancel, window: newWindow(name)}
	every := time.Duration(conns) * time.Second / time.Duration(rate)
	began := time.Now()
	for i := range conns {
		first := began.Add(every * time.Duration(i) / time.Duration(conns))
		s.wg.Go(func() { s.client(ctx, i, first, every) })
	}
	return s
}

// next begins another window and returns the one that ends. Commands that are under
// way count for the one in which they were due.
func (s *steady) next(name string) *window {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.window
	s.window = newWindow(name)
	return w
}

// stop ends all clients and returns the last window.
func (s *steady) stop() *window {
	s.cancel()
	s.wg.Wait()
	return s.next("")
}

func (s *steady) current() *window {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window
}

// client keeps one connection busy until ctx ends, and replaces it when it breaks.
func (s *steady) client(ctx context.Context, id int, due time.Time, every time.Duration) {
	for ctx.Err() == nil {
		var err error
		if due, err = s.session(ctx, id, due, every); err != nil && ctx.Err() == nil {
			s.note(s.current(), func(w *window) { w.broken++; w.firstError = first(w.firstError, err.Error()) })
			due = wait(ctx, time.Now().Add(every))
		}
	}
}

func (s *steady) session(ctx context.Context, id int, due time.Time, every time.Duration) (time.Time, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", string(s.addr))
	if err != nil {
		return due, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in := bufio.NewReader(conn)
	key := "bench:steady:" + strconv.Itoa(id)
	for n := 0; ; n++ {
		if late := time.Since(due); late > every {
			missed := int(late / every)
			s.note(s.current(), func(w *window) { w.missed += missed })
			due = due.Add(time.Duration(missed) * every)
		}
		wait(ctx, due)
		if ctx.Err() != nil {
			return due, nil
		}
		w := s.current()
		frame := request("GET", key)
		if n%2 == 0 {
			frame = request("SET", key, strings.Repeat("x", 64))
		}
		if _, err := io.WriteString(conn, frame); err != nil {
			return due, err
		}
		reply, err := readReply(in)
		if err != nil {
			return due, err
		}
		now := time.Now()
		s.note(w, func(w *window) { w.add(now, now.Sub(due), reply) })
		due = due.Add(every)
	}
}

func (s *steady) note(w *window, f func(*window)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(w)
}

// add counts one answer.
func (w *window) add(at time.Time, latency time.Duration, reply string) {
	_ = w.latency.RecordValue(min(latency, maxLatency).Microseconds()) // within its bounds
	if latency > 10*time.Millisecond {
		w.overTen++
	}
	if strings.HasPrefix(reply, "-") {
		w.refused++
		w.firstError = first(w.firstError, reply)
		return
	}
	w.ok++
	if w.firstOK.IsZero() {
		w.firstOK = at
	}
}

func (w *window) row() string {
	at := func(q float64) float64 { return float64(w.latency.ValueAtQuantile(q)) / 1000 }
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %.2f | %.2f | %.2f | %.2f |", w.name, w.ok, w.refused, w.broken, w.missed,
		at(50), at(99), at(99.9), float64(w.latency.Max())/1000)
}

const windowHeader = "| | answered | refused | connections lost | turns missed | p50 ms | p99 ms | p99.9 ms | max ms |\n" +
	"|---|---|---|---|---|---|---|---|---|\n"

// readReply reads a status, an error, an integer or a bulk string, and returns its
// first line.
func readReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if n, ok := strings.CutPrefix(line, "$"); ok && n != "-1" {
		size, err := strconv.Atoi(n)
		if err != nil {
			return "", err
		}
		_, err = in.Discard(size + len("\r\n"))
		return line, err
	}
	return line, nil
}

func request(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		b.WriteString(bulk(a))
	}
	return b.String()
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// wait sleeps until t or the end of ctx, and returns t.
func wait(ctx context.Context, t time.Time) time.Time {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return t
}

// answerer is a server in this process that answers every request with +OK at once:
// what clients see of it is what this machine and the load generator do by
// themselves.
type answerer struct {
	listener net.Listener
	wg       sync.WaitGroup
}

func startAnswerer(ctx context.Context) (*answerer, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &answerer{listener: ln}
	a.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			a.wg.Go(func() { a.serve(conn) })
		}
	})
	return a, nil
}

func (a *answerer) addr() topology.Addr { return topology.Addr(a.listener.Addr().String()) }

// serve ends when the client does.
func (*answerer) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		head, err := in.ReadString('\n')
		if err != nil {
			return
		}
		args, err := strconv.Atoi(strings.Trim(head, "*\r\n"))
		for range args {
			if err == nil {
				_, err = readReply(in) // a bulk string looks the same in both directions
			}
		}
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, "+OK\r\n"); err != nil {
			return
		}
	}
}

// stop waits for the clients to have ended.
func (a *answerer) stop() { a.listener.Close(); a.wg.Wait() }
