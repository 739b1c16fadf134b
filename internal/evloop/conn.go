package evloop

import (
	"net"
	"net/netip"
)

// Conn is one connection owned by a loop. Only the loop's goroutine may use it.
type Conn struct {
	loop *Loop
	h    Handler
	sock Socket

	collector Collector // h, if it is one

	slot uint32 // the poller's, with gen: which events are ours
	mask uint32 // what the poller watches for
	pc   *portConn

	paused           bool
	eof              bool // the peer's end was seen
	left             bool // the peer's end was seen while paused
	closed           bool
	abort            bool
	isDirty          bool
	writeBlocked     bool
	wantsWrite       bool
	closeWhenFlushed bool
	flushedIn        uint64 // the last Loop.flushes that wrote it
	remote, local    string // the addresses, once they were asked for
	err              error
}

// Loop returns the loop that owns c.
func (c *Conn) Loop() *Loop { return c.loop }

// Flush has the handler's Output written at the end of this turn, or as soon as
// the peer can take more.
func (c *Conn) Flush() {
	if c.isDirty || c.closed {
		return
	}
	c.isDirty = true
	c.loop.dirty = append(c.loop.dirty, c)
}

// Pause stops reading, so that the peer is pushed back by TCP. A peer that goes
// away meanwhile is still noticed (EOF or Closed).
func (c *Conn) Pause() {
	if !c.paused && !c.closed {
		c.paused = true
		c.loop.poll.update(c)
	}
}

// Resume reads again, unless CloseFlushed was called.
func (c *Conn) Resume() {
	if c.paused && !c.closed && !c.closeWhenFlushed {
		c.paused = false
		c.loop.poll.update(c)
		if h, ok := c.h.(*tlsHandler); ok {
			h.resumed()
		}
	}
}

// Paused reports whether reading is paused.
func (c *Conn) Paused() bool { return c.paused }

// Blocked reports whether the peer takes no more bytes at the moment.
func (c *Conn) Blocked() bool { return c.writeBlocked }

// Close ends the connection at the end of this turn; what Output holds is lost.
// It may be called twice.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.loop.closing = append(c.loop.closing, c)
}

// CloseFlushed ends the connection once Output is empty. Nothing more is read.
func (c *Conn) CloseFlushed() {
	if c.closed || c.closeWhenFlushed {
		return
	}
	c.closeWhenFlushed = true
	c.Pause()
	c.Flush()
}

// Abort is Close with SO_LINGER 0: the kernel throws away what it has not sent
// and resets the connection, so that nothing more of ours reaches the peer.
func (c *Conn) Abort() {
	c.abort = true
	c.Close()
}

// Closed reports whether the connection has ended or is about to.
func (c *Conn) Closed() bool { return c.closed }

// RemoteAddr returns the peer's address, such as "10.0.0.7:51234", or "unix". The
// kernel is asked at most once. It may be empty if the peer went away at once, or if
// nobody asked before Closed returned.
func (c *Conn) RemoteAddr() string {
	if c.remote == "" {
		c.remote = c.sock.remoteAddr()
	}
	return c.remote
}

// LocalAddr returns our own end's address, as RemoteAddr does.
func (c *Conn) LocalAddr() string {
	if c.local == "" {
		c.local = c.sock.localAddr()
	}
	return c.local
}

// room is where the handler wants the next bytes; nil: it does not care.
func (c *Conn) room() []byte {
	if c.collector == nil {
		return nil
	}
	return c.collector.Room()
}

func (c *Conn) fail(err error) {
	if !c.closed {
		c.err = err
		c.Close()
	}
}

// sawLeft tells the handler of a peer that left while reading was paused. From
// then on only a broken connection is watched for, until reading goes on.
func (c *Conn) sawLeft() {
	c.left = true
	c.loop.poll.update(c)
	if h, ok := c.h.(Leaver); ok {
		h.Left()
	}
}

func (c *Conn) sawEOF() {
	c.eof = true
	c.loop.poll.update(c)
	c.h.EOF()
}

func (c *Conn) wantWrite(on bool) { //nolint:revive // a setter, not a choice of what to do
	if c.wantsWrite != on && !c.closed {
		c.wantsWrite = on
		c.loop.poll.update(c)
	}
}

// Socket is a connection that no loop owns yet. Exactly one of Loop.Add and
// Close must be called.
type Socket struct {
	fd   int            // epoll driver; 0 where nc is set
	peer netip.AddrPort // epoll driver: of a TCP peer, as it is known without asking
	nc   net.Conn       // portable driver
}

// listener is a listening socket of one loop.
type listener struct {
	loop    *Loop
	ln      net.Listener
	accept  func(Socket)
	closed  bool
	resting bool // accepts nothing for a while
	fd      int
	slot    uint32
	pl      *portListener
}
