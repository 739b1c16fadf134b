package faultnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// dialTimeout bounds a relay's dial of its target.
const dialTimeout = 5 * time.Second

// Config says what a Relay connects.
type Config struct {
	Listen string // host:port to listen on; port 0 lets the system choose
	Target string // host:port to pass connections on to
}

// Relay passes TCP connections on to a target and misbehaves on request. Its
// methods are safe for concurrent use; a fault is in force when the call
// returns, for connections that exist and, but for Reset and HalfClose, for
// later ones.
type Relay struct {
	// Fixed at start.
	addr    string
	target  string
	cancel  context.CancelFunc
	closing <-chan struct{} // closed by cancel, or by the end of Start's context
	wg      sync.WaitGroup  // all goroutines

	mu       sync.Mutex   // guards the fields below
	listener net.Listener // nil while refusing, and after Close
	serve    func(net.Listener)
	sessions map[*session]struct{}
	links    map[string]*pair // by the host that clients connect from
	common   pair             // what those who come later begin with
	serial   uint64           // of the latest CutAfter
	failed   error            // why Admit could not listen again
	closed   bool
}

// Start listens and passes connections on until Close, or until ctx ends.
// Close must be called in any case.
func Start(ctx context.Context, c Config) (*Relay, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("faultnet: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Relay{
		addr:     l.Addr().String(),
		target:   c.Target,
		links:    make(map[string]*pair),
		common:   newPair(),
		cancel:   cancel,
		closing:  ctx.Done(),
		sessions: make(map[*session]struct{}),
	}
	r.serve = func(l net.Listener) {
		r.wg.Go(func() { r.accept(ctx, l) })
	}
	r.listener = l
	r.serve(l)
	r.wg.Go(func() { r.shutAtEnd(ctx) })
	return r, nil
}

// New starts a relay to target on a free port of 127.0.0.1, until the test ends.
func New(tb testing.TB, target string) *Relay {
	tb.Helper()
	r, err := Start(context.WithoutCancel(tb.Context()), Config{Listen: "127.0.0.1:0", Target: target})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// Addr returns the host:port that the relay listens on; it stays the same.
func (r *Relay) Addr() string { return r.addr }

// Close ends everything and waits for it. It returns why an Admit or Heal could
// not listen again, if one couldn't.
func (r *Relay) Close() error {
	r.cancel()
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// Stall holds back everything in dir, the ends of connections included, and
// closes nothing: Stall(Both) is a partition. What is under way is delivered
// after Heal, as TCP would repeat it. New connections are still accepted by the
// kernel, but with ToTarget stalled the target doesn't see them.
func (r *Relay) Stall(dir Direction) {
	r.change(dir, func(f *faults) { f.stalled = true })
}

// StallFrom is Stall(Both) for the clients that connect from one host, an IP
// address: a partition that runs between them and the target alone.
func (r *Relay) StallFrom(host string) {
	r.from(host).change(Both, func(f *faults) { f.stalled = true })
}

// Delay holds back each byte, in both directions, by d give or take jitter.
// Order is kept, and throughput up to a buffer of 256 KiB per d. (0, 0) ends it.
func (r *Relay) Delay(d, jitter time.Duration) {
	r.change(Both, func(f *faults) { f.late = lateness{base: d, jitter: jitter} })
}

// CutAfter closes each connection once n more bytes have passed in dir; exactly
// n arrive. Connections made later are counted from their start. With n 0 the
// next byte closes it and doesn't arrive.
func (r *Relay) CutAfter(dir Direction, n int64) {
	r.mu.Lock()
	r.serial++
	b := budget{serial: r.serial, bytes: n}
	r.mu.Unlock()
	r.change(dir, func(f *faults) { f.cut = b })
}

// Reset ends all connections with RST, on both sides, also while stalled.
func (r *Relay) Reset() {
	for _, s := range r.current() {
		s.reset()
	}
}

// HalfClose ends the input of dir's receivers on all connections, as shutdown(2)
// of their peers would; what is sent in dir from then on is dropped. The other
// direction goes on.
func (r *Relay) HalfClose(dir Direction) {
	for _, s := range r.current() {
		s.half(dir)
	}
}

// Heal ends Stall, Delay, CutAfter and Refuse.
func (r *Relay) Heal() {
	r.change(Both, func(f *faults) { *f = faults{} })
	r.Admit()
}

// Connections returns how many connections are open.
func (r *Relay) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// change edits the faults of all clients, and of those that are yet to come.
func (r *Relay) change(dir Direction, edit func(*faults)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.common.change(dir, edit)
	for _, p := range r.links {
		p.change(dir, edit)
	}
}

// from returns the links of clients that connect from host.
func (r *Relay) from(host string) *pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.links[host]
	if p == nil {
		p = r.common.clone()
		r.links[host] = p
	}
	return p
}

func (r *Relay) current() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*session, 0, len(r.sessions))
	for s := range r.sessions {
		all = append(all, s)
	}
	return all
}

// Refuse stops listening, so that new connections are refused by the kernel;
// those that exist go on. Admit or Heal end it.
func (r *Relay) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlisten()
}

// unlisten needs r.mu.
func (r *Relay) unlisten() {
	if r.listener != nil {
		_ = r.listener.Close() // nothing to lose
		r.listener = nil
	}
}

// Admit listens again after Refuse. If a stranger has taken the port it tries
// for some seconds, then stays refusing, and Close returns why.
func (r *Relay) Admit() {
	const attempts = 100
	for range attempts {
		if r.relisten() {
			return
		}
		if !pause(r.closing) {
			return
		}
	}
}

// relisten reports whether the relay listens, or has no more reason to.
func (r *Relay) relisten() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil || r.closed {
		return true
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", r.addr) // returns at once: the address is literal
	if err != nil {
		r.failed = fmt.Errorf("faultnet: listen again: %w", err)
		return false
	}
	r.listener, r.failed = l, nil
	r.serve(l)
	return true
}

// accept serves one listener until that is closed.
func (r *Relay) accept(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			if !pause(ctx.Done()) { // out of descriptors, or a client that has given up
				return
			}
			continue
		}
		client, ok := c.(*net.TCPConn)
		if !ok {
			_ = c.Close() // can't be: the listener is TCP
			continue
		}
		r.wg.Go(func() { r.carry(ctx, client) })
	}
}

// carry serves one client.
func (r *Relay) carry(ctx context.Context, client *net.TCPConn) {
	host, _, _ := net.SplitHostPort(client.RemoteAddr().String()) // of a TCP connection: it never fails
	links := r.from(host)
	if _, err := links.toTarget.open(ctx); err != nil {
		abort(client)
		return
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", r.target)
	if err != nil {
		abort(client)
		return
	}
	target, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close() // can't be: the network is TCP
		abort(client)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(client, target, links.toTarget, links.toClient, cancel)
	if !r.enter(s) {
		s.reset()
		return
	}
	s.run(ctx)
	r.leave(s)
}

// enter makes s known, unless the relay is closed.
func (r *Relay) enter(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.sessions[s] = struct{}{}
	return true
}

func (r *Relay) leave(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
}

// shutAtEnd closes the listener when ctx is done. Sessions see that themselves.
func (r *Relay) shutAtEnd(ctx context.Context) {
	<-ctx.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.unlisten()
}

// pause waits some 50 ms, or returns false when done is closed.
func pause(done <-chan struct{}) bool {
	t := time.NewTimer(30*time.Millisecond + rand.N(40*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
