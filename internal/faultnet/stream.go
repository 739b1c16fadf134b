package faultnet

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

const (
	chunkSize  = 16 << 10
	queueDepth = 16 // chunks under way in one direction of one connection
)

// chunk is bytes on their way, or the end of them.
type chunk struct {
	data []byte
	at   time.Time // when they arrived at the relay
	err  error     // io.EOF, or how reading failed; data is then empty
}

// stream carries one direction of one connection, by two goroutines: fetch
// notes when bytes arrive, deliver lets them go when the link allows. Between
// them is a bounded queue; when it is full fetch reads no more, so the sender
// meets TCP's own back-pressure.
type stream struct {
	link     *link
	src, dst *net.TCPConn
	queue    chan chunk    // closed by fetch
	halfShut chan struct{} // closed by HalfClose: deliver ends dst's input, then drops all
}

func newStream(l *link, src, dst *net.TCPConn) *stream {
	return &stream{
		link: l, src: src, dst: dst,
		queue:    make(chan chunk, queueDepth),
		halfShut: make(chan struct{}),
	}
}

// fetch reads until src ends. Closing src ends it; deliver must still be draining
// the queue or ctx be done.
func (s *stream) fetch(ctx context.Context) {
	defer close(s.queue)
	for {
		buf := make([]byte, chunkSize)
		n, err := s.src.Read(buf)
		now := time.Now()
		if n > 0 && !s.put(ctx, chunk{data: buf[:n], at: now}) {
			return
		}
		if err != nil {
			s.put(ctx, chunk{at: now, err: err})
			return
		}
	}
}

func (s *stream) put(ctx context.Context, c chunk) bool {
	select {
	case s.queue <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

// verdict is how a stream ended.
type verdict uint8

const (
	ended verdict = iota // src's end was passed on to dst
	cut                  // the budget is used up: close both sides
	broke                // an error on either side: reset both
)

// deliver writes what fetch reads, subject to the link's faults. An end of
// stream is held up by a stall like any byte: a partition hides it. It returns
// broke when ctx is done.
func (s *stream) deliver(ctx context.Context) verdict {
	var m meter
	var ahead time.Time // when the chunk before this one was due
	for {
		var c chunk
		more := true
		select {
		case c, more = <-s.queue:
		case <-s.halfShut:
		case <-ctx.Done():
			return broke
		}
		if !more {
			return broke
		}
		if s.isHalfShut() {
			_ = s.dst.CloseWrite() // fails if dst is gone, which its reader sees
			return s.drop(ctx, c)
		}
		f, _ := s.link.state()
		ahead = f.late.due(c.at, ahead)
		if done, v := s.pass(ctx, &m, c, ahead); done {
			return v
		}
	}
}

func (s *stream) isHalfShut() bool {
	select {
	case <-s.halfShut:
		return true
	default:
		return false
	}
}

// pass delivers one chunk at its time.
func (s *stream) pass(ctx context.Context, m *meter, c chunk, due time.Time) (done bool, v verdict) {
	if s.link.until(ctx, due) != nil {
		return true, broke
	}
	f, err := s.link.open(ctx)
	if err != nil {
		return true, broke
	}
	if errors.Is(c.err, io.EOF) {
		_ = s.dst.CloseWrite() // fails if dst is gone, which its reader sees
		return true, ended
	}
	if c.err != nil {
		return true, broke
	}
	n, last := m.allow(f.cut, len(c.data))
	if _, err := s.dst.Write(c.data[:n]); err != nil {
		return true, broke
	}
	if last {
		_ = s.dst.CloseWrite() // so that the bytes before it arrive for sure
		return true, cut
	}
	return false, 0
}

// drop forgets c and all that src sends after it, to its end.
func (s *stream) drop(ctx context.Context, c chunk) verdict {
	for more := true; more; {
		switch {
		case errors.Is(c.err, io.EOF):
			return ended
		case c.err != nil:
			return broke
		}
		select {
		case c, more = <-s.queue:
		case <-ctx.Done():
			return broke
		}
	}
	return broke
}
