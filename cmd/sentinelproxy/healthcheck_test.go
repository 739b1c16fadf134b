package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check runs `sentinelproxy healthcheck` with an environment of its own.
func check(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs buffer
	root := newRoot(environ, newFakes().parts())
	root.SetArgs(append([]string{"healthcheck"}, args...))
	root.SetOut(&out)
	root.SetErr(&errs)
	code = report(&errs, root.ExecuteContext(t.Context()))
	return code, out.String(), errs.String()
}

func TestHealthcheck(t *testing.T) {
	f := newFakes()
	s, _ := startFakes(t, f, testConfig())
	admin := s.AdminAddr().String()
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		t.Fatal(err)
	}
	unready := func(reason string) {
		f.controller.mu.Lock()
		defer f.controller.mu.Unlock()
		f.controller.reason = reason
	}
	waitFor(t, "readiness", func() bool { code, _, _ := check(t, nil, "--admin", admin); return code == exitOK })

	file := filepath.Join(t.TempDir(), "c.yaml")
	for name, text := range map[string]string{
		"a file":                   "admin: " + admin + "\n",
		"a file with other faults": "admin: " + admin + "\nsentinals: x\nloops: many\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, environ := range [][]string{{"SENTINELPROXY_CONFIG=" + file}, nil} {
				args := []string{"--config", file}
				if environ != nil {
					args = nil
				}
				if code, out, errs := check(t, environ, args...); code != exitOK || out != "ok\n" || errs != "" {
					t.Errorf("exit code %d, %q, %q; want %d and ok", code, out, errs, exitOK)
				}
			}
		})
	}
	t.Run("every interface", func(t *testing.T) {
		if code, out, _ := check(t, []string{"SENTINELPROXY_ADMIN=:" + port}); code != exitOK || out != "ok\n" {
			t.Errorf("exit code %d, %q; want %d and ok", code, out, exitOK)
		}
	})
	t.Run("a flag wins over a variable", func(t *testing.T) {
		if code, _, errs := check(t, []string{"SENTINELPROXY_ADMIN=127.0.0.1:1"}, "--admin", admin); code != exitOK {
			t.Errorf("exit code %d, %q; want %d", code, errs, exitOK)
		}
	})
	t.Run("one master", func(t *testing.T) {
		if code, _, errs := check(t, nil, "--admin", admin, "--master", "a"); code != exitOK {
			t.Errorf("exit code %d, %q; want %d", code, errs, exitOK)
		}
		code, _, errs := check(t, nil, "--admin", admin, "--master", "b")
		if code != exitVerdict {
			t.Errorf("exit code %d for a master that there is not; want %d", code, exitVerdict)
		}
		oneLine(t, errs, `no master "b" is configured`)
	})
	t.Run("not ready", func(t *testing.T) {
		unready("no sentinel answers")
		defer unready("")
		code, out, errs := check(t, nil, "--admin", admin)
		if code != exitVerdict || out != "" {
			t.Errorf("exit code %d, stdout %q; want %d and none", code, out, exitVerdict)
		}
		oneLine(t, errs, "not ready; a: no sentinel answers")
		if code, out, errs := check(t, nil, "--admin", admin, "--live"); code != exitOK || out != "ok\n" {
			t.Errorf("--live: exit code %d, %q, %q; want %d: Redis is no reason", code, out, errs, exitOK)
		}
	})
}

func TestHealthcheckWithoutAnswer(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	nobody := freeAddr(t)
	missing, file := filepath.Join(t.TempDir(), "none.yaml"), filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("admin: "+nobody+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		want []string // a line each
	}{
		"nothing listens":       {[]string{"--admin", nobody}, exitVerdict, []string{"not ready: nothing answers at " + nobody}},
		"nothing answers":       {[]string{"--admin", silent.Addr().String(), "--timeout", "50ms", "--live"}, exitVerdict, []string{"not alive: nothing answers at"}},
		"off":                   {[]string{"--admin", "off"}, exitUsage, []string{"the admin server is off", "--help"}},
		"a wrong address":       {[]string{"--config", file, "--admin", "x"}, exitVerdict, []string{"not ready: nothing answers at " + nobody, `--admin: found "x"`}},
		"no file":               {[]string{"--config", missing, "--admin", nobody}, exitVerdict, []string{"nothing answers", missing + ": cannot read"}},
		"contradicting flags":   {[]string{"--live", "--master", "a", "--timeout", "0s"}, exitUsage, []string{"--timeout: found 0s", "--live and --master", "--help"}},
		"a flag that is not it": {[]string{"--admn", "x"}, exitUsage, []string{"did you mean --admin?", "--help"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := check(t, nil, tt.args...)
			lines := strings.Split(strings.TrimSuffix(errs, "\n"), "\n")
			if code != tt.code || out != "" || len(lines) != len(tt.want) {
				t.Fatalf("exit code %d, stdout %q, stderr %q; want %d and %d lines", code, out, errs, tt.code, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %q; want %q in it", lines[i], want)
				}
			}
		})
	}
}
