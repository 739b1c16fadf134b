package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/tlsconf"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	// peerTimeout bounds everything that one node or Sentinel is asked.
	peerTimeout = 5 * time.Second
	// atOnce bounds how many are asked at the same time; others wait for their turn.
	atOnce = 32
	// mostPeers bounds how many are asked at all: lists come from the network.
	mostPeers = 512
)

// Options say what to look at.
type Options struct {
	Master config.Master
	// Orders says that the sidecar takes orders, so that its accounts need the rights for
	// a switchover.
	Orders bool
}

// Collect asks the Sentinels, then those that they name, then the nodes. It returns when
// all have answered or ctx has ended; it changes nothing anywhere.
func Collect(ctx context.Context, o Options) Facts {
	f := Facts{At: time.Now()}
	shown := &shownChains{byAddr: make(map[string]Chain)}
	var sentinelDial, nodeDial dialFunc
	f.Files, sentinelDial, nodeDial = legs(o.Master, shown)
	var configured []topology.Addr
	configured = append(configured, o.Master.Sentinels...)
	var asked []topology.Addr
	ask := func(addrs []topology.Addr, isConfigured bool) {
		f.Sentinels = append(f.Sentinels, each(ctx, addrs, func(ctx context.Context, a topology.Addr) Sentinel {
			s := askSentinel(ctx, sentinelDial, a, o)
			s.Configured = isConfigured
			return s
		})...)
		asked = append(asked, addrs...)
	}
	ask(configured, true)
	var found []topology.Addr
	for _, s := range f.Sentinels {
		for _, p := range s.Peers {
			if p.Addr != "" && !slices.Contains(asked, p.Addr) && !slices.Contains(found, p.Addr) && len(found) < mostPeers {
				found = append(found, p.Addr)
			}
		}
	}
	ask(found, false)

	var nodes []topology.Addr
	for _, s := range f.Sentinels {
		names := []topology.Addr{s.Master}
		for _, r := range s.Replicas {
			names = append(names, r.Addr)
		}
		for _, a := range names {
			if a != "" && !slices.Contains(nodes, a) && len(nodes) < mostPeers {
				nodes = append(nodes, a)
			}
		}
	}
	f.Nodes = each(ctx, nodes, func(ctx context.Context, a topology.Addr) Node { return askNode(ctx, nodeDial, a, o) })
	f.Chains = shown.all()
	f.Late = ctx.Err() != nil
	return f
}

// each asks all of addrs, atOnce at a time, each within peerTimeout, and returns what
// they said in the same order.
func each[T any](ctx context.Context, addrs []topology.Addr, ask func(context.Context, topology.Addr) T) []T {
	all := make([]T, len(addrs))
	turns := make(chan struct{}, atOnce) // full: wait, for a peer's timeout at most
	var wg sync.WaitGroup
	for i, a := range addrs {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, peerTimeout)
			defer cancel()
			all[i] = ask(ctx, a)
		})
	}
	wg.Wait()
	return all
}

// legs reads the TLS files of all legs and returns how Sentinels and nodes are dialled.
func legs(m config.Master, shown *shownChains) (files []File, sentinels, nodes dialFunc) {
	plain := (&net.Dialer{Timeout: peerTimeout}).DialContext
	sentinels, nodes = plain, plain
	read := func(leg string, t config.TLS) *tlsconf.Source {
		src, found := readLeg(m.Name, leg, t, shown)
		files = append(files, found...)
		return src
	}
	if slices.ContainsFunc(m.Listen, func(l config.Listen) bool { return l.TLS }) {
		read("tls", m.TLS)
	}
	if m.SentinelTLS.Enabled {
		if s := read("sentinel.tls", m.SentinelTLS); s != nil {
			sentinels = s.Dialer(plain)
		}
	}
	if m.RedisTLS.Enabled {
		if s := read("redis.tls", m.RedisTLS); s != nil {
			nodes = s.Dialer(plain)
		}
	}
	return files, sentinels, nodes
}

// readLeg reads the TLS files of one leg; where they can't be used there is no source.
func readLeg(master, leg string, t config.TLS, peers tlsconf.Peers) (src *tlsconf.Source, files []File) {
	src, err := tlsconf.New(tlsconf.Options{
		Master: master, Leg: leg, Prefix: leg, Files: t.Files(), MinVersion: t.MinVersion, Ciphers: t.CipherIDs(),
		ClientAuth: t.ClientAuth.Type(), ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify, Peers: peers,
	})
	if err != nil {
		for _, e := range tlsconf.FileErrors(err) {
			files = append(files, File{Leg: leg, Path: leg, Err: e.Error()})
		}
		return nil, files
	}
	cas, chain, _ := src.Certificates()
	for path, list := range map[string][]*x509.Certificate{t.CAFile: cas, t.CertFile: chain} {
		if path != "" && len(list) > 0 {
			files = append(files, File{Leg: leg, Path: path, Ends: firstEnd(list)})
		}
	}
	return src, files
}

// shownChains keeps what peers show in handshakes. It is safe for concurrent use.
type shownChains struct {
	mu     sync.Mutex // guards byAddr
	byAddr map[string]Chain
}

// Shook notes a chain.
func (s *shownChains) Shook(addr string, cs tls.ConnectionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byAddr[addr] = Chain{addr, cs.PeerCertificates}
}

// Failed does nothing: the dial's error says it.
func (*shownChains) Failed(string, error) {}

func (s *shownChains) all() []Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Chain
	for _, c := range s.byAddr {
		list = append(list, c)
	}
	return list
}
