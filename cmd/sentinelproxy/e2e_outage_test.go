package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// askers are gateways that go on asking through an outage, 1 000 commands a second
// together: each writes, and reads a key that a policy answers as missing.
type askers struct {
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu      sync.Mutex // guards answers
	answers []answer
}

// answer is one reply as a client saw it.
type answer struct {
	at    time.Time // when it had come
	took  time.Duration
	write bool
	reply string
}

const (
	askerCount = 20
	askEvery   = 20 * time.Millisecond
)

func startAskers(tb testing.TB, addr string) *askers {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	a := &askers{stop: cancel}
	for i := range askerCount {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		a.wg.Go(func() {
			defer nc.Close()
			if err := a.ask(ctx, nc, i); err != nil && ctx.Err() == nil {
				tb.Errorf("client %d: %v", i, err)
			}
		})
	}
	tb.Cleanup(a.finish)
	return a
}

func (a *askers) finish() { a.stop(); a.wg.Wait() }

func (a *askers) ask(ctx context.Context, nc net.Conn, id int) error {
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now()) })()
	r := bufio.NewReader(nc)
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		cmd := fmt.Sprintf("GET rate-%d\r\n", id)
		if n%2 == 0 {
			cmd = fmt.Sprintf("SET w-%d %d\r\n", id, n)
		}
		sent := time.Now()
		if _, err := nc.Write([]byte(cmd)); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		now := time.Now()
		a.mu.Lock()
		a.answers = append(a.answers, answer{now, now.Sub(sent), n%2 == 0, strings.TrimSpace(line)})
		a.mu.Unlock()
	}
}

// between returns the answers to what was asked after from and answered before to.
func (a *askers) between(from, to time.Time) []answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	var some []answer
	for _, x := range a.answers {
		if x.at.Add(-x.took).After(from) && x.at.Before(to) {
			some = append(some, x)
		}
	}
	return some
}

// latencies sums answers up for people.
func latencies(answers []answer) string {
	var took []time.Duration
	late := 0
	for _, x := range answers {
		took = append(took, x.took)
		if x.took > 10*time.Millisecond {
			late++
		}
	}
	if len(took) == 0 {
		return "no answer"
	}
	slices.Sort(took)
	return fmt.Sprintf("%d answers: median %v, p99 %v, longest %v, %d later than 10 ms",
		len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1], late)
}

// nothing is a server that answers each line at once: what the machine itself costs.
func nothing(tb testing.TB) string {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	tb.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				for lines := bufio.NewScanner(nc); lines.Scan(); {
					if _, err := nc.Write([]byte("$-1\r\n")); err != nil {
						return
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

// metric returns a sample's value as /metrics shows it.
func metric(tb testing.TB, admin, name string) float64 {
	tb.Helper()
	body := page(tb, addrOf(admin), "/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		tb.Fatalf("no sample %s in\n%s", name, body)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// held returns how many commands have ever waited for a master.
func held(tb testing.TB, admin string) float64 {
	tb.Helper()
	sum := metric(tb, admin, `sentinelproxy_held_commands{master_name="mymaster"}`)
	for _, o := range []string{"sent", "failed", "policy", "client_gone"} {
		sum += metric(tb, admin, `sentinelproxy_held_commands_total{master_name="mymaster",outcome="`+o+`"}`)
	}
	return sum
}

// Redis is gone for good, all of it, under load: once the route is down nobody waits
// any more. Then it comes back.
func TestEverythingIsGone(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g, "--hold-timeout", "1s", "--hold-max", "2s", "--outage-policy", "read:rate-*=nil")
	master := stable(t, g)
	a, noise := startAskers(t, s.addr), startAskers(t, nothing(t))
	pause(t, time.Second)
	for _, n := range slices.Concat(g.Nodes(), g.Sentinels()) {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	gone := time.Now()
	waitFor(t, "the route to be down", func() bool {
		_, body := get(t, addrOf(s.admin), "/readyz")
		return strings.Contains(body, topology.Down.String()+":")
	})
	isDown := time.Now()
	waited := held(t, s.admin)
	const dials = `sentinelproxy_backend_dials_total{master_name="mymaster"}`
	dialled := metric(t, s.admin, dials)
	pause(t, 3*time.Second)
	if now := metric(t, s.admin, dials); now != dialled {
		t.Errorf("the data path dialled %v times though the route was down; only the control plane may probe", now-dialled)
	}
	if now := held(t, s.admin); now != waited {
		t.Errorf("%v commands waited though the route was down", now-waited)
	}
	answers := a.between(isDown, time.Now())
	for _, x := range answers {
		if x.write && !strings.HasPrefix(x.reply, "-MASTERDOWN no master to serve mymaster") || !x.write && x.reply != "$-1" {
			t.Fatalf("answer %+v; want the error to a write, nil to a read", x)
		}
	}
	if len(answers) == 0 {
		t.Fatal("nobody was answered")
	}
	t.Logf("down %v after the end of Redis; then in 3 s %s", isDown.Sub(gone).Round(time.Millisecond), latencies(answers))
	t.Logf("before, from Redis: %s", latencies(a.between(time.Time{}, gone)))
	t.Logf("a server that does nothing, in this process at the same time: %s", latencies(noise.between(isDown, time.Now())))

	watch, strain := watchMajority(t, g, nil), g.WatchStrain(t)
	nodes := slices.DeleteFunc(g.Nodes(), func(n *redistest.Node) bool { return n == master })
	back := time.Now()
	for _, n := range slices.Concat(g.Sentinels(), []*redistest.Node{master}, nodes) {
		if err := n.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n == master {
			back = time.Now()
		}
	}
	var first time.Time
	waitFor(t, "the first write", func() bool {
		for _, x := range a.between(isDown, time.Now()) {
			if x.write && x.reply == "+OK" {
				first = x.at
				return true
			}
		}
		return false
	})
	if m := watch.named(t); m.After(back) {
		back = m
	}
	t.Logf("first success %v after the master answered and a majority named it (negative: before this test saw them)",
		first.Sub(back).Round(time.Millisecond))
	pause(t, time.Second)
	for _, x := range a.between(first.Add(500*time.Millisecond), time.Now()) {
		if x.reply != "+OK" && x.reply != "$-1" {
			disturbedOr(t, strain, back, time.Now(), "answer %+v after it was served again", x)
			break
		}
	}
	if n := metric(t, s.admin, `sentinelproxy_client_connections{master_name="mymaster"}`); n != askerCount {
		t.Errorf("%v clients are connected; want all %d", n, askerCount)
	}
}

// The master and all Sentinels are gone, so nobody can elect another: reads that may
// be stale come from a replica, others as their rules say, and writes reach nobody.
func TestStaleReads(t *testing.T) {
	g := realGroup(t)
	s := startRun(t, g, "--outage-after", "0s", "--outage-policy", "read:apikey-*=stale; GET,ZCARD:rate-*=nil")
	master := stable(t, g)
	c := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, ReadTimeout: patience, PoolSize: 1})
	defer c.Close()
	ctx := t.Context()
	if err := errors.Join(c.Set(ctx, "apikey-1", "alice", 0).Err(), c.HSet(ctx, "apikey-2", "org", "acme").Err(),
		c.Set(ctx, "rate-1", "7", 0).Err(), c.Set(ctx, "other", "x", 0).Err(), c.Wait(ctx, 2, patience/2).Err()); err != nil {
		t.Fatal(err)
	}
	for _, n := range append(g.Sentinels(), master) {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "a stale read", func() bool { return c.Get(ctx, "apikey-1").Val() == "alice" })
	waitFor(t, "the route to stop serving", func() bool {
		code, _ := get(t, addrOf(s.admin), "/readyz")
		return code == 503
	})
	anew := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, ReadTimeout: patience, PoolSize: 1}) // it says HELLO 3 only now
	defer anew.Close()
	for name, c := range map[string]*redis.Client{"known": c, "new": anew} {
		if v, err := c.Get(ctx, "apikey-1").Result(); v != "alice" || err != nil {
			t.Errorf("%s client: apikey-1 is %q, %v; want what was replicated", name, v, err)
		}
		if v, err := c.HGetAll(ctx, "apikey-2").Result(); v["org"] != "acme" || err != nil {
			t.Errorf("%s client: apikey-2 is %v, %v; want what was replicated", name, v, err)
		}
		if v, err := c.Get(ctx, "rate-1").Result(); !errors.Is(err, redis.Nil) {
			t.Errorf("%s client: rate-1 is %q, %v; want nil", name, v, err)
		}
		if n, err := c.ZCard(ctx, "rate-2").Result(); n != 0 || err != nil {
			t.Errorf("%s client: ZCARD rate-2 is %v, %v; want 0", name, n, err)
		}
		for _, err := range []error{c.Set(ctx, "apikey-1", "mallory", 0).Err(), c.Get(ctx, "other").Err()} {
			if err == nil || !strings.HasPrefix(err.Error(), "MASTERDOWN") {
				t.Errorf("%s client: %v; want MASTERDOWN", name, err)
			}
		}
	}
	if n := metric(t, s.admin, `sentinelproxy_outage_replies_total{master_name="mymaster",policy="stale"}`); n < 4 {
		t.Errorf("%v stale replies counted; want 4 at least", n)
	}
	if n := metric(t, s.admin, `sentinelproxy_backend_connections{master_name="mymaster",use="stale"}`); n < 1 {
		t.Errorf("%v connections to replicas; want one at least", n)
	}
	if _, body := get(t, addrOf(s.admin), "/api/v1/status"); !strings.Contains(strings.Join(strings.Fields(body), ""), `"policy":["read:apikey-*=stale","GET,ZCARD:rate-*=nil"]`) {
		t.Errorf("the status does not show the policy: %s", body)
	}
	for _, n := range g.Nodes() {
		if n == master {
			continue
		}
		v, err := n.Do(ctx, "GET", "apikey-1")
		if err != nil || v != "alice" {
			t.Errorf("%s has %v, %v; want what the master had: no write may reach a replica", n.Name(), v, err)
		}
	}
	for _, n := range append([]*redistest.Node{master}, g.Sentinels()...) {
		if err := n.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "a write", func() bool { return c.Set(ctx, "apikey-1", "bob", 0).Err() == nil })
	if v, err := anew.Get(ctx, "apikey-1").Result(); v != "bob" || err != nil {
		t.Errorf("apikey-1 is %q, %v; want what the master has now", v, err)
	}
	waitFor(t, "the connections to replicas to end", func() bool {
		return metric(t, s.admin, `sentinelproxy_backend_connections{master_name="mymaster",use="stale"}`) == 0
	})
}
