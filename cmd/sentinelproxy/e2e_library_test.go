package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// library is what a program does with its client library. None of it tries anything
// twice. Replies are string, int64, []any, or nil for a null.
type library struct {
	do func(ctx context.Context, args ...string) (any, error)
	// pipeline sends all commands before it reads the first reply.
	pipeline func(ctx context.Context, cmds [][]string) ([]any, error)
	// increment adds one to a key by WATCH, GET, MULTI, SET and EXEC, and one to
	// another in the same transaction; done is false if the keys were touched.
	increment func(ctx context.Context, key, other string) (done bool, err error)
	// script runs countScript as the library's helper does.
	script func(ctx context.Context, counter, key, value string) (any, error)
	// pop is BLPOP; "" after a while with nothing.
	pop func(ctx context.Context, key string) (string, error)
	// listen calls heard for each message, until ctx ends or close.
	listen func(ctx context.Context, channel string, heard func(text string)) error
	close  func()

	// What only a library with a client-side cache has.
	cached func(ctx context.Context, key string) (value string, hit bool, err error)
	// invalidated counts the invalidations of cached keys, flushed those of all keys.
	invalidated, flushed *atomic.Int64
}

const (
	countScript = `redis.call('SET', KEYS[2], ARGV[1]); return {redis.call('INCR', KEYS[1]), redis.call('GET', KEYS[2])}`
	popSeconds  = 2
)

// way is how a program reaches the sidecar.
type way struct {
	name          string
	network, addr string
	tls           *tls.Config // nil: plain
	// sentinel, if not empty, is where a client in Sentinel mode begins, and master
	// whom it asks for; addr is then not used.
	sentinel, master string

	opened, ended atomic.Int64 // connections that the program made, and those that are over
}

// dial connects to addr as the way goes, and counts.
func (w *way) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, w.network, addr)
	if err != nil {
		return nil, err
	}
	w.opened.Add(1)
	counted := &line{Conn: c, ended: &w.ended}
	if w.tls == nil {
		return counted, nil
	}
	t := tls.Client(counted, w.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// line is a connection that counts its end.
type line struct {
	net.Conn

	once  sync.Once
	ended *atomic.Int64
}

// Close implements net.Conn.
func (l *line) Close() error {
	l.once.Do(func() { l.ended.Add(1) })
	return l.Conn.Close()
}

// SyscallConn lets go-redis look whether the connection still lives, as without line.
func (l *line) SyscallConn() (syscall.RawConn, error) {
	return l.Conn.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // TCP and Unix both are
}

// newGoRedis is a client with its defaults, RESP3, but for retries: there shall be
// nothing to try again.
func newGoRedis(_ testing.TB, w *way) library {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) { return w.dial(ctx, addr) }
	var c *goredis.Client
	if w.sentinel != "" {
		c = goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: w.master, SentinelAddrs: []string{w.sentinel}, MaxRetries: -1, ReadTimeout: 2 * patience, Dialer: dial,
		})
	} else {
		c = goredis.NewClient(&goredis.Options{Addr: w.addr, MaxRetries: -1, ReadTimeout: 2 * patience, Dialer: dial})
	}
	script := goredis.NewScript(countScript)
	return library{
		do: func(ctx context.Context, args ...string) (any, error) {
			v, err := c.Do(ctx, anys(args)...).Result()
			if errors.Is(err, goredis.Nil) {
				return nil, nil
			}
			return v, err
		},
		pipeline: func(ctx context.Context, cmds [][]string) ([]any, error) {
			done, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error {
				for _, args := range cmds {
					p.Do(ctx, anys(args)...)
				}
				return nil
			})
			var out []any
			for _, cmd := range done {
				out = append(out, cmd.(*goredis.Cmd).Val()) //nolint:forcetypeassert // Do makes them
			}
			return out, err
		},
		increment: func(ctx context.Context, key, other string) (bool, error) {
			err := c.Watch(ctx, func(tx *goredis.Tx) error {
				n, err := tx.Get(ctx, key).Int()
				if err != nil && !errors.Is(err, goredis.Nil) {
					return err
				}
				_, err = tx.TxPipelined(ctx, func(p goredis.Pipeliner) error {
					p.Set(ctx, key, n+1, 0)
					p.Incr(ctx, other)
					return nil
				})
				return err
			}, key)
			if errors.Is(err, goredis.TxFailedErr) {
				return false, nil
			}
			return err == nil, err
		},
		script: func(ctx context.Context, counter, key, value string) (any, error) {
			return script.Run(ctx, c, []string{counter, key}, value).Result()
		},
		pop: func(ctx context.Context, key string) (string, error) {
			v, err := c.BLPop(ctx, popSeconds*time.Second, key).Result()
			if errors.Is(err, goredis.Nil) {
				return "", nil
			}
			if err == nil && len(v) != 2 {
				err = fmt.Errorf("BLPOP: %q", v)
			}
			if err != nil {
				return "", err
			}
			return v[1], nil
		},
		listen: func(ctx context.Context, ch string, heard func(string)) error {
			sub := c.Subscribe(ctx, ch)
			defer sub.Close()
			messages := sub.Channel()
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case m, ok := <-messages:
					if !ok {
						return errors.New("the channel is closed")
					}
					heard(m.Payload)
				}
			}
		},
		close: func() { _ = c.Close() },
	}
}

func anys(args []string) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = a
	}
	return out
}

// newRueidis is a client with its defaults, client-side caching included, but for
// retries. Another one without a cache does what others do to the cached keys.
func newRueidis(tb testing.TB, w *way) library {
	tb.Helper()
	lib := library{invalidated: new(atomic.Int64), flushed: new(atomic.Int64)}
	o := rueidis.ClientOption{
		InitAddress: []string{w.addr}, DisableRetry: true, ConnWriteTimeout: 2 * patience,
		DialCtxFn: func(ctx context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return w.dial(ctx, addr)
		},
		OnInvalidations: func(keys []rueidis.RedisMessage) {
			lib.invalidated.Add(1)
			if keys == nil {
				lib.flushed.Add(1)
			}
		},
	}
	if w.sentinel != "" {
		o.InitAddress, o.Sentinel = []string{w.sentinel}, rueidis.SentinelOption{MasterSet: w.master}
	} else {
		o.ForceSingleClient = true
	}
	c, err := rueidis.NewClient(o)
	if err != nil {
		tb.Fatal(err)
	}
	build := func(args []string) rueidis.Completed { return c.B().Arbitrary(args...).Build() }
	script := rueidis.NewLuaScript(countScript)
	lib.do = func(ctx context.Context, args ...string) (any, error) { return anyOf(c.Do(ctx, build(args))) }
	lib.pipeline = func(ctx context.Context, cmds [][]string) (out []any, err error) {
		var all []rueidis.Completed
		for _, args := range cmds {
			all = append(all, build(args))
		}
		for _, r := range c.DoMulti(ctx, all...) {
			v, e := anyOf(r)
			out, err = append(out, v), errors.Join(err, e)
		}
		return out, err
	}
	lib.increment = func(ctx context.Context, key, other string) (done bool, err error) {
		err = c.Dedicated(func(d rueidis.DedicatedClient) error {
			if err := d.Do(ctx, d.B().Watch().Key(key).Build()).Error(); err != nil {
				return err
			}
			n, err := d.Do(ctx, d.B().Get().Key(key).Build()).AsInt64()
			if err != nil && !rueidis.IsRedisNil(err) {
				return err
			}
			rs := d.DoMulti(ctx, d.B().Multi().Build(), d.B().Set().Key(key).Value(strconv.FormatInt(n+1, 10)).Build(),
				d.B().Incr().Key(other).Build(), d.B().Exec().Build())
			for _, r := range rs[:3] {
				if err := r.Error(); err != nil {
					return err
				}
			}
			err = rs[3].Error()
			if done = err == nil; rueidis.IsRedisNil(err) {
				return nil
			}
			return err
		})
		return done, err
	}
	lib.script = func(ctx context.Context, counter, key, value string) (any, error) {
		return anyOf(script.Exec(ctx, c, []string{counter, key}, []string{value}))
	}
	lib.pop = func(ctx context.Context, key string) (string, error) {
		v, err := c.Do(ctx, c.B().Blpop().Key(key).Timeout(popSeconds).Build()).AsStrSlice()
		if rueidis.IsRedisNil(err) {
			return "", nil
		}
		if err == nil && len(v) != 2 {
			err = fmt.Errorf("BLPOP: %q", v)
		}
		if err != nil {
			return "", err
		}
		return v[1], nil
	}
	lib.listen = func(ctx context.Context, ch string, heard func(string)) error {
		return c.Receive(ctx, c.B().Subscribe().Channel(ch).Build(), func(m rueidis.PubSubMessage) { heard(m.Message) })
	}
	lib.cached = func(ctx context.Context, key string) (string, bool, error) {
		r := c.DoCache(ctx, c.B().Get().Key(key).Cache(), time.Hour)
		v, err := r.ToString()
		return v, r.IsCacheHit(), err
	}
	lib.close = c.Close
	return lib
}

// anyOf is a reply as library has it.
func anyOf(r rueidis.RedisResult) (any, error) {
	v, err := r.ToAny()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	return v, err
}

// newRedigo does by hand what redigo's users do: a pool, and in Sentinel mode ask a
// Sentinel, dial what it says, check the role of borrowed connections, and drop all
// at a +switch-master, which here must not come.
func newRedigo(tb testing.TB, w *way) library {
	tb.Helper()
	dial := func(ctx context.Context, addr string, by func(context.Context, string, string) (net.Conn, error)) (redis.Conn, error) {
		return redis.DialContext(ctx, "tcp", addr, redis.DialContextFunc(by), redis.DialReadTimeout(2*patience))
	}
	counted := func(ctx context.Context, _, addr string) (net.Conn, error) { return w.dial(ctx, addr) }
	master := func(ctx context.Context) (redis.Conn, error) {
		if w.sentinel == "" {
			return dial(ctx, w.addr, counted)
		}
		s, err := dial(ctx, w.sentinel, new(net.Dialer).DialContext) // for one question
		if err != nil {
			return nil, err
		}
		defer s.Close()
		addr, err := redis.Strings(s.Do("SENTINEL", "get-master-addr-by-name", w.master))
		if err != nil {
			return nil, err
		}
		if len(addr) != 2 {
			return nil, fmt.Errorf("no master: %q", addr)
		}
		return dial(ctx, net.JoinHostPort(addr[0], addr[1]), counted)
	}
	pool := &redis.Pool{MaxIdle: 100, DialContext: master}
	silent := func() {}
	if w.sentinel != "" {
		pool.TestOnBorrow = wantMaster
		silent = wantSilence(tb, func() (redis.Conn, error) { return dial(tb.Context(), w.sentinel, counted) })
	}
	script := redis.NewScript(2, countScript)
	lib := library{
		do: func(ctx context.Context, args ...string) (any, error) {
			c, err := pool.GetContext(ctx)
			if err != nil {
				return nil, err
			}
			v, err := c.Do(args[0], anys(args[1:])...)
			return text(v), errors.Join(err, c.Close())
		},
		pipeline: func(ctx context.Context, cmds [][]string) (out []any, err error) {
			c, err := pool.GetContext(ctx)
			if err != nil {
				return nil, err
			}
			for _, args := range cmds {
				err = errors.Join(err, c.Send(args[0], anys(args[1:])...))
			}
			err = errors.Join(err, c.Flush())
			for range cmds {
				v, e := c.Receive()
				out, err = append(out, text(v)), errors.Join(err, e)
			}
			return out, errors.Join(err, c.Close())
		},
		increment: func(ctx context.Context, key, other string) (bool, error) {
			c, err := pool.GetContext(ctx)
			if err != nil {
				return false, err
			}
			done, err := redigoIncrement(c, key, other)
			return done, errors.Join(err, c.Close())
		},
		script: func(ctx context.Context, counter, key, value string) (any, error) {
			c, err := pool.GetContext(ctx)
			if err != nil {
				return nil, err
			}
			v, err := script.DoContext(ctx, c, counter, key, value)
			return text(v), errors.Join(err, c.Close())
		},
		pop: func(ctx context.Context, key string) (string, error) {
			c, err := pool.GetContext(ctx)
			if err != nil {
				return "", err
			}
			v, err := redis.Strings(c.Do("BLPOP", key, popSeconds))
			err = errors.Join(err, c.Close())
			if errors.Is(err, redis.ErrNil) {
				return "", nil
			}
			if err == nil && len(v) != 2 {
				err = fmt.Errorf("BLPOP: %q", v)
			}
			if err != nil {
				return "", err
			}
			return v[1], nil
		},
	}
	lib.listen = func(ctx context.Context, ch string, heard func(string)) error {
		c, err := master(ctx)
		if err != nil {
			return err
		}
		sub := redis.PubSubConn{Conn: c}
		defer sub.Close()
		if err := sub.Subscribe(ch); err != nil {
			return err
		}
		for {
			switch m := sub.ReceiveContext(ctx).(type) {
			case redis.Message:
				heard(string(m.Data))
			case error:
				return m
			}
		}
	}
	lib.close = func() {
		silent()
		_ = pool.Close()
	}
	return lib
}

// text is a reply as library has it.
func text(v any) any {
	switch v := v.(type) {
	case []byte:
		return string(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = text(e)
		}
		return out
	}
	return v
}

func redigoIncrement(c redis.Conn, key, other string) (bool, error) {
	if _, err := c.Do("WATCH", key); err != nil {
		return false, err
	}
	n, err := redis.Int(c.Do("GET", key))
	if err != nil && !errors.Is(err, redis.ErrNil) {
		return false, err
	}
	for _, cmd := range [][]any{{"MULTI"}, {"SET", key, n + 1}, {"INCR", other}} {
		if err := c.Send(cmd[0].(string), cmd[1:]...); err != nil { //nolint:forcetypeassert // the line above
			return false, err
		}
	}
	v, err := c.Do("EXEC")
	return v != nil, err
}

func wantMaster(c redis.Conn, _ time.Time) error {
	role, err := redis.Values(c.Do("ROLE"))
	if err != nil {
		return err
	}
	if name, err := redis.String(role[0], nil); err != nil || name != "master" {
		return fmt.Errorf("role %q, %w", name, err)
	}
	return nil
}

// wantSilence listens at a Sentinel for +switch-master until the returned function
// is called, and fails the test if there is one or the connection ends.
func wantSilence(tb testing.TB, dial func() (redis.Conn, error)) (end func()) {
	tb.Helper()
	c, err := dial()
	if err != nil {
		tb.Fatal(err)
	}
	events := redis.PubSubConn{Conn: c}
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
	return func() {
		closing.Store(true)
		_ = c.Close()
		watching.Wait()
	}
}
