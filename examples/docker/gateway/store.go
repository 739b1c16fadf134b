package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// reloadChannel carries the keys that gateways must read again; "*" is all.
const reloadChannel = "gateway-reload"

// grant is what a key is good for. The zero quota is none.
type grant struct {
	Rate  int64         // requests in each Per
	Per   time.Duration // a whole number of seconds
	Quota int64         // requests in each QuotaPer
	// QuotaPer is the quota's period; a day where it was left out.
	QuotaPer time.Duration
}

// usage is what a key has used, this request included.
type usage struct{ Rate, Quota int64 }

// errNoKey means that Redis has answered: there is no such key.
var errNoKey = errors.New("no such key")

// store is all that the gateway keeps in Redis:
//
//	apikey-KEY           a hash: rate, per, quota, quota_per (seconds)
//	rate-KEY-WINDOW      requests in that window
//	quota-KEY-PERIOD     requests in that period
//
// Every call ends with its context, at the latest.
type store struct{ client *redis.Client }

// newStore connects when it is first asked.
func newStore(c config) store {
	return store{redis.NewClient(&redis.Options{
		Addr: c.Redis, PoolSize: c.PoolSize,
		// The context of a request is what bounds it; these bound what has none.
		ContextTimeoutEnabled: true,
		DialTimeout:           c.RedisTimeout, ReadTimeout: c.RedisTimeout, WriteTimeout: c.RedisTimeout, PoolTimeout: c.RedisTimeout,
	})}
}

func (s store) close() error { return s.client.Close() }

// grant reads what a key is good for.
func (s store) grant(ctx context.Context, key string) (grant, error) {
	h, err := s.client.HGetAll(ctx, "apikey-"+key).Result()
	if err != nil {
		return grant{}, fmt.Errorf("read the key: %w", err)
	}
	if len(h) == 0 {
		return grant{}, errNoKey
	}
	number := func(name string, otherwise int64) int64 {
		n, err := strconv.ParseInt(h[name], 10, 64)
		if err != nil || n < 0 {
			return otherwise
		}
		return n
	}
	const day = 86400
	return grant{
		Rate: number("rate", 0), Per: time.Duration(max(1, number("per", 1))) * time.Second,
		Quota: number("quota", 0), QuotaPer: time.Duration(max(1, number("quota_per", day))) * time.Second,
	}, nil
}

// count adds one request of a key and returns what it has used in the windows of
// now. It is one pipeline. Where nobody knows whether that was executed, it is sent
// again, as the Redis client does after a lost connection: a limit may count such a
// request twice.
func (s store) count(ctx context.Context, key string, g grant, now time.Time) (usage, error) {
	for {
		u, err := s.countOnce(ctx, key, g, now)
		if err == nil || ctx.Err() != nil || !uncertain(err) {
			return u, err
		}
	}
}

func (s store) countOnce(ctx context.Context, key string, g grant, now time.Time) (usage, error) {
	window := func(prefix string, per time.Duration) string {
		return fmt.Sprintf("%s-%s-%d", prefix, key, now.Unix()/int64(per.Seconds()))
	}
	pipe := s.client.Pipeline()
	rate := pipe.Incr(ctx, window("rate", g.Per))
	pipe.Expire(ctx, window("rate", g.Per), 2*g.Per)
	quota := new(redis.IntCmd)
	if g.Quota > 0 {
		quota = pipe.Incr(ctx, window("quota", g.QuotaPer))
		pipe.Expire(ctx, window("quota", g.QuotaPer), 2*g.QuotaPer)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return usage{}, fmt.Errorf("count the request: %w", err)
	}
	return usage{rate.Val(), quota.Val()}, nil
}

// uncertain reports whether the sidecar says that a write may or may not have been
// executed.
func uncertain(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(reply.Error(), "UNCERTAIN ")
}

// seed makes a key unless it is there.
func (s store) seed(ctx context.Context, key string, rate int) error {
	_, err := s.client.HSetNX(ctx, "apikey-"+key, "rate", rate).Result()
	return err
}

// ping asks whether Redis answers.
func (s store) ping(ctx context.Context) error { return s.client.Ping(ctx).Err() }

// reloads calls forget with each key that is to be read again, and with "*" whenever
// messages may have been missed. It ends with ctx.
func (s store) reloads(ctx context.Context, forget func(key string)) {
	sub := s.client.Subscribe(ctx, reloadChannel)
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() }) // ends the channel
	defer func() {
		if stop() {
			_ = sub.Close()
		}
	}()
	for m := range sub.ChannelWithSubscriptions() {
		switch m := m.(type) {
		case *redis.Subscription: // also after a lost connection
			forget("*")
		case *redis.Message:
			forget(m.Payload)
		}
	}
}
