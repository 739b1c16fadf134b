package endpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

func tcp(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// agreed is what three Sentinels of a healthy group say.
func agreed(group string) topology.Observation {
	o := topology.Observation{Group: group, Known: 3, Answering: 3, Agreed: true, Master: "10.9.9.9:6379", Epoch: 7, DownAfter: 5 * time.Second}
	for i := range 3 {
		o.Views = append(o.Views, topology.View{Sentinel: topology.Addr(fmt.Sprintf("s%d:26379", i)), Up: true, Master: o.Master, Epoch: 7, Quorum: 2})
	}
	return o
}

// newDirectory knows the masters "orders" and "sessions" at 10.0.0.1, and "hidden",
// which has no address to tell.
func newDirectory() *directory {
	now := func() time.Duration { return time.Minute }
	d := &directory{id: idOf("test"), port: 26379, now: now}
	for _, m := range []Master{
		{Name: "orders", Listeners: []net.Addr{tcp("10.0.0.1:6379")}},
		{Name: "sessions", Listeners: []net.Addr{tcp("10.0.0.1:6380")}},
		{Name: "hidden", Listeners: []net.Addr{&net.UnixAddr{Net: "unix", Name: "/run/x"}}},
	} {
		d.groups = append(d.groups, &group{Master: m, id: idOf(m.Name), now: now})
	}
	return d
}

func testSession() *session {
	s := newSession(newDirectory())
	s.id, s.local = 4, netip.MustParseAddr("10.0.0.1")
	return s
}

// ask sends the words of line and returns the reply as written, its line ends as
// blanks.
func ask(s *session, line string) string {
	out, _ := s.serve(strings.Fields(line))
	return strings.TrimSpace(strings.ReplaceAll(string(out), "\r\n", " "))
}

// startServer runs a Server until the test ends.
func startServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	if o.Listener == nil {
		ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		o.Listener = ln
	}
	if len(o.Masters) == 0 {
		o.Masters = []Master{{Name: "mymaster", Listeners: []net.Addr{tcp("127.0.0.1:6379")}}}
	}
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("run: %v", err)
		}
	})
	return s
}

// client speaks RESP over one connection. It fails its test on any error.
type client struct {
	tb testing.TB
	nc net.Conn
	b  []byte // read and not looked at
}

func dial(tb testing.TB, addr string) *client {
	tb.Helper()
	nc, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	return &client{tb: tb, nc: nc}
}

func (c *client) write(s string) {
	c.tb.Helper()
	if _, err := c.nc.Write([]byte(s)); err != nil {
		c.tb.Fatalf("write %.40q: %v", s, err)
	}
}

func (c *client) do(args ...string) resp.Value {
	c.tb.Helper()
	c.write(string(resp.AppendCommand(nil, args...)))
	return c.read()
}

func (c *client) read() resp.Value {
	c.tb.Helper()
	v, err := c.next()
	if err != nil {
		c.tb.Fatalf("read reply: %v", err)
	}
	return v
}

// next returns the next reply, or why there is none.
func (c *client) next() (resp.Value, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	var frames resp.Replies
	for {
		n, err := frames.Next(c.b)
		if err != nil {
			return resp.Value{}, err
		}
		if n > 0 {
			v, _, err := resp.Decode(c.b[:n])
			c.b = c.b[n:]
			return v, err
		}
		p := make([]byte, 64<<10)
		n, err = c.nc.Read(p)
		if err != nil {
			return resp.Value{}, err
		}
		c.b = append(c.b, p[:n]...)
	}
}

// wantClosed waits for the server to end the connection.
func (c *client) wantClosed() {
	c.tb.Helper()
	for {
		_, err := c.next()
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			c.tb.Fatal("connection still open")
		}
		if err != nil {
			return
		}
	}
}

// shape is a reply without what may differ between two servers: types, the keys of
// maps, nulls and the texts of errors stay.
func shape(v resp.Value) string {
	var b bytes.Buffer
	switch {
	case v.Null:
		return "_"
	case v.Type == '-' || v.Type == '+':
		return string(v.Type) + string(v.Str)
	case len(v.Elem) > 0 || v.Type == '*':
		isMap := v.Type == '%' || v.Type == '*' && len(v.Elem) > 4 && len(v.Elem)%2 == 0 && (string(v.Elem[0].Str) == "name" || string(v.Elem[0].Str) == "server")
		for i, e := range v.Elem {
			if isMap && i%2 == 0 {
				fmt.Fprintf(&b, "%s=", e.Str)
				continue
			}
			b.WriteString(shape(e) + " ")
		}
		return fmt.Sprintf("%c[%s]", v.Type, b.String())
	}
	return string(v.Type)
}
