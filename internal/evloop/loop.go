package evloop

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ReadSize is the most that one connection is read in one turn, in bytes, unless its
// handler is a Collector that has more room.
const ReadSize = 64 << 10

// maxPosted bounds the functions waiting to be run by a loop.
const maxPosted = 1 << 16

// maxKeptIOV is how many buffers of one Output a loop keeps room for.
const maxKeptIOV = 4096

// ErrStopped is given to Closed, and returned by Post, when the loop has ended.
var ErrStopped = errors.New("evloop: loop stopped")

// ErrFull is returned by TryPost when too many functions wait already.
var ErrFull = errors.New("evloop: too many posted functions")

// Handler is the state machine of one connection. Its loop alone calls it, one
// call at a time. A handler may call any method of any Conn and of the Loop of
// the same loop from inside these calls.
type Handler interface {
	// Data hands over bytes as they arrived. b is the loop's again after the call.
	Data(b []byte)
	// EOF says that the peer will send no more, and that all it sent was read. The
	// connection stays open for writing until the handler closes it. It is called at
	// most once.
	EOF()
	// Output appends to bufs what is to be written next, oldest first, and
	// returns it. The loop calls it at the end of a turn after Conn.Flush, and
	// when the peer can take more. The bytes must stay unchanged until Wrote.
	Output(bufs [][]byte) [][]byte
	// Wrote says that the kernel has taken the first n bytes of the last Output.
	Wrote(n int)
	// Closed is the last call, at the end of the turn in which the connection
	// ended. err is nil if the handler closed it itself.
	Closed(err error)
}

// Leaver is a Handler that wants to know of a peer that ends its side while
// reading is paused. Left is called at most once, before EOF; what the peer sent
// last may still be unread then, and comes after Conn.Resume.
type Leaver interface{ Left() }

// Collector is a Handler that may want the next bytes where it collects them. Room is
// called before a read and returns where they are to go, or nil for the loop's own
// buffer; the call of Data that follows, if any, is given the beginning of it. Where it
// pauses the connection nothing is read.
type Collector interface{ Room() []byte }

// Driver names how a loop waits for its connections.
type Driver uint8

// The drivers.
const (
	DriverDefault  Driver = iota // Epoll where there is epoll, else Portable
	DriverEpoll                  // Linux only
	DriverPortable               // goroutines over net.Conn, anywhere
)

// Options configure a Loop. The zero value works.
type Options struct {
	Driver Driver
	// Linger has the loop keep its processor for up to a millisecond when it runs out
	// of work, which costs less than to give it up and get it back. It is for loops
	// that are fewer than the processors (docs/adr/0002): what else runs has the rest.
	Linger bool
	Log    *slog.Logger // nil: nothing is logged
}

// Loop owns connections and timers, and runs their handlers on one goroutine.
// Unless a method says otherwise, only that goroutine (handlers, timers, posted
// functions) may call it.
type Loop struct {
	// Fixed at construction.
	poll poller
	log  *slog.Logger

	// Owned by Run.
	scratch    []byte
	iov        [][]byte
	dirty      []*Conn // have output, or must close, at the end of this turn
	closing    []*Conn // closed in this turn; their descriptors go last
	live       map[*Conn]struct{}
	accepts    []*listener
	timers     timerHeap
	turnBegins []func(now time.Time)
	turnEnds   []func()
	now        time.Time
	spare      []func()
	tls        *tlsBuffers // nil until the first TLS connection
	flushes    uint64      // so far; a connection remembers the one it was last part of

	stats Stats

	mu      sync.Mutex // guards the fields below
	posted  []func()
	stopped bool

	wakeSent atomic.Bool // a wake-up is under way; spares further ones
	size     atomic.Int64
}

// New makes a loop; Run starts it. An unused Loop must be closed by Close.
func New(o Options) (*Loop, error) {
	l := &Loop{
		log:     o.Log,
		scratch: make([]byte, ReadSize),
		iov:     make([][]byte, 0, 64),
		live:    make(map[*Conn]struct{}),
		now:     time.Now(),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	p, err := newPoller(o)
	if err != nil {
		return nil, err
	}
	l.poll = p
	return l, nil
}

// Close frees a loop that was never run, with all that was added to it. On a
// loop that has run it does nothing.
func (l *Loop) Close() { l.shutdown() }

// Run turns the loop until ctx is done, then closes every connection and
// listener and returns nil. It must be called once.
func (l *Loop) Run(ctx context.Context) error {
	runtime.LockOSThread() // see docs/adr/0002: a loop that keeps its thread has the steadier tail
	defer runtime.UnlockOSThread()
	stop := context.AfterFunc(ctx, l.wake)
	defer stop()
	defer l.shutdown()
	for {
		// Before ctx and the queue are looked at: what comes later wakes the wait.
		l.wakeSent.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		if err := l.turn(); err != nil {
			return err
		}
	}
}

func (l *Loop) turn() error {
	wait := l.nextWait()
	events, err := l.poll.wait(wait)
	if err != nil {
		return err
	}
	l.now = time.Now()
	start := l.now
	for _, f := range l.turnBegins {
		f(start)
	}
	for i := range events {
		l.dispatch(&events[i])
	}
	l.runPosted()
	l.runTimers()
	for _, f := range l.turnEnds {
		f()
	}
	l.flush()
	l.reap()
	l.stats.turn(time.Since(start))
	return nil
}

// nextWait is how long the next wait may last: 0 if work is there already, -1
// for ever.
func (l *Loop) nextWait() time.Duration {
	l.mu.Lock()
	pending := len(l.posted) > 0
	l.mu.Unlock()
	if pending || len(l.dirty) > 0 {
		return 0
	}
	at, ok := l.timers.next()
	if !ok {
		return -1
	}
	return max(0, time.Until(at))
}

func (l *Loop) dispatch(ev *event) {
	if ev.accept != nil {
		l.acceptReady(ev.accept)
		return
	}
	c := ev.conn
	if c == nil || c.closed {
		return
	}
	if ev.flags&evWrite != 0 {
		c.writeBlocked = false
		c.Flush() // at the end of the turn, together with what its events will add
	}
	if ev.flags&evRead != 0 && !c.paused && !c.eof {
		b := l.scratch
		if room := c.room(); len(room) > 0 {
			b = room
		}
		if c.paused {
			return
		}
		n, err := l.poll.read(c, b)
		switch {
		case n > 0:
			l.stats.BytesIn += uint64(n)
			c.h.Data(b[:n])
			return // one read a turn; level-triggered polling brings the rest
		case errors.Is(err, errAgain):
		case errors.Is(err, errEOF):
			c.sawEOF()
		default:
			c.fail(err)
		}
		return
	}
	if ev.flags&evHangup != 0 && !c.eof && !c.left {
		c.sawLeft()
	}
	if ev.flags&evError != 0 && !c.closed {
		c.fail(l.poll.sockError(c))
	}
}

// flush writes the output of every dirty connection. Writing may make others
// dirty; they are written in the same pass, but none twice: what is flushed
// again after it was written waits for the next turn, so no flood of output
// holds the loop.
func (l *Loop) flush() {
	l.flushes++
	rest := l.dirty[:0]
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		if c.flushedIn == l.flushes && !c.closed {
			rest = append(rest, c)
			continue
		}
		c.isDirty = false
		c.flushedIn = l.flushes
		if !c.closed && !c.writeBlocked {
			l.writeConn(c)
		}
	}
	clear(l.dirty[len(rest):])
	l.dirty = rest
}

// writeConn writes what c has to say until it is all gone, the peer takes no
// more or this has gone on for long enough.
func (l *Loop) writeConn(c *Conn) {
	for range 4 {
		bufs := c.h.Output(l.iov[:0])
		total := 0
		for _, b := range bufs {
			total += len(b)
		}
		if total == 0 {
			l.keepIOV(bufs)
			c.wantWrite(false)
			if c.closeWhenFlushed {
				c.Close()
			}
			return
		}
		n, err := l.poll.write(c, bufs)
		l.keepIOV(bufs)
		if n > 0 {
			l.stats.BytesOut += uint64(n)
			c.h.Wrote(n)
		}
		switch {
		case c.closed:
			return
		case errors.Is(err, errAgain):
			c.writeBlocked = true
			c.wantWrite(true)
			return
		case err != nil:
			c.fail(err)
			return
		case n == total && !c.closeWhenFlushed:
			c.wantWrite(false)
			return
		}
		// Either Output was more than one write takes, or a closing connection
		// may have more to say.
	}
	c.Flush()
}

// keepIOV keeps the slice that Output may have grown for the next Output,
// without what it points to.
func (l *Loop) keepIOV(bufs [][]byte) {
	clear(bufs)
	if cap(bufs) > cap(l.iov) && cap(bufs) <= maxKeptIOV {
		l.iov = bufs[:0]
	}
}

// reap closes what was closed in this turn: only now may descriptors be reused,
// when no event of this turn can name them any more.
func (l *Loop) reap() {
	for i := 0; i < len(l.closing); i++ {
		c := l.closing[i]
		delete(l.live, c)
		l.size.Store(int64(len(l.live)))
		c.h.Closed(c.err) // while its addresses can still be asked for
		l.poll.remove(c)
	}
	clear(l.closing)
	l.closing = l.closing[:0]
}

func (l *Loop) shutdown() {
	l.mu.Lock()
	again := l.stopped
	l.stopped = true
	l.mu.Unlock()
	if again {
		return
	}
	l.runPosted() // whatever was accepted before the stop, such as a connection to own, is seen
	for _, ln := range l.accepts {
		l.poll.unlisten(ln)
	}
	l.accepts = nil
	for c := range l.live {
		c.fail(ErrStopped)
	}
	l.reap()
	l.poll.close()
}

// Post has f run on the loop's goroutine, in the order of the calls. It is safe
// for concurrent use. It waits while 65 536 functions are queued; do not call it
// from a loop's own goroutine on another loop (use TryPost). It returns
// ErrStopped once the loop has ended; f then never runs.
func (l *Loop) Post(f func()) error {
	for {
		err := l.TryPost(f)
		if !errors.Is(err, ErrFull) {
			return err
		}
		runtime.Gosched()
	}
}

// TryPost is Post, but returns ErrFull instead of waiting.
func (l *Loop) TryPost(f func()) error {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return ErrStopped
	}
	if len(l.posted) >= maxPosted {
		l.mu.Unlock()
		return ErrFull
	}
	l.posted = append(l.posted, f)
	l.mu.Unlock()
	l.wake()
	return nil
}

func (l *Loop) wake() {
	if !l.wakeSent.Swap(true) {
		l.poll.wake()
	}
}

func (l *Loop) runPosted() {
	l.mu.Lock()
	fs := l.posted
	l.posted = l.spare[:0]
	l.mu.Unlock()
	for _, f := range fs {
		f()
	}
	clear(fs)
	l.spare = fs
}

// Now returns when this turn began.
func (l *Loop) Now() time.Time { return l.now }

// Len returns how many connections the loop owns. It is safe for concurrent use.
func (l *Loop) Len() int { return int(l.size.Load()) }

// OnTurn has f run at the beginning of every turn, which is now.
func (l *Loop) OnTurn(f func(now time.Time)) { l.turnBegins = append(l.turnBegins, f) }

// OnTurnEnd has f run at the end of every turn, before the output is written.
func (l *Loop) OnTurnEnd(f func()) { l.turnEnds = append(l.turnEnds, f) }

// Add makes the loop own s, and returns the connection. build makes the handler,
// which may already use the Conn. On an error s is closed.
func (l *Loop) Add(s Socket, build func(*Conn) Handler) (*Conn, error) {
	c := &Conn{loop: l, sock: s}
	if l.isStopped() {
		s.Close()
		return nil, ErrStopped
	}
	if err := l.poll.add(c); err != nil {
		s.Close()
		return nil, err
	}
	c.h = build(c)
	c.collector, _ = c.h.(Collector)
	l.live[c] = struct{}{}
	l.size.Store(int64(len(l.live)))
	return c, nil
}

func (l *Loop) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// Listen has the loop accept from ln, which it then owns. accept is called with
// each new connection and owns it: it may Add it to this loop, or post it to
// another. When the process is out of descriptors, accepting rests for 100 ms.
func (l *Loop) Listen(ln net.Listener, accept func(Socket)) error {
	a := &listener{loop: l, ln: ln, accept: accept}
	if err := l.poll.listen(a); err != nil {
		return err
	}
	l.accepts = append(l.accepts, a)
	return nil
}

// StopListening closes every listener of the loop.
func (l *Loop) StopListening() {
	for _, a := range l.accepts {
		l.poll.unlisten(a)
	}
	l.accepts = nil
}

const (
	acceptsPerTurn = 64
	acceptRest     = 100 * time.Millisecond
)

func (l *Loop) acceptReady(a *listener) {
	for range acceptsPerTurn {
		if a.closed {
			return
		}
		s, err := l.poll.accept(a)
		if errors.Is(err, errAgain) {
			return
		}
		if err != nil {
			l.log.Warn("accept failed, resting", "listener", a.ln.Addr().String(), "err", err)
			a.resting = true
			l.poll.updateListen(a)
			l.After(acceptRest, func() {
				a.resting = false
				if !a.closed {
					l.poll.updateListen(a)
				}
			})
			return
		}
		a.accept(s)
	}
}
