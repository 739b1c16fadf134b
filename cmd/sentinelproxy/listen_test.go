package main

import (
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
