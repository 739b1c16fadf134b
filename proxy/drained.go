package proxy

import (
	"context"
	"time"
)

// drainedEvery is how often a loop is asked whether anything is under way on it.
const drainedEvery = time.Millisecond

// Drained waits until every loop obeys the route of gen, or a later one, and nothing
// that a client sent is under way to a master: each such command has been answered, or
// was never sent. It is for a route that holds, and says nothing once one serves
// again. It returns ctx's error if that ends first.
func (s *Server) Drained(ctx context.Context, gen uint64) error {
	tick := time.NewTicker(drainedEvery)
	defer tick.Stop()
	for i := range s.loops {
		for {
			done, err := s.drained(ctx, i, gen)
			if err != nil {
				return err
			}
			if done {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
	}
	return nil
}

func (s *Server) drained(ctx context.Context, i int, gen uint64) (bool, error) {
	w := s.workers[i]
	answer := make(chan bool, 1) // one value: never full
	if err := s.loops[i].Post(func() { answer <- w.route.Gen >= gen && !w.underWay() }); err != nil {
		return false, err
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case done := <-answer:
		return done, nil
	}
}

// underWay reports whether any command of a client has gone out, wholly or in part, and
// is not answered yet.
func (w *worker) underWay() bool {
	for _, p := range w.allPipes() {
		if p.underWay() {
			return true
		}
	}
	return false
}

// underWay is the worker's, of one pipe. What a pipe keeps back does not count: while a
// route holds, Output lets nothing new out.
func (p *pipe) underWay() bool {
	if p.partial {
		return true
	}
	pos := p.head
	for i := range p.queue.len() {
		e := p.queue.at(i)
		if e.s != nil && (pos < p.sent || e.meta&metaBegun != 0) {
			return true
		}
		if pos >= p.sent {
			return false
		}
		pos += int(e.n)
	}
	return false
}
