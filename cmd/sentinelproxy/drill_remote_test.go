package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// asProgram is set for the processes of this test binary that are to be the
// program itself: drills that are killed. Dead-men are known by their arguments.
const asProgram = "TEST_AS_SENTINELPROXY"

// remoteArgs are the flags for a drill of a sidecar that runs.
func remoteArgs(g *redistest.Group, s *started, kind string, more ...string) []string {
	args := []string{"drill", kind, "--master", g.Name(), "--listen", s.addr, "--admin", s.admin}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	return append(args, more...)
}

// drillRemote runs a whole drill of a sidecar that runs.
func drillRemote(t *testing.T, g *redistest.Group, s *started, kind string, more ...string) (drill.Report, string, int) {
	t.Helper()
	return drillNow(t, remoteArgs(g, s, kind, more...)...)
}

// drillNow runs a drill as it is told to, and returns what it wrote and its exit code.
func drillNow(t *testing.T, args ...string) (drill.Report, string, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	out := new(buffer)
	code := run(t.Context(), append(args, "--json", file), out, out)
	t.Log("\n" + out.String())
	var r drill.Report
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
	}
	return r, out.String(), code
}

// keysOf returns the number of keys of a node that match.
func keysOf(t *testing.T, g *redistest.Group, pattern string) int {
	t.Helper()
	v, err := stable(t, g).Do(t.Context(), "KEYS", pattern)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := v.([]any)
	return len(keys)
}

// A drill of a sidecar that runs and of its own Redis: it refuses a group that is
// not fit, asks before it begins, fails the master over, and leaves nothing behind.
func TestDrillRemote(t *testing.T) {
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second, Quick: true, Password: "hush", SentinelPassword: "watch"})
	files := make(map[string]string)
	for name, text := range map[string]string{"redis": "hush", "sentinel": "watch"} {
		files[name] = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(files[name], []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	logins := []string{"--auth", "passthrough", "--redis-password-file", files["redis"], "--sentinel-password-file", files["sentinel"]}
	socket := "unix:" + filepath.Join(t.TempDir(), "control")
	s := startRun(t, g, append(logins, "--control", socket)...)
	strain := g.WatchStrain(t)
	// refused fails the test unless a drill ends with this code and says why, however often it
	// has to be asked where somebody is late: then more may be in its way.
	refused := func(t *testing.T, kind string, want int, says []string, more ...string) {
		t.Helper()
		for n := 1; ; n++ {
			stable(t, g)
			began := time.Now()
			_, text, code := drillRemote(t, g, s, kind, more...)
			lacks := slices.DeleteFunc(slices.Clone(says), func(w string) bool { return strings.Contains(text, w) })
			if code == want && len(lacks) == 0 {
				return
			}
			if late := strain.Late(began, time.Now()); late <= disturbed || n == 5 {
				t.Errorf("exit code %d, lacking %q; want %d, somebody %v late", code, lacks, want, late)
				return
			}
		}
	}
	drillRemote := func(t *testing.T, g *redistest.Group, s *started, kind string, more ...string) (drill.Report, string, int) {
		t.Helper()
		return fairly(t, strain, 0, func() (drill.Report, string, int) {
			stable(t, g)
			return drillRemote(t, g, s, kind, more...)
		})
	}
	master := stable(t, g)
	if _, err := master.Do(t.Context(), "SET", "others", "7"); err != nil {
		t.Fatal(err)
	}

	t.Run("no consent", func(t *testing.T) {
		refused(t, "failover", exitUsage, []string{"say --yes", "worst case"}, logins...) // after the plan
	})
	t.Run("guard", func(t *testing.T) {
		master := stable(t, g) // a busy machine may have made it another
		if _, err := master.Do(t.Context(), "CONFIG", "SET", "maxmemory", "2mb", "maxmemory-policy", "noeviction"); err != nil {
			t.Fatal(err)
		}
		for _, n := range otherThan(g, master) {
			if _, err := n.Do(t.Context(), "CONFIG", "SET", "replica-priority", "0"); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, "failover", exitEnvironment, []string{"replica-priority is 0", "everyone's writes would be refused"}, append(logins, "--yes")...)
		for _, n := range g.Nodes() {
			if _, err := n.Do(t.Context(), "CONFIG", "SET", "replica-priority", "100", "maxmemory", "0"); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("failover", func(t *testing.T) {
		awaitPriorities(t, g)
		r, _, code := drillRemote(t, g, s, "failover", append(logins, "--yes", "--slo", "max-pause=any")...)
		if code != exitOK || !r.Passed() || r.Group != g.Name() {
			t.Fatalf("exit code %d, verdict %q of %q", code, r.Verdict, r.Group)
		}
		f := r.Rounds[0].Failovers
		if len(f) != 1 || !f[0].Switched || r.Rounds[0].Columns[0].Acknowledged == 0 {
			t.Fatalf("failovers %+v; want one, under load", f)
		}
		inOrder(t, f[0], "fault", "route_held", "promoted", "route_switched", "switch_master_leader")
	})
	t.Run("switchover", func(t *testing.T) {
		refused(t, "switchover", exitEnvironment, []string{"control.listen"}, append(logins, "--yes")...) // without the control socket
		r, _, code := drillRemote(t, g, s, "switchover", append(logins, "--yes", "--slo", "max-pause=any", "--control", socket)...)
		if code != exitOK || !r.Passed() || !r.Rounds[0].Failovers[0].Switched {
			t.Fatalf("exit code %d, verdict %q", code, r.Verdict)
		}
	})
	t.Run("hang", func(t *testing.T) {
		r, text, code := drillRemote(t, g, s, "hang", append(logins, "--yes", "--slo", "max-pause=any")...)
		if code != exitOK || !r.Passed() || !strings.Contains(text, "on waking") {
			t.Fatalf("exit code %d, verdict %q", code, r.Verdict)
		}
	})
	if n := keysOf(t, g, "drill:*"); n > 0 {
		t.Errorf("%d keys of the drill are left", n)
	}
	if n := keysOf(t, g, "others"); n != 1 {
		t.Errorf("%d keys of others; want the one that was there", n)
	}
}

// awaitPriorities waits until the Sentinels have asked the replicas again.
func awaitPriorities(t *testing.T, g *redistest.Group) {
	t.Helper()
	waitFor(t, "the Sentinels to see the priorities", func() bool {
		for _, s := range g.Sentinels() {
			v, err := s.Do(t.Context(), "SENTINEL", "REPLICAS", g.Name())
			if err != nil || strings.Contains(flat(v), "slave-priority 0 ") {
				return false
			}
		}
		return true
	})
}

// A drill that is killed in the middle of a partition leaves none behind: its
// dead-men heal it, and remove the keys.
func TestDrillKilled(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	g := redistest.New(t, redistest.Options{DownAfter: calm, Quick: true})
	s := startRun(t, g)
	master := stable(t, g)
	dir := t.TempDir()
	cut, healed := filepath.Join(dir, "cut"), filepath.Join(dir, "healed")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	note := `echo "$DRILL_MASTER $DRILL_SIDE" > `
	cmd := exec.CommandContext(ctx, self, remoteArgs(g, s, "partition", "--yes", "--cut-cmd", note+cut, "--heal-cmd", note+healed)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out := new(buffer)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = patience // its dead-men hold its standard error open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { t.Log("\n" + out.String()) }()
	waitFor(t, "the cut", func() bool { return exists(cut) })
	if exists(healed) {
		t.Fatal("it is healed already")
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the dead-man to heal", func() bool { return exists(healed) })
	waitFor(t, "the dead-man to remove the keys", func() bool { return keysOf(t, g, "drill:*") == 0 })
	if err := cmd.Wait(); err == nil {
		t.Error("the drill ended well; want it killed")
	}
	if b, err := os.ReadFile(healed); err != nil || strings.TrimSpace(string(b)) != fmt.Sprint(master.Addr(), " majority") {
		t.Errorf("the heal command was told %q, %v; want the master and the side", b, err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
