package main

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// reloader applies a changed configuration to a sidecar that runs. It is not
// safe for concurrent use.
type reloader struct {
	load    func() (config.Config, error)
	sidecar *sidecar
	level   *slog.LevelVar
	log     *slog.Logger
	running config.Config // what is in force

	// Of the files with secrets, which are looked at without a signal.
	seen    config.Config // the last look, if it differed from running
	bad     string        // what was wrong with them then; "" for nothing
	badTold bool
}

// secretsEvery is how often a run looks at the password and token files, and
// secretsAgain how soon at those that have changed.
const (
	secretsEvery = 5 * time.Second
	secretsAgain = time.Second
)

func newReloader(s *sidecar, load func() (config.Config, error), level *slog.LevelVar) *reloader {
	running := s.cfg
	running.Masters = slices.Clone(running.Masters) // ours to change
	return &reloader{load: load, sidecar: s, level: level, log: s.log, running: running}
}

// reload reads the configuration again and applies what can be applied. Of the
// rest it says that it waits for a restart. With mistakes it changes nothing.
func (r *reloader) reload() {
	next, err := r.load()
	if err != nil {
		r.refuse(err)
		return
	}
	applied, waiting := 0, 0
	for _, c := range config.Changes(r.running, next) {
		log := r.changed(c)
		if c.Live && r.apply(c, next) {
			applied++
			log.Info("setting reloaded")
			continue
		}
		waiting++
		log.Warn("setting changed, and takes effect at the next start")
	}
	for _, g := range r.sidecar.groups {
		g.tls.reload()
	}
	r.sidecar.admin.reload()
	r.log.Info("configuration reloaded", "applied", applied, "waiting", waiting)
	r.sidecar.teller.process(events.ConfigReloaded{Applied: applied, Waiting: waiting})
}

// secrets puts changed password and token files in force: a mounted Secret changes, and
// nobody sends a signal. It reads them, since a link far above the file may have moved.
// Nothing in a password tells that its file is half written, so a change counts when a
// second look sees the same; doubtful says that this was the first.
func (r *reloader) secrets() (doubtful bool) {
	next, mistakes := config.ReadSecrets(r.running, nil)
	changes := config.Changes(r.running, next)
	settled := len(config.Changes(r.seen, next)) == 0
	r.seen = next
	if len(changes) > 0 && settled {
		for _, c := range changes {
			if c.Live && r.apply(c, next) {
				r.changed(c).Info("password file reloaded")
			}
		}
	}

	lines := make([]string, len(mistakes))
	for i, m := range mistakes {
		lines[i] = m.String()
	}
	bad := strings.Join(lines, "\n")
	again := bad == r.bad
	if !again {
		if bad == "" && r.badTold {
			r.log.Info("password files are readable again")
		}
		r.badTold = false
	}
	r.bad = bad
	if bad != "" && again && !r.badTold {
		r.badTold = true
		for _, m := range mistakes {
			r.log.Error("changed password file not loaded, the old password stays in use", "mistake", m.String())
		}
	}
	return len(changes) > 0 && !settled || bad != "" && !r.badTold
}

// changed is the log, told what has changed.
func (r *reloader) changed(c config.Change) *slog.Logger {
	log := r.log.With("setting", c.Setting)
	if c.Master != "" {
		log = log.With("master_name", c.Master)
	}
	return log
}

func (r *reloader) refuse(err error) {
	invalid, ok := errors.AsType[*config.InvalidError](err)
	if !ok {
		r.log.Error("configuration not reloaded", "err", err)
		r.sidecar.teller.process(events.ConfigRejected{Mistakes: 1})
		return
	}
	r.sidecar.teller.process(events.ConfigRejected{Mistakes: len(invalid.Mistakes)})
	for _, m := range invalid.Mistakes {
		r.log.Error("configuration not reloaded", "mistake", m.String())
	}
}

// apply puts one change in force and reports whether it could.
func (r *reloader) apply(c config.Change, next config.Config) bool {
	if c.Setting == "log.level" {
		r.level.Set(next.LogLevel)
		r.running.LogLevel = next.LogLevel
		return true
	}
	if c.Setting == "webhooks" {
		r.sidecar.teller.hooks.Set(hooksOf(next))
		r.running.Webhooks = next.Webhooks
		return true
	}
	if strings.HasPrefix(c.Setting, "certificates.") {
		r.sidecar.teller.certs.Set(certSettings(next))
		r.running.Certificates = next.Certificates
		return true
	}
	if c.Setting == "admin.token_file" {
		r.sidecar.admin.setToken(next.Admin.Token)
		r.running.Admin.TokenFile, r.running.Admin.Token = next.Admin.TokenFile, next.Admin.Token
		return true
	}
	if c.Setting == "control.token_file" {
		r.sidecar.control.setToken(next.Control.Token)
		r.running.Control.TokenFile, r.running.Control.Token = next.Control.TokenFile, next.Control.Token
		return true
	}
	old, m := masterOf(r.running, c.Master), masterOf(next, c.Master)
	g := r.sidecar.group(c.Master)
	if old == nil || m == nil || g == nil {
		return false
	}
	var err error
	switch c.Setting {
	case "outage.after", "outage.policy":
		g.server.SetOutage(m.Outage)
		old.Outage = m.Outage
		return true
	case "allow_clients":
		g.server.SetAllow(m.Allow)
		old.Allow = m.Allow
		if e := r.sidecar.endpoint; e != nil {
			e.SetAllow(allowedAnywhere(r.running))
		}
		return true
	case "redis.password_file":
		err = errors.Join(g.controller.SetLogin(m.Redis), g.server.SetLogin(m.Redis))
	case "sentinel.password_file":
		g.controller.SetSentinelLogin(m.Sentinel)
		err = g.follower.SetLogin(m.Sentinel)
	default:
		return false
	}
	if err != nil {
		r.log.Error("login not reloaded", "master_name", c.Master, "err", err)
		return false
	}
	if c.Setting == "redis.password_file" {
		old.Redis = m.Redis
	} else {
		old.Sentinel = m.Sentinel
	}
	return true
}

// masterOf returns the master of that name, in place, or nil.
func masterOf(cfg config.Config, name string) *config.Master {
	for i := range cfg.Masters {
		if cfg.Masters[i].Name == name {
			return &cfg.Masters[i]
		}
	}
	return nil
}
