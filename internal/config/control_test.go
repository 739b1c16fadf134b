package config

import (
	"errors"
	"strings"
	"testing"
)

func TestControl(t *testing.T) {
	const good = "0123456789abcdef"
	for name, tt := range map[string]struct {
		yaml, token string
		socket      string
		mistake     string
	}{
		"off":            {"", "", "", ""},
		"off said":       {`control: {listen: "off"}`, "", "", ""},
		"socket":         {"control: {listen: 'unix:/run/c.sock'}", "", "/run/c.sock", ""},
		"tcp":            {"control: {listen: '127.0.0.1:1'}", "", "", "want unix:/path"},
		"token":          {"control: {token_file: t}", good, "", ""},
		"short token":    {"control: {token_file: t}", "secret", "", "has 6 characters; want 16 or more"},
		"no token":       {"control: {token_file: t}", "", "", "the file is empty"},
		"no admin":       {"control: {token_file: t}\nadmin: off", good, "", `with admin "off"`},
		"a listener too": {"control: {listen: 'unix:/run/c.sock'}\nlisten: 'unix:/run/c.sock'", "", "", "which the control socket has already"},
	} {
		t.Run(name, func(t *testing.T) {
			read := func(path string) ([]byte, error) {
				if path == "t" {
					return []byte(tt.token), nil
				}
				return []byte("sentinels: [s:1]\n" + tt.yaml + "\n"), nil
			}
			cfg, err := Load(Sources{Environ: []string{"SENTINELPROXY_CONFIG=c.yaml"}, ReadFile: read})
			if tt.mistake != "" {
				if _, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(err.Error(), tt.mistake) || strings.Contains(err.Error(), "secret") {
					t.Fatalf("error %v; want %q", err, tt.mistake)
				}
				return
			}
			if err != nil || cfg.Control.Socket != tt.socket || cfg.Control.Token.Reveal() != tt.token {
				t.Errorf("%v %q %v", err, cfg.Control.Socket, cfg.Control.Token)
			}
		})
	}
}

// A token that changes is reloaded; one that comes or goes is not.
func TestControlTokenChanges(t *testing.T) {
	with := func(token Secret) Config {
		return Config{Control: Control{TokenFile: "t", Token: token}}
	}
	for name, tt := range map[string]struct {
		a, b          Config
		changed, live bool
	}{
		"same":    {with("a"), with("a"), false, false},
		"rotated": {with("a"), with("b"), true, true},
		"new":     {Config{}, with("b"), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := Changes(tt.a, tt.b)
			if len(got) > 0 != tt.changed || tt.changed && (got[0].Live != tt.live || got[0].Setting != "control.token_file") {
				t.Errorf("changes %+v", got)
			}
		})
	}
}
