package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
)

// probeOptions are the drill's flags for HTTP services that are asked meanwhile.
type probeOptions struct {
	urls    []string // [NAME=]URL
	headers []string // "name: value"
	expect  int
	rate    int
	timeout time.Duration
}

// probeFlags are those that need a --probe.
func probeFlags() []string { return []string{"header", "expect", "probe-rate", "probe-timeout"} }

func (o *probeOptions) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.urls, "probe", nil, "ask this HTTP service, such as a gateway behind the sidecar, all the while, and judge it: [NAME=]URL; further ones are only compared; repeatable")
	f.StringArrayVar(&o.headers, "header", nil, `a header of each probe, such as "authorization: testkey"; repeatable`)
	f.IntVar(&o.expect, "expect", http.StatusOK, "the status code that a probe is to be answered with")
	f.IntVar(&o.rate, "probe-rate", 200, "requests a second to each probe; they are sent when they are due, however slow the answers are")
	f.DurationVar(&o.timeout, "probe-timeout", 15*time.Second, "how long an answer may take before it counts as none")
}

// read returns the probes. The error says every mistake, one line each.
func (o *probeOptions) read(flags *pflag.FlagSet) ([]drill.Probe, error) {
	var errs []error
	if len(o.urls) == 0 {
		for _, name := range probeFlags() {
			if flags.Changed(name) {
				errs = append(errs, fmt.Errorf("--%s goes with --probe", name))
			}
		}
		return nil, errors.Join(errs...)
	}
	if o.expect < 100 || o.expect > 599 {
		errs = append(errs, fmt.Errorf("--expect: found %d; want a status code, 100 to 599", o.expect))
	}
	if o.rate < 1 || o.rate > 10_000 {
		errs = append(errs, fmt.Errorf("--probe-rate: found %d; want 1 to 10000", o.rate))
	}
	if o.timeout < time.Millisecond || o.timeout > 10*time.Minute {
		errs = append(errs, fmt.Errorf("--probe-timeout: found %v; want 1ms to 10m", o.timeout))
	}
	header := make(http.Header)
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(h, "\r\n\x00") {
			errs = append(errs, errors.New(`--header: want "name: value"`)) // not what was found: it may hold a secret
			continue
		}
		header.Add(name, strings.TrimSpace(value))
	}
	var probes []drill.Probe
	names := make(map[string]bool)
	for _, text := range o.urls {
		name, at := "", text
		if n, rest, ok := strings.Cut(text, "="); ok && !strings.Contains(n, "/") {
			name, at = n, rest
		}
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			errs = append(errs, fmt.Errorf("--probe: found %q; want [NAME=]http://host:port/path", text))
			continue
		}
		if name == "" {
			name = u.Hostname()
		}
		if names[name] {
			errs = append(errs, fmt.Errorf("--probe: two are called %s; want NAME=%s", name, at))
		}
		names[name] = true
		probes = append(probes, drill.Probe{Name: name, URL: u.String(), Header: header, Expect: o.expect, Rate: o.rate, Timeout: o.timeout})
	}
	return probes, errors.Join(errs...)
}

// besideProxies reads --beside: proxies that others run before the same group.
func besideProxies(some []string) ([]drill.Starter, error) {
	var errs []error
	var starters []drill.Starter
	for _, text := range some {
		name, addr, ok := strings.Cut(text, "=")
		if !ok {
			name, addr = text, text
		}
		if _, _, err := net.SplitHostPort(addr); err != nil || name == "" {
			errs = append(errs, fmt.Errorf("--beside: found %q; want [NAME=]host:port", text))
			continue
		}
		starters = append(starters, func(context.Context, drill.Target) (drill.Proxy, error) {
			return drill.Proxy{Name: name, Addr: addr, Stop: func() error { return nil }}, nil
		})
	}
	return starters, errors.Join(errs...)
}
