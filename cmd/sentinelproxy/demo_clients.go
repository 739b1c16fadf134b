package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// demoClients are the plain clients before the sidecar. None of them knows of
// Sentinel or sends a command twice.
type demoClients struct {
	stopping context.CancelFunc
	wg       sync.WaitGroup
}

const (
	demoPace  = 5 * time.Millisecond   // between two commands of one client
	demoNews  = 100 * time.Millisecond // between two messages of the publisher
	demoGrace = 15 * time.Second       // for the last command of a client: longer than a command is held
)

// startDemoClients starts n clients, every other one writing, and a publisher
// with its subscriber. What they see goes to t, which was made for n clients.
func startDemoClients(ctx context.Context, addr string, n int, t *tally) *demoClients {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &demoClients{stopping: cancel}
	for i := range n {
		c := &demoClient{addr: addr, tally: t, pace: demoPace}
		if i%2 == 0 {
			w := &counter{key: counterKey(i), tally: t}
			c.next, c.reply, c.doubt = w.next, w.reply, w.doubt
		} else {
			c.next = func() []string { return []string{"GET", counterKey(i - 1)} }
		}
		c.served = func() { t.answer(i) }
		d.wg.Go(func() { c.run(ctx) })
	}
	p := &demoClient{addr: addr, tally: t, pace: demoNews}
	p.next = func() []string { return []string{"PUBLISH", demoChannel, "news"} }
	p.served = func() { t.add(func(c *counts) { c.commands++ }) }
	d.wg.Go(func() { p.run(ctx) })
	d.wg.Go(func() { subscriber{addr: addr, tally: t}.run(ctx) })
	return d
}

// stop lets every client get the answer to its last command, and waits for them.
func (d *demoClients) stop() {
	d.stopping()
	d.wg.Wait()
}

const demoChannel = "demo:news"

func counterKey(i int) string { return "demo:counter:" + strconv.Itoa(i) }

// demoClient sends one command after the other over one connection. Its fields
// are fixed; its goroutine alone calls its functions.
type demoClient struct {
	addr   string
	tally  *tally
	pace   time.Duration
	next   func() []string    // the next command
	served func()             // it was answered without an error
	reply  func(v resp.Value) // what the answer was; nil: nobody looks
	doubt  func()             // it may have been executed, or not; nil: nobody cares
}

// run sends commands until ctx ends, on a new connection where one was lost.
func (c *demoClient) run(ctx context.Context) {
	reconnect(ctx, c.tally, func() error { return c.session(ctx) })
}

// reconnect calls session until ctx ends. Each time that it returns earlier is a
// disconnect.
func reconnect(ctx context.Context, t *tally, session func() error) {
	for ctx.Err() == nil {
		err := session()
		if err == nil || ctx.Err() != nil {
			continue
		}
		t.add(func(c *counts) {
			c.disconnects++
			c.note(err.Error())
		})
		_ = wait(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond))
	}
}

// session uses one connection. It returns nil when ctx has ended and the last
// command was answered.
func (c *demoClient) session(ctx context.Context) error {
	conn, err := dialPlain(ctx, c.addr, demoGrace)
	if err != nil {
		return err
	}
	defer conn.close()
	tick := time.NewTicker(c.pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		v, err := conn.do(c.next()...)
		if err != nil {
			c.unanswered(err)
			return err
		}
		c.answered(v)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

func (c *demoClient) answered(v resp.Value) {
	if v.Type == '-' {
		c.refused(string(v.Str))
		return
	}
	c.served()
	if c.reply != nil {
		c.reply(v)
	}
}

// refused counts an error reply.
func (c *demoClient) refused(text string) {
	uncertain := strings.HasPrefix(text, "UNCERTAIN ")
	c.tally.add(func(n *counts) {
		n.commands++
		n.errors++
		if uncertain {
			n.uncertain++
		}
		n.note(text)
	})
	if uncertain && c.doubt != nil {
		c.doubt()
	}
}

// unanswered counts a command that was sent and never answered. That the
// connection was lost is counted by reconnect; the one that outlasted demoGrace
// only here.
func (c *demoClient) unanswered(err error) {
	if c.doubt != nil {
		c.doubt()
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		c.tally.add(func(n *counts) {
			n.errors++
			n.note(fmt.Sprintf("no answer within %v of the end", demoGrace))
		})
	}
}

// note keeps the first thing that went wrong.
func (c *counts) note(what string) {
	if c.firstError == "" {
		c.firstError = what
	}
}

// counter is a client's own key, which it alone increments: each reply says
// whether all that was acknowledged before is still there.
type counter struct {
	key    string
	tally  *tally
	last   int64 // the last reply
	doubts int64 // commands since then that may have been executed
}

func (w *counter) next() []string { return []string{"INCR", w.key} }

func (w *counter) doubt() { w.doubts++ }

func (w *counter) reply(v resp.Value) {
	n := v.Int()
	most := w.last + 1 + w.doubts
	lost, doubled := max(0, w.last+1-n), max(0, n-most)
	w.last, w.doubts = n, 0
	w.tally.add(func(c *counts) {
		c.acknowledged++
		c.lost += int(lost)
		c.doubled += int(doubled)
	})
}

// subscriber listens on demoChannel. It counts messages; Redis promises none of
// them, so that only a lost connection is an error.
type subscriber struct {
	addr  string
	tally *tally
}

func (s subscriber) run(ctx context.Context) {
	reconnect(ctx, s.tally, func() error { return s.session(ctx) })
}

// session listens on one connection until ctx ends.
func (s subscriber) session(ctx context.Context) error {
	conn, err := dialPlain(ctx, s.addr, 0)
	if err != nil {
		return err
	}
	defer conn.close()
	v, err := conn.do("SUBSCRIBE", demoChannel)
	for {
		switch {
		case err != nil:
			return err
		case v.Type == '-':
			s.tally.add(func(c *counts) {
				c.errors++
				c.note(string(v.Str))
			})
			return fmt.Errorf("SUBSCRIBE: %s", v.Str)
		case len(v.Elem) == 3 && string(v.Elem[0].Str) == "message":
			s.tally.add(func(c *counts) { c.messages++ })
		}
		v, err = conn.receive()
	}
}
