package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = time.Minute

// started is a gateway before an upstream of the test's.
type started struct {
	*gateway

	url     string
	arrived chan *http.Request // what arrived there; full: it is not noted
}

// start runs a gateway before the Redis at addr.
func start(t *testing.T, addr string, change func(*config)) *started {
	t.Helper()
	s := &started{arrived: make(chan *http.Request, 16)}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.arrived <- r:
		default:
		}
		upstream().ServeHTTP(w, r)
	}))
	t.Cleanup(up.Close)
	cfg, err := readConfig([]string{"GATEWAY_REDIS=" + addr, "GATEWAY_UPSTREAM=" + up.URL, "GATEWAY_SEED=testkey"})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	store := newStore(cfg)
	s.gateway = newGateway(cfg, store, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	front := httptest.NewServer(s.handler())
	s.url = front.URL
	t.Cleanup(func() {
		front.Close()
		cancel()
		wg.Wait()
		if err := store.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// get asks the gateway; "" is no key.
func (s *started) get(t *testing.T, path, key string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if key != "" {
		req.Header.Set("Authorization", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

// waitFor waits until ok, and fails the test with what is wanted otherwise.
func waitFor(t *testing.T, want string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, want)
		case <-tick.C:
		}
	}
}

func (s *started) awaitReady(t *testing.T) {
	t.Helper()
	waitFor(t, "readiness", func() bool { code, _, _ := s.get(t, "/ready", ""); return code == http.StatusOK })
}

func TestVerdicts(t *testing.T) {
	m := miniredis.RunT(t)
	m.HSet("apikey-slow", "rate", "2", "per", "3600")
	m.HSet("apikey-poor", "rate", "100", "quota", "3")
	s := start(t, m.Addr(), nil)
	s.awaitReady(t)
	for name, tt := range map[string]struct {
		key   string
		codes []int // of one request after the other
		says  string
	}{
		"the first key":     {"testkey", []int{200, 200, 200, 200}, `"path":"/a/b"`},
		"no key":            {"", []int{401}, "authorization is missing"},
		"unknown":           {"other", []int{403, 403}, "unknown"},
		"a pattern":         {"*", []int{403}, "unknown"},
		"over its rate":     {"slow", []int{200, 200, 429, 429}, "more than 2 requests in 1h0m0s"},
		"over its quota":    {"poor", []int{200, 200, 200, 403}, "quota of 3"},
		"longer than a key": {strings.Repeat("k", 101), []int{403}, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			for i, want := range tt.codes {
				code, body, h := s.get(t, "/a/b", tt.key)
				if code != want {
					t.Fatalf("request %d: %d %q; want %d", i+1, code, body, want)
				}
				if i == len(tt.codes)-1 && !strings.Contains(body, tt.says) {
					t.Errorf("it says %q; want %q in it", body, tt.says)
				}
				if (h.Get("Retry-After") != "") != (code == 429) {
					t.Errorf("Retry-After %q with %d", h.Get("Retry-After"), code)
				}
			}
		})
	}
	if r := <-s.arrived; r.Header.Get("Authorization") != "" {
		t.Error("the upstream was told the key")
	}
}

// Each mode does what it says when Redis is away, and the process is alive all the
// same; when Redis is back everything is as before.
func TestFailMode(t *testing.T) {
	for mode, want := range map[failMode]int{failClosed: 503, failOpen: 200} {
		t.Run(string(mode), func(t *testing.T) {
			m := miniredis.RunT(t)
			s := start(t, m.Addr(), func(c *config) { c.FailMode, c.RedisTimeout = mode, patience })
			s.awaitReady(t)
			m.Close()
			for _, key := range []string{"testkey", "never-seen"} {
				code, body, h := s.get(t, "/", key)
				if code != want || (h.Get("X-Gateway-Unchecked") != "") != (mode == failOpen) {
					t.Errorf("%s: %d %q, %v; want %d", key, code, body, h, want)
				}
			}
			if code, _, _ := s.get(t, "/", ""); code != http.StatusUnauthorized {
				t.Errorf("without a key: %d; want 401 in every mode", code)
			}
			if code, body, _ := s.get(t, "/hello", ""); code != http.StatusOK || !strings.Contains(body, `"redis":"down`) {
				t.Errorf("/hello: %d %q; want 200 and that Redis is down", code, body)
			}
			if code, _, _ := s.get(t, "/ready", ""); code != want {
				t.Errorf("/ready: %d; want %d", code, want)
			}
			if err := m.Restart(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a checked answer", func() bool {
				code, _, h := s.get(t, "/", "testkey")
				return code == http.StatusOK && h.Get("X-Gateway-Unchecked") == ""
			})
		})
	}
}

// No request waits for Redis without an end: this one accepts and is silent.
func TestDeadline(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := start(t, silent.Addr().String(), func(c *config) { c.RedisTimeout, c.PoolSize = 50*time.Millisecond, 1 })
	var wg sync.WaitGroup
	for range 20 { // most of them wait for the only connection
		wg.Go(func() {
			if code, body, _ := s.get(t, "/", "testkey"); code != http.StatusServiceUnavailable {
				t.Errorf("%d %q; want 503", code, body)
			}
		})
	}
	wg.Wait()
	if code, body, _ := s.get(t, "/ready", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, "not answered yet") {
		t.Errorf("/ready: %d %q; want 503", code, body)
	}
}

// A sidecar may say that nobody knows whether a write ran: the request is counted
// again, not refused.
func TestUncertain(t *testing.T) {
	m := miniredis.RunT(t)
	s := start(t, m.Addr(), nil)
	s.awaitReady(t)
	var mu sync.Mutex // guards left
	left := 3
	m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		if cmd != "INCR" || left == 0 {
			return false
		}
		left--
		p.WriteError("UNCERTAIN the reply to INCR was lost with its master (sentinelproxy)")
		return true
	})
	if code, body, _ := s.get(t, "/", "testkey"); code != http.StatusOK {
		t.Errorf("%d %q; want 200", code, body)
	}
	m.Server().SetPreHook(func(p *server.Peer, cmd string, _ ...string) bool {
		if cmd == "INCR" {
			p.WriteError("MASTERDOWN no master (sentinelproxy)")
		}
		return cmd == "INCR"
	})
	if code, _, _ := s.get(t, "/", "testkey"); code != http.StatusServiceUnavailable {
		t.Errorf("after another error: %d; want 503", code)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	m := miniredis.RunT(t)
	s := start(t, m.Addr(), func(c *config) { c.MaxInFlight = 1 })
	s.awaitReady(t)
	s.slots <- struct{}{} // a request under way
	if code, body, _ := s.get(t, "/", "testkey"); code != http.StatusServiceUnavailable || !strings.Contains(body, "too many") {
		t.Errorf("%d %q; want 503 at once", code, body)
	}
	<-s.slots
	if code, body, _ := s.get(t, "/", "testkey"); code != http.StatusOK {
		t.Errorf("%d %q; want 200", code, body)
	}
	if _, body, _ := s.get(t, "/metrics", ""); !strings.Contains(body, `gateway_answers_total{code="503"} 1`) {
		t.Errorf("/metrics does not count it:\n%s", body)
	}
}

func TestUpstreamAway(t *testing.T) {
	m := miniredis.RunT(t)
	s := start(t, m.Addr(), func(c *config) { c.Upstream = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} })
	s.awaitReady(t)
	if code, _, _ := s.get(t, "/", "testkey"); code != http.StatusBadGateway {
		t.Errorf("%d; want 502", code)
	}
}

// A reload between a read and its keeping wins: what was read may be old.
func TestCache(t *testing.T) {
	c, now := newCache(), time.Unix(0, 0)
	known := func() bool { _, ok, _ := c.get("k", now); return ok }
	_, _, before := c.get("k", now)
	c.forget("other")
	if c.put("k", grant{}, now, before); known() {
		t.Error("it keeps what was read before a reload")
	}
	_, _, before = c.get("k", now)
	if c.put("k", grant{Rate: 1}, now, before); !known() {
		t.Error("it forgot")
	}
	if now = now.Add(cacheFor); known() {
		t.Error("it never forgets")
	}
	for i := range 2 * cacheMost {
		_, _, before = c.get("k", now)
		c.put(fmt.Sprint(i), grant{}, now, before)
	}
	if len(c.grants) > cacheMost {
		t.Errorf("%d keys; want %d at most", len(c.grants), cacheMost)
	}
}

// On a real Redis: the first key, a reload over pub/sub, and windows that end.
func TestOnRedis(t *testing.T) {
	master := redistest.Single(t, redistest.Options{})
	do := func(args ...any) {
		t.Helper()
		if _, err := master.Do(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, string(master.Addr()), func(c *config) { c.SeedRate = 1000 })
	s.awaitReady(t)
	if code, body, _ := s.get(t, "/", "testkey"); code != http.StatusOK {
		t.Fatalf("%d %q; want 200", code, body)
	}
	do("HSET", "apikey-testkey", "rate", "0", "per", "3600")
	waitFor(t, "the reload", func() bool {
		do("PUBLISH", reloadChannel, "testkey")
		code, _, _ := s.get(t, "/", "testkey")
		return code == http.StatusTooManyRequests
	})
	for _, name := range []string{"rate", "quota"} {
		v, err := master.Do(t.Context(), "KEYS", name+"-testkey-*")
		if err != nil {
			t.Fatal(err)
		}
		keys, _ := v.([]any)
		if want := name == "rate"; (len(keys) > 0) != want {
			t.Errorf("keys of %s: %v; want some: %v", name, keys, want)
		}
		for _, k := range keys {
			ttl, err := master.Do(t.Context(), "TTL", fmt.Sprint(k))
			if n, ok := ttl.(int64); err != nil || !ok || n < 0 {
				t.Errorf("TTL of %s: %v, %v; want an end to its life", k, ttl, err)
			}
		}
	}
	again := start(t, string(master.Addr()), nil)
	again.awaitReady(t)
	if code, _, _ := again.get(t, "/", "testkey"); code != http.StatusTooManyRequests {
		t.Errorf("a second gateway: %d; want 429: a seed replaces nothing", code)
	}
}

// Behind a Redis that is away for long requests do not pile up: one at a time asks, and
// the first that is answered lets all ask again.
func TestBreaker(t *testing.T) {
	b := newBreaker()
	for range tripAfter {
		limit, leave, ok := b.enter(time.Minute)
		if !ok || limit != time.Minute {
			t.Fatalf("a request may wait %v, %v; want a minute until it has failed often", limit, ok)
		}
		leave(errOpen)
	}
	limit, leave, ok := b.enter(time.Minute)
	if !ok || limit != trialTimeout {
		t.Fatalf("the trial may wait %v, %v; want %v", limit, ok, trialTimeout)
	}
	b.note(context.Canceled)
	if _, _, ok := b.enter(time.Minute); ok {
		t.Error("a second one asks at the same time")
	}
	leave(errOpen)
	_, leave, ok = b.enter(time.Minute)
	if !ok {
		t.Fatal("nobody asks any more")
	}
	leave(nil)
	for range 2 {
		if limit, _, ok := b.enter(time.Minute); !ok || limit != time.Minute {
			t.Errorf("a request may wait %v, %v; want a minute: Redis is back", limit, ok)
		}
	}
}
