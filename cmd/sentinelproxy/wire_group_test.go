package main

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// startReal runs a sidecar of the real parts until the test ends.
func startReal(tb testing.TB, cfg config.Config) *sidecar {
	tb.Helper()
	log := new(buffer)
	ctx, cancel := context.WithCancel(tb.Context())
	s, err := startSidecar(ctx, cfg, newLogger(log, config.LogText, new(slog.LevelVar)), realParts())
	if err != nil {
		cancel()
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		if err := s.Wait(); err != nil {
			tb.Errorf("Wait: %v", err)
		}
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
	return s
}

// client connects to a master's listener; it never retries by itself.
func client(tb testing.TB, g *group) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: g.Addrs()[0].String(), MaxRetries: -1, ReadTimeout: patience})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// waitReady waits until every master of s is served.
func waitReady(tb testing.TB, s *sidecar) {
	tb.Helper()
	waitFor(tb, "readiness", func() bool { code, _ := get(tb, s.AdminAddr(), "/readyz"); return code == 200 })
}

// Two masters behind one sidecar, each through a failover: clients see none.
func TestSidecarServesThroughAFailover(t *testing.T) {
	cfg := testConfig()
	cfg.Masters = nil
	groups := map[string]*sentineltest.Group{}
	for _, name := range []string{"orders", "sessions"} {
		o := sentineltest.Fast()
		o.Name = name
		groups[name] = sentineltest.New(t, o)
		m := testConfig().Masters[0]
		m.Name, m.Sentinels = name, groups[name].SentinelAddrs()
		cfg.Masters = append(cfg.Masters, m)
	}
	s := startReal(t, cfg)
	waitReady(t, s)
	for name, g := range groups {
		c := client(t, s.group(name))
		if err := c.Set(t.Context(), "k", name, 0).Err(); err != nil {
			t.Fatalf("%s: SET: %v", name, err)
		}
		old := g.MasterAddr()
		if err := g.Failover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != name {
			t.Errorf("%s: GET after the failover: %q, %v", name, v, err)
		}
		if g.MasterAddr() == old {
			t.Fatalf("%s: no failover happened", name)
		}
		waitFor(t, "the new master in the status of "+name, func() bool {
			_, body := get(t, s.AdminAddr(), "/api/v1/status")
			return strings.Contains(body, `"master": "`+string(g.MasterAddr())+`"`)
		})
	}
	metrics := ""
	defer func() {
		if t.Failed() {
			t.Log(metrics)
		}
	}()
	for _, want := range []string{
		`sentinelproxy_build_info{`,
		`sentinelproxy_sentinel_up{master_name="orders",sentinel="` + string(groups["orders"].SentinelAddrs()[0]) + `"} 1`,
		`sentinelproxy_route_state{master_name="sessions",state="serving"} 1`,
	} {
		waitFor(t, want+" in /metrics", func() bool { // its Sentinels may be about to connect again
			_, metrics = get(t, s.AdminAddr(), "/metrics")
			return strings.Contains(metrics, want)
		})
	}
}

// The sidecar starts before anything else is there, and serves once it is.
func TestSidecarStartsBeforeItsGroup(t *testing.T) {
	nobody, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := topology.Addr(nobody.Addr().String())
	nobody.Close()
	cfg := testConfig()
	cfg.Masters[0].Sentinels = []topology.Addr{dead}
	cfg.Masters[0].Hold.Timeout = config.Wait{For: 100 * time.Millisecond}
	s := startReal(t, cfg)
	waitFor(t, "a reason in /readyz", func() bool {
		code, body := get(t, s.AdminAddr(), "/readyz")
		return code == 503 && strings.HasPrefix(body, "not ready\na: ")
	})
	if code, body := get(t, s.AdminAddr(), "/livez"); code != 200 {
		t.Errorf("/livez: %d %q; want 200: a restart would not help", code, body)
	}
	err = client(t, s.groups[0]).Get(t.Context(), "k").Err()
	if err == nil || !strings.HasPrefix(err.Error(), "MASTERDOWN") {
		t.Errorf("GET without a master: %v; want MASTERDOWN", err)
	}
}

// The Sentinels' password is rotated under a sidecar that serves.
func TestSentinelLoginIsSwapped(t *testing.T) {
	o := sentineltest.Fast()
	o.SentinelPassword = "new"
	g := sentineltest.New(t, o)
	cfg := testConfig()
	cfg.Masters[0].Name, cfg.Masters[0].Sentinels = g.Name(), g.SentinelAddrs()
	cfg.Masters[0].Sentinel = config.Login{PasswordFile: "f", Password: "old"}
	s := startReal(t, cfg)
	waitFor(t, "the old password to be tried", func() bool {
		return g.Sentinel(0).Calls("HELLO")+g.Sentinel(0).Calls("AUTH") > 0
	})
	if code, body := get(t, s.AdminAddr(), "/readyz"); code != 503 {
		t.Errorf("/readyz with a wrong password: %d %q; want 503", code, body)
	}
	if err := s.groups[0].follower.SetLogin(config.Login{PasswordFile: "f", Password: "new"}); err != nil {
		t.Fatal(err)
	}
	waitReady(t, s)
}
