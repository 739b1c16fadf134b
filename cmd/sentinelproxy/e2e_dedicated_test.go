package main

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// With a connection for each client a master ends as many as there are clients, one after
// the other, in a planned failover and in a crash: none of it is taken for Redis' word on a
// client, as CLIENT KILL is (docs/protocol.md).
func TestDedicatedThroughFailovers(t *testing.T) {
	g := quickGroup(t, redistest.Options{DownAfter: 3 * time.Second})
	s := startRun(t, g, patiently("--multiplex=false")...)
	strain := g.WatchStrain(t)
	c := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1})
	defer c.Close()
	sub := c.Subscribe(t.Context(), "news")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	const clients = 40
	w := startWriters(t, s.addr, clients)
	f := failOverFrom(t, g, stable(t, g))
	w.firstAckAfter(t, f.majority)
	w.unharmed(t, stable(t, g), strain, f)

	w = startWriters(t, s.addr, clients)
	old := stable(t, g)
	watch := watchMajority(t, g, old)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	majority := watch.named(t)
	w.firstAckAfter(t, majority)
	watch.end()
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stable(t, g)
	w.finish()
	h := w.history()
	h.wantNoErrors(t)

	const ended = `sentinelproxy_client_disconnects_total{master_name="mymaster",reason="ended_by_redis"}`
	if n := metric(t, s.admin, ended); n != 0 {
		t.Errorf("%v clients were taken for killed", n)
	}
	if err := c.Publish(t.Context(), "news", "still there").Err(); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.ReceiveTimeout(t.Context(), patience); err != nil {
		t.Errorf("the subscriber got %v, %v", m, err)
	}
	// And one that is killed by another client is ended.
	victim := c.Conn()
	defer victim.Close()
	id, err := victim.ClientID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.ClientKillByFilter(t.Context(), "ID", strconv.FormatInt(id, 10)).Result(); err != nil || n != 1 {
		t.Fatalf("CLIENT KILL: %v, %v", n, err)
	}
	waitFor(t, "the client to be ended", func() bool { return metric(t, s.admin, ended) == 1 })
	if err := victim.Ping(t.Context()).Err(); err == nil {
		t.Error("a client that was killed is answered")
	}
}
