package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// drillOptions are the flags of `sentinelproxy drill`.
type drillOptions struct {
	ephemeral bool
	via       string // "" is a sidecar of the drill's own
	follow    string // that sidecar's --follow; "" is its default
	beside    bool   // HAProxy, too
	times     int    // 0 is the kind's own
	clients   int
	pace      time.Duration
	downAfter time.Duration
	quick     bool
	slo       string
	json      string // files; "-" is standard output
	html      string
	verbose   bool
}

func newDrillCommand(p parts) *cobra.Command {
	var o drillOptions
	cmd := &cobra.Command{
		Use:   "drill KIND --ephemeral",
		Short: "Break a Redis group on purpose, and judge what clients saw",
		Long: `Break a Redis group on purpose, and judge what clients saw.

A master, two replicas and three Sentinels are started on 127.0.0.1, a sidecar
before them, and plain clients before that: they know nothing of Sentinel and
never send a command twice. While they write, read, count, append, publish and
pop, something is broken. Then what they were told is compared with what the
last master holds. Everything ends with the drill.

` + drillKinds() + `
The defaults of --slo differ by kind: nothing may be lost, doubled, refused or
disconnected; where a master dies, an -UNCERTAIN for each command in flight and
losses that replication lag explains are good. Its objectives are
` + wrapped(drill.ObjectiveNames()) + `
Exit code: 0 if all objectives were met; 1 if not; 2 for wrong flags; 3 if the
drill could not run.`,
		Example: `  sentinelproxy drill failover --ephemeral
  sentinelproxy drill crash --ephemeral --beside-haproxy --html report.html
  sentinelproxy drill failover --ephemeral --times 5 --follow fast --slo max-pause=350ms
  sentinelproxy drill flap --ephemeral --via 127.0.0.1:7000   # your own proxy`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, err := drill.PlanOf(args[0])
			if err := errors.Join(err, o.validate(plan)); err != nil {
				return err
			}
			return o.run(cmd.Context(), plan, p, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.ephemeral, "ephemeral", false, "drill a group that is started for it, and nothing else (required)")
	f.StringVar(&o.via, "via", "", "drill this proxy (host:port) instead of a sidecar of the drill's own; the drill prints what to put it before, and waits for it")
	f.StringVar(&o.follow, "follow", "", "the sidecar's --follow, as for run: majority or fast")
	f.BoolVar(&o.beside, "beside-haproxy", false, "run the same workload through HAProxy with the usual recipe, at the same time, and print both")
	f.IntVar(&o.times, "times", 0, "how many rounds; for a flap, how many failovers in a row (default: the kind's own)")
	f.IntVar(&o.clients, "clients", 16, "how many clients write and read; four more publish, listen, push and pop")
	f.DurationVar(&o.pace, "pace", 5*time.Millisecond, "time between two commands of one client")
	f.DurationVar(&o.downAfter, "down-after", time.Second, "the Sentinels' down-after-milliseconds")
	f.BoolVar(&o.quick, "quick", false, "shorten the Sentinels' periods: a round takes some ten seconds less, and is less like production")
	f.StringVar(&o.slo, "slo", "", "objectives that replace the kind's own, such as max-errors=0,max-pause=3s,max-lost=any")
	f.StringVar(&o.json, "json", "", "write the report as JSON to this file; - is standard output, instead of the summary")
	f.StringVar(&o.html, "html", "", "write the report as one self-contained page to this file")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the sidecar's log on standard error")
	return cmd
}

// drillKinds lists the kinds, one line each.
func drillKinds() string {
	var b strings.Builder
	for _, p := range drill.Plans() {
		fmt.Fprintf(&b, "  %-16s %s\n", p.Kind, p.Short)
	}
	return b.String()
}

// wrapped joins names, four to a line.
func wrapped(names []string) string {
	var b strings.Builder
	for i, n := range names {
		switch {
		case i > 0 && i%4 == 0:
			b.WriteString(",\n")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	return b.String() + ".\n"
}

// validate returns every mistake in the flags, one line each.
func (o drillOptions) validate(p drill.Plan) error {
	var errs []error
	if !o.ephemeral {
		errs = append(errs, errors.New("--ephemeral is required: the drill breaks the group that it runs on"))
	}
	if o.via != "" && o.follow != "" {
		errs = append(errs, errors.New("--follow is for the drill's own sidecar; with --via there is none"))
	}
	if _, err := drillSidecar(o.follow, drill.Target{Group: "mymaster", Sentinels: []topology.Addr{"127.0.0.1:26379"}}); err != nil {
		errs = append(errs, err)
	}
	if o.times < 0 || o.times > 10_000 {
		errs = append(errs, fmt.Errorf("--times: found %d; want 1 to 10000, or 0 for the kind's own", o.times))
	}
	if o.clients < 1 || o.clients > 1000 {
		errs = append(errs, fmt.Errorf("--clients: found %d; want 1 to 1000", o.clients))
	}
	if o.pace < 100*time.Microsecond || o.pace > time.Second {
		errs = append(errs, fmt.Errorf("--pace: found %v; want 100µs to 1s", o.pace))
	}
	if o.downAfter < 100*time.Millisecond || o.downAfter > time.Minute {
		errs = append(errs, fmt.Errorf("--down-after: found %v; want 100ms to 1m", o.downAfter))
	}
	if o.json == "-" && o.html == "-" {
		errs = append(errs, errors.New("--json and --html: only one can be standard output"))
	}
	if _, err := drill.ParseSLO(o.slo, p.Expected(o.clients, o.downAfter)); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			errs = append(errs, errors.New("--slo: "+line))
		}
	}
	return errors.Join(errs...)
}

// run drills and writes the reports.
func (o drillOptions) run(ctx context.Context, plan drill.Plan, p parts, stdout, stderr io.Writer) error {
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = newLogger(stderr, config.LogText, new(slog.LevelVar))
	}
	say := func(line string) { fmt.Fprintln(stderr, "drill: "+line) }
	say(plan.Short + ": " + strings.Join(plan.Steps, "; "))
	proxies := []drill.Starter{o.proxy(p, log, say)}
	if o.beside {
		proxies = append(proxies, drill.StartHAProxy)
	}
	report, err := drill.Run(ctx, drill.Options{
		Plan: plan, Times: o.times, Clients: o.clients, Pace: o.pace, Proxies: proxies,
		SLO:       func(expected drill.SLO) (drill.SLO, error) { return drill.ParseSLO(o.slo, expected) },
		DownAfter: o.downAfter, Quick: o.quick, Say: say,
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return impossible(errors.New("the drill was interrupted: there is no verdict"))
	case errors.Is(err, redistest.ErrNoRedis):
		return impossible(fmt.Errorf("%w; a drill needs the real one", err))
	case err != nil:
		return impossible(err)
	}
	if err := o.write(report, stdout); err != nil {
		return impossible(err)
	}
	if !report.Passed() {
		return &exitError{exitVerdict, fmt.Errorf("drill %s: an objective was missed", plan.Kind)}
	}
	return nil
}

// proxy returns what starts the proxy under test.
func (o drillOptions) proxy(p parts, log *slog.Logger, say func(string)) drill.Starter {
	if o.via != "" {
		return viaProxy(o.via, say)
	}
	return sidecarProxy(p, o.follow, log)
}

// write writes the summary and the files that were asked for.
func (o drillOptions) write(r drill.Report, stdout io.Writer) error {
	if o.json != "-" && o.html != "-" {
		if err := r.WriteText(stdout); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{{o.json, r.WriteJSON}, {o.html, r.WriteHTML}} {
		if err := writeTo(f.name, stdout, f.write); err != nil {
			return err
		}
	}
	return nil
}

// writeTo lets write fill the file of that name: "" is none, "-" is stdout.
func writeTo(name string, stdout io.Writer, write func(io.Writer) error) error {
	switch name {
	case "":
		return nil
	case "-":
		return write(stdout)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = write(f)
	return cmp.Or(err, f.Close())
}
