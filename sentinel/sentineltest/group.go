package sentineltest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Group is one master, its replicas and its Sentinels. Its methods are safe for
// concurrent use.
type Group struct {
	// Fixed at construction.
	o         Options
	log       *slog.Logger
	nodes     []*Node
	sentinels []*Sentinel
	replID    string

	jobs   chan func(context.Context) // to supervise, which always takes one
	cancel context.CancelFunc
	ending chan struct{} // closed when supervise takes no more jobs
	done   chan struct{} // closed when supervise and all its jobs have ended

	mu      sync.Mutex       // guards the fields below and every Sentinel's view
	running bool             // a failover is under way
	cut     map[int]struct{} // Sentinels behind a partition
	deaths  map[*Node]int    // how often each was killed
	data    []*dataset       // all that were ever made, to be closed
	closed  bool
}

// Start runs a group on loopback until Close. ctx bounds the group's own work:
// once it is done no failover proceeds, though the servers still answer.
func Start(ctx context.Context, o Options) (*Group, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("sentineltest: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &Group{
		o:      o,
		log:    o.Log,
		replID: newRunID(),
		jobs:   make(chan func(context.Context)),
		cancel: cancel,
		ending: make(chan struct{}),
		done:   make(chan struct{}),
		cut:    map[int]struct{}{},
		deaths: map[*Node]int{},
	}
	go g.supervise(ctx)
	if err := g.build(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.log.Info("group started", "master_name", o.Name, "master", g.MasterAddr(), "sentinels", g.SentinelAddrs())
	return g, nil
}

// New is Start for tests: what fails ends the test, and the group is closed
// when the test has ended.
func New(tb testing.TB, o Options) *Group {
	tb.Helper()
	g, err := Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := g.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return g
}

func (g *Group) build(ctx context.Context) error {
	data, err := g.keep(newDataset())
	if err != nil {
		return err
	}
	for range g.o.Replicas + 1 {
		n := newNode(g, g.o, data)
		g.nodes = append(g.nodes, n)
		if err := n.restart(ctx); err != nil {
			return err
		}
	}
	for _, n := range g.nodes[1:] {
		n.follow(g.nodes[0])
	}
	for i := range g.o.Sentinels {
		s := newSentinel(g, i)
		g.sentinels = append(g.sentinels, s)
		if err := s.restart(ctx); err != nil {
			return err
		}
	}
	return nil
}

// supervise owns every job of the group: failovers that nobody waits for, and
// the Sentinels' reactions to what a test breaks.
func (g *Group) supervise(ctx context.Context) {
	defer close(g.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(g.ending)
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-g.jobs:
			wg.Go(func() { job(ctx) })
		}
	}
}

// spawn hands a job to supervise, or drops it if the group is ending.
func (g *Group) spawn(job func(context.Context)) {
	select {
	case g.jobs <- job:
	case <-g.ending:
	}
}

// keep remembers a dataset for Close: even one that no node holds any more may
// have a command under way.
func (g *Group) keep(d *dataset, err error) (*dataset, error) {
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.data = append(g.data, d)
	return d, nil
}

// holds reports whether a node has d.
func (g *Group) holds(d *dataset) bool {
	for _, n := range g.nodes {
		if n.state.Load().data == d {
			return true
		}
	}
	return false
}

// Close ends all servers and connections and waits for them. It may be called
// twice.
func (g *Group) Close() error {
	g.cancel()
	<-g.done
	g.mu.Lock()
	again := g.closed
	g.closed = true
	g.mu.Unlock()
	if again {
		return nil
	}
	for _, s := range g.sentinels {
		s.front.close()
	}
	for _, n := range g.nodes {
		n.front.close()
	}
	for _, d := range g.data {
		d.close()
	}
	return nil
}

// Name is what the Sentinels call the group.
func (g *Group) Name() string { return g.o.Name }

// SentinelAddrs are the Sentinels' addresses, stopped ones too.
func (g *Group) SentinelAddrs() []topology.Addr {
	list := make([]topology.Addr, len(g.sentinels))
	for i, s := range g.sentinels {
		list[i] = s.Addr()
	}
	return list
}

// NodeAddrs are the data nodes' addresses, dead ones too. The first is the
// master the group starts with.
func (g *Group) NodeAddrs() []topology.Addr {
	list := make([]topology.Addr, len(g.nodes))
	for i, n := range g.nodes {
		list[i] = n.Addr()
	}
	return list
}

// Nodes returns the data nodes, in the order of NodeAddrs.
func (g *Group) Nodes() []*Node { return append([]*Node(nil), g.nodes...) }

// Node returns the data node at addr, or nil.
func (g *Group) Node(addr topology.Addr) *Node {
	for _, n := range g.nodes {
		if n.Addr() == addr {
			return n
		}
	}
	return nil
}

// Sentinel returns the i-th Sentinel, in the order of SentinelAddrs.
func (g *Group) Sentinel(i int) *Sentinel { return g.sentinels[i] }

// MasterAddr is the master at the highest config epoch that a Sentinel knows.
func (g *Group) MasterAddr() topology.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newest(nil).master
}

// Epoch is the highest config epoch that a Sentinel knows.
func (g *Group) Epoch() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newest(nil).config
}

// newest returns the view with the highest config epoch among those that keep
// accepts (nil: all), or nil. g.mu is held.
func (g *Group) newest(keep func(*Sentinel) bool) *view {
	var best *view
	for _, s := range g.sentinels {
		if (keep == nil || keep(s)) && (best == nil || s.view.config > best.config) {
			best = &s.view
		}
	}
	return best
}

// SetMaster makes every Sentinel that is not behind a partition name addr at
// epoch, without an event. If addr is a node of the group it becomes master and
// the other nodes its replicas; else only the Sentinels' word changes, as with
// an announced address that cannot be reached.
func (g *Group) SetMaster(addr topology.Addr, epoch uint64) {
	if n := g.Node(addr); n != nil {
		n.change(func(st *nodeState) { st.role, st.master = topology.RoleMaster, "" })
		for _, other := range g.nodes {
			if other != n {
				other.follow(n)
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, s := range g.sentinels {
		if _, away := g.cut[i]; !away {
			s.view.set(addr, epoch)
		}
	}
}

// Partition separates these Sentinels from the others: each side keeps its own
// truth, elects on its own, and calls the other side down after DownAfter.
// Clients and data nodes still reach both.
func (g *Group) Partition(sentinels ...int) {
	g.mu.Lock()
	for _, i := range sentinels {
		g.cut[i] = struct{}{}
	}
	g.mu.Unlock()
	g.log.Info("sentinels partitioned", "sentinels", sentinels)
	g.spawn(g.loseSentinels)
}

// Heal ends a partition: all adopt the view with the highest config epoch, with
// the events that Sentinel sends then.
func (g *Group) Heal() {
	g.mu.Lock()
	g.cut = map[int]struct{}{}
	g.findSentinels()
	g.spreadNewest()
	g.mu.Unlock()
	g.log.Info("partition healed")
	g.spawn(g.reconsider)
}

// newRunID makes an id as Redis does: forty hexadecimal digits.
func newRunID() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
