package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// Load says how clients work.
type Load struct {
	Addr    string // where they connect: host:port or unix:/path
	Login   Login  // what they log in as
	Prefix  string // of every key and channel
	Clients int    // that write and read; a queue and a channel come on top
	// Pace is the time between two commands of one client: what is measured is
	// the failover, not how the machine copes with load.
	Pace time.Duration
	// Timeout is how long a client waits for one reply before it gives up its
	// connection.
	Timeout time.Duration
	// MaxOps bounds the record of one client, which stops there. One command
	// takes 48 bytes.
	MaxOps int
}

// extras are the clients beside Load.Clients: a pusher and a popper, a publisher
// and a subscriber. Their records follow the others' in this order.
const extras = 4

// keyTTL is how long the keys of an interrupted drill stay behind, in seconds.
const keyTTL = "3600"

// Workload is a set of clients at work. Stop ends it.
type Workload struct {
	load    Load
	began   time.Time
	stop    context.CancelFunc
	wg      sync.WaitGroup
	records []*record
}

// StartWorkload starts the clients. They work until Stop. All times of the
// history count from began.
func StartWorkload(ctx context.Context, began time.Time, l Load) *Workload {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the last commands are answered before it ends
	w := &Workload{load: l, began: began, stop: cancel}
	for i := range l.Clients {
		m := &mixed{client: w.client(), id: i, registers: max(1, l.Clients/2)}
		w.start(ctx, m.client, m.next)
	}
	pusher, popper := w.client(), w.client()
	q := &queue{key: l.Prefix + "q"}
	w.start(ctx, pusher, func(c *conn) error { return q.push(pusher, c) })
	w.start(ctx, popper, func(c *conn) error { return q.pop(popper, c) })
	publisher, subscriber := w.client(), w.client()
	n := &news{channel: l.Prefix + "news"}
	w.start(ctx, publisher, func(c *conn) error { return n.publish(publisher, c) })
	w.wg.Go(func() { n.subscribe(ctx, subscriber) })
	return w
}

// Stop waits for the clients' last answers and returns what they saw.
func (w *Workload) Stop() History {
	w.stop()
	w.wg.Wait()
	return join(w.began, time.Since(w.began), w.records)
}

func (w *Workload) client() *client {
	r := &record{limit: w.load.MaxOps}
	w.records = append(w.records, r)
	return &client{load: w.load, began: w.began, record: r}
}

// start lets c send next's commands until ctx ends.
func (w *Workload) start(ctx context.Context, c *client, next func(*conn) error) {
	w.wg.Go(func() { c.run(ctx, next) })
}

// client is one connection of the workload and its record. Its goroutine owns it.
type client struct {
	load   Load
	began  time.Time
	record *record
}

func (c *client) now() time.Duration { return time.Since(c.began) }

// run calls next at the load's pace, on a new connection where one was lost.
func (c *client) run(ctx context.Context, next func(*conn) error) {
	for ctx.Err() == nil && !c.record.full {
		err := c.session(ctx, next)
		if err == nil || ctx.Err() != nil {
			continue
		}
		c.lost(err)
		_ = pause(ctx, 20*time.Millisecond+rand.N(30*time.Millisecond)) // its end is seen above
	}
}

// lost notes a disconnect.
func (c *client) lost(err error) {
	at := c.now()
	c.record.disconnects = append(c.record.disconnects, at)
	c.record.failed(at, err.Error())
}

// session uses one connection. It returns nil when ctx has ended.
func (c *client) session(ctx context.Context, next func(*conn) error) error {
	conn, err := dialAs(ctx, c.load.Addr, c.load.Login, c.load.Timeout, c.load.Timeout)
	if err != nil {
		return err
	}
	defer conn.close()
	tick := time.NewTicker(c.load.Pace)
	defer tick.Stop()
	for ctx.Err() == nil && !c.record.full {
		if err := next(conn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// exec sends one command and records it. got reads the reply of a success. The
// error is that of the connection; an error reply only shows in the outcome.
func (c *client) exec(conn *conn, op Op, got func(resp.Value) int64, args ...string) (Outcome, error) {
	op.Begin = c.now()
	v, err := conn.do(args...)
	op.End = c.now()
	switch {
	case err != nil:
		op.Outcome = Unanswered
	case v.Type == '-':
		op.Outcome = Refused
		switch word, _, _ := strings.Cut(string(v.Str), " "); word {
		case "UNCERTAIN":
			op.Outcome = Uncertain
		case "NOREPLICAS", "MASTERDOWN":
			c.record.fenced++
		}
		c.record.failed(op.End, string(v.Str))
	default:
		op.Outcome = OK
		if got != nil {
			op.Got = got(v)
		}
	}
	c.record.add(op)
	return op.Outcome, err
}

// number reads an integer reply, or a string that holds one; 0 for a null.
func number(v resp.Value) int64 { return v.Int() }

// mixed is a client that writes and reads in turn: keys of its own that it
// writes once, a counter, a list, and registers that all clients share.
type mixed struct {
	*client

	id        int
	registers int // how many are shared

	step             int64
	writes, appends  int64 // numbers of the last ones
	acknowledged     int64 // the last write that was; 0 for none
	registersWritten int64
}

// next sends one command.
func (m *mixed) next(c *conn) error {
	m.step++
	var err error
	switch m.step % renewEvery { // in place of reads
	case 9:
		return m.renew(c, counterKey(m.load.Prefix, m.id))
	case 17:
		return m.renew(c, listKey(m.load.Prefix, m.id))
	}
	switch m.step % 8 {
	case 0, 3:
		m.writes++
		var o Outcome
		o, err = m.exec(c, Op{Kind: OpWrite, Arg: m.writes}, nil,
			"SET", writeKey(m.load.Prefix, m.id, m.writes), decimal(m.writes), "EX", keyTTL)
		if o == OK {
			m.acknowledged = m.writes
		}
	case 1, 5:
		if m.acknowledged > 0 {
			_, err = m.exec(c, Op{Kind: OpRead, Arg: m.acknowledged}, number,
				"GET", writeKey(m.load.Prefix, m.id, m.acknowledged))
		}
	case 2:
		_, err = m.exec(c, Op{Kind: OpCount}, number, "INCR", counterKey(m.load.Prefix, m.id))
	case 4:
		m.appends++
		_, err = m.exec(c, Op{Kind: OpAppend, Arg: m.appends}, nil,
			"RPUSH", listKey(m.load.Prefix, m.id), decimal(m.appends))
	case 6:
		r := uint32(m.step/8) % uint32(m.registers)
		m.registersWritten++
		value := int64(m.id+1)<<32 | m.registersWritten // no two writes are alike
		_, err = m.exec(c, Op{Kind: OpRegWrite, Key: r, Arg: value}, nil,
			"SET", registerKey(m.load.Prefix, r), decimal(value), "EX", keyTTL)
	case 7:
		r := uint32(m.step/8+int64(m.id)) % uint32(m.registers)
		_, err = m.exec(c, Op{Kind: OpRegRead, Key: r}, number, "GET", registerKey(m.load.Prefix, r))
	}
	return err
}

// renewEvery is how many commands a client sends until it renews the life of its
// counter and its list, which have none by themselves.
const renewEvery = 64

// renew gives a key its life anew.
func (c *client) renew(conn *conn, key string) error {
	_, err := c.exec(conn, Op{Kind: OpRenew}, number, "EXPIRE", key, keyTTL)
	return err
}

func writeKey(prefix string, client int, n int64) string {
	return fmt.Sprintf("%sw%d:%d", prefix, client, n)
}
func counterKey(prefix string, client int) string { return prefix + "c" + strconv.Itoa(client) }
func listKey(prefix string, client int) string    { return prefix + "l" + strconv.Itoa(client) }
func registerKey(prefix string, r uint32) string  { return prefix + "r" + decimal(int64(r)) }
func decimal(n int64) string                      { return strconv.FormatInt(n, 10) }

// pause waits for d, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
