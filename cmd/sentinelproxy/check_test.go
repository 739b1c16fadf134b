package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/doctor"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// checkFinding is a finding as --json has it.
type checkFinding struct {
	Check, Severity, Subject, Reason, Remedy string
	Master                                   string `json:"master_name"`
}

// runCheck runs the command before g and returns its exit code and findings; again while a
// Sentinel that a busy machine kept from running is in TILT, which is a finding for half a
// minute.
func runCheck(tb testing.TB, g *redistest.Group, more ...string) (code int, list []checkFinding) {
	tb.Helper()
	waitFor(tb, "every Sentinel to act", func() bool {
		code, list = checkOnce(tb, g, more...)
		return !slices.ContainsFunc(list, func(f checkFinding) bool { return f.Check == "sentinel-tilt" })
	})
	return code, list
}

func checkOnce(tb testing.TB, g *redistest.Group, more ...string) (int, []checkFinding) {
	tb.Helper()
	args := []string{"check", "--json", "--listen", freeAddr(tb), "--admin", freeAddr(tb), "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	var out, errs bytes.Buffer
	code := run(tb.Context(), append(args, more...), &out, &errs)
	var page struct {
		Worst    string
		Findings []checkFinding
	}
	if err := json.Unmarshal(out.Bytes(), &page); err != nil {
		tb.Fatalf("exit code %d: %s%s: %v", code, out.String(), errs.String(), err)
	}
	tb.Logf("exit code %d, worst %s: %s", code, page.Worst, out.String())
	return code, page.Findings
}

// seriousOf returns the findings that are more than information.
func seriousOf(list []checkFinding) []string {
	var all []string
	for _, f := range list {
		if f.Severity != "info" && f.Check != "file-limit" { // the machine's own
			all = append(all, strings.TrimSpace(f.Severity+" "+f.Check+" "+f.Subject))
		}
	}
	return all
}

func wantFindings(tb testing.TB, list []checkFinding, want ...string) {
	tb.Helper()
	if got := seriousOf(list); !slices.Equal(got, want) {
		tb.Errorf("findings %q; want %q", got, want)
	}
}

// mustSet changes a node's configuration.
func mustSet(tb testing.TB, n *redistest.Node, args ...any) {
	tb.Helper()
	if _, err := n.Do(tb.Context(), args...); err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
}

// One group, broken in one way after the other, and mended each time.
func TestCheckRealGroup(t *testing.T) {
	g := redistest.New(t, redistest.Options{Quick: true, DownAfter: 3 * time.Second})
	master := stable(t, g)
	var replicas []*redistest.Node
	for _, n := range g.Nodes() {
		if n != master {
			replicas = append(replicas, n)
		}
	}
	code, list := runCheck(t, g)
	if code != 0 {
		t.Errorf("a healthy group: exit code %d", code)
	}
	wantFindings(t, list)

	mustSet(t, master, "CONFIG", "SET", "min-replicas-to-write", "3")
	mustSet(t, replicas[0], "CONFIG", "SET", "replica-read-only", "no")
	mustSet(t, replicas[1], "CONFIG", "SET", "client-output-buffer-limit", "normal 1048576 0 0")
	code, list = runCheck(t, g, "--hold-timeout", "500ms")
	if code != 1 {
		t.Errorf("min-replicas-to-write: exit code %d", code)
	}
	wantFindings(t, list, "error min-replicas-to-write "+string(master.Addr()), "warning client-output-buffer-limit "+string(replicas[1].Addr()),
		"warning hold-timeout", "warning replica-read-only "+string(replicas[0].Addr()))
	mustSet(t, master, "CONFIG", "SET", "min-replicas-to-write", "0")
	mustSet(t, replicas[0], "CONFIG", "SET", "replica-read-only", "yes")
	mustSet(t, replicas[1], "CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")

	mustSet(t, g.Sentinels()[0], "SENTINEL", "SET", g.Name(), "quorum", "5")
	code, list = runCheck(t, g)
	wantFindings(t, list, "error sentinel-quorum")
	if code != 1 {
		t.Errorf("a quorum out of reach: exit code %d", code)
	}
	mustSet(t, g.Sentinels()[0], "SENTINEL", "SET", g.Name(), "quorum", "2")

	// Nothing was changed by all that was asked, and a warning is no error.
	if now := stable(t, g); now != master {
		t.Errorf("the master is %s now", now.Addr())
	}
	if err := g.Sentinels()[2].Kill(); err != nil {
		t.Fatal(err)
	}
	gone := string(g.Sentinels()[2].Addr())
	waitFor(t, "the others to miss it", func() bool {
		code, list = runCheck(t, g)
		return slices.ContainsFunc(list, func(f checkFinding) bool { return f.Check == "sentinel-dead-entry" && f.Subject == gone })
	})
	wantFindings(t, list, "warning sentinel-dead-entry "+gone, "warning sentinel-spare", "warning sentinel-unreachable "+gone)
	if code != 0 {
		t.Errorf("a warning: exit code %d", code)
	}
	if code, _ = runCheck(t, g, "--strict"); code != 1 {
		t.Errorf("a warning with --strict: exit code %d", code)
	}
}

// Rights are asked for without an effect; clients and data of a node stay.
func TestCheckRights(t *testing.T) {
	g := redistest.New(t, redistest.Options{Quick: true, DownAfter: calm})
	master := stable(t, g)
	for _, n := range g.Nodes() {
		mustSet(t, n, "ACL", "SETUSER", "sidecar", "on", ">secret-word", "+ping", "+hello", "+auth", "+role", "+replicaof", "+client|kill")
	}
	for _, s := range g.Sentinels() {
		mustSet(t, s, "ACL", "SETUSER", "sidecar", "on", ">secret-word", "+ping", "+hello", "+auth", "+info",
			"+sentinel|get-master-addr-by-name", "+sentinel|master", "+sentinel|sentinels", "+sentinel|myid", "+sentinel|replicas")
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret-word"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, list := runCheck(t, g, "--auth", "passthrough", "--redis-user", "sidecar", "--redis-password-file", file, "--sentinel-user", "sidecar", "--sentinel-password-file", file, "--fence-demote", "auto")
	var want []string
	for _, a := range sortedAddrs(g.Nodes()) {
		want = append(want, "error rights-redis "+a) // +multi is missing
	}
	for _, a := range sortedAddrs(g.Sentinels()) {
		want = append(want, "warning rights-sentinel "+a) // +psubscribe
	}
	wantFindings(t, list, want...)
	for _, f := range list {
		if f.Check == "rights-redis" && f.Severity == "error" && !strings.Contains(f.Reason, "+multi") {
			t.Errorf("%+v; want it to name +multi", f)
		}
		if strings.Contains(f.Reason+f.Remedy, "secret-word") {
			t.Errorf("%+v holds the password", f)
		}
	}
	if role, err := master.Role(t.Context()); err != nil || role != topology.RoleMaster {
		t.Errorf("the master's role is %v now: %v", role, err)
	}
	for _, n := range g.Nodes() {
		mustSet(t, n, "ACL", "SETUSER", "sidecar", "+@all", "~*")
	}
	for _, s := range g.Sentinels() {
		mustSet(t, s, "ACL", "SETUSER", "sidecar", "+@all", "&*")
	}
	_, list = runCheck(t, g, "--auth", "passthrough", "--redis-user", "sidecar", "--redis-password-file", file, "--sentinel-user", "sidecar", "--sentinel-password-file", file, "--fence-demote", "auto")
	wantFindings(t, list)
	if now := stable(t, g); now != master {
		t.Errorf("the master is %s now", now.Addr())
	}
}

func sortedAddrs(nodes []*redistest.Node) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, string(n.Addr()))
	}
	slices.Sort(all)
	return all
}

// Over TLS: what ends soon is told, and a wrong name has its remedy.
func TestCheckTLS(t *testing.T) {
	ca, err := certtest.NewCAUntil(time.Now().Add(60 * 24 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	f := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{Name: "node", NotAfter: time.Now().Add(10 * 24 * time.Hour)}))
	g := redistest.New(t, redistest.Options{DownAfter: calm, TLS: &redistest.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key}})
	stable(t, g)
	on := []string{"--redis-tls", "true", "--redis-tls-ca-file", f.CA, "--sentinel-tls", "true", "--sentinel-tls-ca-file", f.CA}
	code, list := runCheck(t, g, on...)
	soon := 0
	for _, one := range list {
		if one.Check == "tls-expiry" && one.Severity == "warning" && strings.Contains(one.Reason, "in 10 days") {
			soon++
		} else if one.Severity != "info" && one.Check != "file-limit" {
			t.Errorf("%+v", one)
		}
	}
	if code != 0 || soon != len(g.Nodes())+len(g.Sentinels()) {
		t.Errorf("exit code %d, %d certificates end soon; want 0 and all %d", code, soon, len(g.Nodes())+len(g.Sentinels()))
	}
	_, list = runCheck(t, g, append(on, "--admin-tls-cert-file", f.Cert, "--admin-tls-key-file", f.Key)...)
	if !slices.ContainsFunc(list, func(one checkFinding) bool {
		return one.Check == "tls-expiry" && one.Severity == "warning" && one.Subject == f.Cert && one.Master == ""
	}) {
		t.Errorf("no finding about the admin server's certificate: %q", seriousOf(list))
	}
	_, list = runCheck(t, g, append(on, "--redis-tls-server-name", "elsewhere")...)
	if !slices.ContainsFunc(list, func(f checkFinding) bool {
		return f.Check == "master-unreachable" && strings.Contains(f.Reason, "redis.tls.server_name")
	}) {
		t.Errorf("no finding says that the name is wrong: %q", seriousOf(list))
	}
}

// Nobody answers: it says so in time, and every finding has a remedy.
func TestCheckWithoutRedis(t *testing.T) {
	hole, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	var out, errs bytes.Buffer
	args := []string{"check", "--listen", hole.Addr().String(), "--admin", "off", "--master", "m", "--sentinel", hole.Addr().String(), "--sentinel", freeAddr(t)}
	if code := run(t.Context(), args, &out, &errs); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"no master can be found [sentinel-majority]", "[sentinel-unreachable]", "to do: end what listens there", "error    m " + hole.Addr().String(),
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	oneLine(t, errs.String(), "the check found 2 errors")
	out.Reset()
	if code := run(t.Context(), []string{"check", "--master", "m"}, &out, &errs); code != exitUsage {
		t.Errorf("a configuration without Sentinels: exit code %d", code)
	}
}

func TestFindingsTextObeysNobody(t *testing.T) {
	text := findingsText([]doctor.Finding{{Check: "x", Severity: doctor.Error, Subject: "a\x1b[2J", Reason: "b\r\nc", Remedy: "d\u009be"}})
	if strings.ContainsAny(text, "\x1b\r\u009b") {
		t.Errorf("%q", text)
	}
	if !strings.HasSuffix(text, "\n1 error, 0 warnings\n") {
		t.Errorf("%q", text)
	}
}

func TestMayListen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for at, ok := range map[string]bool{filepath.Join(dir, "new"): true, filepath.Join(dir, "none", "new"): false, file: false} {
		if err := mayListen(t.Context(), config.Listen{Network: "unix", Address: at}); (err == nil) != ok {
			t.Errorf("unix:%s: %v; want ok %v", at, err, ok)
		}
	}
	if err := mayListen(t.Context(), config.Listen{Network: "tcp", Address: "192.0.2.1:0"}); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("an address of nobody's: %v", err)
	}
}
