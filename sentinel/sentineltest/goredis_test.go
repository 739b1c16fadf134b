package sentineltest_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
)

// TestFailoverClient lets go-redis' own Sentinel client follow a failover, in
// both protocols.
func TestFailoverClient(t *testing.T) {
	t.Parallel()
	for name, proto := range map[string]int{"resp2": 2, "resp3": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := sentineltest.Fast()
			o.Password, o.SentinelPassword = "pw", "spw"
			g := sentineltest.New(t, o)
			var addrs []string
			for _, a := range g.SentinelAddrs() {
				addrs = append(addrs, string(a))
			}
			c := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: g.Name(), SentinelAddrs: addrs, SentinelPassword: "spw", Password: "pw", Protocol: proto,
			})
			defer func() { _ = c.Close() }()
			ctx := t.Context()
			if err := c.Set(ctx, "k", "before", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if err := g.Failover(ctx, ""); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a write to the new master", func() bool { return c.Set(ctx, "k", "after", 0).Err() == nil })
			if v, _ := g.Node(g.MasterAddr()).Get("k"); v != "after" {
				t.Errorf("new master has %q; want after", v)
			}
			n, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "n")
				p.Expire(ctx, "n", time.Hour)
				return nil
			})
			if err != nil || len(n) != 2 {
				t.Errorf("TxPipelined: %v, %v", n, err)
			}
			if got, err := c.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{"k"}).Text(); got != "after" || err != nil {
				t.Errorf("Eval: %q, %v", got, err)
			}
		})
	}
}
