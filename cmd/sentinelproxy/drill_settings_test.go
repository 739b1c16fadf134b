package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const twoMasters = `
sentinels: [s1:26379]
auth: passthrough
redis: {user: ctl, password_file: PASSWORD}
masters:
  - {name: orders, listen: ":6380"}
  - {name: carts, listen: "unix:/run/carts", auth: none}
`

// loadRemote reads flags as a drill does.
func loadRemote(t *testing.T, via string, args ...string) (drill.Remote, error) {
	t.Helper()
	var o remoteOptions
	fs := pflag.NewFlagSet("drill", pflag.ContinueOnError)
	settings := o.addFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o.load(config.Sources{Flags: settings}, via)
}

func TestDrillReportAt(t *testing.T) {
	abs, err := filepath.Abs("r.html")
	if err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]drillOptions{
		"":                  {json: "-"},
		abs:                 {json: "/r.json", html: "r.html"},
		"https://h/r?run=1": {html: "r.html", reportURL: "https://h/r?run=1"},
	} {
		if got := o.reportAt(); got != want {
			t.Errorf("%+v: %q; want %q", o, got, want)
		}
	}
	for s, ok := range map[string]bool{
		"": true, "http://h/x": true, "https://h": true,
		"https://u:p@h/x": false, "https:///x": false, "file:///x": false, "javascript:alert(1)": false, "x": false, "http://%zz": false,
	} {
		if err := validReportURL(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// The sidecar's own file says whom to drill, through what, and as whom.
func TestDrillTakesTheSidecarsConfiguration(t *testing.T) {
	dir := t.TempDir()
	password, file := filepath.Join(dir, "password"), filepath.Join(dir, "config.yaml")
	for path, text := range map[string]string{password: "hush\n", file: strings.ReplaceAll(twoMasters, "PASSWORD", password)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctl := drill.Login{User: "ctl", Password: "hush"}
	for name, tt := range map[string]struct {
		via     string
		args    []string
		group   string
		sidecar string
		clients drill.Login
		status  bool
	}{
		"passthrough":   {"", []string{"--master", "orders"}, "orders", "127.0.0.1:6380", ctl, true},
		"without login": {"", []string{"--master", "carts"}, "carts", "unix:/run/carts", drill.Login{}, true},
		"another proxy": {"h:1", []string{"--master", "orders"}, "orders", "h:1", ctl, false},
		"another account": {
			"",
			[]string{"--master", "orders", "--client-user", "app", "--client-password-file", password},
			"orders", "127.0.0.1:6380",
			drill.Login{User: "app", Password: "hush"},
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := loadRemote(t, tt.via, append(tt.args, "--config", file)...)
			if err != nil {
				t.Fatal(err)
			}
			if r.Group != tt.group || r.Sidecar != tt.sidecar || r.Clients != tt.clients || r.Redis != ctl || (r.Status != nil) != tt.status {
				t.Errorf("found %+v", r)
			}
			if !strings.HasPrefix(r.Prefix, "drill:") || len(r.Prefix) < len("drill:")+9 {
				t.Errorf("prefix %q; want a random part", r.Prefix)
			}
		})
	}
	for _, args := range [][]string{{"--config", file}, {"--config", file, "--master", "none"}} {
		if _, err := loadRemote(t, "", args...); err == nil || !strings.Contains(err.Error(), "want one of orders, carts") {
			t.Errorf("%q: error %v; want one that names both masters", args, err)
		}
	}
}

func TestReadStatus(t *testing.T) {
	const page = `{"masters": [
		{"name": "carts", "ready": true, "status": {"failover": {"state": "serving", "master": "b:1"}}},
		{"name": "orders", "reason": "holding", "status": {"failover": {"state": "holding", "master": "a:1"}, "proxy": {}}}]}`
	s, err := readStatus([]byte(page), "orders")
	if want := (drill.SidecarStatus{Reason: "holding", State: "holding", Master: "a:1"}); err != nil || s != want {
		t.Errorf("found %+v, %v; want %+v", s, err, want)
	}
	if _, err := readStatus([]byte(page), "none"); err == nil {
		t.Error("a master that is not served was found")
	}
	if _, err := readStatus([]byte("<html>"), "orders"); err == nil {
		t.Error("a page that is no JSON was read")
	}
}

// Only changes of the route are told.
func TestPollRoute(t *testing.T) {
	answers := []drill.SidecarStatus{
		{State: "serving", Master: "a:1"},
		{State: "serving", Master: "a:1"},
		{State: "holding", Master: "a:1"},
		{State: "serving", Master: "b:1"},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told []topology.Route
	pollRoute(ctx, func(context.Context) (drill.SidecarStatus, error) {
		next := answers[0]
		if answers = answers[1:]; len(answers) == 0 {
			cancel()
		}
		return next, nil
	}, func(r topology.Route) { told = append(told, r) })
	if len(told) != 3 || told[0].State != topology.Serving || told[1].State != topology.Holding || told[2].Master != "b:1" {
		t.Errorf("told %+v; want serving a:1, holding, serving b:1", told)
	}
}

// A drill says so where it would need TLS, instead of failing to understand.
func TestDrillSpeaksNoTLS(t *testing.T) {
	plain := config.Listen{Network: "tcp", Address: "h:1"}
	secure := config.Listen{Network: "tcp", Address: "h:2", TLS: true}
	for name, tt := range map[string]struct {
		m    config.Master
		via  string
		want string // in the error; "" for none
	}{
		"plain":              {config.Master{Listen: []config.Listen{plain, secure}}, "", ""},
		"redis":              {config.Master{Listen: []config.Listen{plain}, RedisTLS: config.TLS{Enabled: true}}, "", "redis.tls: "},
		"sentinel":           {config.Master{Listen: []config.Listen{plain}, SentinelTLS: config.TLS{Enabled: true}}, "", "sentinel.tls: "},
		"clients":            {config.Master{Listen: []config.Listen{secure}}, "", "listen: "},
		"clients, elsewhere": {config.Master{Listen: []config.Listen{secure}}, "h:3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := plainOnly(tt.m, tt.via)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("found %v; want %q", err, tt.want)
			}
		})
	}
}

// A report's place that a sidecar would refuse is not told, or is a mistake: the word that
// there is a drill would be refused with it.
func TestReportAt(t *testing.T) {
	long := strings.Repeat("x", 400)
	for name, tt := range map[string]struct {
		o    drillOptions
		bad  bool
		want string
	}{
		"none":          {drillOptions{json: "-"}, false, ""},
		"a file":        {drillOptions{html: "/srv/a.html", json: "/srv/a.json"}, false, "/srv/a.html"},
		"a long path":   {drillOptions{html: "/" + long}, false, ""},
		"two lines":     {drillOptions{html: "/a\nb"}, false, ""},
		"an address":    {drillOptions{html: "/srv/a.html", reportURL: "https://h/a"}, false, "https://h/a"},
		"a long one":    {drillOptions{reportURL: "https://h/" + long}, true, ""},
		"no address":    {drillOptions{reportURL: "ftp://h/a"}, true, ""},
		"with password": {drillOptions{reportURL: "https://a:b@h/"}, true, ""},
	} {
		err := validReportURL(tt.o.reportURL)
		if (err != nil) != tt.bad {
			t.Errorf("%s: %v", name, err)
		}
		if got := tt.o.reportAt(); err == nil && got != tt.want {
			t.Errorf("%s: %q; want %q", name, got, tt.want)
		}
	}
}
