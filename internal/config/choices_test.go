package config

import (
	"slices"
	"testing"
)

func TestChoices(t *testing.T) {
	for flag, want := range map[string][]string{
		"follow": {"majority", "fast"}, "fence-mode": {"lease", "events", "off"}, "log-level": {"debug", "info", "warn", "error"},
		"multiplex": {"true", "false"}, "tls-min-version": {"1.2", "1.3"}, "hold-timeout": {"auto", "off"}, "admin": {"off"},
		"outage-policy": nil, "redis-password-file": nil, "sentinel": nil,
	} {
		got, known := Choices(flag)
		if !known || !slices.Equal(got, want) {
			t.Errorf("Choices(%q) = %q, %v; want %q", flag, got, known, want)
		}
	}
	if _, known := Choices("nonsense"); known {
		t.Error("nonsense is called a setting")
	}
	// What has a few modes tells all of them.
	for _, s := range settings() {
		if words, _ := Choices(s.flag); (s.kind == "mode" || s.kind == "switch" || s.kind == "format") && len(words) < 2 {
			t.Errorf("--%s offers %q", s.flag, words)
		}
	}
}
