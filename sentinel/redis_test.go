package sentinel

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// These tests follow real Sentinels.

// calm is a down-after that no busy machine mistakes for a dead node.
const calm = 10 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func followReal(t *testing.T, g *redistest.Group, o Options) (*Follower, *recorder) {
	t.Helper()
	o.Group = g.Name()
	if o.Sentinels == nil {
		o.Sentinels = g.SentinelAddrs()
	}
	return follow(t, o)
}

// waitMaster waits until a majority names a master for which ok holds.
func (r *recorder) waitMaster(tb testing.TB, what string, ok func(topology.Observation) bool) topology.Observation {
	tb.Helper()
	var o topology.Observation
	r.wait(tb, what, func(r *recorder) bool { o = r.last; return o.Agreed && ok(o) })
	return o
}

func any3(o topology.Observation) bool { return o.Support == 3 && len(o.Replicas) == 2 }

func TestRealFailover(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, FailoverTimeout: calm})
	f, r := followReal(t, g, Options{Sentinels: g.SentinelAddrs()[:1]}) // the others are discovered
	before := r.waitMaster(t, "all three agree", any3)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	if before.DownAfter != calm || before.RoleReported != topology.RoleMaster || before.Known != 3 {
		t.Errorf("before: %s down-after %v role %v", brief(before), before.DownAfter, before.RoleReported)
	}
	f.SetFast(true)
	if err := g.FailoverOn(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	after := r.waitMaster(t, "a majority names another master", func(o topology.Observation) bool { return o.Master != before.Master })
	at := time.Now()
	r.wait(t, "the leader's +switch-master", func(r *recorder) bool {
		return slices.ContainsFunc(r.signs, func(s topology.Sign) bool {
			return s.Event == "+switch-master" && s.Sentinel == g.SentinelAddrs()[1]
		})
	})
	t.Logf("majority %v before the leader's +switch-master", time.Since(at).Round(time.Millisecond))
	if after.Epoch <= before.Epoch {
		t.Errorf("epoch %d after %d", after.Epoch, before.Epoch)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// The signs came in order, and before a majority named the new master.
	last := time.Duration(0)
	for _, kind := range []topology.SignKind{topology.SignSelected, topology.SignPromoting, topology.SignPromoted} {
		i := slices.IndexFunc(r.signs, func(s topology.Sign) bool { return s.Kind == kind })
		if i < 0 {
			t.Fatalf("no sign %s among %+v", kind, r.signs)
		}
		s := r.signs[i]
		if s.Candidate != after.Master || s.Old != before.Master || s.At < last {
			t.Errorf("sign %+v; want %s replacing %s, not before %v", s, after.Master, before.Master, last)
		}
		last = s.At
	}
	for i, o := range r.history {
		if o.Agreed && o.Master != before.Master && o.Master != after.Master {
			t.Errorf("observation %d agreed on %s", i, o.Master)
		}
		if o.Agreed && o.Master == after.Master && o.Epoch != after.Epoch {
			t.Errorf("observation %d pairs %s with epoch %d; want %d", i, o.Master, o.Epoch, after.Epoch)
		}
	}
}

func TestRealSentinelHungAndKilled(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm})
	strain, began := g.WatchStrain(t), time.Now()
	var book logBook
	_, r := followReal(t, g, Options{Log: book.logger()})
	before := r.waitMaster(t, "all three agree", any3)
	ctx := bounded(t)
	sentinels := g.Sentinels()

	if err := sentinels[0].Pause(); err != nil {
		t.Fatal(err)
	}
	hung := sentinels[0].Addr()
	r.wait(t, "the hung one is not up", func(r *recorder) bool { return !r.view(hung).Up && r.view(hung).Err != "" })
	// The others are not held up: the agreement is fresh, again and again.
	start := r.waitMaster(t, "the others agree", func(topology.Observation) bool { return true }).AgreedAt
	r.waitMaster(t, "their agreement is renewed", func(o topology.Observation) bool { return o.AgreedAt > start+time.Second })
	if err := sentinels[0].Resume(); err != nil {
		t.Fatal(err)
	}
	r.waitMaster(t, "it is back", any3)

	for _, s := range sentinels {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	r.wait(t, "none answers", func(r *recorder) bool {
		return r.last.Answering == 0 && !r.last.Agreed && r.last.Known == 3 && r.last.DownAfter == calm
	})
	for _, s := range sentinels {
		if err := s.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	r.waitMaster(t, "all are back at the same master", func(o topology.Observation) bool {
		return any3(o) && o.Master == before.Master && o.Epoch == before.Epoch
	})
	r.wait(t, "all are subscribed to again", allSubscribed(3))
	// One that is late is lost for a moment.
	late := strain.Late(began, time.Now()) > 100*time.Millisecond
	if lost, back := book.count("sentinel lost"), book.count("sentinel back"); lost != back || lost < 4 || lost > 4 && !late {
		t.Errorf("%d lost and %d back in the log; want 4 each: %q", lost, back, book.lines)
	}
}

// TestRealRemoveAndMonitor: operators move a group this way; there is no
// +switch-master, and the epoch starts again at 0.
func TestRealRemoveAndMonitor(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm})
	_, r := followReal(t, g, Options{Poll: 10 * time.Second}) // so it is the events that tell
	before := r.waitMaster(t, "all three agree", any3)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	ctx := bounded(t)
	for _, s := range g.Sentinels() {
		if _, err := s.Do(ctx, "SENTINEL", "REMOVE", g.Name()); err != nil {
			t.Fatal(err)
		}
	}
	r.wait(t, "none knows the group", func(r *recorder) bool { return r.last.Answering == 3 && r.last.Master == "" })
	next := g.Nodes()[1].Addr()
	host, port := next.Split()
	for _, s := range g.Sentinels() {
		if _, err := s.Do(ctx, "SENTINEL", "MONITOR", g.Name(), host, port, 2); err != nil {
			t.Fatal(err)
		}
	}
	o := r.waitMaster(t, "a majority names the other node", func(o topology.Observation) bool { return o.Master != before.Master })
	if o.Epoch > before.Epoch {
		t.Errorf("after MONITOR: %s; before: %s", brief(o), brief(before))
	}
}

func TestRealPassword(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, Replicas: 1, SentinelPassword: "sesame"})
	_, r := followReal(t, g, Options{Password: "sesame"})
	r.waitMaster(t, "all three agree", func(o topology.Observation) bool { return o.Support == 3 })
	r.wait(t, "all are subscribed to", allSubscribed(3))
	_, wrong := followReal(t, g, Options{Password: "wrong"})
	wrong.wait(t, "the refusal is told", func(r *recorder) bool {
		return len(r.last.Views) == 3 && r.last.Answering == 0 && r.view(g.SentinelAddrs()[0]).Err != "not asked yet"
	})
}

// TestRealACL uses the restricted profile of Sentinel's own documentation,
// which does not allow to subscribe.
func TestRealACL(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, FailoverTimeout: calm, Replicas: 1})
	ctx := bounded(t)
	for _, s := range g.Sentinels() {
		if _, err := s.Do(ctx, "ACL", "SETUSER", "proxy", "reset", "on", ">pass", "-@all", "+auth", "+client|getname", "+client|id",
			"+client|setname", "+command", "+hello", "+ping", "+role", "+info", "+sentinel|get-master-addr-by-name", "+sentinel|master", "+sentinel|myid",
			"+sentinel|replicas", "+sentinel|sentinels", "+sentinel|masters"); err != nil {
			t.Fatal(err)
		}
	}
	_, r := followReal(t, g, Options{Username: "proxy", Password: "pass"})
	r.waitMaster(t, "all three agree", func(o topology.Observation) bool { return o.Support == 3 })
	r.wait(t, "each says that it is polled alone", func(r *recorder) bool {
		for _, v := range r.last.Views {
			if !v.Up || v.Subscribed || v.Err == "" {
				return false
			}
		}
		return true
	})
	before := r.waitMaster(t, "all three agree", func(o topology.Observation) bool { return o.Support == 3 })
	if err := g.Failover(ctx); err != nil {
		t.Fatal(err)
	}
	r.waitMaster(t, "polling sees the failover", func(o topology.Observation) bool { return o.Master != before.Master })
}

// TestRealIPv6AndName reaches each Sentinel by its address and by a name.
func TestRealIPv6AndName(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{DownAfter: calm, Replicas: 1, Host: "::1"})
	sentinels := g.SentinelAddrs()
	for _, a := range g.SentinelAddrs() {
		_, port := a.Split()
		sentinels = append(sentinels, topology.JoinAddr("sentinels.test", port))
	}
	_, r := followReal(t, g, Options{Sentinels: sentinels, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.Replace(addr, "sentinels.test", "[::1]", 1))
	}})
	r.wait(t, "six addresses are three Sentinels", func(r *recorder) bool {
		up := 0
		for _, v := range r.last.Views {
			if v.Up && v.Subscribed {
				up++
			}
		}
		return up == 6 && r.last.Known == 3 && r.last.Answering == 3 && r.last.Support == 3 && r.last.Agreed
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if host, _ := r.last.Master.Split(); host != "::1" || len(r.last.Replicas) != 1 {
		t.Errorf("master %s, replicas %v; want both at ::1", r.last.Master, r.last.Replicas)
	}
}
