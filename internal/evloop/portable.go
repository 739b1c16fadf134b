package evloop

import (
	"errors"
	"net"
	"sync"
	"time"
)

// networkUnix is what net calls stream sockets in the file system, and what we
// call the address of such a peer.
const networkUnix = "unix"

// portable is the driver for every system: goroutines over net.Conn that do the
// waiting, and a list of who has something for the loop. It is level-triggered
// like epoll: who is on the list stays there until nothing is left to report.
//
// Lock order: only mu. Nothing that may block is done under it.
type portable struct {
	wg sync.WaitGroup // every goroutine of this driver; close waits for it

	// Owned by the loop.
	events []event
	timer  *time.Timer

	signal chan struct{} // one token: something is on the list, or wake; a second is not needed

	mu        sync.Mutex // guards the fields below, and those of every portConn and portListener
	ready     []*portConn
	accepting []*portListener
	lingering map[*portConn]struct{} // removed, but still writing what was taken
}

func newPortable() poller {
	p := &portable{
		signal:    make(chan struct{}, 1),
		lingering: make(map[*portConn]struct{}),
		timer:     time.NewTimer(time.Hour),
	}
	p.timer.Stop()
	return p
}

func (p *portable) wait(d time.Duration) ([]event, error) {
	if p.collect(); len(p.events) > 0 || d == 0 {
		return p.events, nil
	}
	var timeout <-chan time.Time
	if d > 0 {
		p.timer.Reset(d)
		timeout = p.timer.C
	}
	select {
	case <-p.signal:
	case <-timeout:
	}
	p.timer.Stop()
	p.collect()
	return p.events, nil
}

// collect makes the events of everyone on the list, and forgets those who have
// nothing to report any more.
func (p *portable) collect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = p.events[:0]
	conns := p.ready[:0]
	for _, pc := range p.ready {
		if f := pc.flags(); f != 0 {
			p.events = append(p.events, event{conn: pc.conn, flags: f})
			conns = append(conns, pc)
		} else {
			pc.isReady = false
		}
	}
	clear(p.ready[len(conns):])
	p.ready = conns
	for _, pl := range p.accepting {
		if pl.ready() {
			p.events = append(p.events, event{accept: pl.ln})
		}
	}
}

// markLocked puts pc on the list and wakes the loop.
func (p *portable) markLocked(pc *portConn) {
	if !pc.isReady {
		pc.isReady = true
		p.ready = append(p.ready, pc)
	}
	p.wake()
}

func (p *portable) wake() {
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// close waits for every goroutine. What was removed with bytes still to write
// has closeLinger left.
func (p *portable) close() {
	p.mu.Lock()
	for pc := range p.lingering {
		_ = pc.nc.SetWriteDeadline(time.Now().Add(closeLinger))
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func addrString(a net.Addr) string {
	switch {
	case a == nil:
		return ""
	case a.Network() == networkUnix:
		return networkUnix
	}
	return a.String()
}

// errNotPortable says that a Socket was detached for another driver.
var errNotPortable = errors.New("evloop: not a socket of the portable driver")
