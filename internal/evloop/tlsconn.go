package evloop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	// tlsRecord is the most plaintext that one TLS record carries, in bytes.
	tlsRecord = 16 << 10
	// tlsAhead bounds the ciphertext of one connection that waits for the kernel;
	// past it the inner handler is asked for no more output.
	tlsAhead = 64 << 10
)

// errTLSAgain is what crypto/tls reads when there is no more ciphertext yet. A
// net.Error that is Temporary makes tls.Conn keep all its state and return it.
var errTLSAgain net.Error = tlsAgainError{}

type tlsAgainError struct{}

// errTLSFlood ends a connection whose peer asks for new keys again and again and
// reads none of the answers, which nothing else would bound.
var errTLSFlood = errors.New("evloop: tls: peer asks for answers and reads none")

func (tlsAgainError) Error() string   { return "evloop: no more ciphertext" }
func (tlsAgainError) Timeout() bool   { return true }
func (tlsAgainError) Temporary() bool { return true }

// TLS is a connection whose handshake is done and which no loop owns yet.
// Exactly one of Loop.AddTLS and Close must be called.
type TLS struct {
	sock Socket
	tc   *tls.Conn
	wire *tlsWire
}

// Gate bounds how many handshakes compute at once: its capacity. One that waits
// for its peer does not count, so that slow peers keep nobody out.
type Gate chan struct{}

func (g Gate) enter() {
	if g != nil {
		g <- struct{}{}
	}
}

func (g Gate) leave() {
	if g != nil {
		<-g
	}
}

// ServerTLS does the server's handshake on nc, until ctx is done, and takes nc
// over for a loop with driver d. It blocks: it is not for a loop's goroutine. nc
// is closed on an error, but for a [tls.RecordHeaderError] with a Conn: the peer
// does not speak TLS, and the caller may tell it so before it closes nc. gate may
// be nil.
func ServerTLS(ctx context.Context, nc net.Conn, cfg *tls.Config, d Driver, gate Gate) (*TLS, error) {
	wire := &tlsWire{nc: nc, gate: gate}
	return handshake(ctx, wire, tls.Server(wire, cfg), d)
}

// ClientTLS is ServerTLS for the client's end, which closes nc on every error.
func ClientTLS(ctx context.Context, nc net.Conn, cfg *tls.Config, d Driver) (*TLS, error) {
	wire := &tlsWire{nc: nc}
	t, err := handshake(ctx, wire, tls.Client(wire, cfg), d)
	if err != nil {
		_ = nc.Close()
	}
	return t, err
}

func handshake(ctx context.Context, wire *tlsWire, tc *tls.Conn, d Driver) (*TLS, error) {
	wire.gate.enter()
	err := tc.HandshakeContext(ctx)
	wire.gate.leave()
	wire.gate = nil // what is said after a failed handshake, such as why, passes no gate
	if err != nil {
		if r, ok := errors.AsType[tls.RecordHeaderError](err); !ok || r.Conn == nil {
			_ = wire.nc.Close()
		}
		return nil, fmt.Errorf("evloop: tls handshake: %w", err)
	}
	sock, err := Detach(wire.nc, d)
	if err != nil {
		return nil, err
	}
	wire.nc = nil // from now on in memory
	return &TLS{sock: sock, tc: tc, wire: wire}, nil
}

// State tells what was negotiated.
func (t *TLS) State() tls.ConnectionState { return t.tc.ConnectionState() }

// Close closes a connection that no loop owns.
func (t *TLS) Close() { t.sock.Close() }

// AddTLS is Add for a connection that speaks TLS: build's handler sees and says
// plaintext. Two things differ from a plain connection. Wrote counts what is
// sealed, which may still have to wait for the kernel: what was said cannot be
// taken back, but it may not have been sent. And CloseFlushed ends with TLS's own
// goodbye; Close and Abort do not.
func (l *Loop) AddTLS(t *TLS, build func(*Conn) Handler) (*Conn, error) {
	return l.Add(t.sock, func(c *Conn) Handler {
		h := &tlsHandler{c: c, tc: t.tc, wire: t.wire}
		h.inner = build(c)
		// The handshake may have read more than the handshake.
		l.After(0, func() { h.open(nil) })
		return h
	})
}

// tlsWire is the net.Conn under a tls.Conn: the real one during the handshake,
// then two buffers.
type tlsWire struct {
	nc   net.Conn // nil once the handshake is done
	gate Gate     // left while the handshake waits for the peer or the kernel
	in   []byte   // ciphertext that arrived; borrowed for the time of one call
	eof  bool     // nothing comes after in
	out  []byte   // ciphertext to be sent
}

func (w *tlsWire) Read(b []byte) (int, error) {
	switch {
	case w.nc != nil:
		w.gate.leave()
		defer w.gate.enter()
		return w.nc.Read(b)
	case len(w.in) > 0:
		n := copy(b, w.in)
		w.in = w.in[n:]
		return n, nil
	case w.eof:
		return 0, io.EOF
	}
	return 0, errTLSAgain
}

func (w *tlsWire) Write(b []byte) (int, error) {
	if w.nc != nil {
		w.gate.leave() // a peer that does not read must keep nobody out either
		defer w.gate.enter()
		return w.nc.Write(b)
	}
	w.out = append(w.out, b...)
	return len(b), nil
}

// Close ends a handshake whose context is over; it closes nothing else: the loop
// closes the socket.
func (w *tlsWire) Close() error {
	if w.nc != nil {
		return w.nc.Close()
	}
	return nil
}

// LocalAddr is asked for during the handshake only.
func (w *tlsWire) LocalAddr() net.Addr { return w.nc.LocalAddr() }

// RemoteAddr is asked for during the handshake only.
func (w *tlsWire) RemoteAddr() net.Addr { return w.nc.RemoteAddr() }

// SetDeadline sets the real connection's deadline; in memory nothing waits.
func (w *tlsWire) SetDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline is SetDeadline for reading.
func (w *tlsWire) SetReadDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline is SetDeadline for writing.
func (w *tlsWire) SetWriteDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetWriteDeadline(t)
	}
	return nil
}

// tlsBuffers are what the TLS connections of one loop share, so that an idle one
// holds none of its own.
type tlsBuffers struct {
	plain []byte // ReadSize: what is being opened, or sealed
	spare []byte // a wire's out, while no wire needs it
	bufs  [][]byte
}

// tlsHandler sits between a Conn, which carries ciphertext, and the handler
// inside, which knows plaintext only. It does no I/O.
type tlsHandler struct {
	c     *Conn
	inner Handler
	tc    *tls.Conn
	wire  *tlsWire

	sent    int    // bytes of wire.out that the kernel has
	held    []byte // plaintext opened while the connection was paused; at most ReadSize and a record
	eof     bool   // the peer has ended its side; told once held is empty
	eofTold bool
	goodbye bool // close_notify is sealed
	more    bool // the inner handler may have more to say than tlsAhead let it
}

func (h *tlsHandler) Data(b []byte) { h.open(b) }

// open decrypts b and hands the plaintext over, as far as the connection is not
// paused.
func (h *tlsHandler) open(b []byte) {
	h.deliverHeld()
	h.wire.in = b
	buf := h.c.loop.tlsBuffers().plain
	for !h.c.closed && !h.eof {
		b := buf
		if c, ok := h.inner.(Collector); ok && !h.c.paused && len(h.held) == 0 {
			if room := c.Room(); len(room) > 0 {
				b = room
			}
		}
		held := h.c.paused || len(h.held) > 0
		n, err := h.fill(b)
		switch {
		case n == 0:
		case held:
			h.held = append(h.held, b[:n]...)
		default:
			h.inner.Data(b[:n])
		}
		if err != nil {
			h.ended(err)
			break
		}
	}
	h.wire.in = nil
	switch waits := len(h.wire.out) - h.sent; {
	case waits > 4*tlsAhead:
		h.c.fail(errTLSFlood)
	case waits > 0:
		h.c.Flush() // an answer of TLS itself, such as to a KeyUpdate
	}
}

// fill reads plaintext until buf is full or err says why not.
func (h *tlsHandler) fill(buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = h.tc.Read(buf[n:])
		n += k
	}
	return n, err
}

func (h *tlsHandler) ended(err error) {
	switch {
	case errors.Is(err, errTLSAgain):
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		h.eof = true // with or without a goodbye: many clients say none
		h.tellEOF()
	default:
		h.c.fail(fmt.Errorf("evloop: tls: %w", err))
	}
}

func (h *tlsHandler) tellEOF() {
	if h.eof && !h.eofTold && len(h.held) == 0 && !h.c.closed {
		h.eofTold = true
		h.inner.EOF()
	}
}

// resumed is called by Conn.Resume.
func (h *tlsHandler) resumed() {
	if len(h.held) > 0 {
		h.c.loop.After(0, h.deliverHeld)
	}
}

func (h *tlsHandler) deliverHeld() {
	for len(h.held) > 0 && !h.c.paused && !h.c.closed {
		b := h.held[:min(len(h.held), ReadSize)]
		h.held = h.held[len(b):]
		h.inner.Data(b)
	}
	if len(h.held) == 0 {
		h.held = nil
		h.tellEOF()
	}
}

// Left comes from below, while reading is paused.
func (h *tlsHandler) Left() {
	if l, ok := h.inner.(Leaver); ok {
		l.Left()
	}
}

// EOF comes from below. As for every connection, what was held back is lost.
func (h *tlsHandler) EOF() {
	h.wire.eof = true
	if h.c.paused {
		h.held = nil
		h.eof = true
		h.tellEOF()
		return
	}
	h.open(nil)
}

func (h *tlsHandler) Output(bufs [][]byte) [][]byte {
	if len(h.wire.out) == 0 {
		b := h.c.loop.tlsBuffers()
		h.wire.out, b.spare = b.spare, nil
	}
	for h.more = true; h.more && len(h.wire.out)-h.sent < tlsAhead; {
		h.more = h.seal()
	}
	if len(h.wire.out) == h.sent && h.c.closeWhenFlushed && !h.goodbye {
		h.goodbye = true
		_ = h.tc.CloseWrite()
	}
	if len(h.wire.out) == h.sent {
		h.release()
		return bufs
	}
	return append(bufs, h.wire.out[h.sent:])
}

// seal encrypts at most one record's worth of the inner handler's output, and
// reports whether there may be more. Small pieces share a record.
func (h *tlsHandler) seal() bool {
	b := h.c.loop.tlsBuffers()
	bufs := h.inner.Output(b.bufs[:0])
	record := b.plain[:0]
	for _, p := range bufs {
		record = append(record, p[:min(len(p), tlsRecord-len(record))]...)
	}
	clear(bufs)
	if cap(bufs) <= maxKeptIOV {
		b.bufs = bufs[:0]
	}
	if len(record) == 0 {
		return false
	}
	if _, err := h.tc.Write(record); err != nil {
		h.c.fail(fmt.Errorf("evloop: tls: %w", err))
		return false
	}
	h.inner.Wrote(len(record))
	return len(record) == tlsRecord && !h.c.closed
}

func (h *tlsHandler) Wrote(n int) {
	h.sent += n
	if h.sent < len(h.wire.out) {
		return
	}
	h.release()
	if h.more {
		h.c.Flush()
	}
}

// release gives the drained buffer back to the loop.
func (h *tlsHandler) release() {
	b := h.c.loop.tlsBuffers()
	if cap(h.wire.out) > cap(b.spare) && cap(h.wire.out) <= 4*tlsAhead {
		b.spare = h.wire.out[:0]
	}
	h.wire.out, h.sent = nil, 0
}

func (h *tlsHandler) Closed(err error) { h.inner.Closed(err) }

// tlsBuffers makes the shared buffers when the first TLS connection needs them.
func (l *Loop) tlsBuffers() *tlsBuffers {
	if l.tls == nil {
		l.tls = &tlsBuffers{plain: make([]byte, ReadSize)}
	}
	return l.tls
}

// NetConn gives a socket that no loop owns back to package net, for a handshake
// that blocks. s must not be used afterwards.
func (s Socket) NetConn() (net.Conn, error) {
	if s.nc != nil {
		return s.nc, nil
	}
	f := os.NewFile(uintptr(s.fd), "socket")
	defer func() { _ = f.Close() }() // FileConn has a descriptor of its own
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("evloop: socket: %w", err)
	}
	return nc, nil
}
