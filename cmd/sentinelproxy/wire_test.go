package main

import (
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/proxy"
)

func TestLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		in   config.Wait
		want route.Limit
	}{
		"auto":       {config.Wait{Auto: true}, route.Auto()},
		"off":        {config.Wait{}, route.Off()},
		"a duration": {config.Wait{For: 3 * time.Second}, route.After(3 * time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := limit(tt.in); got != tt.want {
				t.Errorf("limit(%v) = %v; want %v", tt.in, got, tt.want)
			}
		})
	}
}

// Both packages read the same words.
func TestFenceModes(t *testing.T) {
	for _, mode := range []config.FenceMode{config.FenceLease, config.FenceEvents, config.FenceOff} {
		if got, err := route.ParseFenceMode(string(mode)); err != nil || got.String() != string(mode) {
			t.Errorf("ParseFenceMode(%s) = %v, %v", mode, got, err)
		}
	}
	for _, mode := range []config.FollowMode{config.FollowMajority, config.FollowFast} {
		if got, err := route.ParseFollowMode(string(mode)); err != nil || got.String() != string(mode) {
			t.Errorf("ParseFollowMode(%s) = %v, %v", mode, got, err)
		}
	}
	for _, mode := range []config.DemoteMode{config.DemoteOff, config.DemoteAuto} {
		if got, err := route.ParseDemoteMode(string(mode)); err != nil || got.String() != string(mode) {
			t.Errorf("ParseDemoteMode(%s) = %v, %v", mode, got, err)
		}
	}
}

func TestRetryModes(t *testing.T) {
	for mode, want := range map[config.RetryWrites]proxy.RetryMode{
		config.RetryNever: proxy.RetryNever, config.RetryIdempotent: proxy.RetryIdempotent, config.RetryAlways: proxy.RetryAlways,
	} {
		if got, err := proxy.ParseRetryMode(string(mode)); err != nil || got != want {
			t.Errorf("ParseRetryMode(%s) = %v, %v; want %v", mode, got, err, want)
		}
	}
}
