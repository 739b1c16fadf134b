package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := t.TempDir() + "/c.yaml"
	if err := os.WriteFile(bad, []byte("sentinels: s\nloops: x\nhold: {timeout: 5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args   []string
		code   int
		stdout string   // a part of it; "" is none at all
		stderr []string // its lines' beginnings
	}{
		"help":            {[]string{"--help"}, exitOK, "Available Commands", nil},
		"nothing":         {nil, exitOK, "Available Commands", nil},
		"version":         {[]string{"version"}, exitOK, "sentinelproxy ", nil},
		"run's help":      {[]string{"run", "--help"}, exitOK, "--hold-timeout duration", nil},
		"unknown command": {[]string{"rum"}, exitUsage, "", []string{`sentinelproxy: "rum": no such command; did you mean run?`, `sentinelproxy: see "sentinelproxy --help"`}},
		"unknown flag":    {[]string{"run", "--hold-timeuot=1s"}, exitUsage, "", []string{`sentinelproxy: --hold-timeuot: no such flag; did you mean --hold-timeout?`, `sentinelproxy: see`}},
		"an argument":     {[]string{"run", "x"}, exitUsage, "", []string{`sentinelproxy: unknown command "x" for "sentinelproxy run"`, `sentinelproxy: see`}},
		"mistakes": {[]string{"run", "--config", bad, "--auth=x"}, exitUsage, "", []string{
			`sentinelproxy: ` + bad + `:2: loops: found "x"; want`,
			`sentinelproxy: ` + bad + `:3: hold.timeout: found "5"; want`,
			`sentinelproxy: --auth: found "x"; want`,
		}},
		"port taken": {[]string{"run", "--sentinel=127.0.0.1:1", "--admin=off", "--listen=" + taken.Addr().String()}, exitEnvironment, "", []string{
			`sentinelproxy: cannot listen on ` + taken.Addr().String() + `: bind: address already in use`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr buffer
			code := run(t.Context(), tt.args, &stdout, &stderr)
			if code != tt.code {
				t.Errorf("exit code %d; want %d", code, tt.code)
			}
			if got := stdout.String(); tt.stdout == "" && got != "" || !strings.Contains(got, tt.stdout) {
				t.Errorf("stdout %q; want %q in it", got, tt.stdout)
			}
			lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
			if stderr.String() == "" {
				lines = nil
			}
			if len(lines) != len(tt.stderr) {
				t.Fatalf("stderr %q; want %d lines", stderr.String(), len(tt.stderr))
			}
			for i, want := range tt.stderr {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("stderr line %q; want %q", lines[i], want)
				}
			}
		})
	}
}

func TestVersionJSON(t *testing.T) {
	var stdout, stderr buffer
	if code := run(t.Context(), []string{"version", "--json"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil || got["go_version"] == "" {
		t.Errorf("%v: %s", err, stdout.String())
	}
}
