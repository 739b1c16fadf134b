package config

import (
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

func TestReadSecrets(t *testing.T) {
	cfg := Config{
		Control: Control{TokenFile: "token", Token: "the old token, long"},
		Masters: []Master{
			{Name: "a", Redis: Login{PasswordFile: "r", Password: "r1"}, Sentinel: Login{PasswordFile: "s", Password: "s1"}},
			{Name: "b", Sentinel: Login{PasswordFile: "s", Password: "s1"}},
		},
		Webhooks: []Webhook{{Name: "pager", SecretFile: "w", Secret: "w1"}, {Name: "unsigned"}},
	}
	held := map[string]string{"token": "the new token, long\n", "r": "r2\n", "s": "s1\n", "w": "w2\n"}
	read := func(path string) ([]byte, error) {
		s, ok := held[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(s), nil
	}

	next, bad := ReadSecrets(cfg, read)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	want := []Change{{Setting: "control.token_file", Live: true}, {Setting: "webhooks", Live: true}, {Master: "a", Setting: "redis.password_file", Live: true}}
	if got := Changes(cfg, next); !reflect.DeepEqual(got, want) {
		t.Errorf("changes %v; want %v", got, want)
	}
	if got := next.Webhooks; len(got) != 2 || got[0].Secret != "w2" || got[1].Secret != "" {
		t.Errorf("webhooks' secrets %q and %q; want the new one, and none", got[0].Secret.Reveal(), got[1].Secret.Reveal())
	}
	if cfg.Masters[0].Redis.Password != "r1" || cfg.Webhooks[0].Secret != "w1" {
		t.Error("the configuration that was passed has changed")
	}

	for name, tt := range map[string]struct {
		file, holds, want string
	}{
		"gone":            {"r", "", "r: cannot read the file: file does not exist"},
		"empty":           {"s", "\n", "s: the file is empty"},
		"webhook's":       {"w", "\n", "w: the file is empty"},
		"two lines":       {"r", "secret\nmore\n", "r: the file holds more than one line"},
		"too short token": {"token", "short", "token: it holds 5 characters; want 16 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			held := map[string]string{"token": "the old token, long\n", "r": "r1\n", "s": "s1\n", "w": "w1\n"}
			held[tt.file] = tt.holds
			if tt.holds == "" {
				delete(held, tt.file)
			}
			next, bad := ReadSecrets(cfg, func(path string) ([]byte, error) {
				s, ok := held[path]
				if !ok {
					return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
				}
				return []byte(s), nil
			})
			if len(bad) != 1 || bad[0].String() != tt.want {
				t.Errorf("mistakes %v; want one: %s", bad, tt.want)
			}
			if got := Changes(cfg, next); len(got) > 0 {
				t.Errorf("changes %v; want the old secrets to stay", got)
			}
			if s := fmt.Sprint(bad); strings.Contains(s, "secret") || strings.Contains(s, "short\"") {
				t.Errorf("a secret is told: %s", s)
			}
		})
	}
}
