package main

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/proxy"
)

func TestDeniedByDefaultIsOneList(t *testing.T) {
	cfg, err := config.Load(config.Sources{Environ: []string{"SENTINELPROXY_SENTINEL=s"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Masters[0].Deny, proxy.DefaultDenied(); !slices.Equal(got, want) {
		t.Errorf("deny_commands is %q by default; the proxy denies %q", got, want)
	}
}

func TestNothingIsDenied(t *testing.T) {
	cfg, err := config.Load(config.Sources{Environ: []string{"SENTINELPROXY_SENTINEL=s", "SENTINELPROXY_DENY_COMMANDS=none"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := denied(cfg.Masters[0].Deny); got == nil || len(got) > 0 {
		t.Errorf("with none, the proxy is told %#v; want an empty list, for nil is the default", got)
	}
}

func TestWarnDenied(t *testing.T) {
	var b bytes.Buffer
	warnDenied([]string{"FLUSHALL", "CLIENT|PAUSE", "FLUSHAL", "FT.CREATE"}, slog.New(slog.NewTextHandler(&b, nil)))
	out := b.String()
	if strings.Count(out, "\n") != 2 || !strings.Contains(out, "command=FLUSHAL did_you_mean=FLUSHALL") {
		t.Errorf("warnings:\n%s\nwant one for FLUSHAL, with what it is near to, and one for FT.CREATE", out)
	}
}
