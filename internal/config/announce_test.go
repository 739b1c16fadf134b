package config

import (
	"slices"
	"strings"
	"testing"
)

func TestParseAnnounce(t *testing.T) {
	for v, want := range map[string]string{
		"redis.example:6379": "redis.example:6379",
		"Redis.example":      "redis.example",
		"10.0.0.1":           "10.0.0.1",
		"10.0.0.1:6380":      "10.0.0.1:6380",
		"fd00::1":            "fd00::1",
		"[fd00::1]":          "fd00::1",
		"[fd00::1]:6379":     "[fd00::1]:6379",
	} {
		a, err := parseAnnounce(v)
		if err != nil || a.String() != want {
			t.Errorf("%q gives %q, %v; want %q", v, a, err, want)
		}
		if again, err := parseAnnounce(a.String()); err != nil || again != a {
			t.Errorf("%q, written as %q, gives %+v, %v", v, a, again, err)
		}
	}
	for _, v := range []string{"", ":6379", "6379", "a:0", "a:x", "a:65536", "0.0.0.0", "[::]:6379", "unix:/x", "a b", "a:b:c", "user@a"} {
		if a, err := parseAnnounce(v); err == nil {
			t.Errorf("%q gives %+v; want an error", v, a)
		}
	}
}

func TestSentinelEndpoint(t *testing.T) {
	if cfg := mustLoad(t, []string{"--sentinel=s"}, nil, nil); cfg.SentinelListen != "" || cfg.Masters[0].Announce != (Announce{}) {
		t.Errorf("by default %q and %+v; want it off", cfg.SentinelListen, cfg.Masters[0].Announce)
	}
	cfg := mustLoad(t, nil, nil, files{"c.yaml": `
sentinels: s
sentinel_listen: ":26379"
sentinel_announce: redis.example
masters:
  - {name: a, listen: ":1"}
  - {name: b, listen: ":2", sentinel_announce: "redis.example:7000"}
`})
	if cfg.SentinelListen != ":26379" || cfg.Masters[0].Announce.String() != "redis.example" || cfg.Masters[1].Announce.String() != "redis.example:7000" {
		t.Errorf("%q, %v, %v", cfg.SentinelListen, cfg.Masters[0].Announce, cfg.Masters[1].Announce)
	}
	_, err := load(t, nil, nil, files{"c.yaml": `
sentinels: s
sentinel_listen: ":26379"
masters:
  - {name: a, listen: ":26379", sentinel_announce: "h:1"}
  - {name: b, listen: ":2", sentinel_announce: "h:1"}
`})
	lines := strings.Join(mistakesOf(t, err), "\n")
	for _, want := range []string{`masters[0].listen: found ":26379", which the Sentinel endpoint has already`, `masters[1].sentinel_announce: found "h:1", which master "a" has already`} {
		if !strings.Contains(lines, want) {
			t.Errorf("mistakes:\n%s\nwant %s", lines, want)
		}
	}
}

func TestSentinelEndpointWarnings(t *testing.T) {
	const unix, loop = "listens on Unix sockets alone", "listens on loopback alone"
	for _, tt := range []struct {
		args []string
		want string // "" for none
	}{
		{[]string{"--listen=unix:/a"}, ""},
		{[]string{"--listen=unix:/a", "--sentinel-listen=:1"}, unix},
		{[]string{"--listen=unix:/a", "--sentinel-listen=:1", "--sentinel-announce=h"}, unix},
		{[]string{"--listen=unix:/a", "--sentinel-listen=:1", "--sentinel-announce=h:1"}, ""},
		{[]string{"--sentinel-listen=:1"}, loop},
		{[]string{"--sentinel-listen=:1", "--listen=127.0.0.1:1,10.0.0.1:1"}, ""},
		{[]string{"--sentinel-listen=:1", "--listen=:2"}, ""},
		{[]string{"--sentinel-listen=127.0.0.1:1"}, ""},
		{[]string{"--sentinel-listen=localhost:1"}, ""},
		{[]string{"--sentinel-listen=:1", "--sentinel-announce=h"}, ""},
	} {
		cfg := mustLoad(t, append([]string{"--sentinel=s"}, tt.args...), nil, nil)
		found := slices.ContainsFunc(cfg.Warnings, func(w string) bool { return tt.want != "" && strings.Contains(w, tt.want) })
		if len(cfg.Warnings) > 1 || (len(cfg.Warnings) > 0) != (tt.want != "") || tt.want != "" && !found {
			t.Errorf("%q warns %q; want %q", tt.args, cfg.Warnings, tt.want)
		}
	}
}
