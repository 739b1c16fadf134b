//go:build unix

package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// manager is a service manager's ear: what it was told, a message each.
type manager struct {
	path string
	told journal
}

func startManager(tb testing.TB) *manager {
	tb.Helper()
	m := &manager{path: filepath.Join(tb.TempDir(), "notify")}
	pc, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: m.path})
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 8192)
		for {
			n, err := pc.Read(b)
			if err != nil {
				return
			}
			m.told.add(string(b[:n]))
		}
	}()
	tb.Cleanup(func() { pc.Close(); <-ended })
	return m
}

// heard reports whether a message with that line came.
func (m *manager) heard(line string) bool { return m.count(line) > 0 }

func (m *manager) count(line string) int {
	n := 0
	for _, msg := range m.told.all() {
		if slices.ContainsFunc(strings.Split(msg, "\n"), func(l string) bool { return strings.HasPrefix(l, line) }) {
			n++
		}
	}
	return n
}

// The whole command tells its manager of the start, where commands go, that it lives, a
// reload and the stop.
func TestRunTellsItsManager(t *testing.T) {
	m := startManager(t)
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("sentinels: 127.0.0.1:1\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFakes()
	ctx, cancel := context.WithCancel(t.Context())
	var out buffer
	root := newRoot([]string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=60000", "WATCHDOG_PID=" + strconv.Itoa(os.Getpid())}, f.parts())
	root.SetArgs([]string{"run", "--config", file})
	root.SetErr(&out)
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	heard := func(line string) {
		t.Helper()
		waitFor(t, line+" told, beside "+strings.Join(m.told.all(), " | "), func() bool { return m.heard(line) })
	}

	heard("READY=1")
	heard("WATCHDOG=1")
	f.ch.publish(topology.Route{Group: "mymaster", Gen: 1, State: topology.Discovering, Why: "no sentinel\nREADY=0"})
	heard("STATUS=mymaster: discovering: no sentinel READY=0")
	f.ch.publish(topology.Route{Group: "mymaster", Gen: 2, State: topology.Serving, Master: "10.0.0.1:6379", Epoch: 7})
	heard("STATUS=mymaster: serving 10.0.0.1:6379, epoch 7")
	f.ch.publish(topology.Route{Group: "mymaster", Gen: 1, State: topology.Holding, Why: "late"})

	// A loop that stands still: nothing more is said, and the manager's clock runs out.
	f.server.mu.Lock()
	f.server.stuck = true
	f.server.mu.Unlock()
	waitFor(t, "the silence in the log", func() bool {
		return strings.Contains(out.String(), `msg="the watchdog is not told that we live" reason="mymaster: an event loop stands still"`)
	})
	// One that was said before may still be on its way: what is told now comes after it.
	f.ch.publish(topology.Route{Group: "mymaster", Gen: 3, State: topology.Holding, Why: "a pause"})
	heard("STATUS=mymaster: holding: a pause")
	before := m.count("WATCHDOG=1")
	f.ch.publish(topology.Route{Group: "mymaster", Gen: 4, State: topology.Down, Why: "no master"})
	heard("STATUS=mymaster: down: no master") // came after whatever else was under way
	if n := m.count("WATCHDOG=1"); n != before {
		t.Errorf("told that it lives %d times while a loop stood still", n-before)
	}
	f.server.mu.Lock()
	f.server.stuck = false
	f.server.mu.Unlock()
	waitFor(t, "signs of life again", func() bool { return m.count("WATCHDOG=1") > before })

	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	heard("RELOADING=1")
	waitFor(t, "the end of the reload", func() bool { return m.count("READY=1") == 2 })

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	heard("STOPPING=1")
	heard("EXTEND_TIMEOUT_USEC=15000000")
	if m.heard("STATUS=mymaster: holding: late") {
		t.Error("a route older than the last was told")
	}
}

func TestRunWithABrokenManager(t *testing.T) {
	for _, environ := range [][]string{
		{"NOTIFY_SOCKET=nonsense"},
		{"NOTIFY_SOCKET=/nowhere", "WATCHDOG_USEC=never"},
		{"LISTEN_PID=" + strconv.Itoa(os.Getpid()), "LISTEN_FDS=many"},
	} {
		s := service{cfg: testConfig(), log: slog.New(slog.DiscardHandler), parts: newFakes().parts(), environ: environ}
		if err := s.run(t.Context()); err == nil {
			t.Errorf("run with %q: no error", environ)
		}
	}
	// One that is gone is no reason not to serve.
	var out buffer
	ctx, cancel := context.WithCancel(t.Context())
	s := service{
		cfg: testConfig(), log: newLogger(&out, config.LogText, new(slog.LevelVar)), parts: newFakes().parts(),
		environ: []string{"NOTIFY_SOCKET=/nowhere/notify"},
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	waitFor(t, "the failure in the log", func() bool { return strings.Contains(out.String(), "service manager not told") })
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("run does not end")
	}
}
