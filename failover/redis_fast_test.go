package failover_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// These tests follow real failovers fast, and demote real masters.

// calm is a down-after that no busy machine mistakes for a dead master, for failovers
// that do not wait for it.
const calm = 10 * time.Second

func fast() failover.Options {
	return failover.Options{Policy: route.Policy{Follow: route.FollowFast}}
}

// leaps checks one failover that is followed fast: held before the promotion could be
// seen, and served before a majority names the new master. It returns how long after
// the promotion was seen that was.
func (c *control) leaps(t *testing.T, p *poller, first published, from int) (published, int, time.Duration) {
	t.Helper()
	began := time.Now()
	hold, _ := c.wait(t, "a hold", from+1, notServing)
	next, i := c.wait(t, "another master", from+1, func(r published) bool { return serving(r) && r.Master != first.Master })
	eventually(t, "the majority", func() bool { _, m := p.seen(); return m > 0 })
	promoted, majority := p.seen()
	t.Logf("hold %v before the promotion was seen, serving %v after it and %v before the majority",
		promoted-hold.at, next.at-promoted, majority-next.at)
	mistake := ""
	if hold.at > promoted {
		mistake = fmt.Sprintf("held %v after the promotion was seen", hold.at-promoted)
	}
	if next.at > majority {
		mistake += fmt.Sprintf("serving %v after the majority; want before it", next.at-majority)
	}
	c.timely(t, began, mistake)
	if next.Epoch <= first.Epoch {
		t.Errorf("epoch %d after %d", next.Epoch, first.Epoch)
	}
	return next, i, next.at - promoted
}

// isReplica reports whether n says that it is one.
func isReplica(t *testing.T, n *redistest.Node) bool {
	t.Helper()
	role, err := n.Role(t.Context())
	return err == nil && role == topology.RoleReplica
}

func TestRealFastPlanned(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, FailoverTimeout: calm})
	c := start(t, g, fast())
	first, i := c.wait(t, "serving", 0, serving)
	var after []time.Duration
	for range 3 {
		p := poll(t, g, first.Master)
		if err := g.FailoverOn(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		next, j, late := c.leaps(t, p, first, i)
		after = append(after, late)
		if !isReplica(t, node(t, g, first.Master)) {
			t.Errorf("%s is no replica, though another is served", first.Master)
		}
		// The majority, the last Sentinel's +switch-master and the reconfigured replica
		// are no failover.
		c.settled(t, j, 4*time.Second, "after the failover")
		if s := c.Status(); s.Ahead || s.Follow != "fast" || s.Epoch != s.Sentinel.Epoch {
			t.Errorf("ahead %v, follow %s, epoch %d; want the majority's word by now", s.Ahead, s.Follow, s.Epoch)
		}
		if err := g.WaitStable(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, i = next, c.count()-1
	}
	slices.Sort(after)
	t.Logf("served after the promotion was seen: median %v of %v", after[len(after)/2], after)
}

func TestRealFastCrash(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second})
	c := start(t, g, fast())
	first, i := c.wait(t, "serving", 0, serving)
	p := poll(t, g, first.Master)
	master := node(t, g, first.Master)
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	next, j, _ := c.leaps(t, p, first, i)
	eventually(t, "the majority is known", func() bool { return !c.Status().Ahead })
	if err := master.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.settled(t, j, 12*time.Second, "after the old master's return")
	if s := c.Status(); s.Master != next.Master {
		t.Errorf("master %s; want still %s", s.Master, next.Master)
	}
}

// TestRealFastHang checks that a hung master is not taken for a dead one, and that
// fence.demote makes it a replica once it wakes.
func TestRealFastHang(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second})
	o := fast()
	o.Policy.Demote = route.DemoteAuto
	c := start(t, g, o)
	first, i := c.wait(t, "serving", 0, serving)
	p := poll(t, g, first.Master)
	master := node(t, g, first.Master)
	began := time.Now()
	if err := master.Pause(); err != nil {
		t.Fatal(err)
	}
	next, i, _ := c.follows(t, p, first, i)
	// The poller may see it a few of its 5 ms periods later than the controller.
	if _, majority := p.seen(); majority-next.at > 100*time.Millisecond {
		c.timely(t, began, fmt.Sprintf("served %v before a majority named the master", majority-next.at))
	}
	if err := master.Resume(); err != nil {
		t.Fatal(err)
	}
	woke := boottime.Now()
	eventually(t, "the old master is a replica", func() bool { return isReplica(t, master) })
	t.Logf("a replica %v after it woke; Sentinel alone takes about 10s", boottime.Now()-woke)
	c.settled(t, i, 3*time.Second, "after the old master woke")
	if s := c.Status(); s.Master != next.Master {
		t.Errorf("master %s; want still %s", s.Master, next.Master)
	}
}

func TestRealDemoteAuto(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, FailoverTimeout: calm})
	c := start(t, g, failover.Options{Policy: route.Policy{Demote: route.DemoteAuto}})
	first, i := c.wait(t, "serving", 0, serving)
	p := poll(t, g, first.Master)
	if err := g.FailoverOn(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	next, i, _ := c.follows(t, p, first, i)
	eventually(t, "the old master is a replica", func() bool { return isReplica(t, node(t, g, first.Master)) })
	late := boottime.Now() - next.at
	t.Logf("the old master is a replica %v after the switch", late)
	if late > 7*time.Second { // Sentinel takes about ten
		t.Errorf("a replica only %v after the switch: Sentinel did it", late)
	}
	c.settled(t, i, 12*time.Second, "after the demotion")
}

// TestRealFastLeaderDies has the leading Sentinel crash right after the promotion: the
// others never hear of it. The promoted node is served all the same, until they
// elect again.
func TestRealFastLeaderDies(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second})
	c := start(t, g, fast())
	first, i := c.wait(t, "serving", 0, serving)
	if _, err := g.Sentinels()[0].Do(t.Context(), "SENTINEL", "SIMULATE-FAILURE", "crash-after-promotion"); err != nil {
		t.Fatal(err)
	}
	if err := g.FailoverOn(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	promoted, i := c.wait(t, "the promoted node", i+1, func(r published) bool { return serving(r) && r.Master != first.Master })
	if !c.Status().Ahead {
		t.Error("not ahead of the majority")
	}
	c.settled(t, i, 5*time.Second, "ahead of the others")
	if testing.Short() {
		return
	}
	// It stays until the others call a master that reports as a replica down, after
	// down-after and 20 s, and fail over again.
	within(t, 3*time.Minute, "a majority names the master that is served", func() bool {
		s := c.Status()
		return s.State == "serving" && !s.Ahead && s.Master == s.Sentinel.Master && s.Epoch == s.Sentinel.Epoch
	})
	lasted := boottime.Now() - promoted.at
	t.Logf("ahead of the others for %v", lasted)
	if lasted < 15*time.Second {
		t.Errorf("the promoted node was given up after %v", lasted)
	}
}

// TestRealFastOldMasterReturns has the leader die after the promotion that follows a
// crash, and the old master come back while the other Sentinels still name it.
func TestRealFastOldMasterReturns(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second})
	c := start(t, g, fast())
	first, i := c.wait(t, "serving", 0, serving)
	for _, s := range g.Sentinels() {
		if _, err := s.Do(t.Context(), "SENTINEL", "SIMULATE-FAILURE", "crash-after-promotion"); err != nil {
			t.Fatal(err)
		}
	}
	master := node(t, g, first.Master)
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	promoted, i := c.wait(t, "the promoted node", i+1, func(r published) bool { return serving(r) && r.Master != first.Master })
	if err := master.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old master is a replica", func() bool { return isReplica(t, master) })
	eventually(t, "serving again", func() bool { return c.Status().State == "serving" })
	c.settled(t, c.count()-1, 5*time.Second, "after the old master was demoted")
	for _, r := range c.since(i) {
		if serving(r) && r.Master != promoted.Master {
			t.Errorf("%s was served after %s", r.Master, promoted.Master)
		}
	}
}

// TestRealFastStaleSentinel has one Sentinel sleep through a failover and wake with
// its old word.
func TestRealFastStaleSentinel(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, FailoverTimeout: calm})
	c := start(t, g, fast())
	first, i := c.wait(t, "serving", 0, serving)
	stale := g.Sentinels()[2]
	if err := stale.Pause(); err != nil {
		t.Fatal(err)
	}
	p := poll(t, g, first.Master)
	if err := g.FailoverOn(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	next, i, _ := c.leaps(t, p, first, i)
	if err := stale.Resume(); err != nil {
		t.Fatal(err)
	}
	c.settled(t, i, 8*time.Second, "after the stale Sentinel woke")
	if s := c.Status(); s.Master != next.Master {
		t.Errorf("master %s; want still %s", s.Master, next.Master)
	}
}

// since returns the routes from the index on.
func (c *control) since(i int) []published {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.routes[i:])
}
