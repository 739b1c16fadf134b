package faultnet

import (
	"context"
	"errors"
	"net"
	"sync"
)

// session is one client's connection and the one that the relay made to the
// target for it.
type session struct {
	client, target *net.TCPConn
	toTarget       *stream
	toClient       *stream
	halve          map[*stream]*sync.Once // each direction is half-closed once
	cancel         context.CancelFunc     // ends run
}

// newSession starts nothing. cancel must end the context that run will get.
func newSession(client, target *net.TCPConn, toTarget, toClient *link, cancel context.CancelFunc) *session {
	s := &session{
		cancel:   cancel,
		client:   client,
		target:   target,
		toTarget: newStream(toTarget, client, target),
		toClient: newStream(toClient, target, client),
	}
	s.halve = map[*stream]*sync.Once{s.toTarget: {}, s.toClient: {}}
	return s
}

// run carries bytes until both directions have ended, one has failed or been
// cut, or ctx is done. It returns when its goroutines have, with both
// connections closed.
func (s *session) run(ctx context.Context) {
	var wg sync.WaitGroup
	verdicts := make(chan verdict, 2) // one per stream: never full
	for _, st := range []*stream{s.toTarget, s.toClient} {
		wg.Go(func() { st.fetch(ctx) })
		wg.Go(func() { verdicts <- st.deliver(ctx) })
	}
	v := <-verdicts
	if v == ended {
		v = <-verdicts // the other direction may go on
	}
	if v == broke {
		s.reset()
	}
	s.close() // wakes the readers
	s.cancel()
	wg.Wait()
}

// half ends dir's receiver's input.
func (s *session) half(dir Direction) {
	if dir&ToTarget != 0 {
		s.halve[s.toTarget].Do(func() { close(s.toTarget.halfShut) })
	}
	if dir&ToClient != 0 {
		s.halve[s.toClient].Do(func() { close(s.toClient.halfShut) })
	}
}

// reset ends both connections with RST, losing what is under way, and run.
func (s *session) reset() {
	abort(s.client)
	abort(s.target)
	s.cancel()
}

func (s *session) close() {
	_ = errors.Join(s.client.Close(), s.target.Close()) // closed before: fine
}

// abort closes c with RST.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only if c is closed, as does Close
	_ = c.Close()
}
