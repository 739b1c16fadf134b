package main

import (
	"context"
	"errors"
	"time"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// simulatedGroup is a group inside this process.
type simulatedGroup struct{ *sentineltest.Group }

func startSimulated(ctx context.Context) (demoGroup, error) {
	g, err := sentineltest.Start(context.WithoutCancel(ctx), sentineltest.Options{
		DownAfter: demoDownAfter,
		// Three steps of 100 ms each: Sentinel looks at a failover ten times a
		// second, and takes one step at a time.
		PromoteAfter: 300 * time.Millisecond,
		// The old master waits for nobody but the next failover; a real one is
		// demoted after some nine seconds.
		DemoteAfter: time.Second,
	})
	if err != nil {
		return nil, err
	}
	return simulatedGroup{g}, nil
}

// Redis says that none of this is Redis.
func (simulatedGroup) Redis() string { return "simulated" }

// Master returns the newest master.
func (g simulatedGroup) Master(context.Context) (topology.Addr, error) { return g.MasterAddr(), nil }

// Failover implements demoGroup.
func (g simulatedGroup) Failover(ctx context.Context, how failoverKind) error {
	if how == crash {
		return g.crash(ctx)
	}
	// One that followed a crash may have its last steps before it.
	var err error
	waited := await(ctx, func() bool {
		err = g.Group.Failover(ctx, "")
		return !errors.Is(err, sentineltest.ErrInProgress)
	})
	return errors.Join(waited, err)
}

// crash kills the master and restarts it when another one has taken over.
func (g simulatedGroup) crash(ctx context.Context) error {
	old := g.MasterAddr()
	g.Kill(old)
	if err := wait(ctx, demoOutage); err != nil {
		return err
	}
	if err := await(ctx, func() bool { return g.MasterAddr() != old }); err != nil {
		return err
	}
	if err := g.Restart(old); err != nil {
		return err
	}
	return await(ctx, func() bool { return g.Node(old).Role() == topology.RoleReplica })
}
