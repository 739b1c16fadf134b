package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestExpandArgs(t *testing.T) {
	got := expandArgs(strings.Fields(defaultProxyArgs), map[string]string{
		"{listen}": "127.0.0.1:1", "{admin}": "127.0.0.1:2", "{master}": "orders", "{redis}": "127.0.0.1:3",
	}, []topology.Addr{"127.0.0.1:4", "127.0.0.1:5"})
	want := strings.Fields("run --listen 127.0.0.1:1 --admin 127.0.0.1:2 --master orders --sentinel 127.0.0.1:4 --sentinel 127.0.0.1:5")
	if !slices.Equal(got, want) {
		t.Errorf("default arguments become %q; want %q", got, want)
	}
}

func TestHAProxyMaxConn(t *testing.T) {
	for files, want := range map[uint64]uint64{32_768: 12_000, 20_000: 9_900, 1_024: 412} {
		if got := haproxyMaxConn(files); got != want {
			t.Errorf("haproxyMaxConn(%d) = %d; want %d", files, got, want)
		}
	}
}
