package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
)

// NodeTLS makes the data path's connections to nodes speak TLS.
type NodeTLS interface {
	// Client returns the configuration for one handshake with the node at addr.
	Client(addr string) *tls.Config
	// Explain adds to an error of TLS with that node what it means; nil says that a
	// handshake went well. It may ask the node, within ctx or 300 ms.
	Explain(ctx context.Context, addr string, err error) error
}

const (
	// handshakeTimeout is how long a client may take for its handshake.
	handshakeTimeout = 10 * time.Second
	// mayTell is how long a client that speaks no TLS has to take our answer.
	mayTell = 100 * time.Millisecond
)

// handshakes are the TLS handshakes with clients. They run in goroutines, one for
// each, which the Server's Run waits for; every one holds a place of max-clients.
type handshakes struct {
	gate    evloop.Gate // bounds those that compute; those that wait for a client are not counted
	running sync.WaitGroup
	ctx     context.Context //nolint:containedctx // ends when the Server drains; handshakes are started by a loop, which has none to pass
	cancel  context.CancelFunc
	pending atomic.Int64

	done     [shakesEnd]atomic.Uint64
	warnings [shakesEnd]sometimes
}

// shake is how a handshake with a client ended.
type shake uint8

const (
	shakeOK      shake = iota
	shakePlain         // the client speaks Redis without TLS
	shakeTimeout       // it took longer than handshakeTimeout
	shakeFailed        // by either end's decision
	shakeGone          // the client went away, or we are stopping
	shakesEnd
)

func (k shake) String() string {
	return [...]string{"ok", "plain", "timeout", "failed", "gone"}[k]
}

// acceptTLS begins the handshake with a new client. It runs on the first loop and
// does not wait.
func (s *Server) acceptTLS(sock evloop.Socket) {
	if !s.admits(sock) {
		return
	}
	if s.clients.Add(1) > int64(s.opts.MaxClients) {
		// Closed without a word, as by Redis: none can be said before the handshake,
		// and that costs more than a full server has to give.
		s.clients.Add(-1)
		s.refusedTLS.Add(1)
		sock.Close()
		return
	}
	nc, err := sock.NetConn()
	if err != nil {
		s.clients.Add(-1)
		s.opts.Log.Warn("client connection could not be served", "err", err)
		return
	}
	s.shakes.running.Go(func() { s.shake(nc) })
}

// shake does one handshake and gives the connection to the loop that has the
// fewest.
func (s *Server) shake(nc net.Conn) {
	h := &s.shakes
	h.pending.Add(1)
	defer h.pending.Add(-1)
	client := nc.RemoteAddr().String()
	ctx, cancel := context.WithTimeout(h.ctx, s.opts.HandshakeTimeout)
	defer cancel()
	conn, err := evloop.ServerTLS(ctx, nc, s.opts.ClientTLS(), s.opts.Driver, h.gate)
	if err != nil {
		s.clients.Add(-1)
		s.shakeEnded(client, err)
		return
	}
	h.done[shakeOK].Add(1)
	conn.SetKeepalive(evloop.Keepalive{Idle: s.opts.ClientKeepalive}) // net has set its own meanwhile
	i := s.emptiest()
	if err := s.loops[i].TryPost(func() {
		s.adopt(i, false, func(build func(*evloop.Conn) evloop.Handler) error {
			_, err := s.loops[i].AddTLS(conn, build)
			return err
		})
	}); err != nil {
		s.clients.Add(-1)
		conn.Close()
	}
}

// shakeEnded counts a handshake that failed, and logs the first of its kind and
// then one every few seconds.
func (s *Server) shakeEnded(client string, err error) {
	h := &s.shakes
	kind, text := shakeFailed, "tls handshake with a client failed"
	record, noTLS := errors.AsType[tls.RecordHeaderError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case noTLS && record.Conn != nil:
		defer record.Conn.Close()
		if speaksRedis(record.RecordHeader[0]) {
			kind, text = shakePlain, "a client spoke plain redis on a tls port"
			_ = record.Conn.SetDeadline(time.Now().Add(mayTell))
			_, _ = io.WriteString(record.Conn, "-ERR this port speaks TLS only (sentinelproxy)\r\n")
		}
	case h.ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		kind = shakeGone // a port scan, or a health check that only connects
	case errors.Is(err, context.DeadlineExceeded), isNet && timeout.Timeout():
		kind, text = shakeTimeout, "a client did not finish its tls handshake in time"
	}
	h.done[kind].Add(1)
	if kind == shakeGone {
		s.opts.Log.Debug("client left during its tls handshake", "client", client, "err", err)
		return
	}
	if more, ok := h.warnings[kind].now(); ok {
		s.opts.Log.Warn(text, "client", client, "err", err, "unlogged_before", more) //nolint:sloglint // one of the phrases above
	}
}

// speaksRedis reports whether c can begin a command: a RESP array, or a line.
func speaksRedis(c byte) bool { return c == '*' || c >= '\t' && c <= '\r' || c >= ' ' && c <= '~' }

// warnEvery is how often one kind of client's mistake is logged.
const warnEvery = 5 * time.Second

// sometimes lets a log line through every warnEvery. It is safe for concurrent use.
type sometimes struct {
	mu      sync.Mutex // guards the fields below
	last    time.Time
	skipped int
}

// now reports whether to log, and how many lines were not since the last one.
func (t *sometimes) now() (skipped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at := time.Now(); t.last.IsZero() || at.Sub(t.last) >= warnEvery {
		skipped, t.skipped, t.last = t.skipped, 0, at
		return skipped, true
	}
	t.skipped++
	return 0, false
}

// explainedPipe is a pipe over TLS, which hears in plain words why its connection
// ended: with TLS 1.3 a node refuses our certificate after the handshake.
type explainedPipe struct {
	*pipe

	tls NodeTLS
}

// Closed implements evloop.Handler.
func (p explainedPipe) Closed(err error) {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		err = p.tls.Explain(context.Background(), string(p.addr), err)
	}
	p.pipe.Closed(err)
}
