//go:build unix && !solaris && !aix

package config

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A pipe that nobody writes to is not waited for: whoever looks also takes the signals.
func TestReadSecretsOfPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Masters: []Master{{Name: "a", Redis: Login{PasswordFile: pipe, Password: "r1"}}}}
	next, bad := ReadSecrets(cfg, nil)
	if len(bad) > 0 || next.Masters[0].Redis.Password != "r1" {
		t.Errorf("password %q, mistakes %v; want the one that was read at the start", next.Masters[0].Redis.Password.Reveal(), bad)
	}
}
