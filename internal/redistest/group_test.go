package redistest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/faultnet"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is New with a log that goes to the test's output.
func start(t *testing.T, o Options) *Group {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	return New(t, o)
}

// calm has a group fail over when it is told to, and not because a busy machine has kept a
// node from answering.
func calm(o Options) Options {
	o.DownAfter, o.FailoverTimeout = 10*time.Second, 10*time.Second
	return o
}

func mustDo(t *testing.T, n *Node, args ...any) any {
	t.Helper()
	reply, err := n.Do(t.Context(), args...)
	if err != nil {
		t.Fatalf("%s: %v: %v", n.Name(), args, err)
	}
	return reply
}

func mustMaster(t *testing.T, g *Group) *Node {
	t.Helper()
	m, err := g.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustBeStable(t *testing.T, g *Group) {
	t.Helper()
	if err := g.WaitStable(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustRole(t *testing.T, n *Node, want topology.Role) {
	t.Helper()
	got, err := n.Role(t.Context())
	if err != nil || got != want {
		t.Fatalf("role of %s: %v, %v; want %v", n.Name(), got, err, want)
	}
}

// failOver makes the group fail over and checks that another node is master.
func failOver(t *testing.T, g *Group) {
	t.Helper()
	before := mustMaster(t, g)
	must(t, g.Failover(t.Context()))
	mustBeStable(t, g)
	after := mustMaster(t, g)
	if after == before {
		t.Fatalf("%s still is the master after a failover", before.Name())
	}
	mustRole(t, after, topology.RoleMaster)
	mustRole(t, before, topology.RoleReplica)
}

func TestGroup(t *testing.T) {
	t.Parallel()
	g := start(t, calm(Options{Name: "orders"}))
	if len(g.Nodes()) != 3 || len(g.Sentinels()) != 3 || len(g.SentinelAddrs()) != 3 {
		t.Fatalf("%d nodes, %d sentinels, %d addresses; want 3 of each",
			len(g.Nodes()), len(g.Sentinels()), len(g.SentinelAddrs()))
	}
	if m := mustMaster(t, g); m != g.Nodes()[0] || g.Name() != "orders" {
		t.Errorf("master of %s is %s; want node-0 of orders", g.Name(), m.Name())
	}
	mustBeStable(t, g)

	// After the start the Sentinels run with Redis' own periods.
	for _, s := range g.Sentinels() {
		got := pairs(mustDo(t, s, "SENTINEL", "DEBUG"))
		for period, want := range map[string]string{
			"INFO-PERIOD": "10000", "PUBLISH-PERIOD": "2000", "ASK-PERIOD": "1000", "PING-PERIOD": "1000",
		} {
			if got[period] != want {
				t.Errorf("%s: %s is %s ms; want %s", s.Name(), period, got[period], want)
			}
		}
	}

	// DEBUG is allowed, and Do tells nulls from errors.
	mustDo(t, g.Nodes()[0], "DEBUG", "SLEEP", "0")
	if reply := mustDo(t, g.Nodes()[0], "GET", "nothing"); reply != nil {
		t.Errorf("GET of a missing key: %v; want nil", reply)
	}
	if _, err := g.Nodes()[0].Do(t.Context(), "NOSUCH"); !isReply(err) {
		t.Errorf("unknown command: %v; want an error reply", err)
	}

	failOver(t, g)
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	g := start(t, Options{Quick: true})
	old := mustMaster(t, g)
	pid := old.Pid()
	must(t, old.Kill())
	must(t, old.Kill())
	if old.Alive() {
		t.Error("alive after Kill")
	}
	if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
		t.Errorf("process %d still is there after Kill", pid)
	}
	if _, err := old.Do(t.Context(), "PING"); err == nil {
		t.Error("a killed node answers")
	}
	mustBeStable(t, g) // not before another is master
	if m := mustMaster(t, g); m == old {
		t.Errorf("%s, dead, still is the master", m.Name())
	}
	must(t, old.Restart(t.Context()))
	if old.Pid() == pid || !old.Alive() {
		t.Errorf("pid %d, alive %v after Restart; want a new process", old.Pid(), old.Alive())
	}
	if err := old.Restart(t.Context()); err == nil {
		t.Error("Restart of a running node succeeded")
	}
	mustBeStable(t, g)
	mustRole(t, old, topology.RoleReplica)
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	g := start(t, Options{Quick: true})
	s := g.Sentinels()[0]
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.ask(ctx, "PING"); err == nil {
		t.Error("a paused Sentinel answers")
	}
	if err := s.Terminate(); err == nil {
		t.Error("Terminate of a paused node succeeded")
	}
	failOver(t, g) // by the next Sentinel
	must(t, s.Resume())
	mustBeStable(t, g) // it has learned of the new master
	must(t, s.acting(t.Context()))

	old := mustMaster(t, g)
	must(t, old.Pause())
	mustBeStable(t, g)
	if m := mustMaster(t, g); m == old {
		t.Errorf("%s, paused, still is the master", m.Name())
	}
	must(t, old.Resume())
	mustBeStable(t, g)
	mustRole(t, old, topology.RoleReplica)
}

func TestSentinelsRestart(t *testing.T) {
	t.Parallel()
	g := start(t, calm(Options{Quick: true}))
	failOver(t, g)
	want := mustMaster(t, g)
	for _, s := range g.Sentinels() {
		must(t, s.Terminate())
		must(t, s.Terminate())
	}
	if m, err := g.Master(t.Context()); err == nil {
		t.Errorf("master %s without Sentinels; want an error", m.Name())
	}
	if err := g.Failover(t.Context()); err == nil {
		t.Error("failover without Sentinels succeeded")
	}
	for _, s := range g.Sentinels() {
		must(t, s.Restart(t.Context()))
	}
	mustBeStable(t, g)
	if m := mustMaster(t, g); m != want { // Sentinel rewrote its configuration
		t.Errorf("master is %s after the restart; want %s", m.Name(), want.Name())
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	g := start(t, calm(Options{Quick: true, Password: `data "secret" \ #1`, SentinelPassword: "sentinel secret"}))
	for _, n := range append(g.Nodes(), g.Sentinels()...) {
		locked := withoutPassword(n)
		if _, err := locked.Do(t.Context(), "PING"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
			t.Errorf("%s without a password: %v; want NOAUTH", n.Name(), err)
		}
		mustDo(t, n, "PING")
	}
	failOver(t, g)
	failOver(t, g) // at once: asked again while no replica is known to be fit
}

// A Sentinel that has not seen that a node was demoted would undo its next promotion.
func TestStableForSentinelsToo(t *testing.T) {
	t.Parallel()
	g := start(t, calm(Options{Replicas: 1}))
	old := mustMaster(t, g)
	must(t, g.Failover(t.Context()))
	mistaken := func() (n int) {
		for _, s := range g.Sentinels() {
			for _, row := range rows(mustDo(t, s, "SENTINEL", "REPLICAS", g.Name())) {
				if addrOf(row) == old.Addr() && row["role-reported"] == "master" {
					n++
				}
			}
		}
		return n
	}
	waitFor(t, "every Sentinel to see the old master as one", func() error {
		if n := mistaken(); n < len(g.Sentinels()) {
			return fmt.Errorf("%d do", n)
		}
		return nil
	})
	host, port := mustMaster(t, g).Addr().Split()
	mustDo(t, old, "REPLICAOF", host, port)
	mustBeStable(t, g)
	if n := mistaken(); n > 0 {
		t.Errorf("%d Sentinels take %s for a master in a stable group", n, old.Name())
	}
	if got := pairs(mustDo(t, g.Sentinels()[0], "SENTINEL", "DEBUG"))["INFO-PERIOD"]; got != "10000" {
		t.Errorf("INFO-PERIOD is left at %s", got)
	}
	failOver(t, g)
}

// withoutPassword returns a node at n's address that doesn't log in.
func withoutPassword(n *Node) *Node { return &Node{name: n.name, direct: n.direct} }

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"::1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Skipf("this machine has no %s: %v", host, err)
			}
			must(t, l.Close())
			g := start(t, calm(Options{Quick: true, Host: host, Replicas: 1}))
			for _, n := range g.Nodes() {
				if got, _ := n.Addr().Split(); got != host {
					t.Errorf("%s is at host %q; want %q", n.Name(), got, host)
				}
			}
			failOver(t, g)
		})
	}
}

func TestPartition(t *testing.T) {
	t.Parallel()
	g := start(t, Options{Quick: true, Relays: true})
	for _, n := range g.Nodes() {
		if n.Relay() == nil || n.Addr() == n.DirectAddr() {
			t.Fatalf("%s: addresses %s and %s; want a relay's and its own", n.Name(), n.Addr(), n.DirectAddr())
		}
	}
	old := mustMaster(t, g)
	old.Relay().Stall(faultnet.Both)
	waitFor(t, "another master", func() error {
		if m, err := g.Master(t.Context()); err != nil || m == old {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	mustRole(t, old, topology.RoleMaster) // split brain: nobody can tell it
	old.Relay().Heal()
	mustBeStable(t, g)
	mustRole(t, old, topology.RoleReplica)

	victim := mustMaster(t, g)
	must(t, victim.Kill())
	waitFor(t, "no connection to a dead node", func() error {
		if n := victim.Relay().Connections(); n != 0 {
			return fmt.Errorf("%d connections left", n)
		}
		return nil
	})
	must(t, victim.Restart(t.Context()))
	mustBeStable(t, g)
}

func waitFor(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSingle(t *testing.T) {
	t.Parallel()
	n := Single(t, Options{RedisConfig: []string{"maxmemory-policy allkeys-lru"}, Password: "secret"})
	mustRole(t, n, topology.RoleMaster)
	want := []any{"maxmemory-policy", "allkeys-lru"}
	if got, _ := mustDo(t, n, "CONFIG", "GET", "maxmemory-policy").([]any); len(got) != 2 || got[1] != want[1] {
		t.Errorf("CONFIG GET: %v; want %v", got, want)
	}
	mustDo(t, n, "SET", "k", "v")
	must(t, n.Terminate())
	must(t, n.Restart(t.Context()))
	if got := mustDo(t, n, "GET", "k"); got != nil {
		t.Errorf("GET after a restart: %v; want nil, for nothing is saved", got)
	}
}

func TestGroupWithoutSentinels(t *testing.T) {
	t.Parallel()
	g := start(t, Options{Sentinels: None, Replicas: 1})
	mustBeStable(t, g)
	if m := mustMaster(t, g); m != g.Nodes()[0] {
		t.Errorf("master is %s; want node-0", m.Name())
	}
}
