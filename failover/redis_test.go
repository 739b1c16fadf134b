package failover_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/sentinelproxy/sentinelproxy/failover"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/sentinel"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// These tests keep the route of real groups.

// control is a Controller and a Follower at work, and all routes they published.
type control struct {
	*failover.Controller

	started time.Duration
	strain  *redistest.Strain

	mu     sync.Mutex
	routes []published
	change chan struct{} // closed and replaced at each route
}

type published struct {
	topology.Route

	at   time.Duration
	wall time.Time
}

func (c *control) publish(r topology.Route) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.routes = append(c.routes, published{r, boottime.Now(), time.Now()})
	close(c.change)
	c.change = make(chan struct{})
}

// wait returns the first route after the index from for which ok holds, and its index.
func (c *control) wait(t *testing.T, what string, from int, ok func(published) bool) (published, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i := from; ; {
		c.mu.Lock()
		for ; i < len(c.routes); i++ {
			if r := c.routes[i]; ok(r) {
				c.mu.Unlock()
				return r, i
			}
		}
		change := c.change
		c.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			t.Fatalf("%s: not seen; the routes were\n%s\nstatus %+v", what, c.story(), c.Status())
		}
	}
}

func (c *control) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.routes)
}

func (c *control) story() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, r := range c.routes {
		fmt.Fprintf(&b, "%8.1fms gen %d %v %s/%d doubt=%v: %s\n", float64(r.at-c.started)/1e6, r.Gen, r.State, r.Master, r.Epoch, r.Doubt, r.Why)
	}
	return b.String()
}

func serving(r published) bool    { return r.State == topology.Serving }
func notServing(r published) bool { return r.State != topology.Serving }

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// start follows g until the test ends.
func start(t *testing.T, g *redistest.Group, o failover.Options) *control {
	t.Helper()
	c := &control{started: boottime.Now(), strain: g.WatchStrain(t), change: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	var f *sentinel.Follower
	o.Group, o.Publish, o.Log = g.Name(), c.publish, log
	o.PollSentinels = func() { f.Poll() }
	o.SetFast = func(on bool) { f.SetFast(on) }
	var err error
	c.Controller, err = failover.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f, err = sentinel.New(sentinel.Options{
		Group: g.Name(), Sentinels: g.SentinelAddrs(), Log: log, OnObservation: c.Observe, OnSign: c.Sign,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var eg errgroup.Group
	eg.Go(func() error { return f.Run(ctx) })
	eg.Go(func() error { return c.Run(ctx) })
	t.Cleanup(func() {
		stop()
		if err := eg.Wait(); err != nil {
			t.Errorf("run: %v", err)
		}
		if t.Failed() {
			t.Logf("routes:\n%s", c.story())
		}
	})
	return c
}

// poller is the test's own view of a group, every 5 ms: when a node other than the
// first master said master, and when a majority of the Sentinels named one.
type poller struct {
	mu                 sync.Mutex
	promoted, majority time.Duration
}

func (p *poller) seen() (promoted, majority time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.promoted, p.majority
}

func poll(t *testing.T, g *redistest.Group, old topology.Addr) *poller {
	t.Helper()
	p := &poller{}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	client := func(a topology.Addr) *redis.Client {
		return redis.NewClient(&redis.Options{
			Addr: string(a), MaxRetries: -1, DialTimeout: time.Second, ReadTimeout: time.Second, PoolSize: 1,
		})
	}
	every := func(c *redis.Client, ask func(*redis.Client)) {
		wg.Go(func() {
			defer func() { _ = c.Close() }()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					ask(c)
				}
			}
		})
	}
	for _, n := range g.Nodes() {
		if n.Addr() == old {
			continue
		}
		every(client(n.DirectAddr()), func(c *redis.Client) {
			v, err := c.Do(ctx, "ROLE").Slice()
			if err == nil && len(v) > 0 && v[0] == "master" {
				p.mu.Lock()
				defer p.mu.Unlock()
				if p.promoted == 0 {
					p.promoted = boottime.Now()
				}
			}
		})
	}
	votes := map[topology.Addr]map[int]bool{}
	for i, a := range g.SentinelAddrs() {
		every(client(a), func(c *redis.Client) {
			v, err := c.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name()).StringSlice()
			if err != nil || len(v) != 2 {
				return
			}
			named := topology.Addr(v[0] + ":" + v[1])
			p.mu.Lock()
			defer p.mu.Unlock()
			if votes[named] == nil {
				votes[named] = map[int]bool{}
			}
			votes[named][i] = true
			if named != old && p.majority == 0 && len(votes[named]) >= 2 {
				p.majority = boottime.Now()
			}
		})
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	return p
}

// disturbed is how late nobody may have been for times to be judged, and leftAlone how late
// nobody may have been for a route to have no reason to leave serving: an answer that is
// late is one that has not come.
const (
	disturbed = 20 * time.Millisecond
	leftAlone = 100 * time.Millisecond
)

// timely reports a mistake in times between from and now, unless somebody ran late then. It
// returns false where there was one that may be the machine's.
func (c *control) timely(t *testing.T, from time.Time, mistake string) bool {
	t.Helper()
	late := c.strain.Late(from, time.Now())
	switch {
	case mistake == "":
		return true
	case late > disturbed:
		t.Logf("not judged, somebody was %v late: %s", late, mistake)
		return false
	}
	t.Error(mistake)
	return true
}

// settled lets d pass and checks that the route went on serving all the while, but for
// when somebody was late. On a starved machine Sentinels may elect once more by
// themselves: that is no mistake of ours.
func (c *control) settled(t *testing.T, from int, d time.Duration, why string) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	served := c.routes[from]
	for i, r := range c.routes[from+1:] {
		if serving(r) {
			served = r
			continue
		}
		again := slices.ContainsFunc(c.routes[from+1+i:], func(n published) bool { return serving(n) && n.Epoch > served.Epoch })
		if again {
			t.Logf("%s: the Sentinels elected again at %v: %q", why, r.at-c.started, r.Why)
			continue
		}
		const answers = 2 * time.Second // for as long old ones count
		if late := c.strain.Late(r.wall.Add(-answers), r.wall); late > leftAlone {
			t.Logf("%s: route left serving at %v, when somebody was %v late: %q", why, r.at-c.started, late, r.Why)
			continue
		}
		t.Errorf("%s: route left serving at %v: %v %q", why, r.at-c.started, r.State, r.Why)
	}
}

// follows checks one failover from the master of first: held before the promotion
// could be seen, doubted until served, served at most 100 ms after the majority. Whether
// times could be judged is its last result.
func (c *control) follows(t *testing.T, p *poller, first published, from int) (published, int, bool) {
	t.Helper()
	began := time.Now()
	hold, _ := c.wait(t, "a hold", from+1, notServing)
	next, i := c.wait(t, "another master", from+1, func(r published) bool { return serving(r) && r.Master != first.Master })
	eventually(t, "the test's poller sees what the controller saw", func() bool {
		promoted, majority := p.seen()
		return promoted != 0 && majority != 0
	})
	promoted, majority := p.seen()
	t.Logf("hold %v before the promotion was seen, serving %v after the majority was seen, pause %v",
		promoted-hold.at, next.at-majority, next.at-hold.at)
	// The poller asks every 5 ms, so it sees the promotion late, never early.
	mistake := ""
	if hold.at > promoted {
		mistake = fmt.Sprintf("held %v after the promotion was seen", hold.at-promoted)
	}
	if late := next.at - majority; late > 100*time.Millisecond {
		mistake += fmt.Sprintf("serving %v after the majority; want at most 100ms", late)
	}
	judged := c.timely(t, began, mistake)
	if next.Epoch <= first.Epoch {
		t.Errorf("epoch %d after %d", next.Epoch, first.Epoch)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	doubted := false
	for _, r := range c.routes[from+1 : i] {
		if serving(r) && r.at >= promoted && judged {
			t.Errorf("served %s after the promotion", r.Master)
		}
		doubted = doubted || r.Doubt
	}
	if !doubted { // who sees all at once has nothing to doubt
		judged = c.timely(t, began, "never doubted") && judged
	}
	return next, i, judged
}

func TestRealPlannedFailover(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, FailoverTimeout: calm})
	c := start(t, g, failover.Options{})
	first, i := c.wait(t, "serving", 0, serving)
	if ok, why := c.Ready(); !ok {
		t.Errorf("not ready: %s", why)
	}
	for n, judged := 1, false; n <= 3 && !judged; n++ {
		p := poll(t, g, first.Master)
		if err := g.FailoverOn(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		first, i, judged = c.follows(t, p, first, i)
		// The replicas are reconfigured, the last Sentinel switches, the old master is
		// converted after about 10 s: none of this is a failover.
		c.settled(t, i, 13*time.Second, "after the failover")
		s := c.Status()
		if len(s.Failovers) != n || !slices.ContainsFunc(s.Failovers, func(f failover.HoldStatus) bool {
			return f.Outcome == "followed" && f.To == first.Master
		}) {
			t.Errorf("failovers %+v", s.Failovers)
		}
		if err := g.WaitStable(t.Context()); err != nil {
			t.Fatal(err)
		}
		i = c.count() - 1
	}
}

func TestRealCrash(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second})
	c := start(t, g, failover.Options{})
	first, i := c.wait(t, "serving", 0, serving)
	p := poll(t, g, first.Master)
	master := node(t, g, first.Master)
	killed := boottime.Now()
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	hold, _ := c.wait(t, "a hold", i+1, notServing)
	t.Logf("held %v after the kill", hold.at-killed)
	if hold.Doubt {
		t.Errorf("a lost master alone is doubted: %+v", hold.Route)
	}
	_, i, _ = c.follows(t, p, first, i)
	if err := master.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.settled(t, i, 12*time.Second, "after the old master's return")
}

func TestRealHang(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second})
	c := start(t, g, failover.Options{})
	first, i := c.wait(t, "serving", 0, serving)
	p := poll(t, g, first.Master)
	master := node(t, g, first.Master)
	if err := master.Pause(); err != nil {
		t.Fatal(err)
	}
	_, i, _ = c.follows(t, p, first, i)
	if err := master.Resume(); err != nil {
		t.Fatal(err)
	}
	c.settled(t, i, 12*time.Second, "after the old master woke")
}

func TestRealSentinelsGone(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: 3 * time.Second, Password: "secret-of-the-test"})
	state := filepath.Join(t.TempDir(), "state.json")
	o := failover.Options{Password: "secret-of-the-test", StateFile: state}
	c := start(t, g, o)
	first, _ := c.wait(t, "serving", 0, serving)
	for _, n := range g.Nodes() {
		if n.Addr() != first.Master {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	// Once a majority calls it down, its word is not needed for the lease any more.
	eventually(t, "one replica is called down", func() bool {
		return slices.ContainsFunc(c.Status().Sentinel.Replicas, func(r failover.ReplicaStatus) bool { return !r.Up })
	})
	eventually(t, "the suspicion is over", func() bool { ok, _ := c.Ready(); return ok })
	i := c.count() - 1
	for _, n := range g.Sentinels() {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	c.settled(t, i, 4*time.Second, "without Sentinels")
	if d := strings.Join(c.Status().Degraded, "; "); !strings.Contains(d, "no Sentinel answers") {
		t.Errorf("degraded %q; want that no Sentinel answers", d)
	}

	// A second sidecar starts now, from the state file.
	again := start(t, g, o)
	second, _ := again.wait(t, "serving from the state file", 0, serving)
	if second.Master != first.Master || second.Epoch != first.Epoch {
		t.Errorf("from the state file: %s/%d; want %s/%d", second.Master, second.Epoch, first.Master, first.Epoch)
	}
}

func TestRealAccountWithoutRole(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{
		DownAfter: calm, Replicas: 1, RedisConfig: []string{"user sidecar on >weak ~* &* +ping +hello +auth"},
	})
	c := start(t, g, failover.Options{Username: "sidecar", Password: "weak"})
	c.wait(t, "serving", 0, serving)
	if d := strings.Join(c.Status().Degraded, "; "); !strings.Contains(d, "may not call ROLE") {
		t.Errorf("degraded %q; want that our account may not call ROLE", d)
	}
	for _, n := range c.Status().Nodes {
		if n.Role == topology.RoleUnknown.String() {
			t.Errorf("role of %s unknown though HELLO tells it: %s", n.Addr, n.Err)
		}
	}
}

func node(t *testing.T, g *redistest.Group, a topology.Addr) *redistest.Node {
	t.Helper()
	for _, n := range g.Nodes() {
		if n.Addr() == a {
			return n
		}
	}
	t.Fatalf("no node %s", a)
	return nil
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, 2*time.Minute, what, ok)
}

// within polls until ok holds, for as long as limit.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}
