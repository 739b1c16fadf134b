package sentinel

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func allSubscribed(n int) func(*recorder) bool {
	return func(r *recorder) bool {
		subscribed := 0
		for _, v := range r.last.Views {
			if v.Up && v.Subscribed {
				subscribed++
			}
		}
		return subscribed == n
	}
}

func TestFollowsAndDiscovers(t *testing.T) {
	fakes := quorum(t, 3, nodeA, 1)
	_, r := follow(t, Options{Sentinels: addrs(fakes)[:1]})
	o := r.waitAgreed(t, nodeA, 1)
	if o.Known != 3 || o.DownAfter != time.Second || o.RoleReported != topology.RoleMaster || len(o.Replicas) != 2 || o.AgreedAt == 0 {
		t.Errorf("observation %s, down-after %v, role %v, replicas %v", brief(o), o.DownAfter, o.RoleReported, o.Replicas)
	}
	r.wait(t, "all three are subscribed to", allSubscribed(3))
}

func TestSignsArriveAndWake(t *testing.T) {
	fakes := quorum(t, 3, nodeA, 1)
	// At a minute's pace only an event can have caused a poll.
	f, r := follow(t, Options{Sentinels: addrs(fakes), Poll: time.Minute})
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	fakes[0].publish("+selected-slave", "slave b:1 b 1 @ orders a 1")
	fakes[0].publish("+odown", "master carts a 1")
	for _, k := range fakes {
		k.set(func(s *script) { s.master, s.epoch = nodeB, 2 })
	}
	fakes[1].publish("+switch-master", "orders a 1 b 1")
	o := r.waitAgreed(t, nodeB, 2)
	if !o.Unanimous && o.Support < 2 {
		t.Errorf("observation %s", brief(o))
	}
	r.wait(t, "both signs came", func(r *recorder) bool { return len(r.signs) == 2 })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, want := range []topology.Sign{
		{Kind: topology.SignSelected, Event: "+selected-slave", Group: testGroup, Sentinel: fakes[0].addr, Candidate: nodeB, Old: nodeA},
		{Kind: topology.SignSwitched, Event: "+switch-master", Group: testGroup, Sentinel: fakes[1].addr, Candidate: nodeB, Old: nodeA},
	} {
		found := false
		for _, got := range r.signs {
			at := got.At
			got.At = 0
			found = found || (got == want && at > 0)
		}
		if !found {
			t.Errorf("no sign %+v among %+v", want, r.signs)
		}
	}
	// The label is "other" only for events that have no rule.
	if n := testutil.CollectAndCount(f, "sentinelproxy_sentinel_up"); n != 3 {
		t.Errorf("%d series of sentinel_up; want 3", n)
	}
}

func TestPollAndFast(t *testing.T) {
	fakes := quorum(t, 3, nodeA, 1)
	f, r := follow(t, Options{Sentinels: addrs(fakes), Poll: time.Minute})
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	for _, k := range fakes {
		k.set(func(s *script) { s.epoch = 2 })
	}
	f.Poll()
	r.waitAgreed(t, nodeA, 2)
	f.SetFast(true)
	for _, k := range fakes {
		k.set(func(s *script) { s.epoch = 3 })
	}
	r.waitAgreed(t, nodeA, 3)
	before := fakes[0].calls("sentinel master")
	r.wait(t, "fast polls came", func(*recorder) bool { return fakes[0].calls("sentinel master") > before+10 })
	f.SetFast(false)
}

// TestLeaderShowsOldAddress: a leader that reconfigures shows the old address
// beside the new epoch in SENTINEL MASTER.
func TestLeaderShowsOldAddress(t *testing.T) {
	fakes := quorum(t, 3, nodeB, 2)
	fakes[0].set(func(s *script) { s.lie = nodeA })
	_, r := follow(t, Options{Sentinels: addrs(fakes)})
	r.wait(t, "all three name b at 2", func(r *recorder) bool { return r.last.Support == 3 })
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.view(fakes[0].addr); v.Master != nodeB || v.Epoch != 2 || v.RoleReported != topology.RoleUnknown {
		t.Errorf("leader's view %+v; want b:1 at 2, role unknown", v)
	}
}

func TestBadSentinels(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(s *script)
		err   string // in the view
		up    bool
	}{
		"hung":               {func(s *script) { s.stall = true }, "timeout", false},
		"unknown master":     {func(s *script) { s.master = "" }, `does not know master "orders"`, true},
		"wrong password":     {func(s *script) { s.password = "other" }, "NOAUTH", false},
		"never steady":       {func(s *script) { s.flip = true }, errUnsteady.Error(), false},
		"no epoch":           {func(s *script) { s.raw = map[string]string{"sentinel master": "*2\r\n$1\r\na\r\n$1\r\nb\r\n"} }, "config-epoch", false},
		"odd fields":         {func(s *script) { s.raw = map[string]string{"sentinel master": "*1\r\n$1\r\na\r\n"} }, "malformed", false},
		"a data node":        {func(s *script) { s.raw = map[string]string{"sentinel master": "-ERR unknown command 'sentinel'\r\n"} }, "unknown command", false},
		"not Redis":          {func(s *script) { s.raw = map[string]string{"hello": "HTTP/1.1 400 Bad Request\r\n\r\n"} }, "poll sentinel", false},
		"replicas forbidden": {func(s *script) { s.errors = map[string]string{"sentinel replicas": "NOPERM no permissions"} }, "NOPERM", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fakes := quorum(t, 3, nodeA, 1)
			fakes[2].set(tt.spoil)
			var book logBook
			_, r := follow(t, Options{Sentinels: addrs(fakes), Log: book.logger()})
			r.waitAgreed(t, nodeA, 1) // the others are not held up
			r.wait(t, "the view says "+tt.err, func(r *recorder) bool {
				v := r.view(fakes[2].addr)
				return v.Up == tt.up && strings.Contains(v.Err, tt.err)
			})
			want := "sentinel unreachable"
			if tt.up {
				want = "does not know the master name"
			}
			if n := book.count(want); n != 1 {
				t.Errorf("%d lines %q; want 1: %q", n, want, book.lines)
			}
			// It gets well: it counts again.
			fakes[2].set(func(s *script) {
				*s = script{runID: s.runID, peers: s.peers, peerIDs: s.peerIDs, master: nodeA, epoch: 1}
			})
			if name == "hung" {
				return // its handlers stay parked
			}
			r.wait(t, "all three agree", func(r *recorder) bool { return r.last.Support == 3 })
		})
	}
}

func TestSubscriptionForbidden(t *testing.T) {
	const noperm = "NOPERM this user has no permissions to run the 'psubscribe' command"
	t.Run("patterns", func(t *testing.T) {
		fakes := quorum(t, 1, nodeA, 1)
		fakes[0].set(func(s *script) { s.errors = map[string]string{"psubscribe": noperm} })
		_, r := follow(t, Options{Sentinels: addrs(fakes), Poll: time.Minute})
		r.wait(t, "single events are subscribed to", allSubscribed(1))
		fakes[0].publish("+switch-master", "orders a 1 b 1")
		r.wait(t, "the sign came", func(r *recorder) bool { return len(r.signs) == 1 })
	})
	t.Run("altogether", func(t *testing.T) {
		fakes := quorum(t, 1, nodeA, 1)
		fakes[0].set(func(s *script) { s.errors = map[string]string{"psubscribe": noperm, "subscribe": noperm} })
		var book logBook
		_, r := follow(t, Options{Sentinels: addrs(fakes), Log: book.logger()})
		r.wait(t, "it is polled alone and says why", func(r *recorder) bool {
			v := r.view(fakes[0].addr)
			return r.last.Agreed && v.Up && !v.Subscribed && strings.Contains(v.Err, "NOPERM")
		})
		fakes[0].set(func(s *script) { s.epoch = 2 })
		r.waitAgreed(t, nodeA, 2)
		if n := book.count("subscription refused, polling alone"); n != 1 {
			t.Errorf("%d lines; want 1: %q", n, book.lines)
		}
	})
}

// TestSubscriptionGarbage: go-redis panics on such a push; we must not.
func TestSubscriptionGarbage(t *testing.T) {
	fakes := quorum(t, 1, nodeA, 1)
	fakes[0].set(func(s *script) { s.raw = map[string]string{"psubscribe": "*0\r\n"} })
	_, r := follow(t, Options{Sentinels: addrs(fakes)})
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "the view names the malformed reply", func(r *recorder) bool {
		return strings.Contains(r.view(fakes[0].addr).Err, "malformed")
	})
	fakes[0].set(func(s *script) { s.raw = nil })
	r.wait(t, "it is subscribed to", allSubscribed(1))
}

func TestDroppedConnections(t *testing.T) {
	fakes := quorum(t, 3, nodeA, 1)
	_, r := follow(t, Options{Sentinels: addrs(fakes), Poll: time.Minute})
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	for _, k := range fakes {
		k.set(func(s *script) { s.master, s.epoch = nodeB, 2 }) // no event: it was missed
		k.drop()
	}
	r.waitAgreed(t, nodeB, 2)
	r.wait(t, "all are subscribed to again", allSubscribed(3))
}

func TestTilt(t *testing.T) {
	fakes := quorum(t, 1, nodeA, 1)
	fakes[0].set(func(s *script) { s.errors = map[string]string{"info": "NOPERM no permissions"} })
	_, r := follow(t, Options{Sentinels: addrs(fakes)})
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "it is subscribed to", allSubscribed(1))
	fakes[0].publish("+tilt", "#tilt mode entered")
	r.wait(t, "the event made it tilt", func(r *recorder) bool { return !r.last.Agreed && r.view(fakes[0].addr).Tilt })
	fakes[0].set(func(s *script) { s.errors, s.tilt = nil, false })
	r.wait(t, "INFO corrected it", func(r *recorder) bool { return r.last.Agreed })
	fakes[0].set(func(s *script) { s.tilt = true })
	r.wait(t, "INFO says tilt", func(r *recorder) bool { return !r.last.Agreed })
}

// TestSameSentinelTwice: a name and an address of one Sentinel are one vote.
func TestSameSentinelTwice(t *testing.T) {
	for name, forbid := range map[string]string{"by MYID": "", "by INFO": "sentinel myid"} {
		t.Run(name, func(t *testing.T) {
			fakes := quorum(t, 2, nodeA, 1)
			fakes[1].set(func(s *script) { s.stall = true })
			fakes[0].set(func(s *script) { s.errors = map[string]string{forbid: "NOPERM no"} })
			_, port := fakes[0].addr.Split()
			_, r := follow(t, Options{Sentinels: []topology.Addr{fakes[0].addr, topology.JoinAddr("LOCALHOST", port), topology.JoinAddr("localhost", port)}})
			r.wait(t, "both addresses answer", func(r *recorder) bool {
				return r.view(fakes[0].addr).Up && r.view(topology.JoinAddr("localhost", port)).Up
			})
			r.mu.Lock()
			defer r.mu.Unlock()
			if o := r.last; o.Agreed || o.Known != 2 || o.Answering != 1 || o.Support != 1 {
				t.Errorf("observation %s; want one of two", brief(o))
			}
		})
	}
}

func TestPassword(t *testing.T) {
	fakes := quorum(t, 3, nodeA, 1)
	for _, k := range fakes {
		k.set(func(s *script) { s.password = "hush-hush" })
	}
	var book logBook
	_, r := follow(t, Options{Sentinels: addrs(fakes), Password: "hush-hush", Log: book.logger()})
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	if n := book.count("hush-hush"); n != 0 {
		t.Errorf("the password is in %d log lines", n)
	}
}

func TestAnnouncedUnreachable(t *testing.T) {
	nat := topology.Addr("sentinel-1.invalid:26379")
	fakes := quorum(t, 1, nodeA, 1)
	fakes[0].set(func(s *script) { s.peers = []topology.Addr{nat} })
	var book logBook
	_, r := follow(t, Options{Sentinels: addrs(fakes), Log: book.logger(), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == string(nat) {
			return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	r.wait(t, "the log names it", func(*recorder) bool { return book.count("announced sentinel unreachable") > 0 })
	r.mu.Lock()
	if o := r.last; o.Known != 2 || o.Agreed || len(o.Views) != 1 {
		t.Errorf("observation %s with %d views; want 2 known, 1 view, no majority", brief(o), len(o.Views))
	}
	r.mu.Unlock()
	if book.count("announce-ip") != 1 {
		t.Errorf("no hint, or more than one: %q", book.lines)
	}
	// Once nobody names it, the rest is a majority.
	fakes[0].set(func(s *script) { s.peers = nil })
	r.waitAgreed(t, nodeA, 1)
}

func TestValidate(t *testing.T) {
	_, err := New(Options{Sentinels: []topology.Addr{"nowhere"}, Poll: -1})
	for _, want := range []string{"group:", `"nowhere"`, "poll:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	fakes := quorum(t, 1, nodeA, 1)
	f, r := follow(t, Options{Sentinels: addrs(fakes), Poll: time.Minute})
	other, err := New(Options{Group: "carts", Sentinels: addrs(fakes)})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(f, other) // two groups share a registry
	r.waitAgreed(t, nodeA, 1)
	r.wait(t, "it is subscribed to", allSubscribed(1))
	fakes[0].publish("+odown", "master orders a 1")
	fakes[0].publish("+made-up", "master orders a 1")
	fakes[0].publish("+made-up-too", "master orders a 1")
	r.wait(t, "the signs came", func(r *recorder) bool { return len(r.signs) == 3 })
	want := strings.ReplaceAll(`
# HELP sentinelproxy_sentinel_agreement 1 if the Sentinel names the agreed master and config epoch.
# TYPE sentinelproxy_sentinel_agreement gauge
sentinelproxy_sentinel_agreement{master_name="orders",sentinel="ADDR"} 1
# HELP sentinelproxy_sentinel_subscribed 1 if the Sentinel's events reach us, 0 if it is only polled.
# TYPE sentinelproxy_sentinel_subscribed gauge
sentinelproxy_sentinel_subscribed{master_name="orders",sentinel="ADDR"} 1
# HELP sentinelproxy_sentinel_up 1 if the Sentinel answered its last poll.
# TYPE sentinelproxy_sentinel_up gauge
sentinelproxy_sentinel_up{master_name="orders",sentinel="ADDR"} 1
# HELP sentinelproxy_sentinels_known Sentinels that count for a majority, silent and dead ones too.
# TYPE sentinelproxy_sentinels_known gauge
sentinelproxy_sentinels_known{master_name="carts"} 0
sentinelproxy_sentinels_known{master_name="orders"} 1
`, "ADDR", string(fakes[0].addr))
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sentinelproxy_sentinel_agreement", "sentinelproxy_sentinel_subscribed",
		"sentinelproxy_sentinel_up", "sentinelproxy_sentinels_known"); err != nil {
		t.Error(err)
	}
	if got := f.metrics.eventCount[eventOther].Load(); got != 2 {
		t.Errorf("%d other events; want 2", got)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
