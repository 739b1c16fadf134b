package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// drillOptions are the flags of `sentinelproxy drill`.
type drillOptions struct {
	ephemeral bool
	via       string // "" is a sidecar of the drill's own, or the one that is configured
	beside    bool   // HAProxy, too
	besides   []string
	away      time.Duration // 0 is the kind's own
	side      string        // variants of kinds
	when      string
	strict    bool
	times     int // 0 is the kind's own
	clients   int
	pace      time.Duration
	downAfter time.Duration
	quick     bool
	slo       string
	json      string // files; "-" is standard output
	html      string
	reportURL string // "": the path of html or json
	verbose   bool

	remote remoteOptions
	probe  probeOptions

	proxies []drill.Starter // of besides
	probes  []drill.Probe
}

func newDrillCommand(environ []string, p parts) *cobra.Command {
	var o drillOptions
	cmd := &cobra.Command{
		Use:   "drill KIND",
		Short: "Break a Redis group on purpose, and judge what clients saw",
		Long: `Break a Redis group on purpose, and judge what clients saw.

Plain clients that know nothing of Sentinel and never send a command twice write,
read, count, append, publish and pop through a sidecar. Meanwhile something is
broken. Then what they were told is compared with what the last master holds.

With --ephemeral a master, two replicas, three Sentinels and a sidecar are started
on 127.0.0.1 and end with the drill. Without it the drill is of a sidecar that runs
and of its real Redis: give it the sidecar's own configuration (--config, the same
flags and variables as for run). It says what it will do and asks; it refuses if
the group could not take it. docs/drills.md has what each kind does there.

` + drillKinds() + `
The defaults of --slo differ by kind: nothing may be lost, doubled, refused or
disconnected; where a master dies, an -UNCERTAIN for each command in flight and
losses that replication lag explains are good. Its objectives are
` + wrapped(drill.ObjectiveNames()) + `
Exit code: 0 if all objectives were met; 1 if not; 2 for wrong flags, or no consent;
3 if the drill could not run: then what to change is said.`,
		Example: `  sentinelproxy drill failover --ephemeral
  sentinelproxy drill crash --ephemeral --beside-haproxy --html report.html
  sentinelproxy drill partition --side minority --ephemeral
  sentinelproxy drill failover --config /etc/sentinelproxy.yaml
  sentinelproxy drill hang --master orders --sentinel s1:26379 --listen :6379 --yes
  sentinelproxy drill failover --config /etc/sentinelproxy.yaml \
      --probe http://gateway:8080/ --header 'authorization: testkey'`,
		Args:              oneKind,
		ValidArgsFunction: completeKind,
	}
	f := cmd.Flags()
	f.BoolVar(&o.ephemeral, "ephemeral", false, "drill a group that is started for it, and nothing else")
	f.StringVar(&o.via, "via", "", "drill what listens there (host:port) instead of a sidecar; with --ephemeral the drill prints what to put it before, and waits for it")
	f.BoolVar(&o.beside, "beside-haproxy", false, "run the same workload through HAProxy with the usual recipe, at the same time, and print both")
	f.StringArrayVar(&o.besides, "beside", nil, "run the same workload through this proxy, too, which others run before the same group: [NAME=]host:port; repeatable")
	f.DurationVar(&o.away, "away", 0, "hang, outage, partition: for how long (default the kind's own)")
	f.StringVar(&o.side, "side", "", "partition: majority cuts the master off alone, minority with its clients and their sidecar (default majority)")
	f.StringVar(&o.when, "when", "", "leader-loss: the leader dies after its election or after the promotion (default promotion)")
	f.BoolVar(&o.strict, "strict", false, "switchover: wait until a majority of the Sentinels names the new master")
	f.IntVar(&o.times, "times", 0, "how many rounds; for a flap, how many failovers in a row (default: the kind's own)")
	f.IntVar(&o.clients, "clients", 16, "how many clients write and read; four more publish, listen, push and pop")
	f.DurationVar(&o.pace, "pace", 5*time.Millisecond, "time between two commands of one client")
	f.DurationVar(&o.downAfter, "down-after", time.Second, "with --ephemeral, the Sentinels' down-after-milliseconds")
	f.BoolVar(&o.quick, "quick", false, "with --ephemeral, shorten the Sentinels' periods: a round takes some ten seconds less, and is less like production")
	f.StringVar(&o.slo, "slo", "", "objectives that replace the kind's own, such as max-errors=0,max-pause=3s,max-lost=any")
	f.StringVar(&o.json, "json", "", "write the report as JSON to this file; - is standard output, instead of the summary")
	f.StringVar(&o.html, "html", "", "write the report as one self-contained page to this file")
	f.StringVar(&o.reportURL, "report-url", "", "where the report will be published (http or https), for who watches the sidecar's status page; default the path of the --html or --json file")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "with --ephemeral, print the sidecar's log on standard error")
	o.probe.addFlags(f)
	settings := o.remote.addFlags(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.remote.stdin = cmd.InOrStdin()
		plan, err := drill.PlanOf(args[0], drill.Variant{Side: drill.Side(o.side), When: drill.When(o.when), Strict: drill.Strict(o.strict), Away: o.away})
		var proxiesErr, probesErr error
		o.proxies, proxiesErr = besideProxies(o.besides)
		o.probes, probesErr = o.probe.read(cmd.Flags())
		errs := errors.Join(err, o.validate(plan, cmd.Flags()), proxiesErr, probesErr)
		if o.ephemeral {
			if errs != nil {
				return errs
			}
			follow := cmd.Flags().Lookup("follow").Value.String()
			return o.runOwn(cmd.Context(), plan, o.proxy(p, follow, cmd.ErrOrStderr()), cmd.OutOrStdout(), cmd.ErrOrStderr())
		}
		target, err := o.remote.load(config.Sources{Flags: settings, Environ: environ}, o.via)
		if errs := errors.Join(errs, err, o.remote.validate(plan)); errs != nil {
			return errs
		}
		return o.runRemote(cmd.Context(), plan, target, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	cmd.AddCommand(newDeadmanCommand())
	return cmd
}

// oneKind wants the kind of drill as the one argument; [drill.PlanOf] looks at what it is.
func oneKind(_ *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	var kinds []string
	for _, p := range drill.Plans() {
		kinds = append(kinds, string(p.Kind))
	}
	return fmt.Errorf("found %d kinds of drill; want one of %s", len(args), strings.Join(kinds, ", "))
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
func (o drillOptions) validate(p drill.Plan, flags *pflag.FlagSet) error {
	var errs []error
	refuse := func(names []string, why string) {
		for _, n := range names {
			if flags.Changed(n) {
				errs = append(errs, fmt.Errorf("--%s %s", n, why))
			}
		}
	}
	if o.ephemeral {
		refuse(remoteFlags(), "is for a sidecar that runs; with --ephemeral the drill starts its own")
		if follow := flags.Lookup("follow"); follow.Changed {
			if o.via != "" {
				errs = append(errs, errors.New("--follow is for the drill's own sidecar; with --via there is none"))
			}
			errs = append(errs, validFollow(follow.Value.String()))
		}
	} else {
		refuse([]string{"follow", "down-after", "quick", "verbose"}, "is for a group of the drill's own: it goes with --ephemeral")
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
	if err := validReportURL(o.reportURL); err != nil {
		errs = append(errs, err)
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

// options returns what both uses share.
func (o drillOptions) options(plan drill.Plan, proxy drill.Starter, stderr io.Writer) drill.Options {
	proxies := []drill.Starter{proxy}
	if o.beside {
		proxies = append(proxies, drill.StartHAProxy)
	}
	return drill.Options{
		Plan: plan, Times: o.times, Clients: o.clients, Pace: o.pace, Proxies: append(proxies, o.proxies...), Probes: o.probes,
		SLO:     func(expected drill.SLO) (drill.SLO, error) { return drill.ParseSLO(o.slo, expected) },
		Say:     sayTo(stderr),
		Deadman: deadman(stderr),
	}
}

// runOwn drills a group of the drill's own.
func (o drillOptions) runOwn(ctx context.Context, plan drill.Plan, proxy drill.Starter, stdout, stderr io.Writer) error {
	opts := o.options(plan, proxy, stderr)
	opts.DownAfter, opts.Quick = o.downAfter, o.quick
	opts.Say(plan.Short + ": " + strings.Join(plan.Steps, "; "))
	return o.finish(ctx, opts, stdout)
}

// finish drills and writes the reports.
func (o drillOptions) finish(ctx context.Context, opts drill.Options, stdout io.Writer) error {
	report, err := drill.Run(ctx, opts)
	switch {
	case err != nil && ctx.Err() != nil:
		return impossible(fmt.Errorf("the drill was interrupted: there is no verdict (%w)", err))
	case errors.Is(err, redistest.ErrNoRedis):
		return impossible(fmt.Errorf("%w; a drill needs the real one", err))
	case err != nil:
		return impossible(err)
	}
	if err := o.write(report, stdout); err != nil {
		return impossible(err)
	}
	if !report.Passed() {
		return &exitError{exitVerdict, fmt.Errorf("drill %s: an objective was missed", opts.Plan.Kind)}
	}
	return nil
}

// proxy returns what starts the proxy under test before a group of the drill's
// own.
func (o drillOptions) proxy(p parts, follow string, stderr io.Writer) drill.Starter {
	if o.via != "" {
		return viaProxy(o.via, sayTo(stderr))
	}
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = newLogger(stderr, config.LogText, new(slog.LevelVar))
	}
	return sidecarProxy(p, follow, o.switchover(""), log, sayTo(stderr))
}

// switchover returns what the sidecar is asked for; master "" is the only one it serves.
func (o drillOptions) switchover(master string) topology.SwitchoverRequest {
	return topology.SwitchoverRequest{Master: master, Strict: o.strict}
}

// sayTo tells people how it goes, a line each.
func sayTo(w io.Writer) func(string) {
	return func(line string) { fmt.Fprintln(w, "drill: "+line) }
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

// reportAt returns where others find the report; "" is nowhere, or at a path that a sidecar
// would refuse, and with it the word that there is a drill.
func (o drillOptions) reportAt() string {
	if o.reportURL != "" {
		return o.reportURL
	}
	for _, name := range []string{o.html, o.json} {
		if path, err := filepath.Abs(name); err == nil && name != "" && name != "-" {
			if (control.Drill{Report: path}).ValidateReport() != nil {
				return ""
			}
			return path
		}
	}
	return ""
}

// validReportURL returns what is wrong with a report's address; "" is none.
func validReportURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil:
		if err := (control.Drill{Report: s}).ValidateReport(); err != nil {
			return fmt.Errorf("--report-url: %w", err)
		}
		return nil
	}
	return errors.New("--report-url: want http://host/path or https://host/path, without a password: everybody who may see the sidecar's status is shown it")
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
