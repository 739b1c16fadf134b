package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// sidecarProxy starts a sidecar in this process, with the defaults of `run` but
// for follow, unless that is "". say is told of the steps of a switchover.
func sidecarProxy(p parts, follow string, req topology.SwitchoverRequest, log *slog.Logger, say func(string)) drill.Starter {
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
			Switchover: func(ctx context.Context) error {
				_, err := sc.groups[0].Switchover(ctx, req, sayStep(say))
				return err
			},
		}, nil
	}
}

// sayStep tells people of each step of a switchover.
func sayStep(say func(string)) func(topology.SwitchoverStep) {
	return func(s topology.SwitchoverStep) {
		say(fmt.Sprintf("switchover: %s %s after %s: %s", s.Name, s.Status, short(s.Took), indented(s.Detail)))
	}
}

// orders is where a running sidecar takes orders. Its zero value is nowhere.
type orders struct {
	at    config.Control
	admin adminAccess // with no address where it is off
}

// client returns a client of the sidecar, or nil if it takes no orders. The caller closes
// it.
func (o orders) client() *control.Client {
	switch {
	case o.at.Socket != "":
		return control.NewUnixClient(o.at.Socket)
	case o.at.Token != "" && o.admin.addr != "":
		return control.NewClient(o.admin.addr, o.at.Token.Reveal(), o.admin.tls)
	}
	return nil
}

// announce tells the sidecar that the drill d begins, and returns what tells it how the
// drill ended. A sidecar that takes no orders, or can't be told, is no reason not to drill.
func (o orders) announce(ctx context.Context, d control.Drill, say func(string)) (ended func(error)) {
	c := o.client()
	if c == nil {
		return func(error) {}
	}
	d.ID = randomPart()
	tell := func() {
		const patience = 2 * time.Second
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // also of one that was interrupted
		defer cancel()
		if err := c.Drill(ctx, d); err != nil {
			say(fmt.Sprintf("the sidecar could not be told of the drill: %v", err))
		}
	}
	tell()
	return func(err error) {
		defer c.Close()
		verdict, judged := errors.AsType[*exitError](err)
		switch {
		case err == nil:
			d.Outcome = control.DrillPassed
		case judged && verdict.code == exitVerdict:
			d.Outcome = control.DrillFailed
		default:
			d.Outcome, d.Report = control.DrillBroken, "" // there is no verdict to be written
		}
		tell()
	}
}

// switchover returns what asks the sidecar for one, or nil if it takes no orders.
func (o orders) switchover(req topology.SwitchoverRequest, say func(string)) func(context.Context) error {
	c := o.client()
	if c == nil {
		return nil
	}
	return func(ctx context.Context) error {
		defer c.Close()
		r, err := c.Switchover(ctx, req, sayStep(say))
		if err == nil && !r.OK() {
			err = errors.New(r.Err)
		}
		return err
	}
}

// runningProxy is a sidecar that runs elsewhere; its route is asked for where its
// admin server answers. switchover is nil if it takes no orders.
func runningProxy(r drill.Remote, f drill.Facts, switchover func(context.Context) error) drill.Starter {
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
			Name: name, Addr: r.Sidecar, Stop: func() error { cancel(); wg.Wait(); return nil }, Switchover: switchover,
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
