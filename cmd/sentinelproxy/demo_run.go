package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// demo is one run of `sentinelproxy demo`.
type demo struct {
	// Fixed at construction.
	o      demoOptions
	cfg    config.Config // of the sidecar, without its group
	parts  parts
	out    io.Writer // for the summary as JSON
	log    *slog.Logger
	screen *screen
	tally  *tally

	// Owned by run, and fixed while clients run.
	group   demoGroup
	sidecar *sidecar
	began   time.Time

	// Owned by run.
	switches []demoSwitch

	mu    sync.Mutex // guards the field below
	phase func() string
}

func newDemo(o demoOptions, cfg config.Config, p parts, stdout, stderr io.Writer) *demo {
	d := &demo{
		o: o, cfg: cfg, parts: p, out: stdout,
		log: slog.New(slog.DiscardHandler), screen: newScreen(stdout), tally: newTally(o.clients),
	}
	if o.verbose {
		d.log = newLogger(stderr, config.LogText, new(slog.LevelVar))
		d.screen = d.screen.plain()
	}
	if o.json {
		d.screen = newScreen(io.Discard)
	}
	return d
}

// run shows failovers until the time is over or ctx ends, and sums them up. It
// waits for all that it started.
func (d *demo) run(ctx context.Context) error {
	d.screen.say("Starting three Redis nodes and three Sentinels (%s)...", d.kind())
	group, err := startDemoGroup(ctx, d.o.redis)
	if err != nil {
		return d.unless(ctx, impossible(err))
	}
	d.group = group
	err = d.serve(ctx)
	return errors.Join(err, group.Close())
}

// unless returns err, or nil if ctx has ended: then err says no more than that.
func (*demo) unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// kind says in one phrase what the nodes are.
func (d *demo) kind() string {
	if d.o.redis == "" {
		return "simulated, inside this process"
	}
	return "real processes"
}

// serve puts the sidecar before the group, and shows the demo.
func (d *demo) serve(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the clients
	defer stop()
	sc, err := d.startSidecar(serving)
	if err != nil {
		return impossible(err)
	}
	d.sidecar = sc
	err = d.show(ctx)
	stop()
	if broken := sc.Wait(); broken != nil {
		return impossible(broken)
	}
	return err
}

// startSidecar starts it where --listen says, or at the first free port.
func (d *demo) startSidecar(ctx context.Context) (*sidecar, error) {
	cfg := d.cfg
	m := cfg.Masters[0]
	m.Name, m.Sentinels = d.group.Name(), d.group.SentinelAddrs()
	cfg.Masters = []config.Master{m}
	if d.o.listen != "" {
		return startSidecar(ctx, cfg, d.log, d.parts)
	}
	const first, tries = 6379, 100
	var sc *sidecar
	var err error
	for port := first; port < first+tries; port++ {
		cfg.Masters[0].Listen = []config.Listen{{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", port)}}
		if sc, err = startSidecar(ctx, cfg, d.log, d.parts); !portTaken(err) {
			break
		}
	}
	return sc, err
}

// portTaken reports whether err says that another program listens there.
func portTaken(err error) bool {
	const windows = syscall.Errno(10048) // WSAEADDRINUSE, which package syscall has not
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windows)
}

// show runs clients and failovers, and prints what came of it.
func (d *demo) show(ctx context.Context) error {
	if err := d.ready(ctx); err != nil {
		return d.unless(ctx, err)
	}
	d.introduce(ctx)
	d.began = time.Now()
	end := ctx
	if d.o.length > 0 {
		limited, cancel := context.WithDeadline(ctx, d.began.Add(d.o.length))
		defer cancel()
		end = limited
	}
	d.setPhase(func() string { return "the first failover is near" })
	live, still := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { d.screen.run(live, d.liveLine()) })
	clients := startDemoClients(ctx, d.addr(), d.o.clients, d.tally)
	err := d.failovers(end)
	d.setPhase(func() string { return "stopping" })
	clients.stop()
	still()
	wg.Wait()
	if err != nil {
		return err
	}
	return d.conclude(summarize(d.group.Redis(), d.o.clients, time.Since(d.began), d.tally.now(), d.switches))
}

// conclude prints the summary and returns its verdict.
func (d *demo) conclude(s demoSummary) error {
	if d.o.json {
		if err := json.NewEncoder(d.out).Encode(s); err != nil {
			return impossible(err)
		}
		return s.err()
	}
	d.screen.say("\n%s", strings.TrimSuffix(s.String(), "\n"))
	if s.Redis == "simulated" {
		d.screen.say("\nRedis and Sentinel were simulated, with timings near the real ones.\n" +
			"For real ones: sentinelproxy demo --redis-server auto")
	}
	return s.err()
}

// ready waits until the sidecar serves a verified master.
func (d *demo) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	g, reason := d.sidecar.groups[0], ""
	err := await(ctx, func() (ok bool) {
		ok, reason = g.Ready()
		return ok
	})
	if err != nil {
		return impossible(fmt.Errorf("the sidecar is not ready: %s", reason))
	}
	return nil
}

// addr is where clients connect.
func (d *demo) addr() string { return d.sidecar.groups[0].Addrs()[0].String() }

// master returns the master, or "" where the Sentinels do not agree.
func (d *demo) master(ctx context.Context) topology.Addr {
	m, err := d.group.Master(ctx)
	if err != nil {
		return ""
	}
	return m
}

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
		return impossible(errors.New("the sidecar ended"))
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
	go func() { over <- d.group.Failover(ctx, how) }()
	master, settled, err := d.untilServed(ctx, old, over)
	if err == nil {
		served = time.Since(start)
		d.told(n, how, old, master, before)
		if !settled {
			d.setPhase(func() string { return "the old master has yet to become a replica" })
			select {
			case err = <-over:
				settled = true
			case <-end.Done():
			case <-d.sidecar.Done():
				err = errors.New("the sidecar ended")
			}
		}
	}
	cancel()
	if !settled {
		<-over // it was told to end
	}
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
	err = await(ctx, func() bool {
		select {
		case err = <-over:
			settled = true
		default:
		}
		if err != nil {
			return true
		}
		if m := d.master(ctx); switched.IsZero() && m != "" && m != old {
			master, switched = m, time.Now()
		}
		return !switched.IsZero() && d.tally.servedSince(switched)
	})
	return master, settled, err
}

// told notes a failover, and tells it from the clients' side.
func (d *demo) told(n int, how failoverKind, old, master topology.Addr, before counts) {
	now := d.tally.now()
	s := demoSwitch{
		Kind: how.String(), From: old.String(), To: master.String(), PauseMS: inMS(d.tally.pause()),
		Errors: now.errors - before.errors, Disconnects: now.disconnects - before.disconnects,
	}
	d.switches = append(d.switches, s)
	d.event("failover %d: %s -> %s; clients waited %s at most, %s, %s",
		n, s.From, s.To, seconds(d.tally.pause()), plural(s.Errors, "error"), plural(s.Disconnects, "disconnect"))
}

func opening(how failoverKind, old topology.Addr) string {
	if how == crash {
		return fmt.Sprintf("master %s is killed, and restarted %v later", old, demoOutage)
	}
	return fmt.Sprintf("a Sentinel is asked to replace master %s", old)
}
