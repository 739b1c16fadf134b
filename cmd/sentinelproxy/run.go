package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/endpoint"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/internal/systemd"
)

func newRunCommand(environ []string, p parts) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve Redis clients and follow their master",
		Long: `Serve Redis clients and follow their master.

Every flag is also an environment variable, such as SENTINELPROXY_HOLD_TIMEOUT
for --hold-timeout, and a key of the YAML file, which can hold several masters.
Flags win over variables, and variables over the file.

SIGTERM drains and ends; SIGHUP reloads what can be reloaded. Under systemd it
takes the sockets that are passed, and tells its state (Type=notify).`,
		Example: "  sentinelproxy run --listen :6379 --master mymaster --sentinel s1:26379 --sentinel s2:26379",
		Args:    cobra.NoArgs,
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		load := func() (config.Config, error) { return config.Load(config.Sources{Flags: flags, Environ: environ}) }
		cfg, err := load()
		if err != nil {
			return err
		}
		level := new(slog.LevelVar)
		level.Set(cfg.LogLevel)
		log := newLogger(cmd.ErrOrStderr(), cfg.LogFormat, level)
		for _, w := range cfg.Warnings {
			log.Warn("configuration looks wrong", "warning", w)
		}
		s := service{cfg: cfg, load: load, level: level, log: log, parts: p, environ: environ}
		return s.run(cmd.Context())
	}
	return cmd
}

// service is what `run` does after its configuration was read.
type service struct {
	cfg   config.Config
	load  func() (config.Config, error) // for a reload
	level *slog.LevelVar                // of log
	log   *slog.Logger
	parts parts

	environ []string // names the service manager, if there is one
}

// run serves until ctx ends, reloading at SIGHUP.
func (s service) run(ctx context.Context) error {
	// Before the listeners open: from then on SIGHUP must not end the process.
	hup := make(chan os.Signal, 1) // full: a reload is due already
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	manager, err := newNotifier(s.environ, s.log)
	if err != nil {
		return impossible(err)
	}
	passed, err := takeSockets(s.environ)
	if err != nil {
		return impossible(err)
	}
	p := manager.hear(s.parts)
	p.sockets = passed
	sc, err := startSidecar(ctx, s.cfg, s.log, p)
	if err != nil {
		return impossible(err)
	}
	logStart(s.log, sc)
	defer manager.start(sc.alive)()
	manager.tell(systemd.Ready)
	r := newReloader(sc, s.load, s.level)
	files := time.NewTimer(secretsEvery)
	defer files.Stop()
	stopping, asked := time.Time{}, ctx.Done()
	for {
		select {
		case <-hup:
			manager.tell(systemd.Reloading())
			r.reload()
			manager.tell(systemd.Ready)
		case <-files.C:
			next := secretsEvery
			if r.secrets() {
				next = secretsAgain
			}
			files.Reset(next)
		case <-asked:
			asked, stopping = nil, time.Now()
			s.log.Info("stopping", "drain_timeout", s.cfg.DrainTimeout)
			manager.tell(systemd.Stopping, systemd.Extend(s.cfg.DrainTimeout+stopMargin), systemd.Status("draining"))
		case <-sc.Done():
			if err := sc.Wait(); err != nil {
				return impossible(err)
			}
			s.log.Info("stopped", "took", time.Since(stopping).Round(time.Millisecond))
			return nil
		}
	}
}

// stopMargin is how much longer than the drain a stop takes at most.
const stopMargin = 5 * time.Second

func logStart(log *slog.Logger, s *sidecar) {
	b := build()
	admin := "off"
	if a := s.AdminAddr(); a != nil {
		admin = a.String()
	}
	log.Info("sidecar started", "version", b.Version, "revision", b.Revision, "config", s.cfg.File, "admin", admin,
		"probes", cmp.Or(s.cfg.Admin.Probes, "off"), "control", cmp.Or(s.cfg.Control.Socket, "off"))
	if s.endpoint != nil {
		e := s.endpoint.Status()
		log.Info("sentinel endpoint listening", "listen", e.Listen, "masters", e.Masters)
	}
	clients := 0
	for _, g := range s.groups {
		m := g.master
		clients += m.MaxClients
		if m.Dedicated {
			clients += m.MaxClients // and a backend connection each
		}
		log.Info("listening", "master_name", m.Name, "listen", g.addrNames(), "sentinels", m.Sentinels, "auth", m.Auth,
			"hold_timeout", m.Hold.Timeout, "hold_max", m.Hold.Max,
			"outage_after", m.Outage.After, "outage_policy", append(outage.Policy{}, m.Outage.Policy...), "fence_mode", m.Fence)
	}
	// Beside clients: pipes, pinned backends, Sentinels, probes, the admin server.
	others := 1000
	if s.endpoint != nil {
		others += endpoint.MaxClients
	}
	if limit, known := fileLimit(); known && limit < uint64(clients+others) {
		log.Warn("file limit is too low for max_clients", "limit", limit, "max_clients", clients, "want", clients+others)
	}
}
