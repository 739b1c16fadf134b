package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

func TestReadConfig(t *testing.T) {
	c, err := readConfig([]string{
		"GATEWAY_LISTEN=:1", "GATEWAY_REDIS=r:2", "GATEWAY_UPSTREAM=http://u:3", "GATEWAY_FAIL_MODE=open", "GATEWAY_REDIS_TIMEOUT=2s",
		"GATEWAY_POOL_SIZE=7", "GATEWAY_SEED=a, b_1", "GATEWAY_SEED_RATE=5", "GATEWAY_MAX_IN_FLIGHT=", "HOME=/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":1" || c.Redis != "r:2" || c.Upstream.Host != "u:3" || c.FailMode != failOpen || c.RedisTimeout != 2*time.Second ||
		c.PoolSize != 7 || c.MaxInFlight != 5000 || c.SeedRate != 5 || strings.Join(c.Seed, " ") != "a b_1" {
		t.Errorf("found %+v", c)
	}
}

// Every mistake has its line, on standard error, and nothing starts.
func TestMistakes(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		args    []string
		environ []string
		code    int
		lines   []string
	}{
		"settings": {nil, []string{
			"GATEWAY_LISTEN=8080", "GATEWAY_REDIS=r", "GATEWAY_UPSTREAM=u:3", "GATEWAY_FAIL_MODE=maybe", "GATEWAY_REDIS_TIMEOUT=8",
			"GATEWAY_POOL_SIZE=0", "GATEWAY_SEED=a b", "GATEWAY_TIMEOUT=1s",
		}, exitUsage, []string{
			"GATEWAY_TIMEOUT: no such setting", "GATEWAY_POOL_SIZE: found \"0\"", "GATEWAY_LISTEN: found \"8080\"", "GATEWAY_REDIS: found", "GATEWAY_UPSTREAM:",
			"GATEWAY_FAIL_MODE: found \"maybe\"; want open or closed", "GATEWAY_REDIS_TIMEOUT:", "GATEWAY_SEED:",
		}},
		"a command":    {[]string{"downstream"}, nil, exitUsage, []string{"want nothing, upstream or healthcheck"}},
		"a taken port": {[]string{"upstream"}, []string{"GATEWAY_LISTEN=" + taken.Addr().String()}, exitBad, []string{"address already in use"}},
		"unhealthy":    {[]string{"healthcheck"}, []string{"GATEWAY_LISTEN=127.0.0.1:1"}, exitBad, []string{"connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			if code := run(t.Context(), tt.args, tt.environ, &errs); code != tt.code {
				t.Errorf("exit code %d; want %d", code, tt.code)
			}
			lines := strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")
			if len(lines) != len(tt.lines) {
				t.Fatalf("it says %q; want %d lines", errs.String(), len(tt.lines))
			}
			for i, want := range tt.lines {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %q; want %q in it", lines[i], want)
				}
			}
		})
	}
}
