package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestGoRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node)
	for _, proto := range []int{2, 3} {
		t.Run("RESP"+strconv.Itoa(proto), func(t *testing.T) {
			r := &running{tb: t, server: r.server, addr: r.addr, node: node}
			c := r.client(func(o *redis.Options) { o.Protocol = proto; o.DB = proto; o.ClientName = "gateway" })
			t.Run("pool", func(t *testing.T) { testPool(t, c) })
			t.Run("pipeline", func(t *testing.T) { testPipeline(t, c) })
			t.Run("watch", func(t *testing.T) { testWatch(t, c) })
			t.Run("pubsub", func(t *testing.T) { testPubSub(t, c) })
			t.Run("blpop", func(t *testing.T) { testBLPop(t, c) })
			t.Run("lua", func(t *testing.T) { testLua(t, c) })
			t.Run("scan", func(t *testing.T) { testScan(t, c) })
		})
	}
}

func testPool(t *testing.T, c *redis.Client) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range 50 {
				k := fmt.Sprintf("pool:%d:%d", i, j)
				if err := c.Set(t.Context(), k, k, 0).Err(); err != nil {
					t.Errorf("SET %s: %v", k, err)
					return
				}
				if got, err := c.Get(t.Context(), k).Result(); err != nil || got != k {
					t.Errorf("GET %s = %q, %v", k, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testPipeline(t *testing.T, c *redis.Client) {
	t.Helper()
	cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 1000 {
			p.Set(t.Context(), "pipe:"+strconv.Itoa(i), i, 0)
			p.Get(t.Context(), "pipe:"+strconv.Itoa(i))
			p.HSet(t.Context(), "pipeh", strconv.Itoa(i), i)
		}
		p.HGetAll(t.Context(), "pipeh")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if got := cmds[3*i+1].(*redis.StringCmd).Val(); got != strconv.Itoa(i) { //nolint:forcetypeassert // built above
			t.Fatalf("reply %d is %q", i, got)
		}
	}
	if got := cmds[3000].(*redis.MapStringStringCmd).Val(); len(got) != 1000 { //nolint:forcetypeassert // built above
		t.Errorf("HGETALL has %d fields; want 1000", len(got))
	}
}

// testWatch counts with optimistic locking from many goroutines at once.
func testWatch(t *testing.T, c *redis.Client) {
	t.Helper()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := increment(t.Context(), c); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n, err := c.Get(t.Context(), "watched").Int(); err != nil || n != 80 {
		t.Errorf("counted %d, %v; want 80", n, err)
	}
}

func increment(ctx context.Context, c *redis.Client) error {
	for {
		err := c.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, "watched").Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "watched", n+1, 0).Err() })
			return err
		}, "watched")
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
	}
}

func testPubSub(t *testing.T, c *redis.Client) {
	t.Helper()
	ps := c.Subscribe(t.Context(), "news")
	defer ps.Close()
	if err := ps.PSubscribe(t.Context(), "s*"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := ps.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for ch, want := range map[string]string{"news": "a", "sport": "b"} {
		if n, err := c.Publish(t.Context(), ch, want).Result(); err != nil || n != 1 {
			t.Fatalf("PUBLISH reached %d, %v", n, err)
		}
		m, err := ps.ReceiveMessage(t.Context())
		if err != nil || m.Payload != want {
			t.Fatalf("got %v, %v", m, err)
		}
	}
	if err := ps.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, err := ps.Receive(t.Context()); err != nil {
		t.Fatalf("PONG: %v, %v", m, err)
	}
	if err := ps.Unsubscribe(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func testBLPop(t *testing.T, c *redis.Client) {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		v, err := c.BLPop(t.Context(), testWait, "queue").Result()
		got <- fmt.Sprint(v, err)
	}()
	eventually(t, "a blocked client", func() (bool, string) {
		info, err := c.Info(t.Context(), "clients").Result()
		return err == nil && slices.Contains(strings.Fields(info), "blocked_clients:1"), info
	})
	c.RPush(t.Context(), "queue", "x")
	if v := <-got; v != "[queue x] <nil>" {
		t.Errorf("BLPOP: %s", v)
	}
	if err := c.BLPop(t.Context(), time.Second, "queue").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("BLPOP of an empty list: %v", err)
	}
}

func testLua(t *testing.T, c *redis.Client) {
	t.Helper()
	s := redis.NewScript(`redis.call('SET', KEYS[1], ARGV[1]); return {redis.call('GET', KEYS[1]), 42}`)
	for range 2 { // EVALSHA, NOSCRIPT, EVAL; then EVALSHA
		v, err := s.Run(t.Context(), c, []string{"lua"}, "x").Result()
		if err != nil || fmt.Sprint(v) != "[x 42]" {
			t.Errorf("script: %v, %v", v, err)
		}
	}
}

func testScan(t *testing.T, c *redis.Client) {
	t.Helper()
	seen := map[string]bool{}
	it := c.Scan(t.Context(), 0, "pool:*", 100).Iterator()
	for it.Next(t.Context()) {
		seen[it.Val()] = true
	}
	if err := it.Err(); err != nil || len(seen) != 2500 {
		t.Errorf("SCAN saw %d keys, %v; want 2500", len(seen), err)
	}
}
