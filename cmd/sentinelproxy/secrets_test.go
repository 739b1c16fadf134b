//go:build unix

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// secretMount is a directory as the kubelet mounts a Secret: each file is a link into
// ..data, which is a link to a directory of the whole Secret's present version.
type secretMount struct {
	dir     string
	version int
}

func newSecretMount(tb testing.TB, files map[string]string) *secretMount {
	tb.Helper()
	m := &secretMount{dir: tb.TempDir()}
	m.rotate(tb, files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), m.path(name)); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

func (m *secretMount) path(name string) string { return filepath.Join(m.dir, name) }

// rotate replaces all files at once, as the kubelet does (AtomicWriter): a new directory,
// a new link beside the old one, and a rename over it.
func (m *secretMount) rotate(tb testing.TB, files map[string]string) {
	tb.Helper()
	m.version++
	old, err := os.Readlink(m.path("..data"))
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	name := "..version_" + strconv.Itoa(m.version)
	if err := os.Mkdir(m.path(name), 0o700); err != nil {
		tb.Fatal(err)
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(m.dir, name, file), []byte(content), 0o400); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Symlink(name, m.path("..data_tmp")); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(m.path("..data_tmp"), m.path("..data")); err != nil {
		tb.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(m.path(old)); err != nil {
			tb.Fatal(err)
		}
	}
}

// Files with secrets are looked at without a signal. What changed counts at the second
// look, and what is no good changes nothing.
func TestSecretsReload(t *testing.T) {
	const token1, token2 = "0123456789abcdef", "fedcba9876543210"
	mount := newSecretMount(t, map[string]string{"redis": "r1\n", "sentinel": "s1", "token": token1})
	cfg := testConfig()
	cfg.Masters[0].Redis.PasswordFile = mount.path("redis")
	cfg.Masters[0].Sentinel.PasswordFile = mount.path("sentinel")
	cfg.Control.TokenFile = mount.path("token")
	cfg, mistakes := config.ReadSecrets(cfg, nil)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	f := newFakes()
	s, _ := startFakes(t, f, cfg)
	var out buffer
	s.log = newLogger(&out, config.LogText, new(slog.LevelVar))
	r := newReloader(s, nil, nil)
	look := func(doubtful bool) string {
		t.Helper()
		before := len(out.String())
		if got := r.secrets(); got != doubtful {
			t.Errorf("doubtful is %v; want %v", got, doubtful)
		}
		return out.String()[before:]
	}
	quiet := func(doubtful bool) {
		t.Helper()
		if got := look(doubtful); got != "" {
			t.Errorf("log %q; want nothing", got)
		}
	}
	quiet(false)

	mount.rotate(t, map[string]string{"redis": "r2\n", "sentinel": "s1", "token": token2})
	quiet(true)
	got := look(false)
	for _, want := range []string{`msg="password file reloaded" setting=control.token_file`, `msg="password file reloaded" setting=redis.password_file master_name=a`} {
		if !strings.Contains(got, want) {
			t.Errorf("log %q; want %s", got, want)
		}
	}
	if f.controller.login() != "r2" || f.server.login() != "r2" || f.follower.login() != "" || s.control.token.Load().Reveal() != token2 {
		t.Errorf("passwords of controller %q, server %q, follower %q, token %q; want the new ones, and the follower left alone",
			f.controller.login(), f.server.login(), f.follower.login(), s.control.token.Load().Reveal())
	}
	quiet(false)

	// Half written: the next look sees more, and only what stays counts.
	mount.rotate(t, map[string]string{"redis": "r", "sentinel": "s1", "token": token2})
	quiet(true)
	mount.rotate(t, map[string]string{"redis": "r3", "sentinel": "s1", "token": token2})
	quiet(true)
	look(false)
	if f.server.login() != "r3" {
		t.Errorf("password %q; want r3", f.server.login())
	}

	// No good, and told once; the sound one beside it counts all the same.
	mount.rotate(t, map[string]string{"redis": "", "sentinel": "s2", "token": token2})
	quiet(true)
	got = look(false)
	if !strings.Contains(got, "changed password file not loaded") || !strings.Contains(got, mount.path("redis")+": the file is empty") {
		t.Errorf("log %q; want the empty file", got)
	}
	if f.server.login() != "r3" || f.follower.login() != "s2" {
		t.Errorf("passwords %q and %q; want the old r3 and the new s2", f.server.login(), f.follower.login())
	}
	quiet(false)
	mount.rotate(t, map[string]string{"redis": "r3", "sentinel": "s2", "token": token2})
	oneLine(t, look(false), "password files are readable again")
	quiet(false)
	if s := out.String(); strings.Contains(s, "r3\n") || strings.Contains(s, token2) {
		t.Errorf("a secret is in the log: %s", s)
	}
}

// A password is rotated as in a pod, on real Redis: the Secret changes, nobody sends a
// signal, the old password is taken away, and clients notice nothing.
func TestPasswordRotation(t *testing.T) {
	g := calmGroup(t)
	everywhere := func(args ...any) {
		t.Helper()
		for _, n := range g.Nodes() {
			if _, err := n.Do(t.Context(), args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	everywhere("ACL", "SETUSER", "gateway", "on", ">p1", "~*", "&*", "+@all")
	mount := newSecretMount(t, map[string]string{"redis-password": "p1\n"})
	s := startRun(t, g, "--auth", "none", "--redis-user", "gateway", "--redis-password-file", mount.path("redis-password"))
	c := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, ReadTimeout: patience, DisableIdentity: true})
	defer c.Close()
	set := func(value string) {
		t.Helper()
		if err := c.Set(t.Context(), "rotated", value, 0).Err(); err != nil {
			t.Fatalf("SET %s: %v", value, err)
		}
	}
	set("before")

	everywhere("ACL", "SETUSER", "gateway", ">p2")
	mount.rotate(t, map[string]string{"redis-password": "p2\n"})
	waitWithin(t, patience+secretsEvery, "the reload", func() bool { return strings.Contains(s.log.String(), "password file reloaded") })
	set("between")

	everywhere("ACL", "SETUSER", "gateway", "<p1")
	everywhere("CLIENT", "KILL", "USER", "gateway") // each connection logs in anew
	waitFor(t, "readiness", func() bool {
		code, _ := get(t, addrOf(s.admin), "/readyz")
		return code == 200
	})
	set("after")
	if strings.Contains(s.log.String(), "WRONGPASS") {
		t.Error("the old password was used after the change")
	}
}
