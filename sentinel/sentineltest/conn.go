package sentineltest

import (
	"net"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/redcon"
)

const (
	readAhead   = 128      // commands; a client that sends more waits in its socket
	outputLimit = 64 << 20 // bytes unread by the client; beyond it the client is cut off, as in Redis
)

// conn is one client's connection: a reader, an executor and a writer, so that
// a client which leaves during a blocking call is noticed and one which does not
// read holds up nobody.
type conn struct {
	// Fixed.
	id     int64
	nc     net.Conn
	opened time.Time
	calls  chan []string // from reader to executor
	gone   chan struct{} // closed when the client has sent its last
	stop   chan struct{} // closed by shut: nothing more is executed

	// Owned by the executor.
	user  string   // "" until logged in
	sess  *session // carries database, WATCH and MULTI in miniredis; nil on a Sentinel
	tx    *tx      // nil outside MULTI
	watch *dataset // what WATCH looked at; nil if nothing is watched

	unblock chan string // one reply that ends a blocking call; a second is dropped

	mu      sync.Mutex // guards the fields below
	writes  sync.Cond  // out grew, or shutting changed
	out     []byte
	closing bool // shut: the writer closes nc once out is empty
	resp3   bool
	name    string
	blocked bool
	db      int // as last selected
}

func newConn(id int64, nc net.Conn) *conn {
	c := &conn{
		id:      id,
		nc:      nc,
		opened:  time.Now(),
		calls:   make(chan []string, readAhead),
		gone:    make(chan struct{}),
		stop:    make(chan struct{}),
		unblock: make(chan string, 1),
	}
	c.writes.L = &c.mu
	return c
}

// read runs until the client has nothing more to say.
func (c *conn) read() {
	defer close(c.gone)
	defer close(c.calls)
	rd := redcon.NewReader(c.nc)
	for {
		cmd, err := rd.ReadCommand()
		if err != nil {
			// redcon keeps the type of its protocol errors to itself.
			if strings.HasPrefix(err.Error(), "Protocol error: ") {
				c.send([]byte("-ERR " + err.Error() + "\r\n"))
			}
			return
		}
		args := make([]string, len(cmd.Args))
		for i, a := range cmd.Args {
			args[i] = string(a)
		}
		select {
		case c.calls <- args:
		case <-c.stop:
			return
		}
	}
}

// execute hands commands to serve until there are no more.
func (c *conn) execute(serve func(*conn, []string)) {
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		select {
		case <-c.stop:
			return
		case args, ok := <-c.calls:
			if !ok {
				return
			}
			serve(c, args)
		}
	}
}

// write sends what send collects until the connection is shut.
func (c *conn) write() {
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closing {
			c.writes.Wait()
		}
		b := c.out
		c.out = nil
		c.mu.Unlock()
		if len(b) == 0 {
			_ = c.nc.Close()
			return
		}
		if _, err := c.nc.Write(b); err != nil {
			c.reset()
		}
	}
}

// send queues whole replies. It never blocks.
func (c *conn) send(b []byte) {
	if len(b) == 0 {
		return
	}
	c.mu.Lock()
	over := len(c.out)+len(b) > outputLimit
	if !c.closing && !over {
		c.out = append(c.out, b...)
		c.writes.Signal()
	}
	c.mu.Unlock()
	if over {
		c.reset()
	}
}

// shut ends the connection after what was sent to it. It may be called often.
func (c *conn) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	close(c.stop)
	c.writes.Signal()
	// A client that does not read must not keep us: its rest is dropped.
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
}

// reset ends the connection at once; the client sees it reset.
func (c *conn) reset() {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.mu.Lock()
	c.out = nil
	c.mu.Unlock()
	c.shut()
	_ = c.nc.Close()
}

// reply begins a reply in the protocol that c speaks now.
func (c *conn) reply() *reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &reply{resp3: c.resp3}
}

// wake ends c's blocking call, if there is one, with an encoded reply.
func (c *conn) wake(encoded string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.blocked {
		return false
	}
	select {
	case c.unblock <- encoded:
		return true
	default:
		return false
	}
}

// setBlocked marks the begin or end of a blocking call.
func (c *conn) setBlocked(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.unblock:
	default:
	}
	c.blocked = on
}
