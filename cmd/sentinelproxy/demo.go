package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// demoOptions are the demo's own flags; what concerns the sidecar goes through
// package config, as with `run`.
type demoOptions struct {
	length   time.Duration // of the demo; 0 is until the context ends
	every    time.Duration // from one failover's start to the next, at least
	clients  int           // half of them write, half read
	failover string        // one of failoverChoices
	redis    string        // "" simulates; "auto" looks for redis-server on PATH; else its path
	listen   string        // "" is the first free port from 6379
	admin    string        // "off" for none
	hold     string        // --hold-timeout, as for `run`
	json     bool          // print only the summary, as JSON
	verbose  bool          // the sidecar's log on standard error
}

// failoverChoices are the values of --failover, the default first.
func failoverChoices() []string { return []string{"planned", "crash", "both"} }

func newDemoCommand(p parts) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch failovers from a client's side, with nothing to install",
		Long: `Watch failovers from a client's side, with nothing to install.

One Redis master, two replicas and three Sentinels run behind a sidecar, and
plain clients in front of it: they know nothing of Sentinel and never retry.
Every few seconds the master changes. For the clients that should be a pause;
the summary says whether it was, as they saw it.

Redis and Sentinel are simulated inside this process unless --redis-server
names a real one. Everything listens on 127.0.0.1 and ends with the demo.

A planned failover costs no error. When the master crashes, a write that it had
received and not answered may or may not have been executed: its client is told
so (UNCERTAIN), which counts as an error here.

Exit code: 0 if every failover was only a pause; 1 if a client saw an error, a
disconnect, or an acknowledged write undone; 2 for wrong flags; 3 if it could
not run.`,
		Example: `  sentinelproxy demo                      # until Ctrl-C
  sentinelproxy demo --for 20s --json     # for scripts
  sentinelproxy demo --redis-server auto  # with real Redis and Sentinel
  sentinelproxy demo --hold-timeout off   # what clients see without the hold`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			cfg, err := o.sidecar()
			if err != nil {
				return err
			}
			d := newDemo(o, cfg, p, cmd.OutOrStdout(), cmd.ErrOrStderr())
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.length, "for", 0, "how long to run; 0 is until Ctrl-C")
	f.DurationVar(&o.every, "every", 4*time.Second, "time from one failover to the next; longer where the group needs it")
	f.IntVar(&o.clients, "clients", 8, "how many clients: half of them write, half read")
	f.StringVar(&o.failover, "failover", failoverChoices()[0], "planned (SENTINEL FAILOVER), crash (the master is killed), or both in turn")
	f.StringVar(&o.redis, "redis-server", "", "run real Redis and Sentinel: auto, or the path of redis-server (default: simulated)")
	f.StringVar(&o.listen, "listen", "", "where clients connect (default: the first free port from 127.0.0.1:6379)")
	f.StringVar(&o.admin, "admin", "127.0.0.1:0", "where metrics and status are served, port 0 for any free one; or off")
	f.StringVar(&o.hold, "hold-timeout", "auto", "how long one command waits through a failover; off shows what clients see without")
	f.BoolVar(&o.json, "json", false, "print only the summary, as one JSON object")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the sidecar's log on standard error")
	return cmd
}

// validate returns every mistake in the demo's own flags, one line each.
func (o demoOptions) validate() error {
	var errs []error
	if o.length < 0 {
		errs = append(errs, fmt.Errorf("--for: found %v; want 0 or more", o.length))
	}
	if o.every <= 0 {
		errs = append(errs, fmt.Errorf("--every: found %v; want more than 0", o.every))
	}
	if o.clients < 2 || o.clients > 1000 {
		errs = append(errs, fmt.Errorf("--clients: found %d; want 2 to 1000", o.clients))
	}
	if !slices.Contains(failoverChoices(), o.failover) {
		errs = append(errs, fmt.Errorf("--failover: found %q; want %s", o.failover, strings.Join(failoverChoices(), ", ")))
	}
	return errors.Join(errs...)
}

// demoListenAny stands in for --listen until a free port is chosen.
const demoListenAny = "127.0.0.1:0"

// sidecar returns the sidecar's configuration: that of `run` with the demo's
// flags and no environment. The master's name and its Sentinels are not known
// yet, and its Listen is demoListenAny where o leaves it open.
func (o demoOptions) sidecar() (config.Config, error) {
	fs := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	src := config.Sources{Flags: config.AddFlags(fs)}
	listen := o.listen
	if listen == "" {
		listen = demoListenAny
	}
	for _, f := range [][2]string{
		{"listen", listen},
		{"admin", o.admin},
		{"hold-timeout", o.hold},
		{"drain-timeout", "1s"},
		{"sentinel", "127.0.0.1:26379"}, // one must be named; replaced when the group runs
	} {
		if err := fs.Set(f[0], f[1]); err != nil {
			return config.Config{}, err
		}
	}
	return config.Load(src)
}

// how returns how the n-th failover comes about, counted from 1.
func (o demoOptions) how(n int) failoverKind {
	if o.failover == "crash" || o.failover == "both" && n%2 == 0 {
		return crash
	}
	return planned
}
