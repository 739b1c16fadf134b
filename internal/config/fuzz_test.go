package config

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func FuzzLoadYAML(f *testing.F) {
	for _, file := range []string{"../../examples/sentinelproxy.yaml", "../../examples/sentinelproxy-masters.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	for _, s := range []string{
		"", "#", "a", "- a", "a: [", "loops: 1\n---\nloops: 2", "masters: [{}]", "masters:\n- name: &a b\n- *a\n",
		"<<: {loops: 1}", "? [a]\n: b", "hold: {timeout: 1e9s}", "listen: !!str ':1'", "sentinels: |\n  a\n  b\n", "a: \"\\n\"",
		"webhook: {url: 'https://h'}\nwebhooks:\n- url: https://h\n- {name: h, events: [RouteHeld, all], cooldown: 0s}\n", "webhooks: []", "webhooks: [a]",
		"outage:\n  after: 0\n  policy: ['read:a*=stale', 'GET,TTL:[b=nil']\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, yaml string) {
		cfg, err := load(t, nil, nil, files{"c.yaml": yaml, "/run/secrets/sentinel-password": "x", "/run/secrets/orders-password": "y"})
		if err != nil {
			ms, ok := errors.AsType[*InvalidError](err)
			if !ok || len(ms.Mistakes) == 0 {
				t.Fatalf("%T %v; want at least one mistake", err, err)
			}
			for _, m := range ms.Mistakes {
				if s := m.String(); strings.Contains(s, "\n") || strings.HasSuffix(s, ": ") {
					t.Fatalf("mistake %q; want one full line", s)
				}
			}
			return
		}
		if len(cfg.Masters) == 0 {
			t.Fatal("loaded without a master")
		}
		for _, m := range cfg.Masters {
			if m.Name == "" || len(m.Listen) == 0 || len(m.Sentinels) == 0 || m.Auth == "" || m.Fence == "" || m.MaxClients < 1 {
				t.Fatalf("incomplete master %+v", m)
			}
		}
		if c := Changes(cfg, cfg); len(c) != 0 {
			t.Fatalf("differs from itself: %v", c)
		}
	})
}
