package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
)

// readProbes reads flags as a drill does.
func readProbes(t *testing.T, args ...string) ([]drill.Probe, error) {
	t.Helper()
	var o probeOptions
	fs := pflag.NewFlagSet("drill", pflag.ContinueOnError)
	o.addFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o.read(fs)
}

func TestProbeFlags(t *testing.T) {
	ps, err := readProbes(t, "--probe", "http://gateway:8080/a?b=c", "--probe", "other=https://h/", "--header", "Authorization: test: key", "--header", "x-a:1",
		"--expect", "204", "--probe-rate", "50", "--probe-timeout", "3s")
	if err != nil || len(ps) != 2 {
		t.Fatalf("%+v, %v; want two", ps, err)
	}
	p := ps[0]
	if p.Name != "gateway" || p.URL != "http://gateway:8080/a?b=c" || p.Header.Get("authorization") != "test: key" || p.Header.Get("X-A") != "1" ||
		p.Expect != 204 || p.Rate != 50 || p.Timeout != 3*time.Second || ps[1].Name != "other" {
		t.Errorf("found %+v", ps)
	}
	if ps, err := readProbes(t); err != nil || ps != nil {
		t.Errorf("without flags: %v, %v", ps, err)
	}
	for name, tt := range map[string]struct {
		args []string
		want []string // a line each
	}{
		"without a probe": {[]string{"--header", "a: b", "--expect", "200"}, []string{"--header goes with --probe", "--expect goes with --probe"}},
		"every mistake": {
			[]string{"--probe", "gateway:8080", "--probe", "a=ftp://h/", "--header", "secret", "--header", "a b: c", "--expect", "20", "--probe-rate", "0", "--probe-timeout", "0s"},
			[]string{"--expect: found 20", "--probe-rate: found 0", "--probe-timeout: found 0s", `--header: want "name: value"`, `--header: want "name: value"`, `--probe: found "gateway:8080"`, `--probe: found "a=ftp://h/"`},
		},
		"one name twice": {[]string{"--probe", "http://h:1/", "--probe", "http://h:2/"}, []string{"two are called h"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readProbes(t, tt.args...)
			if err == nil {
				t.Fatal("no mistake")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%q; want %d lines", lines, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) || strings.Contains(lines[i], "secret") {
					t.Errorf("line %q; want %q in it, and no secret", lines[i], want)
				}
			}
		})
	}
}

func TestBesideFlag(t *testing.T) {
	ss, err := besideProxies([]string{"haproxy=h:6379", "127.0.0.1:1"})
	if err != nil || len(ss) != 2 {
		t.Fatalf("%v, %v", ss, err)
	}
	p, err := ss[0](t.Context(), drill.Target{})
	if err != nil || p.Name != "haproxy" || p.Addr != "h:6379" || p.Stop() != nil {
		t.Errorf("found %+v, %v", p, err)
	}
	if _, err := besideProxies([]string{"h", "=h:1"}); err == nil || strings.Count(err.Error(), "--beside: found") != 2 {
		t.Errorf("error %v; want a line for each", err)
	}
}
