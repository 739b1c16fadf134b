package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// Programs that are configured for Sentinel, as their libraries mean it, are pointed
// at the endpoint and see nothing of a failover: no error, no lost or doubled write,
// no connection made anew, to the master or to the "Sentinel", and subscriptions and
// cached reads that go on.
func TestSentinelModeClients(t *testing.T) {
	g := realGroup(t)
	sentinel := freeAddr(t)
	s := startRun(t, g, "--sentinel-listen", sentinel)
	at := meeting{sentinel: sentinel, name: g.Name()}
	programs := []*program{
		startProgram(t, "go-redis", at, newGoRedis),
		startProgram(t, "rueidis", at, newRueidis),
		startProgram(t, "redigo", at, newRedigo),
	}
	old := stable(t, g)
	for _, p := range programs {
		p.waitOps(100)
		p.waitHeard()
		p.dialsBefore = p.dials.Load()
	}
	watch := watchMajority(t, g, old)
	if err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.result(t)
	watch.end()
	for _, p := range programs {
		p.waitOps(p.ops.Load() + 100)
		p.waitHeard()
		p.finish()
	}
	master := stable(t, g)
	if master.Addr() == old.Addr() {
		t.Error("there was no failover")
	}
	for _, p := range programs {
		if p.dials.Load() != p.dialsBefore {
			t.Errorf("%s: connected %d times before the failover and %d times by its end; want no more", p.name, p.dialsBefore, p.dials.Load())
		}
		t.Logf("%s: %d rounds of INCR, SET, GET and PUBLISH, longest %v; %d connections", p.name, p.ops.Load(), p.longest.Round(time.Millisecond), p.dialsBefore)
		// The master itself says what became of the writes.
		count, err := master.Do(t.Context(), "GET", p.name+":n")
		if err != nil || count != fmt.Sprint(p.ops.Load()) {
			t.Errorf("%s: the master counts %v, %v; want the %d acknowledged", p.name, count, err, p.ops.Load())
		}
	}
	if _, body := get(t, addrOf(s.admin), "/metrics"); !strings.Contains(body, "sentinelproxy_uncertain_replies_total{master_name=\""+g.Name()+"\"} 0") {
		t.Error("replies were uncertain")
	}
}

// rueidis' client-side cache is told of changes after a failover, also of those that
// the failover itself hid.
func TestSentinelModeClientSideCache(t *testing.T) {
	g := realGroup(t)
	at := meeting{sentinel: freeAddr(t), name: g.Name()}
	s := startRun(t, g, "--sentinel-listen", at.sentinel)
	var dials atomic.Int64
	c, err := rueidis.NewClient(rueidisOptions(at, &dials))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := goredis.NewClient(&goredis.Options{Addr: s.addr, MaxRetries: -1, ReadTimeout: patience})
	defer other.Close()
	cached := func() (string, bool) {
		r := c.DoCache(t.Context(), c.B().Get().Key("cached").Cache(), time.Hour)
		v, err := r.ToString()
		if err != nil {
			t.Fatal(err)
		}
		return v, r.IsCacheHit()
	}
	set := func(v string) {
		if err := other.Set(t.Context(), "cached", v, 0).Err(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the cache to hear of "+v, func() bool { got, _ := cached(); return got == v })
	}
	set("1")
	waitFor(t, "a hit", func() bool { _, hit := cached(); return hit })
	before, old := dials.Load(), stable(t, g)
	watch := watchMajority(t, g, old)
	if err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.result(t)
	watch.end()
	set("2")
	waitFor(t, "a hit after the failover", func() bool { v, hit := cached(); return hit && v == "2" })
	set("3")
	if n := dials.Load(); n != before {
		t.Errorf("connected %d times before the failover and %d times by its end; want no more", before, n)
	}
}

// meeting is where clients in Sentinel mode begin.
type meeting struct{ sentinel, name string }

// library is what a program does with its client library.
type library struct {
	incr    func(ctx context.Context, key string) error
	set     func(ctx context.Context, key, value string) error
	get     func(ctx context.Context, key string) (string, error)
	publish func(ctx context.Context, channel, text string) error
	// listen calls heard for each message, until close.
	listen func(ctx context.Context, channel string, heard func(text string)) error
	close  func()
}

// program writes, reads, publishes and listens, round after round, and never tries
// anything twice.
type program struct {
	tb   testing.TB
	name string
	lib  library
	wg   sync.WaitGroup // the listener
	over atomic.Bool    // the listener may end

	finish func() // ends it all and waits; may be called often

	dials atomic.Int64 // connections made, of all kinds
	ops   atomic.Int64 // rounds done
	heard atomic.Int64 // number of the last message that came back

	dialsBefore int64
	longest     time.Duration // owned by run; read after finish
}

// startProgram starts a program. newLib gets a counter for every connection made.
func startProgram(tb testing.TB, name string, at meeting, newLib func(testing.TB, meeting, *atomic.Int64) library) *program {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	p := &program{tb: tb, name: name}
	p.lib = newLib(tb, at, &p.dials)
	listening, deafen := context.WithCancel(tb.Context())
	p.wg.Go(func() {
		err := p.lib.listen(listening, name, func(text string) {
			var n int64
			if _, err := fmt.Sscan(text, &n); err == nil {
				p.heard.Store(n)
			}
		})
		if !p.over.Load() {
			tb.Errorf("%s: the subscription ended: %v", name, err)
		}
	})
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })
	p.finish = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		p.over.Store(true)
		deafen()
		p.lib.close()
		p.wg.Wait()
	})
	tb.Cleanup(p.finish)
	return p
}

func (p *program) run(ctx context.Context) {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	working := context.WithoutCancel(ctx) // a round that began is finished
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		begun := time.Now()
		n := p.ops.Load() + 1
		if err := p.round(working, n); err != nil {
			p.tb.Errorf("%s: round %d: %v", p.name, n, err)
			return
		}
		p.ops.Store(n)
		p.longest = max(p.longest, time.Since(begun))
	}
}

func (p *program) round(ctx context.Context, n int64) error {
	key, want := p.name+":k", fmt.Sprint(n)
	if err := p.lib.incr(ctx, p.name+":n"); err != nil {
		return fmt.Errorf("INCR: %w", err)
	}
	if err := p.lib.set(ctx, key, want); err != nil {
		return fmt.Errorf("SET: %w", err)
	}
	got, err := p.lib.get(ctx, key)
	if err != nil {
		return fmt.Errorf("GET: %w", err)
	}
	if got != want {
		return fmt.Errorf("GET: %q; want %q", got, want)
	}
	if err := p.lib.publish(ctx, p.name, want); err != nil {
		return fmt.Errorf("PUBLISH: %w", err)
	}
	return nil
}

func (p *program) waitOps(n int64) {
	p.tb.Helper()
	waitFor(p.tb, fmt.Sprintf("%s to do %d rounds", p.name, n), func() bool { return p.ops.Load() >= n || p.tb.Failed() })
}

// waitHeard waits for a message that is published from now on.
func (p *program) waitHeard() {
	p.tb.Helper()
	n := p.ops.Load() + 2
	waitFor(p.tb, p.name+" to hear a message", func() bool { return p.heard.Load() >= n || p.tb.Failed() })
}

func counting(dials *atomic.Int64) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{Timeout: patience}).DialContext(ctx, network, addr)
	}
}

// newGoRedis is a FailoverClient with its defaults, but for retries: there shall be
// nothing to try again.
func newGoRedis(_ testing.TB, at meeting, dials *atomic.Int64) library {
	c := goredis.NewFailoverClient(&goredis.FailoverOptions{
		MasterName: at.name, SentinelAddrs: []string{at.sentinel}, MaxRetries: -1, ReadTimeout: patience, Dialer: counting(dials),
	})
	return library{
		incr:    func(ctx context.Context, key string) error { return c.Incr(ctx, key).Err() },
		set:     func(ctx context.Context, key, value string) error { return c.Set(ctx, key, value, 0).Err() },
		get:     func(ctx context.Context, key string) (string, error) { return c.Get(ctx, key).Result() },
		publish: func(ctx context.Context, ch, text string) error { return c.Publish(ctx, ch, text).Err() },
		listen: func(ctx context.Context, ch string, heard func(string)) error {
			sub := c.Subscribe(ctx, ch)
			defer sub.Close()
			for {
				m, err := sub.ReceiveMessage(ctx)
				if err != nil {
					return err
				}
				heard(m.Payload)
			}
		},
		close: func() { _ = c.Close() },
	}
}

// rueidisOptions are its defaults, client-side caching included, but for retries.
func rueidisOptions(at meeting, dials *atomic.Int64) rueidis.ClientOption {
	dial := counting(dials)
	return rueidis.ClientOption{
		InitAddress: []string{at.sentinel}, Sentinel: rueidis.SentinelOption{MasterSet: at.name}, DisableRetry: true,
		DialCtxFn: func(ctx context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return dial(ctx, "tcp", addr)
		},
	}
}

func newRueidis(tb testing.TB, at meeting, dials *atomic.Int64) library {
	tb.Helper()
	c, err := rueidis.NewClient(rueidisOptions(at, dials))
	if err != nil {
		tb.Fatal(err)
	}
	return library{
		incr: func(ctx context.Context, key string) error { return c.Do(ctx, c.B().Incr().Key(key).Build()).Error() },
		set: func(ctx context.Context, key, value string) error {
			return c.Do(ctx, c.B().Set().Key(key).Value(value).Build()).Error()
		},
		get: func(ctx context.Context, key string) (string, error) {
			return c.Do(ctx, c.B().Get().Key(key).Build()).ToString()
		},
		publish: func(ctx context.Context, ch, text string) error {
			return c.Do(ctx, c.B().Publish().Channel(ch).Message(text).Build()).Error()
		},
		listen: func(ctx context.Context, ch string, heard func(string)) error {
			return c.Receive(ctx, c.B().Subscribe().Channel(ch).Build(), func(m rueidis.PubSubMessage) { heard(m.Message) })
		},
		close: c.Close,
	}
}

// newRedigo does by hand what redigo's users do: ask a Sentinel, dial what it says,
// check the role of borrowed connections, and drop all at a +switch-master.
func newRedigo(tb testing.TB, at meeting, dials *atomic.Int64) library {
	tb.Helper()
	dial := func(addr string) (redis.Conn, error) {
		return redis.Dial("tcp", addr, redis.DialContextFunc(counting(dials)), redis.DialReadTimeout(patience))
	}
	master := func() (redis.Conn, error) {
		s, err := dial(at.sentinel)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		addr, err := redis.Strings(s.Do("SENTINEL", "get-master-addr-by-name", at.name))
		if err != nil {
			return nil, err
		}
		if len(addr) != 2 {
			return nil, fmt.Errorf("no master: %q", addr)
		}
		return dial(net.JoinHostPort(addr[0], addr[1]))
	}
	pool := &redis.Pool{MaxIdle: 2, Dial: master, TestOnBorrow: func(c redis.Conn, _ time.Time) error {
		role, err := redis.Values(c.Do("ROLE"))
		if err != nil {
			return err
		}
		if name, err := redis.String(role[0], nil); err != nil || name != "master" {
			return fmt.Errorf("role %q, %w", name, err)
		}
		return nil
	}}
	watch, err := dial(at.sentinel)
	if err != nil {
		tb.Fatal(err)
	}
	events := redis.PubSubConn{Conn: watch}
	if err := events.Subscribe("+switch-master"); err != nil {
		tb.Fatal(err)
	}
	var watching sync.WaitGroup
	var closing atomic.Bool
	watching.Go(func() {
		for {
			switch m := events.ReceiveWithTimeout(0).(type) {
			case redis.Message:
				tb.Errorf("redigo: %s %s; want silence", m.Channel, m.Data)
			case error:
				if !closing.Load() {
					tb.Errorf("redigo: the connection to the Sentinel ended: %v", m)
				}
				return
			}
		}
	})
	do := func(cmd string, args ...any) (any, error) {
		c := pool.Get()
		v, err := c.Do(cmd, args...)
		return v, errors.Join(err, c.Close())
	}
	var sub redis.PubSubConn
	var subMu sync.Mutex // guards sub
	return library{
		incr:    func(_ context.Context, key string) error { _, err := do("INCR", key); return err },
		set:     func(_ context.Context, key, value string) error { _, err := do("SET", key, value); return err },
		get:     func(_ context.Context, key string) (string, error) { return redis.String(do("GET", key)) },
		publish: func(_ context.Context, ch, text string) error { _, err := do("PUBLISH", ch, text); return err },
		listen: func(_ context.Context, ch string, heard func(string)) error {
			c, err := master()
			if err != nil {
				return err
			}
			defer c.Close()
			subMu.Lock()
			sub = redis.PubSubConn{Conn: c}
			err = sub.Subscribe(ch)
			subMu.Unlock()
			for err == nil {
				switch m := sub.ReceiveWithTimeout(0).(type) {
				case redis.Message:
					heard(string(m.Data))
				case error:
					err = m
				}
			}
			return err
		},
		close: func() {
			closing.Store(true)
			_ = watch.Close()
			watching.Wait()
			subMu.Lock()
			if sub.Conn != nil {
				_ = sub.Close()
			}
			subMu.Unlock()
			_ = pool.Close()
		},
	}
}
