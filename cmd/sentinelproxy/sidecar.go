package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sentinelproxy/sentinelproxy/endpoint"
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/proxy"
)

// sidecar is everything that one `sentinelproxy run` does, in this process.
type sidecar struct {
	// Fixed at construction.
	cfg      config.Config
	log      *slog.Logger
	groups   []*group
	admin    admin
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
			s.admin.close()
			for _, ln := range []net.Listener{s.control.ln, endpointLn} {
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
	errs = append(errs, s.admin.open(ctx, cfg.Admin, p.sockets.open))
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
	p.spare = loops(cfg.Masters) < runtime.GOMAXPROCS(0)
	for i, m := range cfg.Masters {
		g, err := newGroup(p, m, lns[i], cfg.DrainTimeout, s.teller, log)
		if err != nil {
			return nil, err
		}
		g.endpoint = s.endpoint
		s.groups = append(s.groups, g)
	}
	if err := s.admin.secure(cfg.Admin, s.teller, log); err != nil {
		return nil, err
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	s.control.join(s)
	if err := s.admin.join(s); err != nil {
		return nil, err
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
	if s.admin.tls != nil {
		all = append(all, undescribed{s.admin.tls}) // as those of the groups
	}
	for _, c := range all {
		if err := s.registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
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
	go func() { adminEnd <- s.admin.run(watching) }()

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
		s.admin.drain()
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

// Done is closed when everything has ended.
func (s *sidecar) Done() <-chan struct{} { return s.done }

// Wait waits until everything has ended: nil after a stop that was asked for.
func (s *sidecar) Wait() error {
	<-s.done
	return s.err
}

// AdminAddr returns where the admin server listens, or nil if it is off.
func (s *sidecar) AdminAddr() net.Addr {
	if s.admin.ln == nil {
		return nil
	}
	return s.admin.ln.Addr()
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

// loops returns how many event loops the masters have together.
func loops(masters []config.Master) int {
	n := 0
	for _, m := range masters {
		if m.Loops > 0 {
			n += m.Loops
		} else {
			n += proxy.DefaultLoops()
		}
	}
	return n
}
