//go:build linux

package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// startProcess is startRun in a process of its own, which it returns as well.
func startProcess(tb testing.TB, g *redistest.Group, more ...string) (*started, *os.Process) {
	tb.Helper()
	s := &started{addr: freeAddr(tb), admin: freeAddr(tb), log: new(buffer)}
	args := []string{"run", "--listen", s.addr, "--admin", s.admin, "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	cmd := exec.CommandContext(tb.Context(), os.Args[0], append(args, more...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
			tb.Errorf("run: %v", err)
		}
		if tb.Failed() {
			tb.Log(s.log.String())
		}
	})
	waitFor(tb, "readiness", func() bool {
		code, _ := get(tb, addrOf(s.admin), "/readyz")
		return code == 200
	})
	return s, cmd.Process
}

// The sidecar itself is stopped, and wakes when another master was elected while
// the old one still takes writes: nothing that it then reads from its clients or
// from the old master is acknowledged.
func TestSidecarFrozen(t *testing.T) {
	for _, mode := range []string{"lease", "events"} {
		t.Run(mode, func(t *testing.T) {
			g := redistest.New(t, redistest.Options{DownAfter: 5 * time.Second})
			s, p := startProcess(t, g, patiently("--fence-mode", mode)...)
			strain := g.WatchStrain(t)
			w := startWriters(t, s.addr, plainClients)
			old := stable(t, g)
			pause(t, 500*time.Millisecond)
			watch := watchMajority(t, g, old)
			const replicated = 100 * time.Millisecond // a failover takes no less, and the lease has more to spare
			stopped := time.Now()
			if err := p.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			failOver(t, g, watch)
			pause(t, 4*time.Second) // the lease is over after 3.5; the old master is demoted after some ten
			if err := p.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			woke := time.Now()
			resumed := w.firstAckAfter(t, woke)
			t.Logf("acknowledged again %v after it woke", resumed.Sub(woke))
			demote(t, g, old)
			master := stable(t, g)
			w.finish()
			h := w.history()
			h.wantNoErrors(t)
			lost := w.lost(t, master, nil)
			t.Logf("acknowledged %d, uncertain %d, lost %d, longest pause %v", h.acked, h.uncertain, len(lost), h.longestGap)
			if h.maxUncertain > 1 {
				lateOr(t, strain, replicated, stopped, resumed, "a client got %d -UNCERTAIN; want at most one: it had one command in flight", h.maxUncertain)
			}
			if len(lost) > 0 && mode == "lease" {
				lateOr(t, strain, replicated, stopped, resumed, "%d acknowledged writes lost, such as %v", len(lost), lost[:min(3, len(lost))])
			}
		})
	}
}
