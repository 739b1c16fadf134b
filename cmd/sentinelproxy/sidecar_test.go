package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// startFakes runs a sidecar of fakes; stop ends it and returns its error.
func startFakes(tb testing.TB, f *fakes, cfg config.Config) (s *sidecar, stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	s, err := startSidecar(ctx, cfg, slog.New(slog.DiscardHandler), f.parts())
	if err != nil {
		cancel()
		tb.Fatal(err)
	}
	stop = func() error {
		cancel()
		return s.Wait()
	}
	tb.Cleanup(func() { _ = stop() })
	return s, stop
}

func TestPartsAreJoined(t *testing.T) {
	f := newFakes()
	_, stop := startFakes(t, f, testConfig())
	f.fh.observe(topology.Observation{})
	f.fh.sign(topology.Sign{})
	f.ch.publish(topology.Route{})
	f.ch.poll()
	f.ch.setFast(true)
	f.sh.report(topology.Report{})
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"observe", "sign", "route", "poll", "fast", "report"} {
		if !slices.Contains(f.j.all(), want) {
			t.Errorf("%s did not arrive: %q", want, f.j.all())
		}
	}
}

func TestStopDrainsBeforeTheControlPlaneEnds(t *testing.T) {
	f := newFakes()
	f.server.hold = make(chan struct{})
	s, stop := startFakes(t, f, testConfig())
	waitFor(t, "readiness", func() bool { code, _ := get(t, s.AdminAddr(), "/readyz"); return code == 200 })

	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	waitFor(t, "the drain", func() bool { return slices.Contains(f.j.all(), "proxy is asked to end") })
	if code, body := get(t, s.AdminAddr(), "/readyz"); code != 503 || !strings.Contains(body, "draining") {
		t.Errorf("/readyz during the drain: %d %q; want 503", code, body)
	}
	if code, _ := get(t, s.AdminAddr(), "/livez"); code != 200 {
		t.Errorf("/livez during the drain: %d; want 200", code)
	}
	if j := f.j.all(); slices.Contains(j, "sentinel is asked to end") || slices.Contains(j, "failover is asked to end") {
		t.Errorf("the control plane ended during the drain: %q", j)
	}
	close(f.server.hold)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	j := f.j.all()
	if at := slices.Index(j, "proxy ends"); at > slices.Index(j, "failover is asked to end") || at > slices.Index(j, "sentinel is asked to end") {
		t.Errorf("order %q; want the proxy to end first", j)
	}
	if code, _ := get(t, s.AdminAddr(), "/livez"); code != 0 {
		t.Errorf("the admin server still answers %d", code)
	}
}

func TestAPartThatFailsEndsTheSidecar(t *testing.T) {
	for _, part := range []string{"sentinel", "failover", "proxy"} {
		for name, cause := range map[string]error{"with an error": errors.New("broken"), "without": nil} {
			t.Run(part+" "+name, func(t *testing.T) {
				f := newFakes()
				s, _ := startFakes(t, f, testConfig())
				map[string]*fakePart{"sentinel": f.follower, "failover": f.controller, "proxy": f.server}[part].fail <- cause
				err := s.Wait() // nobody asked for a stop
				if err == nil || !strings.Contains(err.Error(), "master a: "+part) || cause != nil && !errors.Is(err, cause) {
					t.Errorf("Wait: %v; want master, part and cause", err)
				}
			})
		}
	}
}

func TestAdminEndpointsOfASidecar(t *testing.T) {
	f := newFakes()
	s, _ := startFakes(t, f, testConfig())
	code, body := get(t, s.AdminAddr(), "/metrics")
	for _, want := range []string{"sentinelproxy_build_info{", "sentinelproxy_fake_proxy 1", "sentinelproxy_fake_sentinel 1", "sentinelproxy_fake_failover 1", "go_goroutines", "process_cpu_seconds_total"} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d without %s", code, want)
		}
	}
	_, body = get(t, s.AdminAddr(), "/api/v1/status")
	var status struct {
		Masters []struct {
			Name   string
			Ready  bool
			Status struct {
				Listen          []string
				Failover, Proxy map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil || len(status.Masters) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	m := status.Masters[0]
	if m.Name != "a" || !m.Ready || m.Status.Failover["fake"] != "failover" || m.Status.Proxy["fake"] != "proxy" || m.Status.Listen[0] != s.group("a").Addrs()[0].String() {
		t.Errorf("status %s", body)
	}

	f.controller.mu.Lock()
	f.controller.reason = "no Sentinel answers"
	f.controller.mu.Unlock()
	f.server.mu.Lock()
	f.server.stuck = true
	f.server.mu.Unlock()
	if code, body := get(t, s.AdminAddr(), "/readyz"); code != 503 || body != "not ready\na: no Sentinel answers\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	waitFor(t, "/livez to fail", func() bool {
		code, body := get(t, s.AdminAddr(), "/livez")
		return code == 503 && strings.Contains(body, "a: an event loop stands still")
	})
}

// A data path that has drained is no loop that stands still, while other masters still
// drain: a service manager must not end them for it.
func TestAliveWhileOthersDrain(t *testing.T) {
	f := newFakes()
	f.controller.hold = make(chan struct{})
	release := sync.OnceFunc(func() { close(f.controller.hold) })
	defer release()
	s, stop := startFakes(t, f, testConfig())
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	waitFor(t, "the end of the data path", func() bool { return slices.Contains(f.j.all(), "proxy ends") })
	f.server.mu.Lock()
	f.server.stuck = true // its loops turn no more
	f.server.mu.Unlock()
	waitFor(t, "being alive", func() bool { ok, _ := s.alive(); return ok })
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAdminOff(t *testing.T) {
	cfg := testConfig()
	cfg.Admin.Listen = ""
	s, stop := startFakes(t, newFakes(), cfg)
	if a := s.AdminAddr(); a != nil {
		t.Errorf("admin at %v; want none", a)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// What was opened before a listener failed is closed again.
func TestListenersAreAllOrNone(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	sock := t.TempDir() + "/s"
	cfg := testConfig()
	cfg.Admin.Listen = taken.Addr().String()
	cfg.Masters[0].Listen = []config.Listen{{Network: "unix", Address: sock}, {Network: "tcp", Address: taken.Addr().String()}}
	_, err = startSidecar(t.Context(), cfg, slog.New(slog.DiscardHandler), newFakes().parts())
	if err == nil {
		t.Fatal("no error")
	}
	want := "cannot listen on " + taken.Addr().String() + ": bind: address already in use\nadmin server: cannot listen on " + taken.Addr().String() + ": bind: address already in use"
	if err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
	if err := removeStale(t.Context(), sock, nil); err != nil {
		t.Errorf("the socket is still open: %v", err)
	}
}
