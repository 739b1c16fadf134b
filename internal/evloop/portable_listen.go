package evloop

import (
	"net"
	"sync"
)

// maxAccepted bounds the connections that one listener has accepted and the loop
// has not taken; at the bound the next ones stay in the kernel's backlog.
const maxAccepted = 16

// portListener is one listener of the portable driver: a goroutine that accepts.
type portListener struct {
	// Fixed at construction.
	p    *portable
	ln   *listener
	cond *sync.Cond // on p.mu: one of the fields below has changed

	// Guarded by p.mu.
	conns   []net.Conn
	err     error // of the last accept, until the loop has heard of it
	resting bool
	closed  bool
}

func (p *portable) listen(a *listener) error {
	pl := &portListener{p: p, ln: a, cond: sync.NewCond(&p.mu)}
	a.pl = pl
	p.mu.Lock()
	p.accepting = append(p.accepting, pl)
	p.mu.Unlock()
	p.wg.Go(pl.accepts)
	return nil
}

// ready reports whether the loop has something to take. p.mu is held.
func (pl *portListener) ready() bool {
	return !pl.closed && !pl.resting && (len(pl.conns) > 0 || pl.err != nil)
}

// accepts is the acceptor goroutine; closing the listener ends it.
func (pl *portListener) accepts() {
	for pl.mayAccept() {
		pl.accepted(pl.ln.ln.Accept())
	}
}

// mayAccept waits until the next connection may be accepted, and reports false
// when the listener is closed.
func (pl *portListener) mayAccept() bool {
	pl.p.mu.Lock()
	defer pl.p.mu.Unlock()
	for !pl.closed && (pl.resting || pl.err != nil || len(pl.conns) >= maxAccepted) {
		pl.cond.Wait()
	}
	return !pl.closed
}

func (pl *portListener) accepted(nc net.Conn, err error) {
	pl.p.mu.Lock()
	defer pl.p.mu.Unlock()
	switch {
	case err != nil:
		pl.err = err
	case pl.closed:
		_ = nc.Close()
	default:
		pl.conns = append(pl.conns, nc)
	}
	pl.p.wake()
}

func (p *portable) accept(a *listener) (Socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl := a.pl
	pl.cond.Signal()
	if len(pl.conns) > 0 {
		nc := pl.conns[0]
		pl.conns = append(pl.conns[:0], pl.conns[1:]...)
		return Socket{nc: nc}, nil
	}
	if err := pl.err; err != nil {
		pl.err = nil
		return Socket{}, err
	}
	return Socket{}, errAgain
}

func (p *portable) updateListen(a *listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.pl.resting = a.resting
	a.pl.cond.Signal()
	p.wake()
}

func (p *portable) unlisten(a *listener) {
	if a.closed {
		return
	}
	a.closed = true
	p.mu.Lock()
	pl := a.pl
	pl.closed = true
	conns := pl.conns
	pl.conns = nil
	for i, other := range p.accepting {
		if other == pl {
			p.accepting = append(p.accepting[:i], p.accepting[i+1:]...)
			break
		}
	}
	pl.cond.Signal()
	p.mu.Unlock()
	_ = a.ln.Close() // ends the Accept under way
	for _, nc := range conns {
		_ = nc.Close()
	}
}
