package health

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// piped is a listener in a bubble, where nobody may wait for a socket.
type piped struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPiped() piped {
	closed := make(chan struct{})
	return piped{make(chan net.Conn), closed, sync.OnceFunc(func() { close(closed) })}
}

func (l piped) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l piped) Close() error {
	l.close()
	return nil
}

// readyz asks for a path over a connection of its own.
func (l piped) readyz(tb testing.TB, path string) int {
	tb.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	l.conns <- theirs
	if _, err := io.WriteString(ours, "GET "+path+" HTTP/1.1\r\nHost: 127.0.0.1:9180\r\nConnection: close\r\n\r\n"); err != nil {
		tb.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // its end is the connection's
	return resp.StatusCode
}

func (piped) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9180} }

// routedGroup is a group with the required checks of a real one.
type routedGroup struct {
	fakeGroup

	checks map[string]string // the reason why it is not ok, by its name; "" is ok
}

func (g *routedGroup) Checks() []topology.Check {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []topology.Check
	for _, name := range []string{"route", "lease", "master_answers"} {
		list = append(list, topology.Check{Name: name, OK: g.checks[name] == "", Reason: g.checks[name], About: "10.0.0.1:6379 1"})
	}
	return append(list, topology.Check{Name: "not_degraded", OK: true, Advice: true})
}

func (g *routedGroup) set(check, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.checks[check] = reason
}

// The very first request after a check of a group has changed has the new answer: no time
// goes by, however often or seldom the checks were looked at before.
func TestReadyzFollowsAtOnce(t *testing.T) {
	for _, check := range []string{"route", "lease", "master_answers"} {
		for path, asked := range map[string]string{"/readyz": "plain", "/readyz?verbose": "verbose", "/readyz?master=a": "one master"} {
			t.Run(check+" "+asked, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := &routedGroup{fakeGroup: fakeGroup{name: "a"}, checks: make(map[string]string)}
					ln := newPiped()
					s, err := New(Options{
						Listener: ln, Groups: []Group{g},
						Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
					})
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(t.Context())
					ended := make(chan error, 1)
					go func() { ended <- s.Run(ctx) }()
					defer func() {
						cancel()
						if err := <-ended; err != nil {
							t.Errorf("Run: %v", err)
						}
					}()
					want := func(code int) {
						t.Helper()
						asked := time.Now()
						if got := ln.readyz(t, path); got != code || time.Since(asked) > 0 {
							t.Errorf("%s: %d after %v; want %d at once", path, got, time.Since(asked), code)
						}
					}
					want(200)
					for _, apart := range []time.Duration{0, time.Millisecond, 499 * time.Millisecond, time.Second, time.Minute} {
						time.Sleep(apart)
						want(200)
						g.set(check, "the master is gone")
						want(503)
						time.Sleep(apart)
						want(503)
						g.set(check, "")
						want(200)
					}
				})
			})
		}
	}
}
