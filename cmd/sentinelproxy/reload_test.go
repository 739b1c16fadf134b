package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/outage"
)

func TestReload(t *testing.T) {
	withPasswords := func(redis, sentinel config.Secret) config.Config {
		cfg := testConfig()
		cfg.Masters[0].Redis = config.Login{PasswordFile: "r", Password: redis}
		cfg.Masters[0].Sentinel = config.Login{PasswordFile: "s", Password: sentinel}
		return cfg
	}
	f := newFakes()
	s, _ := startFakes(t, f, withPasswords("r1", "s1"))
	var out buffer
	level := new(slog.LevelVar)
	s.log = newLogger(&out, config.LogText, level)

	next, loadErr := withPasswords("r1", "s1"), error(nil)
	r := newReloader(s, func() (config.Config, error) { return next, loadErr }, level)
	reload := func() string {
		before := len(out.String())
		r.reload()
		return out.String()[before:]
	}

	oneLine(t, reload(), `"configuration reloaded" applied=0 waiting=0`)

	next.LogLevel = slog.LevelDebug
	next.Masters[0].Redis.Password = "r2"
	next.Masters[0].Loops = 9
	got := reload()
	for _, want := range []string{`setting=log.level`, `level=INFO msg="setting reloaded" setting=redis.password_file master_name=a`, `level=WARN msg="setting changed, and takes effect at the next start" setting=loops`, `applied=2 waiting=1`} {
		if !strings.Contains(got, want) {
			t.Errorf("log %q; want %s", got, want)
		}
	}
	if level.Level() != slog.LevelDebug || f.follower.login() != "" || f.controller.login() != "r2" || f.server.login() != "r2" {
		t.Errorf("level %v, passwords of follower %q, controller %q, server %q; want debug, none and r2 twice",
			level.Level(), f.follower.login(), f.controller.login(), f.server.login())
	}

	next.Masters[0].Sentinel.Password = "s2"
	if got := reload(); !strings.Contains(got, "applied=1 waiting=1") || f.follower.login() != "s2" {
		t.Errorf("log %q, follower's password %q; want what waits told again and the new password", got, f.follower.login())
	}

	rule, err := outage.ParseRule("read:apikey-*=stale")
	if err != nil {
		t.Fatal(err)
	}
	next.Masters[0].Outage = config.Outage{After: config.After{Fixed: true, For: time.Second}, Policy: outage.Policy{rule}}
	if got := reload(); !strings.Contains(got, "applied=2 waiting=1") || f.server.outagePolicy() != "1s read:apikey-*=stale" {
		t.Errorf("log %q, outage policy %q; want the new one in force", got, f.server.outagePolicy())
	}

	next.Masters[0].Allow, err = allow.Parse("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	if got := reload(); !strings.Contains(got, "setting=allow_clients") || f.server.networks() != "10.0.0.0/8" {
		t.Errorf("log %q, networks %q; want the new one in force", got, f.server.networks())
	}

	loadErr = &config.InvalidError{Mistakes: []config.Mistake{{Origin: config.Origin{File: "c.yaml", Line: 3, Key: "auth"}, Problem: "wrong"}}}
	next.LogLevel = slog.LevelError
	oneLine(t, reload(), `level=ERROR msg="configuration not reloaded" mistake="c.yaml:3: auth: wrong"`)
	loadErr = errors.New("other")
	oneLine(t, reload(), `err=other`)
	if level.Level() != slog.LevelDebug {
		t.Errorf("level %v after a refused reload; want debug as before", level.Level())
	}
	if s := out.String(); strings.Contains(s, "r2") || strings.Contains(s, "s2") {
		t.Errorf("a password is in the log: %s", s)
	}
}
