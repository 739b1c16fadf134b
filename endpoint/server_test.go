package endpoint

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func (s *Server) addr() string { return s.o.Listener.Addr().String() }

func TestServer(t *testing.T) {
	s := startServer(t, Options{})
	c := dial(t, s.addr())
	v := c.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
	if len(v.Elem) != 2 || string(v.Elem[0].Str) != "127.0.0.1" || string(v.Elem[1].Str) != "6379" {
		t.Errorf("address: %+v", v)
	}
	s.Observe(agreed("mymaster"))
	s.Observe(agreed("another")) // not ours: ignored
	s.SetRoute(topology.Route{Group: "mymaster", Epoch: 9})
	if v := c.do("SENTINEL", "MASTER", "mymaster"); string(v.Lookup("config-epoch").Str) != "9" || string(v.Lookup("quorum").Str) != "2" {
		t.Errorf("master: %v", v)
	}
	if v := c.do("SENTINEL", "CKQUORUM", "mymaster"); !strings.HasPrefix(string(v.Str), "OK 3 usable") {
		t.Errorf("ckquorum: %s", v.Str)
	}
	if st := s.Status(); st.Connections != 1 || st.Listen != s.addr() || len(st.Masters) != 1 {
		t.Errorf("status: %+v", st)
	}
	c.write("PING\r\nQUIT\r\nPING\r\n")
	if v := c.read(); string(v.Str) != "PONG" {
		t.Errorf("PING: %s", v.Str)
	}
	if v := c.read(); string(v.Str) != "OK" {
		t.Errorf("QUIT: %s", v.Str)
	}
	c.wantClosed()

	bad := dial(t, s.addr())
	bad.write("*1\r\n$9223372036854775807\r\n")
	if v := bad.read(); string(v.Str) != "ERR Protocol error: invalid bulk length" {
		t.Errorf("breach: %s", v.Str)
	}
	bad.wantClosed()
	for eventually := time.After(patience); s.Status().Connections > 0; {
		select {
		case <-eventually:
			t.Fatal("connections stay counted")
		case <-time.After(time.Millisecond):
		}
	}
	const want = `
# HELP sentinelproxy_sentinel_endpoint_commands_total Commands answered by the Sentinel endpoint.
# TYPE sentinelproxy_sentinel_endpoint_commands_total counter
sentinelproxy_sentinel_endpoint_commands_total{command="auth"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="client"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="hello"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="info"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="other"} 1
sentinelproxy_sentinel_endpoint_commands_total{command="ping"} 1
sentinelproxy_sentinel_endpoint_commands_total{command="role"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="sentinel"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="sentinel_ckquorum"} 1
sentinelproxy_sentinel_endpoint_commands_total{command="sentinel_get_master_addr_by_name"} 1
sentinelproxy_sentinel_endpoint_commands_total{command="sentinel_masters"} 1
sentinelproxy_sentinel_endpoint_commands_total{command="sentinel_replicas"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="sentinel_sentinels"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="subscribe"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="unknown"} 0
sentinelproxy_sentinel_endpoint_commands_total{command="unsubscribe"} 0
# HELP sentinelproxy_sentinel_endpoint_connections Clients connected to the Sentinel endpoint.
# TYPE sentinelproxy_sentinel_endpoint_connections gauge
sentinelproxy_sentinel_endpoint_connections 0
# HELP sentinelproxy_sentinel_endpoint_connections_denied_total Clients that the Sentinel endpoint turned away because of their network.
# TYPE sentinelproxy_sentinel_endpoint_connections_denied_total counter
sentinelproxy_sentinel_endpoint_connections_denied_total 0
# HELP sentinelproxy_sentinel_endpoint_connections_refused_total Clients that the Sentinel endpoint turned away at its limit.
# TYPE sentinelproxy_sentinel_endpoint_connections_refused_total counter
sentinelproxy_sentinel_endpoint_connections_refused_total 0
# HELP sentinelproxy_sentinel_endpoint_connections_total Clients that the Sentinel endpoint accepted.
# TYPE sentinelproxy_sentinel_endpoint_connections_total counter
sentinelproxy_sentinel_endpoint_connections_total 2
# HELP sentinelproxy_sentinel_endpoint_protocol_errors_total Clients of the Sentinel endpoint that broke the protocol or sent too much at once.
# TYPE sentinelproxy_sentinel_endpoint_protocol_errors_total counter
sentinelproxy_sentinel_endpoint_protocol_errors_total 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// One client too many is told so, and takes nobody's place.
func TestMaxClients(t *testing.T) {
	s := startServer(t, Options{MaxClients: 2})
	a, b := dial(t, s.addr()), dial(t, s.addr())
	a.do("PING")
	b.do("PING")
	c := dial(t, s.addr())
	if v := c.read(); string(v.Str) != "ERR max number of clients reached" {
		t.Errorf("the third is told %q", v.Str)
	}
	c.wantClosed()
	a.do("QUIT")
	a.wantClosed()
	for deadline := time.Now().Add(patience); ; {
		d := dial(t, s.addr())
		if v := d.do("PING"); string(v.Str) == "PONG" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no place becomes free")
		}
	}
}

// A subscriber is alive and hears nothing, whatever happens to the group.
func TestNothingIsPublished(t *testing.T) {
	s := startServer(t, Options{})
	c := dial(t, s.addr())
	c.do("PSUBSCRIBE", "*")
	s.SetRoute(topology.Route{Group: "mymaster", State: topology.Serving, Master: "a:1", Epoch: 1})
	s.SetRoute(topology.Route{Group: "mymaster", State: topology.Holding, Master: "a:1", Epoch: 1})
	s.SetRoute(topology.Route{Group: "mymaster", State: topology.Serving, Master: "b:1", Epoch: 2})
	if v := c.do("PING"); len(v.Elem) != 2 || string(v.Elem[0].Str) != "pong" {
		t.Errorf("the first thing heard is %v; want the pong", v)
	}
}

// A client that sends much and reads nothing makes nothing pile up here: its
// replies wait in its socket, and it is left waiting. Those of one batch that has
// been read are all there is.
func TestReplies_doNotPileUp(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, Options{Listener: ln})
	c := dial(t, s.addr())
	ask := resp.AppendCommand(nil, "SENTINEL", "MASTERS")
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	sent := 0
	for {
		n, err := c.nc.Write(ask)
		if err != nil {
			break
		}
		sent += n
		if sent > 64<<20 {
			t.Fatal("64 MiB of commands were taken from a client that reads nothing")
		}
	}
	other := dial(t, s.addr())
	if v := other.do("PING"); string(v.Str) != "PONG" {
		t.Errorf("another client: %s", v.Str)
	}
}

// Run ends what it started, idle subscribers too.
func TestRunEnds(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln, Masters: []Master{{Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c := dial(t, ln.Addr().String())
	c.do("SUBSCRIBE", "+switch-master")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	c.wantClosed()
	if n := s.Status().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// A listener that somebody else closes is an error, not a silent end.
func TestRunTellsOfAClosedListener(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln, Masters: []Master{{Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run returned nil")
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Options{Masters: []Master{{Name: "a"}, {Name: "a"}, {}}, MaxClients: -1})
	for _, want := range []string{"Listener is nil", `master "a"`, `master ""`, "MaxClients is -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want %q in it", err, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	elsewhere, err := allow.Parse("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, Options{Allow: elsewhere})
	addr := s.Status().Listen
	dial(t, addr).wantClosed()
	here, err := allow.Parse("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	s.SetAllow(here)
	c := dial(t, addr)
	if v := c.do("PING"); string(v.Str) != "PONG" {
		t.Errorf("from a network that may connect: %q", v.Str)
	}
	if n := testutil.ToFloat64(s.metrics.strangers); n != 1 {
		t.Errorf("%v clients are counted as turned away; want 1", n)
	}
}
