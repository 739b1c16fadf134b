package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

const (
	maxQuery     = 128 << 10        // bytes of one command; a Sentinel's commands have some dozens
	batch        = 16 << 10         // bytes of commands handed over at once, the last one's rest aside
	writeTimeout = 10 * time.Second // a client that reads nothing for so long is cut off
)

// guard is a connection whose Read gives complete commands in array form, of at
// most maxQuery bytes each, and whose Write gives up on a client that does not read.
//
// It stands before redcon, whose reader takes a bulk length near 2^63 for an index
// and panics, recurses once per read of an incomplete command, and grows its buffer
// without a limit, by commands that were answered long ago too as long as each read
// ends within one. Framed here, each Read that empties ready ends where a command
// ends, and redcon's buffer begins anew. Limits and errors are thereby Redis' own.
type guard struct {
	net.Conn

	breach func(error) // told of each breach of the protocol

	// Owned by Read.
	req   resp.Requests
	in    []byte // read and not framed
	ready []byte // framed and not handed over
	ended bool
}

// Read implements net.Conn. After a breach of the protocol it answers in Redis'
// words, all earlier commands having been answered, and returns io.EOF.
func (g *guard) Read(p []byte) (int, error) {
	for len(g.ready) == 0 {
		if g.ended {
			return 0, io.EOF
		}
		if err := g.frame(); err != nil {
			if len(g.ready) > 0 {
				break // those first: frame fails at the same place again
			}
			g.ended = true
			g.breach(err)
			_, _ = g.Write(resp.AppendError(nil, "ERR "+err.Error())) // it closes next, whatever comes of this
			return 0, io.EOF
		}
		if len(g.ready) > 0 {
			break
		}
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.ready)
	if g.ready = g.ready[n:]; len(g.ready) == 0 {
		g.ready = nil
	}
	return n, nil
}

// fill reads more of the client's bytes.
func (g *guard) fill() error {
	const chunk = 2 << 10
	if cap(g.in)-len(g.in) < chunk/2 {
		g.in = append(make([]byte, 0, 2*len(g.in)+chunk), g.in...)
	}
	n, err := g.Conn.Read(g.in[len(g.in):cap(g.in)])
	g.in = g.in[:len(g.in)+n]
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// frame moves complete commands from in to ready, rewritten as arrays of bulk
// strings.
func (g *guard) frame() error {
	for len(g.ready) < batch && len(g.in) > 0 {
		n, inline, err := g.req.Next(g.in)
		if err != nil {
			return err
		}
		if n > maxQuery || max(len(g.in), g.req.Need()) > maxQuery && n == 0 {
			return resp.ProtocolError("too big query for a Sentinel (sentinelproxy)")
		}
		if n == 0 {
			return nil
		}
		args, ok := resp.Args(nil, g.in[:n]), true
		if inline {
			args, ok = resp.SplitInline(g.in[:n])
		}
		if !ok {
			return resp.ProtocolError("unbalanced quotes in request")
		}
		if len(args) > 0 { // an empty command is none
			g.ready = resp.AppendCommand(g.ready, args...)
		}
		if g.in = g.in[n:]; len(g.in) == 0 {
			g.in = nil
		}
	}
	return nil
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// guardedListener accepts connections with a guard each. redcon calls Accept again
// at once after any error, so it waits here: when file descriptors have run out, or
// for good when the context has ended.
type guardedListener struct {
	net.Listener

	done   <-chan struct{} // closed when no more shall be accepted
	admits func(net.Conn) bool
	breach func(error)
	failed func(error) // told of each error that is no end
}

// Accept implements net.Listener. Its only error is net.ErrClosed.
func (l *guardedListener) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.Listener.Accept()
		if err == nil {
			if l.admits(c) {
				return &guard{Conn: c, breach: l.breach}, nil
			}
			_ = c.Close()
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, net.ErrClosed
		}
		l.failed(err)
		t := time.NewTimer(pause)
		select {
		case <-l.done:
			t.Stop()
			return nil, net.ErrClosed
		case <-t.C:
		}
	}
}

// closeWhenDone closes ln when ctx ends, until the returned function is called.
func closeWhenDone(ctx context.Context, ln net.Listener) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = ln.Close() }) // closed already at worst
}
