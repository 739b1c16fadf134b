package failover

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestNames(t *testing.T) {
	asked := 0
	n := newNames(func(_ context.Context, host string) ([]string, error) {
		asked++
		if host == "redis-1.local" {
			return []string{"10.0.0.1"}, nil
		}
		return nil, errors.New("no such host")
	})
	n.watch([]topology.Addr{"redis-0.local:6379", "10.0.0.1:6379"})
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 6379} }
	for name, tt := range map[string]struct{ master, want topology.Addr }{
		"as announced":            {"redis-0.local:6379", "redis-0.local:6379"},
		"a name by its address":   {"10.0.0.9:6379", "redis-0.local:6379"},
		"an address by its name":  {"redis-1.local:6379", "10.0.0.1:6379"},
		"another port":            {"redis-1.local:6380", "redis-1.local:6380"},
		"a name nobody knows":     {"redis-7.local:6379", "redis-7.local:6379"},
		"an address nobody knows": {"10.0.0.7:6379", "10.0.0.7:6379"},
	} {
		t.Run(name, func(t *testing.T) {
			// redis-0.local is the one that speaks, from 10.0.0.9.
			if got := n.canonical(t.Context(), "redis-0.local:6379", at("10.0.0.9"), tt.master); got != tt.want {
				t.Errorf("canonical(%s) = %s; want %s", tt.master, got, tt.want)
			}
		})
	}
	if asked != 2 {
		t.Errorf("resolved %d times; want once for each of two names", asked)
	}
	n.watch([]topology.Addr{"10.0.0.1:6379"})
	if got := n.canonical(t.Context(), "10.0.0.1:6379", at("10.0.0.1"), "10.0.0.9:6379"); got != "10.0.0.9:6379" {
		t.Errorf("a node no longer watched is still known as %s", got)
	}
}
