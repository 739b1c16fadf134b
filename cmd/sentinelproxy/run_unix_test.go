//go:build unix

package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
)

// The whole command, with signals: start, SIGHUP, stop.
func TestRunReloadsAndStops(t *testing.T) {
	file := t.TempDir() + "/c.yaml"
	write := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const base = "sentinels: 127.0.0.1:1\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"
	write(base)

	var out buffer
	ctx, cancel := context.WithCancel(t.Context())
	root := newRoot([]string{"SENTINELPROXY_SENTINELS=x"}, newFakes().parts())
	root.SetArgs([]string{"run", "--config", file})
	root.SetErr(&out)
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	logged := func(want string) {
		t.Helper()
		waitFor(t, want+" in the log: "+out.String(), func() bool { return strings.Contains(out.String(), want) })
	}
	hup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	logged(`did you mean SENTINELPROXY_SENTINEL?`)
	logged(`msg=listening master_name=mymaster`)

	write(base + "log: {level: debug}\nloops: 3\n")
	hup()
	logged(`msg="setting reloaded" setting=log.level`)
	logged(`takes effect at the next start" setting=loops`)

	write(base + "loops: many\n")
	hup()
	logged(`msg="configuration not reloaded" mistake="` + file + `:4: loops: found`)

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	logged("msg=stopping drain_timeout=10s")
	logged("msg=stopped took=")
}
