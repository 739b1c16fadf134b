package main

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/doctor"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// hereOf returns what is found on this machine, but for the machine's own limit.
func hereOf(list []doctor.Finding) []string {
	var all []string
	for _, f := range list {
		if f.Check != "file-limit" {
			all = append(all, strings.Join(strings.Fields(f.Severity.String()+" "+f.Check+" "+f.Master+" "+f.Subject), " "))
		}
	}
	return all
}

// Places that others hold, and what the configuration itself warns of.
func TestCheckHere(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	gone := filepath.Join(t.TempDir(), "none", "control.sock")
	for name, tt := range map[string]struct {
		change func(*config.Config)
		want   []string
	}{
		"free": {func(*config.Config) {}, nil},
		"a listener's place is taken": {func(c *config.Config) {
			c.Masters[0].Listen = []config.Listen{{Network: "tcp", Address: at}}
		}, []string{"error listen a " + at}},
		"so is the admin server's": {func(c *config.Config) { c.Admin.Listen = at }, []string{"error listen " + at}},
		"only a client with a certificate is told by whom": {func(c *config.Config) {
			c.Admin.Listen, c.Admin.TLS.ClientAuth = at, config.ClientAuthRequire
			c.Admin.TLS.CertFile, c.Admin.TLS.KeyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
		}, []string{"warning listen " + at}},
		"a socket's directory is missing": {func(c *config.Config) { c.Control.Socket = gone }, []string{"error listen unix:" + gone}},
		"warnings": {func(c *config.Config) {
			c.Warnings = []string{"admin.insecure: one", "another"}
		}, []string{"warning config", "warning config"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(&cfg)
			list := checkHere(t.Context(), cfg, adminTrust{})
			list = slices.DeleteFunc(list, func(f doctor.Finding) bool { return strings.HasPrefix(f.Check, "tls-") }) // of files that are none
			if got := hereOf(list); !slices.Equal(got, tt.want) {
				t.Errorf("got %q; want %q", got, tt.want)
			}
			for _, f := range list {
				if f.Reason == "" || f.Remedy == "" {
					t.Errorf("%s has reason %q and remedy %q", f.Check, f.Reason, f.Remedy)
				}
			}
		})
	}
}

// The configuration's own warnings reach who checks it; beside a sidecar that runs with it
// the ports are taken as they should be.
func TestCheckBesideASidecar(t *testing.T) {
	g := redistest.New(t, redistest.Options{DownAfter: calm})
	s := startRun(t, g)
	code, list := runCheck(t, g, "--listen", s.addr, "--admin", s.admin)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantFindings(t, list)
	for _, at := range []string{s.addr, s.admin} {
		if !slices.ContainsFunc(list, func(f checkFinding) bool {
			return f.Check == "listen" && f.Severity == "info" && f.Subject == at && strings.Contains(f.Reason, "as it should be")
		}) {
			t.Errorf("nothing tells that %s is taken as it should be: %+v", at, list)
		}
	}
	_, list = runCheck(t, g, "--admin", "0.0.0.0:0", "--admin-insecure", "true")
	if !slices.ContainsFunc(list, func(f checkFinding) bool {
		return f.Check == "config" && f.Severity == "warning" && strings.Contains(f.Reason, "admin.insecure") && f.Remedy != ""
	}) {
		t.Errorf("the configuration's warning is not told: %+v", list)
	}
}
