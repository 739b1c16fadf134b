package redistest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// Strain tells how late a busy machine let this process and a group's processes run. What
// a test finds out about times says something of the product only where nobody ran late:
// a test that finds something wrong with them asks Late whether it was disturbed, and
// tries again. What must hold however late somebody runs is never judged by it.
type Strain struct {
	mu      sync.Mutex // guards the fields below
	late    []span
	pending map[int]time.Time // since when each watcher waits; none for those that do not
}

// span is a time in which somebody waited for longer than notable.
type span struct{ from, to time.Time }

// notable is how late a process that has nothing to wait for may be on a quiet machine.
const notable = 5 * time.Millisecond

// pausedNoticed is how soon it is noticed that a node that was asked is paused.
const pausedNoticed = 20 * time.Millisecond

// strainEvery is how often each process is looked at.
const strainEvery = 10 * time.Millisecond

// WatchStrain watches this process and those of g until the test ends. A node that is
// paused or dead is not watched meanwhile.
func (g *Group) WatchStrain(tb testing.TB) *Strain {
	tb.Helper()
	s := &Strain{pending: make(map[int]time.Time)}
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { s.watch(ctx, 0, func() bool { return true }) })
	for i, n := range g.all() {
		wg.Go(func() {
			l := &strainLine{node: n}
			defer l.close()
			s.watch(ctx, i+1, func() bool { return l.ping(ctx) })
		})
	}
	tb.Cleanup(func() { stop(); wg.Wait() })
	return s
}

// Late returns how late anybody was at worst at a time between from and to.
func (s *Strain) Late(from, to time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var worst time.Duration
	see := func(w span) {
		if w.to.After(from) && w.from.Before(to) {
			worst = max(worst, w.to.Sub(w.from))
		}
	}
	for _, w := range s.late {
		see(w)
	}
	for _, since := range s.pending {
		see(span{since, time.Now()})
	}
	return worst
}

// watch calls ask again and again, and notes when that, or to be called, takes long. An
// ask that returns false says nothing.
func (s *Strain) watch(ctx context.Context, id int, ask func() bool) {
	for {
		due := time.Now().Add(strainEvery)
		s.begin(id, due)
		if pause(ctx, strainEvery) != nil {
			s.answered(id)
			return
		}
		told := ask()
		if s.answered(id); told {
			s.waited(due, time.Now())
		}
	}
}

func (s *Strain) begin(id int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[id] = at
}

func (s *Strain) answered(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, id)
}

func (s *Strain) waited(from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to.Sub(from) > notable {
		s.late = append(s.late, span{from, to})
	}
}

// strainLine is a connection to a node that is asked for nothing but a sign of life. It
// sends no password: a refusal is one.
type strainLine struct {
	node *Node
	nc   net.Conn
	r    *bufio.Reader
}

// ping reports whether the node has answered, over a connection that there was.
func (l *strainLine) ping(ctx context.Context) bool {
	if !l.node.serving() {
		l.close()
		return false
	}
	fresh := l.nc == nil
	if fresh {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", string(l.node.direct))
		if err != nil {
			return false
		}
		if l.node.tls != nil {
			nc = tls.Client(nc, l.node.tls)
		}
		l.nc, l.r = nc, bufio.NewReader(nc)
	}
	nc := l.nc
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now()) })()
	_, err := nc.Write([]byte("PING\r\n"))
	for err == nil {
		_ = nc.SetReadDeadline(time.Now().Add(pausedNoticed))
		if _, err = l.r.ReadString('\n'); err == nil {
			return !fresh
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() && ctx.Err() == nil && l.node.serving() {
			err = nil // it is late; or else it was paused
		}
	}
	l.close()
	return false
}

func (l *strainLine) close() {
	if l.nc != nil {
		_ = l.nc.Close()
	}
	l.nc = nil
}
