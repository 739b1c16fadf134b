package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// failovers makes one failover after the other until end ends. Then it waits for
// the clients to be served again, not for the group to be stable.
func (d *demo) failovers(end context.Context) error {
	const toFirst = 1500 * time.Millisecond
	var slowest time.Duration // from a failover's start until clients were served
	next := d.began.Add(toFirst)
	for n := 1; ; n++ {
		d.setPhase(func() string { return fmt.Sprintf("next failover in %.0fs", max(0, time.Until(next).Seconds())) })
		if err := d.pause(end, time.Until(next)); err != nil || end.Err() != nil {
			return err
		}
		// One that would outlast --for is not begun.
		if last, ok := end.Deadline(); ok && time.Until(last) < slowest {
			return d.pause(end, time.Until(last))
		}
		next = time.Now().Add(d.o.every)
		took, err := d.failover(end, n)
		if err != nil {
			return err
		}
		slowest = max(slowest, took)
	}
}

// pause waits for a time, or until end ends. The error is that of a sidecar that
// ended by itself.
func (d *demo) pause(end context.Context, length time.Duration) error {
	t := time.NewTimer(length)
	defer t.Stop()
	select {
	case <-end.Done():
	case <-t.C:
	case <-d.sidecar.Done():
		return impossible(errSidecarEnded)
	}
	return nil
}

// failover makes the n-th failover and tells it. It returns when the group is
// stable again or, once end has ended, when all clients are served; and how long
// the latter took.
func (d *demo) failover(end context.Context, n int) (served time.Duration, err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(end))
	defer cancel()
	how, old, before, start := d.o.how(n), d.master(ctx), d.tally.now(), time.Now()
	d.tally.newRound()
	d.setPhase(func() string {
		if w := d.tally.waiting(); w > 10*demoPace {
			return fmt.Sprintf("failover %d: clients wait, %.1fs", n, w.Seconds())
		}
		return fmt.Sprintf("failover %d: under way", n)
	})
	d.event("failover %d (%s): %s", n, how, opening(how, old))

	over := make(chan error, 1) // one value: never full
	var wg sync.WaitGroup
	wg.Go(func() { over <- d.group.Failover(ctx, how) })
	master, settled, err := d.untilServed(ctx, old, over)
	if err == nil {
		served = time.Since(start)
		d.told(n, how, old, master, before)
		if !settled {
			d.setPhase(func() string { return "the old master has yet to become a replica" })
			select {
			case err = <-over:
			case <-end.Done():
			case <-d.sidecar.Done():
				err = errSidecarEnded
			}
		}
	}
	cancel()
	wg.Wait()
	if err != nil {
		return 0, impossible(fmt.Errorf("failover %d: %w", n, err))
	}
	return served, nil
}

// untilServed waits until the group has another master and every client was
// answered since. settled says that over has been read.
func (d *demo) untilServed(ctx context.Context, old topology.Addr, over <-chan error) (master topology.Addr, settled bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoPatience, fmt.Errorf("no new master serves the clients within %v", demoPatience))
	defer cancel()
	var switched time.Time
	var broken error
	err = await(ctx, func() bool {
		select {
		case broken = <-over:
			settled = true
		case <-d.sidecar.Done():
			broken = errSidecarEnded
		default:
		}
		if m := d.master(ctx); switched.IsZero() && m != "" && m != old {
			master, switched = m, time.Now()
		}
		return broken != nil || !switched.IsZero() && d.tally.servedSince(switched)
	})
	return master, settled, errors.Join(broken, err)
}

// told notes a failover, and tells it from the clients' side.
func (d *demo) told(n int, how failoverKind, old, master topology.Addr, before counts) {
	now := d.tally.now()
	s := demoSwitch{
		Kind: how.String(), From: old.String(), To: master.String(), PauseMS: inMS(d.tally.pause()),
		Errors: now.errors - before.errors, Disconnects: now.disconnects - before.disconnects,
	}
	d.switches = append(d.switches, s)
	line := fmt.Sprintf("failover %d: %s -> %s, clients waited %s, %s",
		n, port(old), port(master), seconds(d.tally.pause()), plural(s.Errors, "error"))
	if s.Disconnects > 0 {
		line += ", " + plural(s.Disconnects, "disconnect")
	}
	d.event("%s", line)
}

func opening(how failoverKind, old topology.Addr) string {
	if how == crash {
		return fmt.Sprintf("master %s is killed, and restarted %v later", port(old), demoOutage)
	}
	return fmt.Sprintf("a Sentinel is asked to replace master %s", port(old))
}

// port is the short form of an address: all of them are on one host.
func port(a topology.Addr) string {
	_, p := a.Split()
	return fmt.Sprintf(":%d", p)
}
