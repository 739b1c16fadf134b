package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// loopHost is a worker's world on a real event loop.
type loopHost struct {
	server *Server
	loop   *evloop.Loop
	index  int
}

func (*loopHost) now() time.Duration { return boottime.Now() }

func (h *loopHost) after(d time.Duration, f func()) timer { return h.loop.After(d, f) }

func (h *loopHost) failing(why string) {
	if why == "" {
		h.server.failures[h.index].Store(nil)
		return
	}
	h.server.failures[h.index].Store(&why)
}

func (h *loopHost) everywhere(look func(w *worker, done func(found)), then func(found)) {
	s := h.server
	var mu sync.Mutex // guards sum and left
	var sum found
	left := len(s.loops)
	done := func(f found) (all bool) {
		mu.Lock()
		defer mu.Unlock()
		sum.lines = append(sum.lines, f.lines...)
		sum.n += f.n
		sum.self = sum.self || f.self
		if f.reply != nil {
			sum.reply = f.reply
		}
		left--
		return left == 0
	}
	finish := func(f found, from *evloop.Loop) {
		if done(f) {
			across(from, h.loop, func() { then(sum) }, func() {}) // else the loop has ended, and the client with it
		}
	}
	for i, l := range s.loops {
		w := s.workers[i]
		across(h.loop, l,
			func() { look(w, func(f found) { finish(f, l) }); w.pump() },
			func() { finish(found{}, h.loop) })
	}
}

// acrossRest is how long a loop rests before it tries again to post to one whose
// queue is full.
const acrossRest = 5 * time.Millisecond

// across posts f from one loop to another. It never waits: two loops that waited for
// room in each other's queues would do so for ever. Where there is none it tries again
// later, for as long as it takes; ended is called if the other loop has ended. It is
// called on from.
func across(from, to *evloop.Loop, f, ended func()) {
	switch err := to.TryPost(f); {
	case errors.Is(err, evloop.ErrFull):
		from.After(acrossRest, func() { across(from, to, f, ended) })
	case err != nil:
		ended()
	}
}

func (h *loopHost) learn(want wanted) { h.server.learner.want(want) }

func (h *loopHost) report(r topology.Report) { h.server.opts.Report(r) }

// dial connects in a goroutine that Run waits for, and hands the connection to
// the loop.
func (h *loopHost) dial(addr topology.Addr, p *pipe, done func(wire, error)) {
	s := h.server
	s.dials.Go(func() {
		ctx, cancel := context.WithTimeout(s.dialCtx, dialTimeout)
		defer cancel()
		nc, err := s.opts.Dial(ctx, "tcp", string(addr))
		var sock evloop.Socket
		var secure *evloop.TLS
		switch {
		case err != nil:
		case s.opts.NodeTLS == nil:
			sock, err = evloop.Detach(nc, s.opts.Driver)
		default:
			secure, err = evloop.ClientTLS(ctx, nc, s.opts.NodeTLS.Client(string(addr)), s.opts.Driver)
			err = s.opts.NodeTLS.Explain(ctx, string(addr), err)
		}
		keepalive := evloop.Keepalive{Idle: s.opts.NodeKeepalive, Unacked: true}
		switch {
		case err != nil:
		case secure != nil:
			secure.SetKeepalive(keepalive)
		default:
			sock.SetKeepalive(keepalive)
		}
		end := func() {
			if secure != nil {
				secure.Close()
			} else {
				sock.Close()
			}
		}
		posted := h.loop.Post(func() {
			if err != nil {
				done(nil, err)
				return
			}
			if p.state != pipeDialing {
				end() // given up meanwhile
				return
			}
			var c *evloop.Conn
			if secure != nil {
				c, err = h.loop.AddTLS(secure, func(*evloop.Conn) evloop.Handler { return explainedPipe{p, s.opts.NodeTLS} })
			} else {
				c, err = h.loop.Add(sock, func(*evloop.Conn) evloop.Handler { return p })
			}
			if err != nil {
				done(nil, err)
				return
			}
			done(c, nil)
		})
		if posted != nil && err == nil {
			end()
		}
	})
}
