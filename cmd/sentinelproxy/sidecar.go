package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/endpoint"
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/health"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// sidecar is everything that one `sentinelproxy run` does, in this process.
type sidecar struct {
	// Fixed at construction.
	cfg      config.Config
	log      *slog.Logger
	groups   []*group
	admin    *health.Server // nil when it is off
	adminLn  net.Listener   // nil when admin is
	control  controls
	endpoint *endpoint.Server // for clients in Sentinel mode; nil when it is off
	registry *prometheus.Registry
	teller   teller

	// done is closed when all has ended; err is set before.
	done chan struct{}
	err  error
}

// startSidecar opens all listeners and serves with parts of p until ctx ends;
// then it drains, for cfg.DrainTimeout at most. It succeeds when neither Redis
// nor a Sentinel is there. The caller must Wait, also after ctx has ended.
func startSidecar(ctx context.Context, cfg config.Config, log *slog.Logger, p parts) (*sidecar, error) {
	s, err := newSidecar(ctx, cfg, log, p)
	if err != nil {
		return nil, err
	}
	s.teller.process(events.SidecarStarted{Version: build().Version})
	go s.supervise(ctx)
	return s, nil
}

// newSidecar opens all listeners and joins the parts; nothing runs yet. Every
// listener that can't be opened has its line in the error.
func newSidecar(ctx context.Context, cfg config.Config, log *slog.Logger, p parts) (_ *sidecar, err error) {
	s := &sidecar{cfg: cfg, log: log, registry: prometheus.NewRegistry(), teller: newTeller(cfg, log), done: make(chan struct{})}
	lns := make([][]net.Listener, len(cfg.Masters))
	var endpointLn net.Listener // nil when it is off
	defer func() {
		if err != nil {
			p.sockets.close()
			closeAll(slices.Concat(lns...))
			for _, ln := range []net.Listener{s.adminLn, s.control.ln, endpointLn} {
				if ln != nil {
					_ = ln.Close() // the error at hand says more
				}
			}
		}
	}()
	var errs []error
	for i, m := range cfg.Masters {
		lns[i], err = listenAll(ctx, m.Listen, p.sockets.open)
		errs = append(errs, err)
	}
	if cfg.Admin != "" {
		s.adminLn, err = p.sockets.open(ctx, config.Listen{Network: "tcp", Address: cfg.Admin})
		if err != nil {
			err = fmt.Errorf("admin server: %w", err)
		}
		errs = append(errs, err)
	}
	s.control.ln, err = listenControl(ctx, cfg.Control)
	errs = append(errs, err)
	if cfg.SentinelListen != "" {
		endpointLn, err = p.sockets.open(ctx, config.Listen{Network: "tcp", Address: cfg.SentinelListen})
		if err != nil {
			err = fmt.Errorf("sentinel endpoint: %w", err)
		}
		errs = append(errs, err)
	}
	errs = append(errs, p.sockets.unclaimed())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if endpointLn != nil {
		s.endpoint, err = newEndpoint(cfg, endpointLn, lns, log)
		if err != nil {
			return nil, err
		}
		p = telling(p, s.endpoint)
	}
	for i, m := range cfg.Masters {
		g, err := newGroup(p, m, lns[i], cfg.DrainTimeout, s.teller, log)
		if err != nil {
			return nil, err
		}
		g.endpoint = s.endpoint
		s.groups = append(s.groups, g)
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	s.control.join(s)
	if s.adminLn != nil {
		s.admin, err = health.New(s.adminOptions())
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// register puts everything that is measured into the registry.
func (s *sidecar) register() error {
	all := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build().Collector(),
	}
	all = append(all, s.teller.collectors()...)
	for _, g := range s.groups {
		all = append(all, g.collectors()...)
	}
	if s.endpoint != nil {
		all = append(all, s.endpoint)
	}
	for _, c := range all {
		if err := s.registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (s *sidecar) adminOptions() health.Options {
	o := health.Options{Listener: s.adminLn, Alive: s.alive, Gatherer: s.registry, Build: build(), Log: s.log}
	o.Events, o.Certificates = s.teller.stream, func() any { return s.teller.certs.Status() }
	if s.control.admin != nil {
		o.Private = s.control.withToken
		o.Orders = map[string]http.Handler{control.PathSwitchover: s.control.admin, control.PathDrill: s.control.admin}
	}
	for _, g := range s.groups {
		o.Groups = append(o.Groups, g)
	}
	if host, _, err := net.SplitHostPort(s.cfg.Admin); err == nil {
		o.Hosts = append(o.Hosts, host)
	}
	// Where containers find each other by name, that is the host's name.
	if name, err := os.Hostname(); err == nil {
		o.Hosts = append(o.Hosts, name)
	}
	return o
}

// supervise runs everything until ctx ends or a part fails, and ends it in
// order: unready, drain, control plane, then the admin server, so that probes can
// watch the drain, and last what tells events, so that the end is told.
func (s *sidecar) supervise(ctx context.Context) {
	defer close(s.done)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelling()
	tellerEnd := make(chan error, 1) // one value: never full
	go func() { tellerEnd <- s.teller.run(telling) }()
	watching, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()

	running := len(s.groups)
	ends := make(chan error, running+1) // one value per group, and the endpoint's: never full
	for _, g := range s.groups {
		go func() { ends <- g.run(serving) }()
	}
	if s.endpoint != nil {
		running++
		go func() { ends <- s.endpoint.Run(serving) }()
	}
	adminEnd := make(chan error, 1) // one value: never full
	go func() { adminEnd <- s.runAdmin(watching) }()

	// It ends with the first request to stop: what can be called off is, so that the
	// drain need not wait for it.
	controlEnd := make(chan error, 1) // one value: never full
	go func() { controlEnd <- s.control.run(serving) }()

	var errs []error
	asked, adminOver, controlOver := ctx.Done(), (<-chan error)(adminEnd), (<-chan error)(controlEnd)
	for running > 0 {
		select {
		case <-asked:
			asked = nil
			s.teller.process(events.SidecarStopping{Drain: events.Millis(s.cfg.DrainTimeout)})
		case err := <-ends:
			running--
			errs = append(errs, err)
		case err := <-adminOver: // by itself, so it is broken
			adminOver = nil
			errs = append(errs, err)
		case err := <-controlOver:
			controlOver = nil
			errs = append(errs, err)
		}
		if s.admin != nil {
			s.admin.Drain()
		}
		stop()
	}
	if controlOver != nil {
		errs = append(errs, <-controlOver)
	}
	stopAdmin()
	if adminOver != nil {
		errs = append(errs, <-adminOver)
	}
	stopTelling()
	errs = append(errs, <-tellerEnd)
	for _, g := range s.groups {
		closeAll(g.listeners)
	}
	s.err = errors.Join(errs...)
}

// runAdmin serves the admin endpoints, if there are any, until ctx ends.
func (s *sidecar) runAdmin(ctx context.Context) error {
	if s.admin == nil {
		<-ctx.Done()
		return nil
	}
	return s.admin.Run(ctx)
}

// Done is closed when everything has ended.
func (s *sidecar) Done() <-chan struct{} { return s.done }

// Wait waits until everything has ended: nil after a stop that was asked for.
func (s *sidecar) Wait() error {
	<-s.done
	return s.err
}

// AdminAddr returns where the admin server listens, or nil if it is off.
func (s *sidecar) AdminAddr() net.Addr {
	if s.adminLn == nil {
		return nil
	}
	return s.adminLn.Addr()
}

// group returns the master of that name, or nil.
func (s *sidecar) group(name string) *group {
	i := slices.IndexFunc(s.groups, func(g *group) bool { return g.master.Name == name })
	if i < 0 {
		return nil
	}
	return s.groups[i]
}

// alive reports whether every group's event loops turn.
func (s *sidecar) alive() (ok bool, reason string) {
	for _, g := range s.groups {
		if !g.alive() {
			return false, g.Name() + ": an event loop stands still"
		}
	}
	return true, ""
}
