package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Limits of the HTTP server. Requests have no body worth waiting for, and the
// slowest answer is a scrape.
const (
	headerTimeout  = 2 * time.Second
	requestTimeout = 5 * time.Second
	writeTimeout   = 10 * time.Second
	idleTimeout    = 2 * time.Minute // above the usual scrape intervals, so that connections stay
	closeTimeout   = 2 * time.Second
	maxHeader      = 16 << 10 // bytes
)

// Group is one master that is served. Its methods are called by several
// goroutines at once. Only Status and Clients may block.
type Group interface {
	// Name is the master's name, as the Sentinels know it.
	Name() string
	// Checks returns what decides whether the master is served, the most telling first,
	// and what else is worth knowing. Their names do not change.
	Checks() []topology.Check
	// Status returns a value for encoding/json that nobody changes any more. It
	// may wait for its parts until ctx ends, and then leaves out the late ones.
	Status(ctx context.Context) any
	// Clients is Status for the clients that are connected, limit of them at most.
	Clients(ctx context.Context, limit int) any
}

// Options are what a Server needs. Listener or Probes, Groups, Gatherer and Log are
// required.
type Options struct {
	// The Server closes both when Run ends. Listener is where everything is served; one of
	// crypto/tls is fine. Probes is where the probes alone are, to whoever asks. nil is none.
	Listener net.Listener
	Probes   net.Listener
	Groups   []Group
	// Alive reports whether the event loops turn, or which does not. It must
	// not block; nil means that there is nothing to ask.
	Alive    func() (ok bool, reason string)
	Gatherer prometheus.Gatherer
	Build    Build
	// Hosts are names for the Host header beside the loopback ones, the address
	// the listener is bound to, and the one a request came in at.
	Hosts []string
	// Guard lets those through to next who may read; nil: everybody may who reaches
	// Listener. It is asked for all but Orders and what Probes serves.
	Guard func(next http.Handler) http.Handler
	// PProf has Go's profiler served under /debug/pprof/. It is only where Guard is.
	PProf bool
	// Orders are handlers of POST requests, by path. The Server checks the Host header
	// only: who may order something they must check themselves.
	Orders map[string]http.Handler
	// Private lets those through to next who may see single clients from another
	// machine, where there is no Guard; nil: nobody may.
	Private func(next http.Handler) http.Handler
	// Events are served under /api/v1/events, and what Certificates returns under
	// /api/v1/certificates; nil: they are not. Certificates must not block.
	Events       *events.Stream
	Certificates func() any
	Log          *slog.Logger
}

// Server serves the admin endpoints. Make it with New.
type Server struct {
	// Fixed at construction.
	o       Options
	started time.Time
	servers []server

	draining atomic.Bool
	listing  chan struct{} // one token: a list of clients is being made; a second is refused
	up       atomic.Bool   // the event loops have turned
	streams  streams
	board    *board
	ledger   ledger
	refused  refused
}

// server is one listener and what it serves.
type server struct {
	*http.Server

	ln net.Listener
}

// New returns a Server that accepts nothing yet.
func New(o Options) (*Server, error) {
	var errs []error
	if o.Listener == nil && o.Probes == nil {
		errs = append(errs, errors.New("health: neither Listener nor Probes"))
	}
	if o.PProf && o.Guard == nil {
		errs = append(errs, errors.New("health: PProf without a Guard"))
	}
	if o.Gatherer == nil {
		errs = append(errs, errors.New("health: Gatherer is nil"))
	}
	if o.Log == nil {
		errs = append(errs, errors.New("health: Log is nil"))
	}
	if len(o.Groups) == 0 {
		errs = append(errs, errors.New("health: no Groups: an empty sidecar would call itself ready"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &Server{o: o, started: time.Now(), listing: make(chan struct{}, 1), board: newBoard(), streams: streams{
		stopping: make(chan struct{}), heartbeat: heartbeatEvery, patience: streamPatience,
	}}
	s.streams.refused = &s.refused.streams
	if o.Listener != nil {
		h, err := s.handler()
		if err != nil {
			return nil, err
		}
		s.serveAt(o.Listener, h)
	}
	if o.Probes != nil {
		s.serveAt(o.Probes, s.probes())
		// Whoever comes gets one answer: idle connections would take files from clients.
		s.servers[len(s.servers)-1].SetKeepAlivesEnabled(false)
	}
	s.servers[0].RegisterOnShutdown(sync.OnceFunc(func() { close(s.streams.stopping) }))
	return s, nil
}

// serveAt has h served at ln.
func (s *Server) serveAt(ln net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	limit(srv, maxConns, s.o.Log)
	s.servers = append(s.servers, server{ln: ln, Server: srv})
}

// Drain makes /readyz answer 503 from now on: the process is about to stop. It
// is safe for concurrent use.
func (s *Server) Drain() { s.draining.Store(true) }

// Run serves until ctx is done, lets requests under way end for two seconds,
// and waits for what it started.
func (s *Server) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	looking, stop := context.WithCancel(ctx)
	defer stop()
	watching.Go(func() { s.watch(looking) })
	watching.Go(func() { s.paint(looking) })
	served := make(chan error, len(s.servers)) // one value each: never full
	for _, one := range s.servers {
		go one.serve(served)
	}
	var errs []error
	select {
	case err := <-served:
		errs = append(errs, err)
	case <-ctx.Done():
	}
	// ctx is over, and the requests that are under way get their time still.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for _, one := range s.servers {
		if one.Shutdown(grace) != nil {
			_ = one.Close() // whoever still reads has had its time
		}
	}
	for len(errs) < len(s.servers) {
		errs = append(errs, <-served)
	}
	return errors.Join(errs...)
}

// serve serves until the server is shut down, which is no error.
func (s server) serve(done chan<- error) {
	err := s.Serve(s.ln)
	if errors.Is(err, http.ErrServerClosed) {
		done <- nil
		return
	}
	done <- fmt.Errorf("health: serve %s: %w", s.ln.Addr(), err)
}

// handler returns the routes, behind the guard.
func (s *Server) handler() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.index)
	mux.HandleFunc("/startupz", s.startupz)
	mux.HandleFunc("/livez", s.livez)
	mux.HandleFunc("/readyz", s.readyz)
	mux.HandleFunc("/api/v1/status", s.status)
	mux.HandleFunc("/api/v1/status/stream", s.stream)
	mux.Handle("/api/v1/clients", s.private(http.HandlerFunc(s.clients)))
	mux.Handle("/metrics", s.metrics())
	if s.o.Events != nil {
		mux.HandleFunc("/api/v1/events", s.events)
	}
	if s.o.Certificates != nil {
		mux.HandleFunc("/api/v1/certificates", s.certificates)
	}
	if s.o.PProf {
		mux.Handle(profilePath, profiler())
	}
	for path, h := range s.o.Orders {
		mux.Handle(path, h)
	}
	if err := addPage(mux); err != nil {
		return nil, err
	}
	g := newGuard(s.o.Listener.Addr(), s.o.Hosts, mux)
	if s.o.Guard != nil {
		g.next = s.o.Guard(mux)
	}
	g.orders, g.ordered = s.o.Orders, mux
	return g, nil
}
