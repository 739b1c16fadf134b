package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// testWait bounds every wait of these tests.
const testWait = 2 * time.Minute

// running is a Server before a real redis-server.
type running struct {
	tb     testing.TB
	server *Server
	addr   string // TCP
	unix   string
	node   *redistest.Node
	secure *transport   // nil: clients are plain
	stop   func() error // ends Run and returns what it returned; may be called twice
	gen    uint64
}

// startServer runs a Server with a route that serves node.
func startServer(tb testing.TB, node *redistest.Node, change ...func(*Options)) *running {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "s")
	un, err := lc.Listen(tb.Context(), "unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	o := Options{Group: "orders", Listeners: []net.Listener{ln, un}, Loops: 2, DrainTimeout: 5 * time.Second}
	secure := testTransport
	if secure != nil {
		o.Listeners, o.TLSListeners = []net.Listener{un}, []net.Listener{ln}
		o.ClientTLS = func() *tls.Config { return secure.server }
		o.Driver = secure.driver
		if node.ClientTLS() != nil {
			o.NodeTLS = secure
		}
	}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{tb: tb, server: s, addr: ln.Addr().String(), unix: path, node: node, secure: secure}
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(testWait):
			return context.DeadlineExceeded
		}
	})
	tb.Cleanup(func() {
		if err := r.stop(); err != nil {
			tb.Errorf("Run returned %v", err)
		}
	})
	r.serve()
	return r
}

// serve has the Server serve the node.
func (r *running) serve() {
	r.setRoute(topology.Route{State: topology.Serving, Master: r.node.Addr(), Epoch: 1})
}

func (r *running) setRoute(rt topology.Route) {
	r.gen++
	rt.Group, rt.Gen, rt.Since = "orders", r.gen, boottime.Now()
	if rt.HoldTimeout == 0 {
		rt.HoldTimeout = testWait
	}
	r.server.SetRoute(rt)
}

// client returns a go-redis client of the proxy.
func (r *running) client(change ...func(*redis.Options)) *redis.Client {
	r.tb.Helper()
	o := &redis.Options{Addr: r.addr, MaxRetries: -1, ReadTimeout: testWait, WriteTimeout: testWait, Protocol: 3}
	if r.secure != nil {
		o.TLSConfig = r.secure.client
	}
	for _, f := range change {
		f(o)
	}
	c := redis.NewClient(o)
	r.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// raw is a connection that speaks bytes.
type raw struct {
	net.Conn

	tb testing.TB
	r  *bufio.Reader
}

func dialRaw(tb testing.TB, network, addr string) *raw {
	tb.Helper()
	d := net.Dialer{Timeout: testWait}
	c, err := d.DialContext(tb.Context(), network, addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testWait))
	return &raw{Conn: c, tb: tb, r: bufio.NewReaderSize(c, 64<<10)}
}

func (r *running) raw() *raw {
	r.tb.Helper()
	c := dialRaw(r.tb, "tcp", r.addr)
	if r.secure != nil {
		c.Conn = tls.Client(c.Conn, r.secure.client)
		c.r.Reset(c.Conn)
	}
	return c
}

func (c *raw) send(s string) {
	c.tb.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.tb.Fatalf("write: %v", err)
	}
}

// expect wants exactly these bytes next.
func (c *raw) expect(want string) {
	c.tb.Helper()
	if got, err := c.read(len(want)); got != want {
		c.tb.Fatalf("got %q (%v); want %q", got, err, want)
	}
}

// read returns the next n bytes, or how many there are.
func (c *raw) read(n int) (string, error) {
	b := make([]byte, n)
	n, err := io.ReadFull(c.r, b)
	return string(b[:n]), err
}

func (c *raw) line() string {
	c.tb.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.tb.Fatalf("read: %v after %q", err, s)
	}
	return strings.TrimSuffix(s, "\r\n")
}

func (c *raw) expectEnd() {
	c.tb.Helper()
	if b, err := io.ReadAll(c.r); err != nil || len(b) > 0 {
		c.tb.Fatalf("got %.200q and %v; want the end", b, err)
	}
}

func (c *raw) closeWrite() {
	c.tb.Helper()
	type halfCloser interface{ CloseWrite() error }
	if err := c.Conn.(halfCloser).CloseWrite(); err != nil { //nolint:forcetypeassert // TCP and Unix both are
		c.tb.Fatal(err)
	}
}

// eventually waits for a condition and fails with what was seen last.
func eventually(tb testing.TB, what string, cond func() (bool, string)) {
	tb.Helper()
	deadline := time.Now().Add(testWait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("never %s; last seen: %s", what, seen)
		}
		<-tick.C
	}
}

func (r *running) status() Status { return r.server.Status(r.tb.Context()) }

// waitClients waits until n clients are connected.
func (r *running) waitClients(n int) {
	r.tb.Helper()
	eventually(r.tb, strconv.Itoa(n)+" clients", func() (bool, string) {
		got := r.status().Clients
		return got == n, strconv.Itoa(got)
	})
}
