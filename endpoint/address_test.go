package endpoint

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func routeAt(epoch uint64) topology.Route {
	return topology.Route{Group: "orders", State: topology.Serving, Master: "10.9.9.9:6379", Epoch: epoch}
}

func TestAddress(t *testing.T) {
	unix := net.Addr(&net.UnixAddr{Net: "unix", Name: "/run/x"})
	for name, tt := range map[string]struct {
		m     Master
		local string
		want  string // "" for none
	}{
		"the listener's own":                   {Master{Listeners: []net.Addr{tcp("10.0.0.1:6379")}}, "10.0.0.1", "10.0.0.1:6379"},
		"also to who came another way":         {Master{Listeners: []net.Addr{tcp("127.0.0.1:6379")}}, "10.0.0.1", "127.0.0.1:6379"},
		"every interface: the client's way":    {Master{Listeners: []net.Addr{tcp("[::]:6379")}}, "10.0.0.7", "10.0.0.7:6379"},
		"every interface, over IPv6":           {Master{Listeners: []net.Addr{tcp("[::]:6379")}}, "fd00::1", "[fd00::1]:6379"},
		"every interface of IPv4":              {Master{Listeners: []net.Addr{tcp("0.0.0.0:6379")}}, "10.0.0.7", "10.0.0.7:6379"},
		"IPv4 alone, client over IPv6":         {Master{Listeners: []net.Addr{tcp("0.0.0.0:6379")}}, "::1", "127.0.0.1:6379"},
		"the first of several":                 {Master{Listeners: []net.Addr{unix, tcp("10.0.0.1:1"), tcp("10.0.0.2:2")}}, "10.0.0.3", "10.0.0.1:1"},
		"the one where the client is":          {Master{Listeners: []net.Addr{tcp("127.0.0.1:1"), tcp("10.0.0.2:2")}}, "10.0.0.2", "10.0.0.2:2"},
		"every interface before another one":   {Master{Listeners: []net.Addr{tcp("127.0.0.1:1"), tcp("[::]:2")}}, "10.0.0.2", "10.0.0.2:2"},
		"no TCP":                               {Master{Listeners: []net.Addr{unix}}, "10.0.0.1", ""},
		"announced":                            {Master{Listeners: []net.Addr{tcp("[::]:6379")}, AnnounceHost: "redis.example", AnnouncePort: 7000}, "10.0.0.1", "redis.example:7000"},
		"announced host, the listener's port":  {Master{Listeners: []net.Addr{tcp("[::]:6379")}, AnnounceHost: "redis.example"}, "10.0.0.1", "redis.example:6379"},
		"announced in place of a Unix socket":  {Master{Listeners: []net.Addr{unix}, AnnounceHost: "redis.example", AnnouncePort: 7000}, "10.0.0.1", "redis.example:7000"},
		"announced host without any port":      {Master{Listeners: []net.Addr{unix}, AnnounceHost: "redis.example"}, "10.0.0.1", ""},
		"an IPv4 address in IPv6 form is IPv4": {Master{Listeners: []net.Addr{tcp("[::ffff:10.0.0.1]:6379")}}, "10.0.0.1", "10.0.0.1:6379"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if host, port, ok := tt.m.address(netip.MustParseAddr(tt.local)); ok {
				got = net.JoinHostPort(host, itoa(port))
			}
			if got != tt.want {
				t.Errorf("client at %s is sent to %q; want %q", tt.local, got, tt.want)
			}
		})
	}
}
