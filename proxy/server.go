package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// AuthMode says who checks a client's login.
type AuthMode uint8

// The modes.
const (
	// AuthPassthrough lets each client log in to Redis as itself. A client that has
	// not, and that Redis wants to log in, gets NOAUTH here; nothing of it goes
	// further.
	AuthPassthrough AuthMode = iota
	// AuthNone lets every client use the account of the sidecar.
	AuthNone
)

// Options configure a Server. Group and Listeners are needed; the zero value of
// everything else works.
type Options struct {
	Group     string         // the master's name
	Listeners []net.Listener // the Server owns them from Run on
	// TLSListeners are more of them, whose clients speak TLS by the configuration
	// that ClientTLS returns for each handshake.
	TLSListeners     []net.Listener
	ClientTLS        func() *tls.Config
	HandshakeTimeout time.Duration // 0: 10 s
	Loops            int           // event loops; 0: max(1, GOMAXPROCS/2)
	// Dedicated gives every client a backend connection of its own, from its first
	// command after login to its end: nothing is shared, and what the sidecar answers
	// itself otherwise is answered by Redis.
	Dedicated bool
	// DenyCommands are refused: names, subcommands behind a "|", in any case. nil:
	// DefaultDenied; none: everything is Redis' to judge.
	DenyCommands []string
	Auth         AuthMode
	Username     string // the sidecar's account, for AuthNone and for what it asks itself
	Password     string // never logged
	// RetryWrites says which writes are sent again when their reply was lost.
	RetryWrites RetryMode
	// Outage says what commands get when no master has been served for long.
	Outage Outage
	// Dial opens connections to masters, in goroutines of the Server; nil: TCP with
	// a timeout of one second.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// NodeTLS has the connections that Dial opened speak TLS; nil: they are plain.
	NodeTLS NodeTLS
	// Report tells the control plane what the data path sees. It is called on event
	// loops and must return at once. nil: nobody is told.
	Report       func(topology.Report)
	DrainTimeout time.Duration // how long clients may finish at the end; 0: 10 s
	MaxClients   int           // 0: 10 000; one too many is answered as by Redis
	// LargeCommand is the size in bytes past which a command is not collected but
	// passed on as it comes, over a pipe of its own, and a reply likewise; 0: 1 MiB.
	LargeCommand int
	// QueryBufferLimit is how many bytes are read ahead of a client that sends
	// commands and does not read its replies; past it reading stops. 0: 256 MiB.
	QueryBufferLimit int
	OutputLimits     *OutputLimits // nil: DefaultOutputLimits
	// Allow is the networks that clients may come from; others are closed without a
	// word.
	Allow allow.List
	// IdleTimeout ends clients that have been silent for so long (see session.idle); 0:
	// none, as Redis' timeout.
	IdleTimeout time.Duration
	// ClientKeepalive and NodeKeepalive are how long a client, or a node, may be silent
	// before the kernel asks whether it is there. 0: 300 s, as Redis, and 60 s; less: never.
	ClientKeepalive, NodeKeepalive time.Duration
	// MaxUserPipes is how many shared connections one loop has at most, one for each
	// login, database and protocol version in use; 0: 1024.
	MaxUserPipes int
	// SlowCommand is how long a command takes at least that is logged as slow; 0: none is.
	SlowCommand time.Duration
	Driver      evloop.Driver
	// Linger has the event loops keep their processors for up to a millisecond when they
	// run out of work. It is for a process that has more processors than loops.
	Linger bool
	Log    *slog.Logger // nil: nothing is logged
}

// Server is the data path of one group: listeners, event loops, and the workers
// on them. Its methods are safe for concurrent use.
type Server struct {
	opts    Options
	loops   []*evloop.Loop
	workers []*worker
	dials   sync.WaitGroup
	dialCtx context.Context //nolint:containedctx // ends with Run; dials are started by loops, which have none to pass
	cancel  context.CancelFunc
	beats   []atomic.Int64 // when each loop was last seen to turn, since boot
	clients atomic.Int64   // TLS handshakes under way included

	outage     atomic.Pointer[Outage] // the last that was set
	allow      atomic.Pointer[allow.List]
	shakes     handshakes
	refusedTLS atomic.Uint64 // over MaxClients, before their handshake
	notAllowed atomic.Uint64 // by allow
	strangers  sometimes     // warns of them
	// failures say why a loop's connections to the master fail; nil: they do not.
	failures []atomic.Pointer[string]
	learner  *learner
	slow     slowLog
	began    time.Time
}

const (
	defaultDrain      = 10 * time.Second
	defaultMaxClients = 10000
	defaultUserPipes  = 1024

	defaultClientKeepalive = 300 * time.Second // Redis' tcp-keepalive
	// A subscriber's connection to the master may be silent for ever, and nothing but
	// keepalive tells that it has died.
	defaultNodeKeepalive = time.Minute
	dialTimeout          = time.Second
	beatEvery            = time.Second
	beatLimit            = 5 * time.Second
)

// DefaultLoops returns how many event loops a Server has whose Options do not say.
func DefaultLoops() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// New checks the options and makes the event loops. Nothing runs before Run.
func New(o Options) (*Server, error) {
	if o.Group == "" {
		return nil, errors.New("proxy: Group is missing")
	}
	if o.Loops <= 0 {
		o.Loops = DefaultLoops()
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = defaultDrain
	}
	if o.MaxClients <= 0 {
		o.MaxClients = defaultMaxClients
	}
	o.ClientKeepalive = cmp.Or(o.ClientKeepalive, defaultClientKeepalive)
	o.NodeKeepalive = cmp.Or(o.NodeKeepalive, defaultNodeKeepalive)
	if len(o.TLSListeners) > 0 && o.ClientTLS == nil {
		return nil, errors.New("proxy: TLSListeners without ClientTLS")
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = handshakeTimeout
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if o.DenyCommands == nil {
		o.DenyCommands = DefaultDenied()
	}
	if o.Report == nil {
		o.Report = func(topology.Report) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o, beats: make([]atomic.Int64, o.Loops), failures: make([]atomic.Pointer[string], o.Loops)}
	s.outage.Store(&o.Outage)
	s.allow.Store(&o.Allow)
	guessers, access := newGuessers(), new(atomic.Uint64)
	s.slow = slowLog{log: o.Log, ch: make(chan slowCommand, slowRoom)}
	s.began = time.Now()
	s.dialCtx, s.cancel = context.WithCancel(context.Background())
	s.shakes.ctx, s.shakes.cancel = context.WithCancel(context.Background())
	s.shakes.gate = make(evloop.Gate, max(1, runtime.GOMAXPROCS(0)/2)) // the rest is for those who are connected
	cmds := newCommands(o.DenyCommands)
	for i := range o.Loops {
		l, err := evloop.New(evloop.Options{Driver: o.Driver, Linger: o.Linger, Log: o.Log})
		if err != nil {
			s.cancel()
			for _, l := range s.loops {
				l.Close()
			}
			return nil, fmt.Errorf("proxy: %w", err)
		}
		s.loops = append(s.loops, l)
		w := newWorker(&loopHost{server: s, loop: l, index: i}, i, &s.opts, cmds)
		w.guessers, w.access = guessers, access
		w.slow = s.slow.ch
		begin := l.Now()
		l.OnTurn(func(now time.Time) { w.tick = 1 + uint64(now.Sub(begin)/time.Microsecond) })
		s.workers = append(s.workers, w)
		s.beats[i].Store(int64(boottime.Now()))
	}
	s.learner = newLearner(s)
	return s, nil
}

// Run serves until ctx is done, then drains: it stops accepting, closes idle
// clients, lets the others finish what they have asked for, and ends those that
// are left at DrainTimeout with an error. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.cancel()
	defer s.shakes.running.Wait()
	defer s.shakes.cancel()
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(runCtx)
	for i, l := range s.loops {
		g.Go(func() error { return l.Run(gctx) })
		g.Go(func() error { s.beat(gctx, i); return nil })
	}
	g.Go(func() error { s.learner.run(gctx); return nil })
	g.Go(func() error { s.slow.run(gctx); return nil })
	if err := s.listen(); err != nil {
		stop()
		return errors.Join(err, g.Wait())
	}
	select {
	case <-ctx.Done():
		s.drain(gctx)
	case <-gctx.Done(): // a loop failed
	}
	stop()
	s.cancel()
	err := g.Wait()
	s.dials.Wait()
	return err
}

// listen has the first loop accept for all of them.
func (s *Server) listen() error {
	errs := make(chan error, 1)
	err := s.loops[0].Post(func() {
		for _, ln := range s.opts.Listeners {
			if err := s.loops[0].Listen(ln, s.accept); err != nil {
				errs <- err
				return
			}
		}
		for _, ln := range s.opts.TLSListeners {
			if err := s.loops[0].Listen(ln, s.acceptTLS); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	})
	if err != nil {
		return err
	}
	return <-errs
}

// emptiest returns the loop that has the fewest connections.
func (s *Server) emptiest() int {
	best := 0
	for i, l := range s.loops {
		if l.Len() < s.loops[best].Len() {
			best = i
		}
	}
	return best
}

// SetAllow changes the networks that clients may come from. Those that are connected
// stay. It is safe for concurrent use.
func (s *Server) SetAllow(l allow.List) { s.allow.Store(&l) }

// admits reports whether a new client may connect. One that may not is closed without
// a word, as by a firewall.
func (s *Server) admits(sock evloop.Socket) bool {
	peer := sock.Peer()
	if s.allow.Load().Allows(peer.Addr()) {
		if !peer.IsValid() { // a Unix socket
			return true
		}
		sock.SetKeepalive(evloop.Keepalive{Idle: s.opts.ClientKeepalive})
		return true
	}
	sock.Close()
	s.notAllowed.Add(1)
	if more, ok := s.strangers.now(); ok {
		s.opts.Log.Warn("a client from a network that may not connect was turned away", "client", peer.String(), "unlogged_before", more)
	}
	return false
}

// accept gives a new connection to the loop that has the fewest. It runs on the
// first loop.
func (s *Server) accept(sock evloop.Socket) {
	if !s.admits(sock) {
		return
	}
	i := s.emptiest()
	adopt := func() {
		s.adopt(i, s.clients.Add(1) > int64(s.opts.MaxClients), func(build func(*evloop.Conn) evloop.Handler) error {
			_, err := s.loops[i].Add(sock, build)
			return err
		})
	}
	if i == 0 {
		adopt()
		return
	}
	if err := s.loops[i].TryPost(adopt); err != nil {
		sock.Close() // the loop is ending, or tens of thousands wait for it already
	}
}

// adopt makes the session of a client, counted already, on its loop. full has it
// turned away; add gives its connection to the loop.
func (s *Server) adopt(i int, full bool, add func(func(*evloop.Conn) evloop.Handler) error) { //nolint:revive // full is what max-clients says
	w := s.workers[i]
	err := add(func(c *evloop.Conn) evloop.Handler {
		sess := w.accept(c)
		if full {
			w.stats.refusedClients++
			sess.replyError("ERR max number of clients reached")
			sess.end()
		} else if w.draining {
			sess.end()
		}
		return &client{session: sess, server: s}
	})
	if err != nil {
		s.clients.Add(-1)
		s.opts.Log.Warn("client connection could not be served", "err", err)
	}
}

// client joins a session to its loop: after each event it runs what the event
// has set free.
type client struct {
	*session

	server *Server
}

// Data implements evloop.Handler.
func (c *client) Data(b []byte) {
	c.session.Data(b)
	c.w.pump()
}

// EOF implements evloop.Handler.
func (c *client) EOF() {
	c.session.EOF()
	c.w.pump()
}

// Left implements evloop.Leaver.
func (c *client) Left() {
	c.session.Left()
	c.w.pump()
}

// Wrote implements evloop.Handler.
func (c *client) Wrote(n int) {
	c.session.Wrote(n)
	c.w.pump()
}

// Closed implements evloop.Handler.
func (c *client) Closed(err error) {
	c.server.clients.Add(-1)
	c.session.Closed(err)
	c.w.pump()
}

// SetRoute has every loop obey r, unless it has a newer one. It does not wait
// for them: they report ReportHeld once they send nothing more. r.Group must be
// the Server's.
func (s *Server) SetRoute(r topology.Route) {
	for i, l := range s.loops {
		w := s.workers[i]
		_ = l.Post(func() { w.setRoute(r) }) // fails only when the loop has ended
	}
}

// drain ends the clients' connections in an orderly way.
func (s *Server) drain(ctx context.Context) {
	s.shakes.cancel() // who has not finished has asked for nothing
	for i, l := range s.loops {
		w := s.workers[i]
		_ = l.Post(func() {
			l.StopListening()
			w.drain()
		})
	}
	timeout := time.NewTimer(s.opts.DrainTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.clients.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-timeout.C:
			s.endClients(ctx)
			return
		}
	}
}

// endClients tells the clients that are left, and gives the loops a moment to
// write it.
func (s *Server) endClients(ctx context.Context) {
	s.opts.Log.Warn("drain timeout reached, ending the clients that are left", "clients", s.clients.Load())
	for i, l := range s.loops {
		w := s.workers[i]
		_ = l.Post(w.endAll)
	}
	last := time.NewTimer(500 * time.Millisecond)
	defer last.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.clients.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-last.C:
			return
		}
	}
}

// beat sees that a loop still turns.
func (s *Server) beat(ctx context.Context, i int) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = s.loops[i].TryPost(func() {
				now := boottime.Now()
				s.beats[i].Store(int64(now))
				s.workers[i].second = now
			})
		}
	}
}

// Alive reports whether every event loop has turned within the last five seconds.
func (s *Server) Alive() bool {
	now := boottime.Now()
	for i := range s.beats {
		if now-time.Duration(s.beats[i].Load()) > beatLimit {
			return false
		}
	}
	return true
}

// Ready reports whether the master takes our connections, as far as any was tried,
// and if not why.
func (s *Server) Ready() (ok bool, reason string) {
	for i := range s.failures {
		if why := s.failures[i].Load(); why != nil {
			return false, "the master turns our connections away: " + *why
		}
	}
	return true, ""
}
