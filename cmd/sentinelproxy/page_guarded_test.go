package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// A browser that was given the token follows the page of a sidecar behind TLS: each master as it
// is, of several, and what is left of the certificates. Without the token it sees nothing.
func TestStatusPageGuarded(t *testing.T) {
	b := newBrowser(t, chromedp.IgnoreCertErrors)
	g := calmGroup(t)
	const token = "a token of the test"
	dir, admin, nobody := t.TempDir(), freeAddr(t), freeAddr(t)
	end := time.Now().Add(300*24*time.Hour + time.Hour)
	ca := certtest.MustCAUntil(t, end)
	files := certtest.MustWrite(t, dir, ca, ca.MustIssue(t, certtest.Leaf{Name: "gateway-1", NotAfter: time.Now().Add(6*24*time.Hour + 3*time.Hour)}))
	settings := fmt.Sprintf(`
admin:
  listen: %q
  token_file: %q
  tls: {cert_file: %q, key_file: %q, client_ca_file: %q, client_auth: optional}
masters:
  - {name: %s, listen: "127.0.0.1:0", sentinels: [%q]}
  - {name: away, listen: "127.0.0.1:0", sentinels: [%q]}
`, admin, filepath.Join(dir, "token"), files.Cert, files.Key, files.CA, g.Name(), g.SentinelAddrs()[0], nobody)
	for name, text := range map[string]string{"token": token, "c.yaml": settings} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runInTest(t, new(buffer), "run", "--config", filepath.Join(dir, "c.yaml"))
	stranger := asking{tls: &tls.Config{RootCAs: poolOf(ca)}}
	waitFor(t, "the admin server", func() bool {
		code, _, _ := stranger.get(t, addrOf(admin), "/status")
		return code == http.StatusUnauthorized
	})

	// What a browser does with the password that somebody typed: it goes with all that it asks for.
	b.do(t, chromedp.Navigate("https://anybody:"+strings.ReplaceAll(token, " ", "%20")+"@"+admin+"/livez"))
	b.do(t, chromedp.Navigate("https://"+admin+"/status"))
	master := stable(t, g)
	state := func(master, state string, addr topology.Addr) string {
		return fmt.Sprintf(`document.querySelector('#state li[data-live="true"][data-master=%q][data-state=%q][data-address=%q]')`, master, state, string(addr))
	}
	b.wait(t, "the master that is served", state(g.Name(), "serving", master.Addr()))
	b.wait(t, "the one that nobody answers for", state("away", "discovering", ""))
	b.wait(t, "the certificates", `document.querySelectorAll("#certificates li").length === 2`)
	got := eval[[]string](t, b, `[...document.querySelectorAll("#certificates li")].map((e) => e.firstChild.className + " " + e.textContent)`)
	want := []string{
		"warn ! 7 days left, until " + time.Now().Add(6*24*time.Hour+3*time.Hour).UTC().Format(time.DateOnly) + " server gateway-1 " + files.Cert,
		"ok ✓ 301 days left, until " + end.UTC().Format(time.DateOnly) + " ca test authority " + files.CA,
	}
	if !slices.Equal(got, want) {
		t.Errorf("certificates:\n%q; want\n%q", got, want)
	}

	failOverFrom(t, g, master)
	waitWithin(t, 3*patience, "another master", func() bool {
		m, err := g.Master(t.Context())
		moved := err == nil && m != master
		if moved {
			master = m
		}
		return moved
	})
	b.wait(t, "the new master", state(g.Name(), "serving", master.Addr()))
	if got := eval[int](t, b, `document.querySelectorAll('#state li[data-master="away"]').length`); got != 1 {
		t.Errorf("the other master is shown %d times", got)
	}
	b.quiet(t, "https://", 0)
}
