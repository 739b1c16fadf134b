package main

import (
	"context"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// failoverKind is how a failover of the demo comes about.
type failoverKind uint8

const (
	planned failoverKind = 1 + iota // SENTINEL FAILOVER
	crash                           // the master is killed, and restarted later
)

// String returns the word that users see.
func (k failoverKind) String() string {
	if k == crash {
		return "crash"
	}
	return "planned"
}

// demoGroup is what the demo's sidecar stands before: a master, replicas and
// Sentinels, simulated or real.
type demoGroup interface {
	Name() string
	SentinelAddrs() []topology.Addr
	NodeAddrs() []topology.Addr

	// Redis is "simulated" or the version of the real one.
	Redis() string
	// Master returns the newest master that the Sentinels know.
	Master(ctx context.Context) (topology.Addr, error)
	// Failover makes another node the master and returns when the group is
	// stable again: the old master runs as a replica. It ends with ctx.
	Failover(ctx context.Context, how failoverKind) error
	// Close ends every node and waits for it.
	Close() error
}

const (
	demoDownAfter = time.Second     // how long a node is silent before it is called down
	demoOutage    = 3 * time.Second // from a crash to the restart, at least
	demoPoll      = 50 * time.Millisecond
)

// startDemoGroup starts what --redis-server asks for. The end of ctx aborts the
// start; afterwards the group lives until Close.
func startDemoGroup(ctx context.Context, redis string) (demoGroup, error) {
	if redis == "" {
		return startSimulated(ctx)
	}
	return startRealRedis(ctx, redis)
}

// await calls ok, with a pause of demoPoll between, until it returns true; or
// returns why ctx ended.
func await(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// wait returns after d, or earlier with why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
