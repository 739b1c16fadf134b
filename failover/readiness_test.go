package failover

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// pipedNode is a data node in a bubble, where nobody may wait for a socket.
type pipedNode struct {
	mu    sync.Mutex // guards the fields below
	role  string     // what it answers to ROLE
	hangs bool       // takes questions and answers none
	dead  bool       // refuses connections
	conns []net.Conn
}

// dial connects to it, as a prober does.
func (n *pipedNode) dial() (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	n.conns = append(n.conns, theirs)
	go n.serve(theirs)
	return ours, nil
}

// serve answers one connection until that ends. A prober has one question under way and
// writes it at once.
func (n *pipedNode) serve(c net.Conn) {
	b := make([]byte, 4096)
	for {
		k, err := c.Read(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		answer := n.role
		if bytes.Contains(b[:k], []byte("HELLO")) {
			answer = helloMaster
		}
		silent := n.hangs
		n.mu.Unlock()
		if silent {
			continue
		}
		if _, err := c.Write([]byte(answer)); err != nil {
			return
		}
	}
}

func (n *pipedNode) set(change func(*pipedNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
	if n.dead {
		for _, c := range n.conns {
			_ = c.Close()
		}
		n.conns = nil
	}
}

// bubbled is a Controller in a bubble before two nodes, whose Sentinels say the same twice a
// second.
type bubbled struct {
	*rig

	master, replica *pipedNode

	mu    sync.Mutex // guards names
	names topology.Observation
}

// The addresses of a bubble's nodes.
const (
	bubbleMaster  = topology.Addr("10.0.0.1:6379")
	bubbleReplica = topology.Addr("10.0.0.2:6379")
)

// newBubbled must be called in a bubble. The Sentinels' down-after is 30 s.
func newBubbled(t *testing.T) *bubbled {
	t.Helper()
	b := &bubbled{master: &pipedNode{role: roleMaster}, replica: &pipedNode{role: followerOf(bubbleMaster)}}
	b.named(bubbleMaster, 1, bubbleReplica)
	began := time.Now()
	clock := func() time.Duration { return time.Hour + time.Since(began) }
	b.rig = rigged(t, Options{Clock: clock, Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
		if topology.Addr(addr) == bubbleMaster {
			return b.master.dial()
		}
		return b.replica.dial()
	}})
	saying, stop := context.WithCancel(t.Context())
	var said sync.WaitGroup
	said.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for saying.Err() == nil {
			b.say(clock())
			select {
			case <-tick.C:
			case <-saying.Done():
			}
		}
	})
	t.Cleanup(func() {
		stop()
		said.Wait()
		b.master.set(func(n *pipedNode) { n.dead = true })
		b.replica.set(func(n *pipedNode) { n.dead = true })
	})
	return b
}

// named changes what the Sentinels say from now on.
func (b *bubbled) named(master topology.Addr, epoch uint64, replica topology.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.names = agree(master, epoch, replica)
}

// say has the Sentinels say it now.
func (b *bubbled) say(now time.Duration) {
	b.mu.Lock()
	o := b.names
	b.mu.Unlock()
	o.AgreedAt = now
	o.Views = append([]topology.View(nil), o.Views...)
	for i := range o.Views {
		o.Views[i].SentAt = now
	}
	b.Observe(o)
}

// until returns how long it takes until ok, to the millisecond.
func (b *bubbled) until(t *testing.T, what string, ok func([]topology.Check) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for synctest.Wait(); !ok(b.Checks()); synctest.Wait() {
		if time.Since(began) > time.Minute {
			t.Fatalf("not %s within a minute: %+v", what, b.Checks())
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// failed returns the first required check that is not ok; "" if all are.
func failed(checks []topology.Check) string {
	for _, c := range checks {
		if !c.OK && !c.Advice {
			return c.Name
		}
	}
	return ""
}

func isReady(checks []topology.Check) bool { return failed(checks) == "" }

// Within a second of the moment in which the master hangs or dies the checks of /readyz say
// so, whenever between two probes that is and however long Sentinel's down-after; and with
// the route's change they are ok again.
func TestReadinessWithinASecond(t *testing.T) {
	for name, tt := range map[string]struct {
		breaks func(*pipedNode)
		want   string // the check that says so
	}{
		"hangs": {func(n *pipedNode) { n.hangs = true }, "master_answers"},
		"dies":  {func(n *pipedNode) { n.dead = true }, "route"},
	} {
		t.Run(name, func(t *testing.T) {
			longest := time.Duration(0)
			for range 100 {
				synctest.Test(t, func(t *testing.T) {
					b := newBubbled(t)
					b.until(t, "ready", isReady)
					time.Sleep(3*time.Second + rand.N(time.Second)) // anywhere between two probes
					if why := failed(b.Checks()); why != "" {
						t.Fatalf("%s is not ok while all is well", why)
					}
					b.master.set(tt.breaks)
					took := b.until(t, "said", func(c []topology.Check) bool { return failed(c) == tt.want })
					longest = max(longest, took)
					if took > time.Second {
						t.Errorf("%s is not ok %v after the master's end; want a second at most", tt.want, took)
					}
					time.Sleep(time.Second)
					b.replica.set(func(n *pipedNode) { n.role = roleMaster })
					b.named(bubbleReplica, 2, "")
					b.until(t, "switched", func([]topology.Check) bool {
						r := b.last()
						return r.State == topology.Serving && r.Master == bubbleReplica
					})
					if why := failed(b.Checks()); why != "" {
						t.Errorf("%s is not ok though the route has changed", why)
					}
				})
			}
			t.Logf("%v at most", longest)
		})
	}
}
