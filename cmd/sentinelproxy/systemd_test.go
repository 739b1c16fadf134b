//go:build linux

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

const unitDir = "../../examples/systemd/"

// unit is what a unit file says, by section and key: the values in their order.
type unit map[string][]string

func readUnit(tb testing.TB, name string) unit {
	tb.Helper()
	f, err := os.Open(unitDir + name)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	u, section := unit{}, ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if s, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(s, "]")
		} else if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[section+"."+k] = append(u[section+"."+k], v)
		}
	}
	return u
}

func (u unit) one(tb testing.TB, key string) string {
	tb.Helper()
	if len(u[key]) != 1 {
		tb.Fatalf("%s: found %q; want one value", key, u[key])
	}
	return u[key][0]
}

func (u unit) duration(tb testing.TB, key string) time.Duration {
	tb.Helper()
	d, err := time.ParseDuration(u.one(tb, key))
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// exampleConfig is the file that the unit is to be used with, as the unit calls it.
func exampleConfig(tb testing.TB, args []string) config.Config {
	tb.Helper()
	cmd := &cobra.Command{}
	flags := config.AddFlags(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		tb.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{Flags: flags, ReadFile: func(path string) ([]byte, error) {
		if path == "/etc/sentinelproxy/sentinelproxy.yaml" {
			path = "../../examples/sentinelproxy.yaml"
		}
		return os.ReadFile(path)
	}})
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// What the units say of the sidecar is what it does.
func TestUnitsFitTheSidecar(t *testing.T) {
	service, socket := readUnit(t, "sentinelproxy.service"), readUnit(t, "sentinelproxy.socket")
	start := strings.Fields(service.one(t, "Service.ExecStart"))
	if start[1] != "run" {
		t.Fatalf("ExecStart %q", start)
	}
	cfg := exampleConfig(t, start[2:])
	var listens []string
	for _, l := range cfg.Masters[0].Listen {
		listens = append(listens, l.String())
	}
	if got := socket["Socket.ListenStream"]; !slices.Equal(got, listens) {
		t.Errorf("ListenStream %q; the example configuration listens on %q", got, listens)
	}
	if got, least := service.duration(t, "Service.TimeoutStopSec"), cfg.DrainTimeout+stopMargin; got < least {
		t.Errorf("TimeoutStopSec %v; want %v or more, for drain_timeout %v", got, least, cfg.DrainTimeout)
	}
	// A loop counts as standing after 5 s, and the watchdog is told three times.
	if got := service.duration(t, "Service.WatchdogSec"); got < 15*time.Second {
		t.Errorf("WatchdogSec %v; want 15s or more", got)
	}
	if got := service.one(t, "Service.RestartPreventExitStatus"); got != "2" || exitUsage != 2 {
		t.Errorf("RestartPreventExitStatus %s; a mistake in the configuration is %d", got, exitUsage)
	}
	if got := service.one(t, "Service.Type"); got != "notify" {
		t.Errorf("Type %s; want notify", got)
	}
	if socket.one(t, "Socket.FileDescriptorName") == "" || service.one(t, "Unit.Requires") != "sentinelproxy.socket" {
		t.Error("the service does not have its socket")
	}
}

// systemd itself reads the units without a complaint, and finds the service well shut in.
func TestUnitsVerify(t *testing.T) {
	tool := needTool(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"sentinelproxy.service", "sentinelproxy.socket"} {
		b, err := os.ReadFile(unitDir + name)
		if err != nil {
			t.Fatal(err)
		}
		// It wants to find the program, and has no manual page.
		text := strings.ReplaceAll(string(b), "/usr/local/bin/sentinelproxy", os.Args[0])
		text = strings.ReplaceAll(text, "man:sentinelproxy-run(1) ", "")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	service := filepath.Join(dir, "sentinelproxy.service")
	out, err := exec.CommandContext(t.Context(), tool, "verify", service, filepath.Join(dir, "sentinelproxy.socket")).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if err != nil || strings.Contains(line, "sentinelproxy") {
			t.Errorf("systemd-analyze verify: %v: %s", err, line)
		}
	}
	// 1.5 of 10, tenths of it here: what remains is the network.
	out, err = exec.CommandContext(t.Context(), tool, "security", "--offline=true", "--threshold=15", "--no-pager", service).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v:\n%s", err, out)
	}
}
