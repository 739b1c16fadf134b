package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// remoteOptions are the drill's flags for a sidecar that runs, beside those that
// it shares with `run`.
type remoteOptions struct {
	master     string // also chooses among several
	yes        bool
	supervised bool
	cutCmd     string
	healCmd    string
	riskData   bool
	prefix     string
	user       string // of the workload
	userFile   string // with that one's password
	stdin      io.Reader

	trust  adminTrust
	status *statusClient // nil where the sidecar's admin server is not known
	orders orders        // where the sidecar takes them

	own *pflag.FlagSet // the settings of `run`, all of them
}

// shared are the settings of `run` that a drill takes, too. --follow is that of
// an ephemeral sidecar.
func sharedSettings() []string {
	return []string{
		"config", "sentinel", "listen", "admin", "auth", "redis-user", "redis-password-file",
		"sentinel-user", "sentinel-password-file", "follow", "control", "control-token-file", "admin-token-file", pinFlag,
	}
}

// remoteFlags are the flags that make no sense with --ephemeral.
func remoteFlags() []string {
	return []string{
		"config", "master", "sentinel", "listen", "admin", "auth", "redis-user", "redis-password-file",
		"sentinel-user", "sentinel-password-file", "control", "control-token-file", "admin-token-file", pinFlag,
		"admin-ca-file", "admin-client-cert-file", "admin-client-key-file", "admin-insecure", "yes", "supervised", "cut-cmd", "heal-cmd", "risk-data",
		"prefix", "client-user", "client-password-file", "report-url",
	}
}

// addFlags defines the flags on f, and returns the settings that they fill in.
func (o *remoteOptions) addFlags(f *pflag.FlagSet) *config.Flags {
	o.own = pflag.NewFlagSet("settings", pflag.ContinueOnError)
	settings := config.AddFlags(o.own)
	for _, name := range sharedSettings() {
		f.AddFlag(o.own.Lookup(name))
	}
	o.trust.addFlags(f)
	f.StringVar(&o.master, "master", "", "the master's name, as the Sentinels know it; chooses one where the configuration has several")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before a drill of a real group")
	f.BoolVar(&o.supervised, "supervised", false, "something restarts every Redis and Sentinel that ends: allows crash, sentinel-loss, replica-loss, leader-loss and rolling-restart")
	f.StringVar(&o.cutCmd, "cut-cmd", "", "partition: a command for sh that makes it; DRILL_MASTER and the like say whom to cut")
	f.StringVar(&o.healCmd, "heal-cmd", "", "partition: a command for sh that ends it; it also runs if the drill dies, and may run twice")
	f.BoolVar(&o.riskData, "risk-data", false, "crash: the group's data may be lost")
	f.StringVar(&o.prefix, "prefix", "drill:", "what the drill's keys and channels begin with; a random part follows")
	f.StringVar(&o.user, "client-user", "", "whom the workload logs in as (default: as the sidecar's own account)")
	f.StringVar(&o.userFile, "client-password-file", "", "file with that user's password")
	return settings
}

// load reads the sidecar's configuration, and what to drill from it.
func (o *remoteOptions) load(src config.Sources, via string) (drill.Remote, error) {
	src.Asking = true
	cfg, err := config.Load(src)
	if err != nil || len(cfg.Masters) == 1 { // else master chooses among them
		if o.master != "" {
			if err := o.own.Set("master", o.master); err != nil {
				return drill.Remote{}, err
			}
		}
		if cfg, err = config.Load(src); err != nil {
			return drill.Remote{}, fmt.Errorf("%w\n--ephemeral drills a group of its own instead", err)
		}
	}
	m, err := o.choose(cfg.Masters)
	if err != nil {
		return drill.Remote{}, err
	}
	if err := plainOnly(m, via); err != nil {
		return drill.Remote{}, err
	}
	r := drill.Remote{
		Group: m.Name, Sentinels: m.Sentinels, Redis: loginOf(m.Redis), Sentinel: loginOf(m.Sentinel),
		Sidecar: via, Supervised: o.supervised, CutCmd: o.cutCmd, HealCmd: o.healCmd, RiskData: o.riskData,
	}
	if via == "" {
		r.Sidecar = clientAddr(m.Listen[0])
		var to adminAccess
		if cfg.Admin.Listen != "" {
			a := cfg.Admin
			a.Token = cmp.Or(a.Token, cfg.Control.Token) // who may give orders may read
			if to, err = o.trust.access(a); err != nil {
				return drill.Remote{}, err
			}
			o.status = statusOf(to, m.Name)
			r.Status = o.status.ask
		}
		o.orders = orders{cfg.Control, to}
	}
	if m.Auth != config.AuthNone {
		r.Clients = r.Redis
	}
	var errs []error
	if err := drill.ValidPrefix(o.prefix); err != nil {
		errs = append(errs, fmt.Errorf("--prefix: %w", err))
	}
	r.Prefix = o.prefix + randomPart() + ":"
	if o.userFile != "" {
		password, err := config.ReadPassword(o.userFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("--client-password-file: %w", err))
		}
		r.Clients = drill.Login{User: o.user, Password: password.Reveal()}
	} else if o.user != "" {
		errs = append(errs, errors.New("--client-user: --client-password-file is missing"))
	}
	return r, errors.Join(errs...)
}

// choose returns the master that is meant.
func (o *remoteOptions) choose(all []config.Master) (config.Master, error) {
	var names []string
	for _, m := range all {
		if len(all) == 1 || m.Name == o.master {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return config.Master{}, fmt.Errorf("--master: found %q; the configuration has several masters: want one of %s", o.master, strings.Join(names, ", "))
}

// plainOnly returns which leg of a drill would need TLS, which it does not speak.
func plainOnly(m config.Master, via string) error {
	switch {
	case m.RedisTLS.Enabled:
		return errors.New("redis.tls: a drill does not speak TLS with Redis; want a group that can be reached without, or --ephemeral")
	case m.SentinelTLS.Enabled:
		return errors.New("sentinel.tls: a drill does not speak TLS with Sentinels; want a group that can be reached without, or --ephemeral")
	case via == "" && m.Listen[0].TLS:
		return fmt.Errorf("listen: a drill does not speak TLS with the sidecar at %s; want a plain listener first, or --via", m.Listen[0])
	}
	return nil
}

func loginOf(l config.Login) drill.Login {
	return drill.Login{User: l.User, Password: l.Password.Reveal()}
}

// clientAddr returns where a client on this machine reaches a listener.
func clientAddr(l config.Listen) string {
	if l.Network == "unix" {
		return l.String()
	}
	host, port, err := net.SplitHostPort(l.Address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return l.Address
}

// randomPart makes the keys of one drill unlike all others.
func randomPart() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// validate returns what the kind misses among the flags.
func (o *remoteOptions) validate(p drill.Plan) error {
	var errs []error
	if p.Needs.Own {
		errs = append(errs, fmt.Errorf("%s is for a group of the drill's own: want --ephemeral", p.Kind))
	}
	if p.Needs.Supervisor && !o.supervised {
		errs = append(errs, fmt.Errorf("%s ends processes: want --supervised if something restarts them, or --ephemeral", p.Kind))
	}
	if p.Needs.Cutter && (o.cutCmd == "" || o.healCmd == "") {
		errs = append(errs, fmt.Errorf("%s: want --cut-cmd and --heal-cmd, or --ephemeral", p.Kind))
	}
	return errors.Join(errs...)
}

// runRemote drills a sidecar that runs, and its group.
func (o drillOptions) runRemote(ctx context.Context, plan drill.Plan, r drill.Remote, stdout, stderr io.Writer) error {
	defer o.remote.status.close()
	facts := drill.Survey(ctx, r, drill.WritesOf(o.clients, o.pace, time.Second))
	if found := facts.Findings(plan, r); len(found) > 0 {
		return impossible(fmt.Errorf("%w:\n%s", drill.ErrGuard, strings.Join(found, "\n")))
	}
	slo, err := drill.ParseSLO(o.slo, plan.Expected(o.clients, facts.DownAfter()))
	if err != nil {
		return err
	}
	fmt.Fprint(stderr, plan.Describe(facts, r, o.times, slo))
	if err := o.remote.consent(ctx, stderr); err != nil {
		return err
	}
	opts := o.options(plan, runningProxy(r, facts, o.remote.orders.switchover(o.switchover(r.Group), sayTo(stderr))), stderr)
	opts.Remote = &r
	about := control.Drill{Master: r.Group, Kind: string(plan.Kind), Report: o.reportAt()}
	ended := o.remote.orders.announce(ctx, about, sayTo(stderr))
	err = o.finish(ctx, opts, stdout)
	ended(err)
	return err
}

// errNoConsent means that nobody agreed to the drill.
var errNoConsent = errors.New("nothing was done: a drill of a real group needs a yes")

// consent asks whether to go on.
func (o *remoteOptions) consent(ctx context.Context, stderr io.Writer) error {
	if o.yes {
		return nil
	}
	if f, ok := o.stdin.(*os.File); !ok || !isTerminal(f) {
		return noConsent(fmt.Errorf("%w: there is no terminal to ask at; say --yes", errNoConsent))
	}
	fmt.Fprint(stderr, "Go on? Type yes: ")
	answer := make(chan string, 1) // one value: never full
	go func() {
		line, _ := bufio.NewReader(o.stdin).ReadString('\n') // an end is a no
		answer <- strings.TrimSpace(line)
	}()
	select {
	case a := <-answer:
		if strings.EqualFold(a, "yes") {
			return nil
		}
	case <-ctx.Done():
	}
	return noConsent(errNoConsent)
}

// noConsent gives err its exit code.
func noConsent(err error) error { return &exitError{exitUsage, err} }

// isTerminal reports whether f is one, closely enough to ask there.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull && !nullDevice(info)
}

// nullDevice reports whether info is that of /dev/null.
func nullDevice(info os.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(info, null)
}
