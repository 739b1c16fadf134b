package main

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	try := func(path string) (net.Listener, error) {
		return listen(t.Context(), config.Listen{Network: "unix", Address: path})
	}

	ln, err := try(dir + "/new")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := try(dir + "/new"); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a socket in use: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	ln.Close()
	ln, err = try(dir + "/new")
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	ln.Close()
	if _, err := os.Lstat(dir + "/new"); !os.IsNotExist(err) {
		t.Errorf("after close the socket is still there: %v", err)
	}

	if err := os.WriteFile(dir+"/file", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := try(dir + "/file"); err == nil || !strings.Contains(err.Error(), "it is no socket") {
		t.Errorf("a plain file: %v", err)
	}
	if b, err := os.ReadFile(dir + "/file"); err != nil || string(b) != "precious" {
		t.Errorf("the file now: %q, %v", b, err)
	}
	if _, err := try(dir + "/no/dir"); err == nil {
		t.Error("no directory: no error")
	}
}

// Sidecars that start at the same moment on a socket that a crash has left: one gets
// it, and its socket is the one in the file system.
func TestListenUnixAtOnce(t *testing.T) {
	path := t.TempDir() + "/s"
	for round := range 20 {
		left, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		left.(*net.UnixListener).SetUnlinkOnClose(false)
		left.Close()
		const starting = 8
		got := make(chan net.Listener, starting) // one each
		for range starting {
			go func() {
				ln, err := listen(t.Context(), config.Listen{Network: "unix", Address: path})
				if err != nil && !strings.Contains(err.Error(), "another process listens there") {
					t.Errorf("round %d: %v", round, err)
				}
				got <- ln
			}()
		}
		var winners []net.Listener
		for range starting {
			if ln := <-got; ln != nil {
				winners = append(winners, ln)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("round %d: %d of them listen; want 1", round, len(winners))
		}
		c, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatalf("round %d: the winner can't be reached: %v", round, err)
		}
		c.Close()
		winners[0].Close()
	}
}

// Where the lock is somebody else's, a stale socket stays and a free name is taken.
func TestListenUnixWithoutTheLock(t *testing.T) {
	path := t.TempDir() + "/s"
	unlocked := errors.New("somebody else's")
	if err := removeStale(t.Context(), path, unlocked); err != nil {
		t.Errorf("a free name: %v", err)
	}
	left, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	if err := removeStale(t.Context(), path, unlocked); !errors.Is(err, unlocked) {
		t.Errorf("a stale socket: %v; want %v", err, unlocked)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}
