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
		if d.o.redis != "" {
			err = fmt.Errorf("--redis-server %s: %w", d.o.redis, err)
		}
		return unless(ctx, impossible(err))
	}
	d.group = group
	err = d.serve(ctx)
	return errors.Join(err, group.Close())
}

// unless returns err, or nil if ctx has ended: then err says no more than that.
func unless(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
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
		return impossible(broken) // whatever else went wrong followed from it
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

// errSidecarEnded means that the sidecar ended by itself; its Wait says why.
var errSidecarEnded = errors.New("the sidecar ended")

// portTaken reports whether err says that another program listens there.
func portTaken(err error) bool {
	const windows = syscall.Errno(10048) // WSAEADDRINUSE, which package syscall has not
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, windows)
}

// show runs clients and failovers, and prints what came of it.
func (d *demo) show(ctx context.Context) error {
	if err := d.ready(ctx); err != nil {
		return unless(ctx, err)
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
