package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Group is a master, its replicas and their Sentinels. It is safe for
// concurrent use. Its owner calls Stop.
type Group struct {
	// Fixed once Start has returned.
	opts      Options
	bin       binaries
	tls       *tls.Config // of our own questions; nil: all is plain
	dir       string
	ownsDir   bool // dir is temporary: Stop removes it
	nodes     []*Node
	sentinels []*Node
	spawn     *spawner
	log       *slog.Logger
	unwatch   func() bool // ends the watch on Start's context

	informing sync.Mutex // held while Sentinels hurry, so that their own periods come back

	killing  sync.Once
	stopping sync.Once
	stopErr  error // written by stopping
}

// Name returns the name by which the Sentinels know the group.
func (g *Group) Name() string { return g.opts.Name }

// Nodes returns the data nodes. The first was the master at the start.
func (g *Group) Nodes() []*Node { return slices.Clone(g.nodes) }

// Sentinels returns the Sentinels.
func (g *Group) Sentinels() []*Node { return slices.Clone(g.sentinels) }

// SentinelAddrs returns where the Sentinels listen, dead ones included.
func (g *Group) SentinelAddrs() []topology.Addr {
	addrs := make([]topology.Addr, len(g.sentinels))
	for i, s := range g.sentinels {
		addrs[i] = s.announced
	}
	return addrs
}

// node returns the data node known as addr, or nil.
func (g *Group) node(addr topology.Addr) *Node {
	for _, n := range g.nodes {
		if n.announced == addr {
			return n
		}
	}
	return nil
}

// all returns every node, Sentinels first: killed in this order, no Sentinel
// starts a failover on the way out.
func (g *Group) all() []*Node { return slices.Concat(g.sentinels, g.nodes) }

// Stop kills every process, waits until all are gone, closes the relays and
// removes the directory if Start made it. Later calls return the first's error.
func (g *Group) Stop() error {
	g.stopping.Do(func() {
		g.unwatch()
		g.kill()
		var errs []error
		for _, n := range g.all() {
			errs = append(errs, n.discard())
		}
		if g.ownsDir {
			errs = append(errs, os.RemoveAll(g.dir))
		}
		g.stopErr = errors.Join(errs...)
	})
	return g.stopErr
}

// kill ends all processes and lets no new one start. It is what the end of
// Start's context does; relays and files stay until Stop.
func (g *Group) kill() {
	g.killing.Do(func() {
		g.spawn.close() // first: from here on no Restart begins a process
		for _, n := range g.all() {
			if err := n.process().kill(); err != nil {
				g.log.Error("redis not killed", "node", n.name, "err", err)
			}
		}
	})
}

// watch kills the processes when ctx ends.
func (g *Group) watch(ctx context.Context) { g.unwatch = context.AfterFunc(ctx, g.kill) }
