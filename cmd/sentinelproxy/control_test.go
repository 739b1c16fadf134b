package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// order posts a switchover to the admin server and returns the status code.
func order(tb testing.TB, addr net.Addr, host, token string) int {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+addr.String()+control.PathSwitchover, strings.NewReader("{}"))
	if err != nil {
		tb.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	if host != "" {
		req.Host = host
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestAdminTakesOrdersWithTheToken(t *testing.T) {
	const old, next = config.Secret("0123456789abcdef"), config.Secret("fedcba9876543210")
	f := newFakes()
	cfg := testConfig()
	cfg.Control.TokenFile, cfg.Control.Token = "t", old
	s, _ := startFakes(t, f, cfg)
	for name, tt := range map[string]struct {
		host, token string
		want        int
	}{
		"token":        {"", old.Reveal(), http.StatusOK},
		"none":         {"", "", http.StatusUnauthorized},
		"wrong":        {"", "0123456789abcdeg", http.StatusForbidden},
		"another host": {"attacker.example", old.Reveal(), http.StatusMisdirectedRequest},
	} {
		if got := order(t, s.AdminAddr(), tt.host, tt.token); got != tt.want {
			t.Errorf("%s: %d; want %d", name, got, tt.want)
		}
	}
	rotated := cfg
	rotated.Control.Token = next
	newReloader(s, func() (config.Config, error) { return rotated, nil }, new(slog.LevelVar)).reload()
	if got := order(t, s.AdminAddr(), "", old.Reveal()); got != http.StatusForbidden {
		t.Errorf("the old token after a reload: %d; want 403", got)
	}
	if got := order(t, s.AdminAddr(), "", next.Reveal()); got != http.StatusOK {
		t.Errorf("the new token after a reload: %d; want 200", got)
	}
}

func TestAdminTakesNoOrdersWithoutAToken(t *testing.T) {
	s, _ := startFakes(t, newFakes(), testConfig())
	if got := order(t, s.AdminAddr(), "", "0123456789abcdef"); got != http.StatusMethodNotAllowed {
		t.Errorf("%d; want 405", got)
	}
}

func TestControlSocket(t *testing.T) {
	path := socketOf(t)
	left, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.Control.Socket = path
	f := newFakes()
	_, stop := startFakes(t, f, cfg)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket %v %v; want mode 0600", info.Mode(), err)
	}
	if _, err := listenControl(t.Context(), cfg.Control); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a second sidecar: %v", err)
	}
	c := control.NewUnixClient(path)
	defer c.Close()
	r, err := c.Switchover(t.Context(), topology.SwitchoverRequest{To: "b:1"}, func(topology.SwitchoverStep) {})
	if err != nil || r.Outcome != topology.SwitchoverReady || r.To != "b:1" {
		t.Errorf("%+v %v", r, err)
	}

	// A stop calls off what is under way, and tells the caller.
	told := make(chan topology.SwitchoverResult, 1)
	go func() {
		r, _ := c.Switchover(context.WithoutCancel(t.Context()), topology.SwitchoverRequest{To: "never:1"}, func(topology.SwitchoverStep) {})
		told <- r
	}()
	waitFor(t, "the second one", func() bool {
		return len(slices.DeleteFunc(f.j.all(), func(l string) bool { return l != "switchover" })) == 2
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	if r := <-told; r.Outcome != topology.SwitchoverAborted {
		t.Errorf("%+v; want it aborted", r)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket's file is left")
	}
}
