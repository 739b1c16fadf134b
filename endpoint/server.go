package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tidwall/redcon"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// MaxClients is how many clients a Server serves at once by default.
const MaxClients = 1000

// maxUnflushed is how many bytes of replies to one pipeline wait in memory.
const maxUnflushed = 64 << 10

// Options are what a Server needs. Listener and Masters are required.
type Options struct {
	Listener net.Listener // the Server closes it when Run ends
	Masters  []Master     // names unique
	// Identity makes MYID: the same words, the same id, also after a restart. Two
	// sidecars should differ in it.
	Identity   string
	MaxClients int                  // 0 is the default; one more is refused as from Redis
	Allow      allow.List           // whence clients may come; others are closed without a word
	Log        *slog.Logger         // nil discards
	Clock      func() time.Duration // since boot; nil is the real one
}

// Server answers Sentinel's protocol at one listener for all masters of the process.
// Its methods are safe for concurrent use.
type Server struct {
	// Fixed at construction.
	o       Options
	log     *slog.Logger
	dir     *directory
	metrics *metrics

	wg      sync.WaitGroup // every connection's goroutine
	allow   atomic.Pointer[allow.List]
	lastID  atomic.Int64
	clients atomic.Int64
}

// New returns a Server that accepts nothing before Run.
func New(o Options) (*Server, error) {
	var errs []error
	if o.Listener == nil {
		errs = append(errs, errors.New("endpoint: Options.Listener is nil"))
	}
	if len(o.Masters) == 0 {
		errs = append(errs, errors.New("endpoint: Options.Masters is empty"))
	}
	if o.MaxClients < 0 {
		errs = append(errs, fmt.Errorf("endpoint: Options.MaxClients is %d", o.MaxClients))
	}
	if o.MaxClients == 0 {
		o.MaxClients = MaxClients
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = boottime.Now
	}
	now := o.Clock()
	d := &directory{id: idOf("sentinelproxy", o.Identity), now: o.Clock, since: now}
	for _, m := range o.Masters {
		if m.Name == "" || d.find(m.Name) != nil {
			errs = append(errs, fmt.Errorf("endpoint: master %q: want a name that no other has", m.Name))
		}
		m.Listeners = slices.Clone(m.Listeners)
		d.groups = append(d.groups, &group{Master: m, id: idOf(d.id, m.Name), since: now, now: o.Clock})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if tcp, ok := o.Listener.Addr().(*net.TCPAddr); ok {
		d.port = tcp.Port
	}
	s := &Server{o: o, log: o.Log, dir: d, metrics: newMetrics()}
	s.allow.Store(&o.Allow)
	return s, nil
}

// SetAllow changes whence clients may come. Those that are connected stay.
func (s *Server) SetAllow(l allow.List) { s.allow.Store(&l) }

// admits reports whether a client may connect.
func (s *Server) admits(c net.Conn) bool {
	if s.allow.Load().Allows(localAddr(c.RemoteAddr())) {
		return true
	}
	s.metrics.strangers.Inc()
	s.log.Debug("a client from a network that may not connect was turned away", "client", c.RemoteAddr().String())
	return false
}

// Observe takes what all Sentinels of a group say together, for CKQUORUM and the
// like; only the latest counts. It never blocks.
func (s *Server) Observe(o topology.Observation) {
	if g := s.dir.find(o.Group); g != nil {
		g.observed.Store(&o)
	}
}

// SetRoute takes a group's newest route, for its config epoch. It never blocks.
func (s *Server) SetRoute(r topology.Route) {
	if g := s.dir.find(r.Group); g != nil {
		g.route.Store(&r)
	}
}

// Run serves until ctx ends, then closes all connections and waits for all it
// started: nobody waits for an answer that is not there already. Run it once.
func (s *Server) Run(ctx context.Context) error {
	defer closeWhenDone(ctx, s.o.Listener)()
	srv := redcon.NewServerNetwork(s.o.Listener.Addr().Network(), s.o.Listener.Addr().String(), serve, s.accept, s.closed)
	err := srv.Serve(&guardedListener{
		Listener: s.o.Listener,
		done:     ctx.Done(),
		admits:   s.admits,
		breach: func(err error) {
			s.metrics.breaches.Inc()
			s.log.Debug("sentinel client broke the protocol", "err", err)
		},
		failed: func(err error) { s.log.Warn("sentinel endpoint cannot accept", "err", err) },
	})
	s.wg.Wait()
	if err == nil && ctx.Err() == nil {
		err = errors.New("endpoint: the listener was closed")
	}
	return err
}

// accept begins a connection, or refuses it.
func (s *Server) accept(c redcon.Conn) bool {
	if s.clients.Add(1) > int64(s.o.MaxClients) {
		s.clients.Add(-1)
		s.metrics.refused.Inc()
		c.WriteError("ERR max number of clients reached")
		return false
	}
	s.wg.Add(1)
	s.metrics.accepted.Inc()
	nc := c.NetConn()
	ses := newSession(s.dir)
	ses.id, ses.count = s.lastID.Add(1), s.metrics.count
	ses.local, ses.laddr, ses.raddr = localAddr(nc.LocalAddr()), nc.LocalAddr().String(), nc.RemoteAddr().String()
	c.SetContext(ses)
	return true
}

// closed ends what accept began. It is the last that a connection's goroutine does.
func (s *Server) closed(redcon.Conn, error) {
	s.clients.Add(-1)
	s.wg.Done()
}

// serve answers one command; redcon calls it for one at a time per connection. Of
// a long pipeline it sends replies before it goes on, so that they don't pile up.
func serve(c redcon.Conn, cmd redcon.Command) {
	ses, ok := c.Context().(*session)
	if !ok || ses.over {
		return // commands behind a QUIT
	}
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	out, stay := ses.serve(args)
	c.WriteRaw(out)
	if !stay {
		_ = c.Close() // after what was written; an error leaves nothing to do
		return
	}
	if ses.unflushed += len(out); ses.unflushed > maxUnflushed {
		ses.unflushed = 0
		_ = redcon.BaseWriter(c).Flush() // the writer keeps its error, and redcon ends the connection by it
	}
}

// Status is the endpoint's part of the status.
type Status struct {
	Listen      string   `json:"listen"`
	Connections int64    `json:"connections"`
	Masters     []string `json:"masters"`
}

// Status returns a snapshot.
func (s *Server) Status() Status {
	return Status{Listen: s.o.Listener.Addr().String(), Connections: s.clients.Load(), Masters: s.dir.names()}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { s.metrics.describe(ch) }

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) { s.metrics.collect(ch, s.clients.Load()) }
