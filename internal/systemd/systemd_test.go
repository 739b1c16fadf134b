package systemd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestNotify(t *testing.T) {
	for name, socket := range map[string]string{
		"a path":   filepath.Join(t.TempDir(), "notify"),
		"abstract": "@sentinelproxy-test-" + strings.ReplaceAll(t.Name(), "/", "-") + time.Now().Format("150405.000000000"),
	} {
		t.Run(name, func(t *testing.T) {
			pc, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
			if err != nil {
				t.Skip(err) // abstract names are Linux' alone
			}
			defer pc.Close()
			n, err := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": socket}))
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Send(Ready, Status("serving a:1\nMAINPID=1 \x1b[0m")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4096)
			k, err := pc.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			const want = "READY=1\nSTATUS=serving a:1 MAINPID=1 [0m"
			if got := string(b[:k]); got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}

// A manager that does not read must not stop us.
func TestNotifyDoesNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	pc, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Skip(err)
	}
	defer pc.Close()
	n, err := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": path}))
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		if err := n.Send(Status(strings.Repeat("x", maxStatus))); err != nil {
			return // its queue is full
		}
	}
	t.Error("10 000 messages that nobody read were sent without an error")
}

func TestNoManager(t *testing.T) {
	n, err := NewNotifier(env(nil))
	if n != nil || err != nil || n.Send(Ready) != nil {
		t.Errorf("without NOTIFY_SOCKET: %v, %v", n, err)
	}
	if _, err := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": "vsock:2:1"})); err == nil {
		t.Error("a NOTIFY_SOCKET that is no path: no error")
	}
	if s, err := Sockets(env(map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "1"}), 2); s != nil || err != nil {
		t.Errorf("sockets of another process: %v, %v", s, err)
	}
	if _, err := Sockets(env(map[string]string{"LISTEN_PID": "2", "LISTEN_FDS": "x"}), 2); err == nil {
		t.Error("LISTEN_FDS=x: no error")
	}
}

func TestStatusIsCut(t *testing.T) {
	got := Status(strings.Repeat("ä", maxStatus))
	if len(got) > maxStatus+20 || !strings.HasSuffix(got, "ä…") {
		t.Errorf("a long status has %d bytes and ends in %q", len(got), got[len(got)-6:])
	}
}

func TestReloading(t *testing.T) {
	got := Reloading()
	if first, rest, many := strings.Cut(got, "\n"); first != "RELOADING=1" || many && !strings.HasPrefix(rest, "MONOTONIC_USEC=") {
		t.Errorf("Reloading() = %q", got)
	}
	if got := Extend(15 * time.Second); got != "EXTEND_TIMEOUT_USEC=15000000" {
		t.Errorf("Extend(15s) = %q", got)
	}
}

func TestWatchdog(t *testing.T) {
	for name, tt := range map[string]struct {
		vars  map[string]string
		want  time.Duration
		fails bool
	}{
		"none":        {nil, 0, false},
		"ours":        {map[string]string{"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}, 20 * time.Second, false},
		"anybody's":   {map[string]string{"WATCHDOG_USEC": "20000000"}, 20 * time.Second, false},
		"another's":   {map[string]string{"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"}, 0, false},
		"no number":   {map[string]string{"WATCHDOG_USEC": "20s"}, 0, true},
		"not above 0": {map[string]string{"WATCHDOG_USEC": "0"}, 0, true},
		"too large":   {map[string]string{"WATCHDOG_USEC": "9223372036854775807"}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Watchdog(env(tt.vars), 7)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("Watchdog(%v) = %v, %v; want %v", tt.vars, got, err, tt.want)
			}
		})
	}
}
