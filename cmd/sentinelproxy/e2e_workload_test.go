package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// writers are plain Redis clients that know nothing of Sentinel: each writes one
// key after the other over one connection, never retries, and remembers what was
// acknowledged.
type writers struct {
	addr string
	stop context.CancelFunc
	wg   sync.WaitGroup
	all  []*writer
}

// writer is one client's history. Only its goroutine writes it while it runs.
type writer struct {
	id  int
	tls *tls.Config // nil: plain
	pad int         // how many bytes a value has at least

	mu     sync.Mutex // guards the next two while the writer runs
	acked  []ack
	errors []string

	// Owned by run; read after it.
	uncertain   []time.Time
	disconnects []error
	sent        int
}

type ack struct {
	seq int
	at  time.Time
}

// writeEvery paces a writer, so that what is measured is the failover and not
// how the machine copes with load.
const writeEvery = 3 * time.Millisecond

func startWriters(tb testing.TB, addr string, n int) *writers {
	tb.Helper()
	return startWritersAs(tb, addr, n, func(*writer) {})
}

// startWritersAs is startWriters with writers that are changed before they start.
func startWritersAs(tb testing.TB, addr string, n int, change func(*writer)) *writers {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	w := &writers{addr: addr, stop: cancel}
	for i := range n {
		one := &writer{id: i}
		change(one)
		w.all = append(w.all, one)
		w.wg.Go(func() { one.run(ctx, addr) })
	}
	tb.Cleanup(w.finish)
	return w
}

// finish ends the writers; only then may their histories be read.
func (w *writers) finish() {
	w.stop()
	w.wg.Wait()
}

func (w *writer) run(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		if err := w.session(ctx, addr); err != nil && ctx.Err() == nil {
			w.disconnects = append(w.disconnects, err)
		}
	}
}

// session writes over one connection until it breaks or ctx ends.
func (w *writer) session(ctx context.Context, addr string) error {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if w.tls != nil {
		nc = tls.Client(nc, w.tls)
	}
	defer context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Now().Add(patience)) })()
	r := bufio.NewReader(nc)
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		w.sent++
		seq := w.sent
		if _, err := fmt.Fprintf(nc, "SET %s %0*d\r\n", key(w.id, seq), w.pad, seq); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case line == "+OK\r\n":
			w.note(ack{seq: seq, at: time.Now()})
		case strings.HasPrefix(line, "-UNCERTAIN"):
			w.uncertain = append(w.uncertain, time.Now())
		default:
			w.refused(strings.TrimSpace(line))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (w *writer) note(a ack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, a)
}

func (w *writer) refused(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors = append(w.errors, line)
}

// errorsSoFar returns how many error replies there were, while writers run.
func (w *writers) errorsSoFar() int {
	n := 0
	for _, one := range w.all {
		one.mu.Lock()
		n += len(one.errors)
		one.mu.Unlock()
	}
	return n
}

// firstAckAfter waits for the first acknowledgement after t, of any writer.
func (w *writers) firstAckAfter(tb testing.TB, t time.Time) (first time.Time) {
	tb.Helper()
	waitFor(tb, "an acknowledgement", func() bool {
		for _, one := range w.all {
			one.mu.Lock()
			i, _ := slices.BinarySearchFunc(one.acked, t, func(a ack, t time.Time) int { return a.at.Compare(t) })
			if i < len(one.acked) && (first.IsZero() || one.acked[i].at.Before(first)) {
				first = one.acked[i].at
			}
			one.mu.Unlock()
		}
		return !first.IsZero()
	})
	return first
}

func key(writer, seq int) string { return fmt.Sprintf("w%d:%d", writer, seq) }

// history is what all writers saw.
type history struct {
	acked, uncertain, maxUncertain int
	errors                         []string
	disconnects                    []error
	longestGap                     time.Duration // between two acknowledgements of any writer
	gapEnd                         time.Time
}

func (w *writers) history() history {
	var h history
	var times []time.Time
	for _, one := range w.all {
		h.acked += len(one.acked)
		h.uncertain += len(one.uncertain)
		h.maxUncertain = max(h.maxUncertain, len(one.uncertain))
		h.errors = append(h.errors, one.errors...)
		h.disconnects = append(h.disconnects, one.disconnects...)
		for _, a := range one.acked {
			times = append(times, a.at)
		}
	}
	h.longestGap, h.gapEnd = longestGap(times)
	return h
}

// lost returns the acknowledged writes that node does not have.
func (w *writers) lost(tb testing.TB, node *redistest.Node, include func(ack) bool) []string {
	tb.Helper()
	lost := make([]string, 0)
	for id, acks := range w.lostAcks(tb, node, include) {
		for _, a := range acks {
			lost = append(lost, key(id, a.seq))
		}
	}
	return lost
}

// lostAcks is lost by writer, with when they were acknowledged.
func (w *writers) lostAcks(tb testing.TB, node *redistest.Node, include func(ack) bool) map[int][]ack {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: string(node.DirectAddr()), TLSConfig: node.ClientTLS(), ReadTimeout: patience})
	defer c.Close()
	lost := make(map[int][]ack)
	for _, one := range w.all {
		pipe := c.Pipeline()
		var asked []ack
		var got []*redis.IntCmd
		for _, a := range one.acked {
			if include == nil || include(a) {
				asked = append(asked, a)
				got = append(got, pipe.Exists(tb.Context(), key(one.id, a.seq)))
			}
		}
		if len(asked) == 0 {
			continue
		}
		if _, err := pipe.Exec(tb.Context()); err != nil {
			tb.Fatalf("read back: %v", err)
		}
		for i, g := range got {
			if g.Val() == 0 {
				lost[one.id] = append(lost[one.id], asked[i])
			}
		}
	}
	return lost
}

// majorityWatch asks every Sentinel each 5 ms who is master, by itself and not
// through the sidecar, and notes when more than half first named another.
type majorityWatch struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	began time.Time
	epoch int // of the master that is to be replaced

	mu       sync.Mutex // guards the fields below
	names    map[topology.Addr]string
	old      string
	majority time.Time
	switched []time.Time // +switch-master, as each Sentinel published it
}

// With an old of nil none is to be replaced: any name counts.
func watchMajority(tb testing.TB, g *redistest.Group, old *redistest.Node) *majorityWatch {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	m := &majorityWatch{stop: cancel, began: time.Now(), names: make(map[topology.Addr]string)}
	if old != nil {
		m.old, m.epoch = string(old.Addr()), epochOf(tb, g.Sentinels()[0], g.Name())
	}
	for _, addr := range g.SentinelAddrs() {
		c := redis.NewSentinelClient(&redis.Options{Addr: string(addr), MaxRetries: -1, ReadTimeout: patience, TLSConfig: g.Sentinels()[0].ClientTLS()})
		if old == nil { // they do not even run yet
			m.wg.Go(func() { m.poll(ctx, c, addr, g.Name()) })
			continue
		}
		sub := c.Subscribe(ctx, "+switch-master")
		if _, err := sub.Receive(ctx); err != nil {
			tb.Fatalf("subscribe at %s: %v", addr, err)
		}
		m.wg.Go(func() { m.poll(ctx, c, addr, g.Name()) })
		m.wg.Go(func() { m.listen(ctx, sub) })
	}
	tb.Cleanup(m.end)
	return m
}

func (m *majorityWatch) end() { m.stop(); m.wg.Wait() }

func (m *majorityWatch) poll(ctx context.Context, c *redis.SentinelClient, from topology.Addr, name string) {
	defer c.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		host, err := c.GetMasterAddrByName(ctx, name).Result()
		if err != nil || len(host) != 2 {
			continue
		}
		m.heard(from, net.JoinHostPort(host[0], host[1]), time.Now())
	}
}

func (m *majorityWatch) heard(from topology.Addr, master string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names[from] = master
	n := 0
	for _, name := range m.names {
		if name == master && name != m.old {
			n++
		}
	}
	if n == 2 && m.majority.IsZero() {
		m.majority = at
	}
}

// isNamed reports whether a majority has named a master.
func (m *majorityWatch) isNamed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.majority.IsZero()
}

// named returns when a majority first named a master.
func (m *majorityWatch) named(tb testing.TB) time.Time {
	tb.Helper()
	waitFor(tb, "a majority", m.isNamed)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.majority
}

func (m *majorityWatch) listen(ctx context.Context, sub *redis.PubSub) {
	defer sub.Close()
	for {
		if _, err := sub.ReceiveMessage(ctx); err != nil {
			if errors.Is(err, context.Canceled) || ctx.Err() != nil {
				return
			}
			continue
		}
		m.mu.Lock()
		m.switched = append(m.switched, time.Now())
		m.mu.Unlock()
	}
}

// result returns when a majority first named another master, and when the last
// Sentinel, which is the leader, published +switch-master.
func (m *majorityWatch) result(tb testing.TB) (majority, leaderSwitch time.Time) {
	tb.Helper()
	waitFor(tb, "+switch-master of every Sentinel", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.switched) >= 3 && !m.majority.IsZero()
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.majority, m.switched[len(m.switched)-1]
}

// eventWatch notes which events any Sentinel published.
type eventWatch struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

func watchEvents(tb testing.TB, g *redistest.Group, events ...string) *eventWatch {
	tb.Helper()
	e := &eventWatch{seen: make(map[string]bool)}
	ctx, stop := context.WithCancel(tb.Context())
	var wg sync.WaitGroup
	tb.Cleanup(func() { stop(); wg.Wait() })
	for _, addr := range g.SentinelAddrs() {
		c := redis.NewSentinelClient(&redis.Options{Addr: string(addr), MaxRetries: -1, ReadTimeout: patience, TLSConfig: g.Sentinels()[0].ClientTLS()})
		sub := c.Subscribe(ctx, events...)
		if _, err := sub.Receive(ctx); err != nil {
			tb.Fatalf("subscribe at %s: %v", addr, err)
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
			for ctx.Err() == nil {
				msg, err := sub.ReceiveMessage(ctx)
				if err != nil {
					continue // it subscribes again by itself
				}
				e.mu.Lock()
				e.seen[msg.Channel] = true
				e.mu.Unlock()
			}
		})
	}
	return e
}

// wait waits for an event.
func (e *eventWatch) wait(tb testing.TB, event string) {
	tb.Helper()
	waitFor(tb, event, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.seen[event]
	})
}
