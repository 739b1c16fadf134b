package health

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of connections, for each listener.
const (
	maxConns   = 256 // each takes a file that a client of Redis could have
	crowdQuiet = time.Minute
)

// crowd bounds the connections of one server. When one too many comes, the one that has
// waited longest goes: whoever asks at once is answered, however many others only hold the
// line. If all are being answered, the new one goes. It is safe for concurrent use.
type crowd struct {
	max int
	log *slog.Logger

	mu     sync.Mutex // guards the fields below
	all    map[net.Conn]*list.Element
	order  *list.List // of *visitor, oldest first
	closed int        // since it was last said
	said   time.Time
}

// visitor is one connection. The crowd's mutex guards it.
type visitor struct {
	conn net.Conn
	busy bool // a request is being answered
}

// visitorKey is the context's key of a connection's *list.Element.
type visitorKey struct{}

// limit has a crowd watch over s, which does not serve yet.
func limit(s *http.Server, most int, log *slog.Logger) {
	c := &crowd{max: most, log: log, all: make(map[net.Conn]*list.Element), order: list.New()}
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, visitorKey{}, c.enter(conn))
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			c.leave(conn)
		}
	}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, _ := r.Context().Value(visitorKey{}).(*list.Element)
		c.answering(e, true)
		defer c.answering(e, false)
		next.ServeHTTP(w, r)
	})
}

// enter notes a new connection, and closes one if there are too many.
func (c *crowd) enter(conn net.Conn) *list.Element {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.order.PushBack(&visitor{conn: conn})
	c.all[conn] = e
	if len(c.all) <= c.max {
		return e
	}
	for old := c.order.Front(); old != nil; old = old.Next() {
		if v := visitorOf(old); !v.busy { // the new one at the latest
			hangUp(v.conn)
			c.drop(old)
			break
		}
	}
	c.closed++
	if now := time.Now(); now.Sub(c.said) >= crowdQuiet {
		c.log.Warn("too many connections to the admin server", "addr", conn.LocalAddr().String(), "limit", c.max, "closed", c.closed)
		c.closed, c.said = 0, now
	}
	return e
}

func (c *crowd) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.all[conn]; e != nil {
		c.drop(e)
	}
}

func (c *crowd) drop(e *list.Element) {
	delete(c.all, visitorOf(e).conn)
	c.order.Remove(e)
}

// answering notes that a request begins or ends. Whoever was answered is the youngest again.
func (c *crowd) answering(e *list.Element, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	visitorOf(e).busy = busy
	c.order.MoveToBack(e) // nothing happens if it is dropped
}

func visitorOf(e *list.Element) *visitor {
	v, _ := e.Value.(*visitor)
	return v
}

// hangUp closes a connection without a word: TLS would wait until its alert is written.
func hangUp(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close() // its owner gets the error
}
