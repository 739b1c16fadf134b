package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/certwatch"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/tlsconf"
	"github.com/sentinelproxy/sentinelproxy/proxy"
)

// dialFunc is net.Dialer.DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// legs are one master's TLS; nil where a leg is plain.
type legs struct {
	clients, redis, sentinels *tlsconf.Source

	nodePeers, sentinelPeers *certwatch.Peers
}

// newLegs reads the legs' files, and has t watch their certificates. Nothing runs yet.
func newLegs(m config.Master, t teller, log *slog.Logger) (legs, error) {
	var l legs
	secure := false
	for _, w := range m.Listen {
		secure = secure || w.TLS
	}
	for _, leg := range []struct {
		on           bool
		name, prefix string
		tls          config.TLS
		into         **tlsconf.Source
		own, peer    certwatch.Role    // of our certificate, and of those that we are shown
		peers        **certwatch.Peers // nil: clients are not watched
	}{
		{secure, "clients", "tls", m.TLS, &l.clients, certwatch.Server, "", nil},
		{m.RedisTLS.Enabled, "redis", "redis.tls", m.RedisTLS, &l.redis, certwatch.Client, certwatch.Upstream, &l.nodePeers},
		{m.SentinelTLS.Enabled, "sentinels", "sentinel.tls", m.SentinelTLS, &l.sentinels, certwatch.Client, certwatch.Sentinel, &l.sentinelPeers},
	} {
		if !leg.on {
			continue
		}
		var peers tlsconf.Peers // not a nil *certwatch.Peers
		if leg.peers != nil {
			*leg.peers = t.certs.Peers(m.Name, leg.peer)
			peers = *leg.peers
		}
		tell := t.of(m.Name)
		s, err := tlsconf.New(tlsconf.Options{
			Master: m.Name, Leg: leg.name, Prefix: leg.prefix, Files: leg.tls.Files(),
			MinVersion: leg.tls.MinVersion, Ciphers: leg.tls.CipherIDs(), ClientAuth: leg.tls.ClientAuth.Type(),
			ServerName: leg.tls.ServerName, InsecureSkipVerify: leg.tls.InsecureSkipVerify, Log: log,
			Peers: peers,
			Rejected: func(err error) {
				tell(events.CertificateFilesRejected{Leg: leg.name, Err: events.Text(err.Error())})
			},
		})
		if err != nil {
			return legs{}, fmt.Errorf("%s: %w", leg.prefix, err)
		}
		*leg.into = s
		t.watchFiles(m.Name, leg.own, leg.tls, s)
	}
	return l, nil
}

// watchFiles has the certificates in a leg's files watched: our own, and where we are the
// server those that sign our clients'.
func (t teller) watchFiles(master string, own certwatch.Role, c config.TLS, s *tlsconf.Source) {
	if c.CertFile != "" {
		t.certs.File(master, own, c.CertFile, func() ([]*x509.Certificate, bool) {
			_, chain, ok := s.Certificates()
			return chain, ok
		})
	}
	if own == certwatch.Server && c.CAFile != "" {
		t.certs.File(master, certwatch.CA, c.CAFile, func() ([]*x509.Certificate, bool) {
			cas, _, ok := s.Certificates()
			return cas, ok
		})
	}
}

func (l legs) all() []*tlsconf.Source {
	var all []*tlsconf.Source
	for _, s := range []*tlsconf.Source{l.clients, l.redis, l.sentinels} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// watch has changed files noticed until ctx ends. What it returns waits for that.
func (l legs) watch(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for _, s := range l.all() {
		wg.Go(func() { s.Run(ctx) })
	}
	return wg.Wait
}

// reload looks for changed files now.
func (l legs) reload() {
	for _, s := range l.all() {
		s.Reload()
	}
}

// secure gives the data path its listeners, those of TLS apart, and its TLS.
func (l legs) secure(o *proxy.Options, where []config.Listen, lns []net.Listener) {
	for i, ln := range lns {
		if where[i].TLS {
			o.TLSListeners = append(o.TLSListeners, ln)
		} else {
			o.Listeners = append(o.Listeners, ln)
		}
	}
	if l.clients != nil {
		o.ClientTLS = l.clients.Server
	}
	if l.redis != nil {
		o.NodeTLS = l.redis
	}
}

// dialer returns how the control plane connects over a leg; nil for a plain one.
func dialer(s *tlsconf.Source) dialFunc {
	if s == nil {
		return nil
	}
	const patience = 5 * time.Second // callers have shorter ones
	return s.Dialer((&net.Dialer{Timeout: patience}).DialContext)
}
