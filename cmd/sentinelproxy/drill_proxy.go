package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// sidecarProxy starts a sidecar in this process, with the defaults of `run` but
// for follow, unless that is "".
func sidecarProxy(p parts, follow string, log *slog.Logger) drill.Starter {
	return func(ctx context.Context, t drill.Target) (drill.Proxy, error) {
		cfg, err := drillSidecar(follow, t)
		if err != nil {
			return drill.Proxy{}, err
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the clients
		sc, err := startSidecar(ctx, cfg, log, tapRoutes(p, t.OnRoute))
		if err != nil {
			cancel()
			return drill.Proxy{}, err
		}
		return drill.Proxy{
			Name: "sentinelproxy",
			Addr: sc.groups[0].listeners[0].Addr().String(),
			Stop: func() error { cancel(); return sc.Wait() },
			// SWITCHOVER: set Switchover here, for a sidecar in this process; until
			// then `drill switchover` is refused.
		}, nil
	}
}

// runningProxy is a sidecar that runs elsewhere; its route is asked for where its
// admin server answers.
func runningProxy(r drill.Remote, f drill.Facts) drill.Starter {
	return func(ctx context.Context, t drill.Target) (drill.Proxy, error) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the clients
		var wg sync.WaitGroup
		if f.Sidecar.Status != nil {
			wg.Go(func() { pollRoute(ctx, r.Status, t.OnRoute) })
		}
		name := "sentinelproxy"
		if r.Status == nil {
			name = r.Sidecar
		}
		return drill.Proxy{
			Name: name, Addr: r.Sidecar, Stop: func() error { cancel(); wg.Wait(); return nil },
			// SWITCHOVER: set Switchover here, for a sidecar that runs (over its control
			// socket); until then `drill switchover` is refused.
		}, nil
	}
}

// validFollow returns what is wrong with a --follow.
func validFollow(v string) error {
	_, err := drillSidecar(v, drill.Target{Group: "mymaster", Sentinels: []topology.Addr{"127.0.0.1:26379"}})
	return err
}

// drillSidecar returns the configuration of `run` for that group, on free ports.
func drillSidecar(follow string, t drill.Target) (config.Config, error) {
	fs := pflag.NewFlagSet("drill", pflag.ContinueOnError)
	src := config.Sources{Flags: config.AddFlags(fs)}
	for _, f := range [][2]string{
		{"listen", "127.0.0.1:0"},
		{"admin", "127.0.0.1:0"},
		{"drain-timeout", "1s"},
		{"master", t.Group},
	} {
		if err := fs.Set(f[0], f[1]); err != nil {
			return config.Config{}, err
		}
	}
	if follow != "" {
		if err := fs.Set("follow", follow); err != nil {
			return config.Config{}, err
		}
	}
	for _, s := range t.Sentinels {
		if err := fs.Set("sentinel", string(s)); err != nil {
			return config.Config{}, err
		}
	}
	return config.Load(src)
}

// tapRoutes returns p with every published route also told to tap.
func tapRoutes(p parts, tap func(topology.Route)) parts {
	controllerOf := p.controller
	p.controller = func(m config.Master, h controllerHooks, log *slog.Logger) (controller, error) {
		publish := h.publish
		h.publish = func(r topology.Route) {
			publish(r)
			tap(r)
		}
		return controllerOf(m, h, log)
	}
	return p
}

// viaProxy waits for a proxy of the user's own at addr, and says what it is to
// stand before.
func viaProxy(addr string, say func(string)) drill.Starter {
	const patience = 2 * time.Minute
	return func(ctx context.Context, t drill.Target) (drill.Proxy, error) {
		say(fmt.Sprintf("put your proxy at %s before master %q of the Sentinels %s; it is awaited for %v",
			addr, t.Group, addrList(t.Sentinels), patience))
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				return drill.Proxy{Name: addr, Addr: addr, Stop: func() error { return nil }}, conn.Close()
			}
			if wait(ctx, 100*time.Millisecond) != nil {
				return drill.Proxy{}, fmt.Errorf("--via: %w", err)
			}
		}
	}
}

// addrList joins addresses by spaces.
func addrList(addrs []topology.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, string(a))
	}
	return strings.Join(all, " ")
}
