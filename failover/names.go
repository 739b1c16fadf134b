package failover

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	resolveTimeout = 500 * time.Millisecond
	resolveAgain   = 5 * time.Second
	resolveCap     = 256 // names remembered; when there are more, all are forgotten
)

// names says which watched node a replica means by the master it names: a group may
// be announced by host names and replicate by IP address, or the other way round.
// It is safe for concurrent use.
type names struct {
	resolve func(ctx context.Context, host string) ([]string, error)

	mu      sync.Mutex // guards the fields below
	known   []topology.Addr
	remotes map[topology.Addr]topology.Addr // IP form of a node we are connected to, to its name
	hosts   map[string]resolved
}

type resolved struct {
	ips []string
	at  time.Time
}

func newNames(resolve func(ctx context.Context, host string) ([]string, error)) *names {
	return &names{
		resolve: resolve, remotes: make(map[topology.Addr]topology.Addr), hosts: make(map[string]resolved),
	}
}

// watch says which nodes there are.
func (n *names) watch(addrs []topology.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = slices.Clone(addrs)
	for ip, a := range n.remotes {
		if !slices.Contains(addrs, a) {
			delete(n.remotes, ip)
		}
	}
}

// canonical returns the watched node that master means, or master itself if none
// does. node is who says so, connected at remote. It may resolve a name, and is
// called by the prober of that node alone.
func (n *names) canonical(ctx context.Context, node topology.Addr, remote net.Addr, master topology.Addr) topology.Addr {
	n.learn(node, remote)
	if a, ok := n.lookup(master); ok {
		return a
	}
	host, port := master.Split()
	if net.ParseIP(host) != nil {
		return master
	}
	for _, ip := range n.ips(ctx, host) {
		if a, ok := n.lookup(topology.JoinAddr(ip, port)); ok {
			return a
		}
	}
	return master
}

// learn notes under which IP address a node is reached.
func (n *names) learn(node topology.Addr, remote net.Addr) {
	if tcp, ok := remote.(*net.TCPAddr); ok {
		n.mu.Lock()
		n.remotes[topology.JoinAddr(tcp.IP.String(), tcp.Port)] = node
		n.mu.Unlock()
	}
}

func (n *names) lookup(a topology.Addr) (topology.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Contains(n.known, a) {
		return a, true
	}
	known, ok := n.remotes[a]
	return known, ok
}

func (n *names) ips(ctx context.Context, host string) []string {
	n.mu.Lock()
	r, ok := n.hosts[host]
	n.mu.Unlock()
	if ok && time.Since(r.at) < resolveAgain {
		return r.ips
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := n.resolve(ctx, host)
	if err != nil {
		ips = nil // asked again in a while; until then the name means itself
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.hosts) >= resolveCap {
		clear(n.hosts)
	}
	n.hosts[host] = resolved{ips, time.Now()}
	return ips
}
