package sentineltest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// names are the events without their payloads.
func names(events []string) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i], _, _ = strings.Cut(e, " ")
	}
	return list
}

func TestFailoverLeadersEvents(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	r := record(t, g.SentinelAddrs()[0])
	to := g.NodeAddrs()[2]
	if err := g.Failover(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"+new-epoch", "+try-failover", "+vote-for-leader", "+elected-leader", "+failover-state-select-slave", "+selected-slave",
		"+failover-state-send-slaveof-noone", "+failover-state-wait-promotion", "-role-change", "+promoted-slave",
		"+failover-state-reconf-slaves", "+slave-reconf-sent", "+slave-reconf-inprog", "+slave-reconf-done", "+failover-end",
		"+switch-master", "+slave", "+slave", "-role-change",
	}
	if got := names(r.until("-role-change", 2)); !slices.Equal(got, want) {
		t.Errorf("events\n got %q\nwant %q", got, want)
	}
	if g.MasterAddr() != to || g.Epoch() != 1 {
		t.Errorf("master %v at epoch %d; want %v at 1", g.MasterAddr(), g.Epoch(), to)
	}
	for _, n := range g.Nodes() {
		want := topology.RoleReplica
		if n.Addr() == to {
			want = topology.RoleMaster
		}
		if n.Role() != want {
			t.Errorf("%v is %v after the failover; want %v", n.Addr(), n.Role(), want)
		}
	}
}

// TestLeaderListsOldAddress holds the failover between the leader's
// +promoted-slave and its +switch-master.
func TestLeaderListsOldAddress(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.LeaderSwitchAfter = time.Hour
	g := sentineltest.New(t, o)
	old, to := g.NodeAddrs()[0], g.NodeAddrs()[1]
	leader, other := dial(t, g.SentinelAddrs()[0]), dial(t, g.SentinelAddrs()[1])
	leader.want("+OK", "SENTINEL", "FAILOVER", g.Name())
	leader.want("-INPROG Failover already in progress", "SENTINEL", "FAILOVER", g.Name())
	waitFor(t, "the others to switch", func() bool { a, _ := g.Sentinel(1).Master(); return a == to })

	host, port := to.Split()
	leader.want("*["+host+" "+itoa(port)+"]", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name())
	_, oldPort := old.Split()
	m := leader.do("SENTINEL", "MASTER", g.Name())
	if m.get("port") != itoa(oldPort) || m.get("config-epoch") != "1" || m.get("failover-state") != "reconf_slaves" ||
		m.get("flags") != "master,failover_in_progress,force_failover" {
		t.Errorf("leader's SENTINEL MASTER: %v; want the old port %d with config-epoch 1", m, oldPort)
	}
	m = other.do("SENTINEL", "MASTER", g.Name())
	if m.get("port") != itoa(port) || m.get("config-epoch") != "1" || m.get("flags") != "master" {
		t.Errorf("another's SENTINEL MASTER: %v; want port %d with config-epoch 1", m, port)
	}
}

func TestOldMasterLosesWrites(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.LeaderSwitchAfter = 5 * time.Second // room for the writes below, on a busy machine too
	g := sentineltest.New(t, o)
	old, to := g.Nodes()[0], g.Nodes()[1]
	w := dial(t, old.Addr())
	idle := dial(t, to.Addr())
	w.want("+OK", "SET", "before", "1")
	done := make(chan error, 1)
	go func() { done <- g.Failover(t.Context(), to.Addr()) }()

	idle.wantClosed() // the candidate closes its clients at the promotion
	if got := dial(t, to.Addr()).do("ROLE").elems[0].text; got != "master" {
		t.Errorf("the candidate says role %q after closing its clients; want master", got)
	}
	w.want("+OK", "SET", "after", "1")
	if got := w.do("ROLE").elems[0].text; got != "master" {
		t.Errorf("the old master says role %q; want master", got)
	}
	w.wantClosed() // demoted
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes() {
		_, before := n.Get("before")
		_, after := n.Get("after")
		if !before || after {
			t.Errorf("%v has before=%t after=%t; want true, false", n.Addr(), before, after)
		}
	}
	dial(t, old.Addr()).want("-READONLY You can't write against a read only replica.", "SET", "k", "v")
}

func TestKilledMasterIsReplaced(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.DemoteAfter = 5 * time.Second // room to ask the stale master, on a busy machine too
	g := sentineltest.New(t, o)
	old := g.MasterAddr()
	r := record(t, g.SentinelAddrs()[0])
	c := dial(t, old)
	c.want("+OK", "SET", "k", "v")
	g.Kill(old)
	c.wantClosed()
	events := names(r.until("+switch-master", 1))
	want := []string{"+sdown", "+odown", "+new-epoch", "+try-failover", "+vote-for-leader", "+elected-leader"}
	if len(events) < len(want) || !slices.Equal(events[:len(want)], want) {
		t.Errorf("events begin with %q; want %q", events, want)
	}
	to := g.MasterAddr()
	if to == old {
		t.Fatalf("master still %v", old)
	}
	dial(t, to).want("v", "GET", "k")

	if err := g.Restart(old); err != nil {
		t.Fatal(err)
	}
	stale := dial(t, old) // a master again, until the Sentinels see it
	if got := stale.do("ROLE").elems[0].text; got != "master" {
		t.Errorf("restarted old master says role %q; want master", got)
	}
	stale.wantClosed()
	waitFor(t, "the old master's demotion", func() bool { return g.Node(old).Role() == topology.RoleReplica })
}

func TestPartitionKeepsOldTruth(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	old := g.MasterAddr()
	g.Partition(2)
	if err := g.Failover(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if a, e := g.Sentinel(2).Master(); a != old || e != 0 {
		t.Errorf("cut-off Sentinel names %v at %d; want %v at 0", a, e, old)
	}
	c := dial(t, g.SentinelAddrs()[0])
	waitFor(t, "the loss of a Sentinel", func() bool {
		return strings.HasPrefix(c.do("SENTINEL", "CKQUORUM", g.Name()).text, "OK 2 usable")
	})
	r := record(t, g.SentinelAddrs()[2])
	g.Heal()
	events := names(r.until("+switch-master", 1))
	if !slices.Contains(events, "+config-update-from") {
		t.Errorf("healing sends %q; want +config-update-from among them", events)
	}
	if a, e := g.Sentinel(2).Master(); a != g.MasterAddr() || e != 1 {
		t.Errorf("healed Sentinel names %v at %d; want %v at 1", a, e, g.MasterAddr())
	}
}

func TestMinorityCannotElect(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.Quorum = 1
	g := sentineltest.New(t, o)
	g.Sentinel(1).Stop()
	g.Sentinel(2).Stop()
	r := record(t, g.SentinelAddrs()[0])
	old := g.MasterAddr()
	g.Kill(old)
	r.until("-failover-abort-not-elected", 1)
	if g.MasterAddr() != old {
		t.Errorf("master %v without a majority; want %v", g.MasterAddr(), old)
	}
	if err := g.Sentinel(1).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.Kill(g.NodeAddrs()[1]) // the first choice: the second must do
	waitFor(t, "a failover by two Sentinels", func() bool { return g.MasterAddr() == g.NodeAddrs()[2] })
}

func TestNoReplicaToPromote(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.Replicas = -1
	g := sentineltest.New(t, o)
	if err := g.Failover(t.Context(), ""); !errors.Is(err, sentineltest.ErrNoReplica) {
		t.Errorf("Failover: %v; want ErrNoReplica", err)
	}
	dial(t, g.SentinelAddrs()[0]).want("-NOGOODSLAVE No suitable replica to promote", "SENTINEL", "FAILOVER", g.Name())
}

// TestLeaderDiesAfterPromotion is the case that loses every write of who
// follows ROLE alone: the others never hear of the promotion, and revert it.
func TestLeaderDiesAfterPromotion(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.ConfirmAfter = 5 * time.Second // room to stop the leader, on a busy machine too
	g := sentineltest.New(t, o)
	old, to := g.Nodes()[0], g.Nodes()[1]
	done := make(chan error, 1)
	go func() { done <- g.Failover(t.Context(), to.Addr()) }()
	waitFor(t, "the promotion", func() bool { return to.Role() == topology.RoleMaster })
	g.Sentinel(0).Stop()
	if err := <-done; !errors.Is(err, sentineltest.ErrAborted) {
		t.Errorf("Failover: %v; want ErrAborted", err)
	}
	if old.Role() != topology.RoleMaster || to.Role() != topology.RoleReplica || to.Master() != old.Addr() {
		t.Errorf("old is %v, promoted is %v of %v; want the promotion undone", old.Role(), to.Role(), to.Master())
	}
}

func TestSetMasterSendsNothing(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	r := record(t, g.SentinelAddrs()[0])
	g.SetMaster("192.0.2.1:6379", 7)
	c := dial(t, g.SentinelAddrs()[0])
	c.want("*[192.0.2.1 6379]", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name())
	g.SetMaster(g.NodeAddrs()[1], 8)
	if n := g.Nodes()[1]; n.Role() != topology.RoleMaster || g.Epoch() != 8 || g.Nodes()[0].Master() != n.Addr() {
		t.Errorf("%v is %v at epoch %d; want master at 8, with replicas", n.Addr(), n.Role(), g.Epoch())
	}
	if n := g.Sentinel(0).Publish("+marker", "x"); n != 1 {
		t.Errorf("Publish reached %d; want 1", n)
	}
	if got := r.until("+marker", 1); len(got) != 1 {
		t.Errorf("events %q; want the marker alone", got)
	}
}

func TestSentinelFaults(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	s := g.Sentinel(0)
	c := dial(t, s.Addr())
	s.Fail("sentinel master", "NOPERM not you")
	c.want("-NOPERM not you", "SENTINEL", "MASTER", g.Name())
	c.want("+PONG", "PING")
	s.Stall("PING")
	c.send("PING")
	c.send("PING", "later")
	waitFor(t, "the call to arrive", func() bool { return s.Calls("ping") == 2 })
	s.Clear()
	if got := c.read().String() + " " + c.read().String(); got != "+PONG later" {
		t.Errorf("after Clear: %q; want the stalled answers", got)
	}
	if got := s.Calls("SENTINEL MASTER"); got != 1 {
		t.Errorf("Calls(SENTINEL MASTER) = %d; want 1", got)
	}
	s.Drop()
	c.wantClosed()
	addr := s.Addr()
	s.Stop()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != addr {
		t.Errorf("restarted at %v; want %v", s.Addr(), addr)
	}
	dial(t, addr).want("+PONG", "PING")
}

func TestSentinelPassword(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.SentinelUsername, o.SentinelPassword = "watcher", "pw"
	g := sentineltest.New(t, o)
	c := dial(t, g.SentinelAddrs()[0])
	c.want("-NOAUTH Authentication required.", "PING")
	c.want("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "watcher", "no")
	c.want("+OK", "AUTH", "watcher", "pw")
	c.want("+PONG", "PING")
}

func TestOptionsReportEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := sentineltest.Start(t.Context(), sentineltest.Options{Replicas: -2, Quorum: 9, DownAfter: -1})
	for _, want := range []string{"Replicas", "Quorum", "DownAfter"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start: %v; want %s named", err, want)
		}
	}
}
