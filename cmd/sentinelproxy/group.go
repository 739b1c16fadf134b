package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/endpoint"
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// A group's three parts, as this package needs them. None knows the others:
//
//	follower ──observations, signs──► controller ──routes──► server
//	    ▲──────────poll, pace─────────────┘ ▲──────reports──────┘
type (
	runner interface {
		Run(ctx context.Context) error
	}
	follower interface {
		runner
		prometheus.Collector
		Poll()
		SetFast(fast bool)
	}
	// loginFollower is a follower that takes a new login while it runs.
	loginFollower interface {
		follower
		SetLogin(l config.Login) error
	}
	controller interface {
		runner
		prometheus.Collector
		Observe(o topology.Observation)
		Sign(s topology.Sign)
		Report(r topology.Report)
		Ready() (ok bool, reason string)
		Checks() []topology.Check
		Status(ctx context.Context) any
		SetLogin(l config.Login) error
		SetSentinelLogin(l config.Login)
		Switchover(ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) (topology.SwitchoverResult, error)
	}
	server interface {
		runner
		prometheus.Collector
		SetRoute(r topology.Route)
		Drained(ctx context.Context, gen uint64) error
		Alive() bool
		Ready() (ok bool, reason string)
		Status(ctx context.Context) any
		Clients(ctx context.Context, limit int) any
		SetLogin(l config.Login) error
		SetOutage(o config.Outage)
		SetAllow(l allow.List)
		Patience() (limit time.Duration, bounded bool)
	}
)

// parts makes a group's parts; tests make others.
type parts struct {
	sockets *passedSockets // taken before any is opened; nil: none was passed
	spare   bool           // there are more processors than event loops of all groups

	follower   func(m config.Master, o followerHooks, log *slog.Logger) (loginFollower, error)
	controller func(m config.Master, o controllerHooks, log *slog.Logger) (controller, error)
	server     func(m config.Master, o serverHooks, log *slog.Logger) (server, error)
}

// What a part calls; the functions return at once unless they say otherwise.
type (
	followerHooks struct {
		dial    dialFunc // nil: plain
		observe func(topology.Observation)
		sign    func(topology.Sign)
		tell    func(events.Body) // publishes
	}
	controllerHooks struct {
		dial    dialFunc // of Redis; nil: plain
		ask     dialFunc // of Sentinels; nil: plain
		patient func() (limit time.Duration, bounded bool)
		publish func(topology.Route)
		poll    func()
		setFast func(bool)
		tell    func(events.Body) // publishes
		// drained blocks until nothing is under way on the data path; see [proxy.Server.Drained].
		drained func(ctx context.Context, gen uint64) error
	}
	serverHooks struct {
		listeners []net.Listener // in the order of the master's Listen
		tls       legs
		drain     time.Duration
		linger    bool // there are processors beside those of the event loops
		report    func(topology.Report)
	}
)

// group is one master that is served.
type group struct {
	// Fixed at construction.
	master     config.Master
	listeners  []net.Listener
	tls        legs
	follower   loginFollower
	controller controller
	server     server
	endpoint   *endpoint.Server // all groups' one; nil when it is off
	ending     chan struct{}    // closed when run is asked to end

	drained atomic.Bool // the server has ended: its event loops turn no more
}

// newGroup joins a master's parts. It starts nothing; the hooks are not called
// before run.
func newGroup(p parts, m config.Master, lns []net.Listener, drain time.Duration, t teller, log *slog.Logger) (*group, error) {
	g := &group{master: m, listeners: lns, ending: make(chan struct{})}
	var err error
	if g.tls, err = newLegs(m, t, log); err != nil {
		return nil, fmt.Errorf("master %s: %w", m.Name, err)
	}
	g.server, err = p.server(m, serverHooks{
		listeners: lns,
		tls:       g.tls,
		drain:     drain,
		linger:    p.spare,
		report:    func(r topology.Report) { g.controller.Report(r) },
	}, log)
	if err != nil {
		return nil, fmt.Errorf("master %s: %w", m.Name, err)
	}
	g.controller, err = p.controller(m, controllerHooks{
		dial:    dialer(g.tls.redis),
		ask:     dialer(g.tls.sentinels),
		patient: g.server.Patience,
		publish: g.server.SetRoute,
		poll:    func() { g.follower.Poll() },
		setFast: func(fast bool) { g.follower.SetFast(fast) },
		drained: g.server.Drained,
		tell:    t.of(m.Name),
	}, log)
	if err != nil {
		return nil, fmt.Errorf("master %s: %w", m.Name, err)
	}
	g.follower, err = p.follower(m, followerHooks{
		dial: dialer(g.tls.sentinels), sign: g.controller.Sign, tell: t.of(m.Name),
		observe: func(o topology.Observation) {
			g.controller.Observe(o)
			g.tls.keep(o)
		},
	}, log)
	if err != nil {
		return nil, fmt.Errorf("master %s: %w", m.Name, err)
	}
	return g, nil
}

// ended is how one part's Run came back.
type ended struct {
	part string
	err  error
}

// run serves until ctx ends. Then the data path drains while the control plane
// goes on: what is in flight may still need a route. It returns when all parts
// have ended; a part that ends by itself ends the others, in the same order.
func (g *group) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { close(g.ending) })()
	data, stopData := context.WithCancel(ctx)
	defer stopData()
	control, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopControl()

	const partServer = "proxy"
	ends := make(chan ended, 3) // one value per part: never full
	start := func(ctx context.Context, part string, r runner) {
		go func() { ends <- ended{part, r.Run(ctx)} }()
	}
	start(control, "failover", g.controller)
	start(control, "sentinel", g.follower)
	start(data, partServer, g.server)
	defer g.tls.watch(control)()

	var errs []error
	for range cap(ends) {
		e := <-ends
		asked := control.Err() != nil || e.part == partServer && data.Err() != nil
		switch {
		case e.err != nil:
			errs = append(errs, fmt.Errorf("master %s: %s: %w", g.master.Name, e.part, e.err))
		case !asked:
			errs = append(errs, fmt.Errorf("master %s: %s ended by itself", g.master.Name, e.part))
		}
		stopData()
		if e.part == partServer {
			g.drained.Store(true)
			stopControl()
		}
	}
	return errors.Join(errs...)
}

// Addrs returns where clients connect.
func (g *group) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, ln := range g.listeners {
		addrs = append(addrs, ln.Addr())
	}
	return addrs
}

// addrNames is Addrs as text.
func (g *group) addrNames() []string {
	var names []string
	for i, a := range g.Addrs() {
		name := a.String()
		if g.master.Listen[i].TLS {
			name = config.Listen{Network: a.Network(), Address: name, TLS: true}.String()
		}
		names = append(names, name)
	}
	return names
}

// alive reports whether the event loops turn, or have ended while others still drain.
func (g *group) alive() bool { return g.drained.Load() || g.server.Alive() }

// Name returns the master's name.
func (g *group) Name() string { return g.master.Name }

// errEnding calls off a switchover: the drain must not wait for it.
var errEnding = errors.New("the sidecar is stopping")

// Switchover moves the master to another node; see [failover.Controller.Switchover]. It
// is called off, if it still can be, when the group is asked to end.
func (g *group) Switchover(
	ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep),
) (topology.SwitchoverResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-g.ending:
			cancel(errEnding)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-over }()
	return g.controller.Switchover(ctx, req, tell)
}

// Ready reports whether a verified master is served and takes our connections, or
// why not.
func (g *group) Ready() (ok bool, reason string) {
	if ok, reason := g.controller.Ready(); !ok {
		return false, reason
	}
	if ok, reason := g.server.Ready(); !ok {
		return false, reason
	}
	return g.controller.Ready() // with what is amiss all the same
}

// settled is how long the master must have taken our connections again before that is
// believed: while it is full, it takes some and turns others away.
const settled = 2 * time.Second

// Checks returns what Ready comes from, for the probes.
func (g *group) Checks() []topology.Check {
	checks := g.controller.Checks()
	c := topology.Check{Name: "connections", Sustain: topology.Sustain{Good: settled}}
	c.OK, c.Reason = g.server.Ready()
	for i := range checks {
		if checks[i].About != "" {
			c.About = checks[i].About // another master's refusals are its own
		}
	}
	at := slices.IndexFunc(checks, func(c topology.Check) bool { return c.Advice })
	if at < 0 {
		at = len(checks)
	}
	return slices.Insert(checks, at, c)
}

// groupStatus is one master's part of the status.
type groupStatus struct {
	Listen   []string `json:"listen"`
	Failover any      `json:"failover"` // route, Sentinels' views, nodes, last failovers
	Proxy    any      `json:"proxy"`    // connections, pipes, commands
	// Endpoint is the same in every group, and left out when it is off.
	Endpoint *endpoint.Status `json:"sentinel_endpoint,omitempty"`
}

// Status returns a snapshot for JSON.
func (g *group) Status(ctx context.Context) any {
	st := groupStatus{Listen: g.addrNames(), Failover: g.controller.Status(ctx), Proxy: g.server.Status(ctx)}
	if g.endpoint != nil {
		e := g.endpoint.Status()
		st.Endpoint = &e
	}
	return st
}

// Clients lists the clients that are connected, for JSON.
func (g *group) Clients(ctx context.Context, limit int) any { return g.server.Clients(ctx, limit) }

// collectors returns what the group exports.
func (g *group) collectors() []prometheus.Collector {
	all := []prometheus.Collector{g.follower, g.controller, undescribed{g.server}}
	for _, s := range g.tls.all() {
		all = append(all, undescribed{s})
	}
	return all
}

// undescribed is a Collector that tells its metrics when they are collected and
// not before. The proxy asks its event loops for them, which do not turn yet
// when it is registered; and the proxies of several masters describe the same.
type undescribed struct{ prometheus.Collector }

// Describe tells nothing.
func (undescribed) Describe(chan<- *prometheus.Desc) {}
