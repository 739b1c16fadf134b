package main

import (
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/sentinelproxy/sentinelproxy/endpoint"
	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// newEndpoint makes what answers clients in Sentinel mode at ln. lns are the
// masters' own listeners, in the order of the configuration.
func newEndpoint(cfg config.Config, ln net.Listener, lns [][]net.Listener, log *slog.Logger) (*endpoint.Server, error) {
	o := endpoint.Options{Listener: ln, Identity: ln.Addr().String(), Allow: allowedAnywhere(cfg), Log: log}
	// Its id shall survive a restart, and not be another sidecar's.
	if name, err := os.Hostname(); err == nil {
		o.Identity += " " + name
	}
	for i, m := range cfg.Masters {
		em := endpoint.Master{Name: m.Name, AnnounceHost: m.Announce.Host, AnnouncePort: m.Announce.Port}
		for _, l := range lns[i] {
			em.Listeners = append(em.Listeners, l.Addr())
		}
		o.Masters = append(o.Masters, em)
	}
	return endpoint.New(o)
}

// allowedAnywhere returns the networks whose clients may connect to some master.
func allowedAnywhere(cfg config.Config) allow.List {
	var all allow.List
	for _, m := range cfg.Masters {
		if len(m.Allow) == 0 {
			return nil
		}
		for _, p := range m.Allow {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// telling returns p with every observation and every published route also told to e.
func telling(p parts, e *endpoint.Server) parts {
	followerOf, controllerOf := p.follower, p.controller
	p.follower = func(m config.Master, h followerHooks, log *slog.Logger) (loginFollower, error) {
		observe := h.observe
		h.observe = func(o topology.Observation) {
			observe(o)
			e.Observe(o)
		}
		return followerOf(m, h, log)
	}
	p.controller = func(m config.Master, h controllerHooks, log *slog.Logger) (controller, error) {
		publish := h.publish
		h.publish = func(r topology.Route) {
			publish(r)
			e.SetRoute(r)
		}
		return controllerOf(m, h, log)
	}
	return p
}
