package proxy

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// direct is a client of the node itself that keeps one connection.
func (r *running) direct(password string) *redis.Conn {
	r.tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: string(r.node.Addr()), Password: password, MaxRetries: -1, ReadTimeout: testWait})
	conn := c.Conn()
	r.tb.Cleanup(func() { _ = conn.Close(); _ = c.Close() })
	if err := conn.Ping(r.tb.Context()).Err(); err != nil {
		r.tb.Fatal(err)
	}
	return conn
}

func must(tb testing.TB, c *redis.Conn, args ...any) {
	tb.Helper()
	if err := c.Do(tb.Context(), args...).Err(); err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
}

func (r *running) waitHeld(n int) {
	r.tb.Helper()
	eventually(r.tb, fmt.Sprintf("%d commands held", n), func() (bool, string) {
		got := r.status().CommandsHeld
		return got == uint64(n), fmt.Sprint(got)
	})
}

// A client that goes away while its commands are held takes them with it.
func TestHeldClientThatLeaves(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{}))
	leaves := map[string]func(*raw){
		"closes":             func(c *raw) { _ = c.Close() },
		"closes its half":    func(c *raw) { c.closeWrite() },
		"resets":             func(c *raw) { setLinger(t, c); _ = c.Close() },
		"sends more, leaves": func(c *raw) { c.send("SET gone 2\r\n"); _ = c.Close() },
	}
	for name, leave := range leaves {
		t.Run(name, func(t *testing.T) {
			r.setRoute(topology.Route{State: topology.Holding, Master: r.node.Addr(), Epoch: 1})
			c := r.raw()
			c.send("SET gone 1\r\n")
			r.waitHeld(1)
			leave(c)
			r.waitHeld(0)
			r.waitClients(0)
			r.serve()
			stays := r.raw()
			stays.send("EXISTS gone\r\n")
			stays.expect(":0\r\n")
			_ = stays.Close()
			r.waitClients(0)
		})
	}
}

// A master that turns connections away has commands wait, and says why.
func TestRealMasterTurnsConnectionsAway(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{}))
	c := r.raw()
	c.send("SET a 1\r\n")
	c.expect("+OK\r\n")
	admin := r.direct("")
	must(t, admin, "CONFIG", "SET", "maxclients", "1")
	must(t, admin, "CLIENT", "KILL", "TYPE", "normal")
	c.send("INCR a\r\n")
	eventually(t, "the reason told", func() (bool, string) {
		ok, why := r.server.Ready()
		return !ok && why != "", why
	})
	r.waitHeld(1)
	_, why := r.server.Ready()
	t.Logf("not ready: %s", why)
	must(t, admin, "CONFIG", "SET", "maxclients", "100")
	c.expect(":2\r\n")
	eventually(t, "ready again", r.server.Ready)
}

// The sidecar's own account gets a new password, and then loses its connections.
func TestPasswordRotation(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{Password: "old"}), func(o *Options) {
		o.Auth, o.Password = AuthNone, "old"
	})
	c := r.raw()
	c.send("SET a 1\r\n")
	c.expect("+OK\r\n")
	admin := r.direct("old")
	must(t, admin, "CONFIG", "SET", "requirepass", "new")
	c.send("INCR a\r\n") // its connection is logged in already
	c.expect(":2\r\n")
	r.server.SetLogin("", "new")
	must(t, admin, "CLIENT", "KILL", "TYPE", "normal")
	c.send("INCR a\r\n")
	c.expect(":3\r\n")
}

func setLinger(tb testing.TB, c *raw) {
	tb.Helper()
	type lingerer interface{ SetLinger(sec int) error }
	if err := c.Conn.(lingerer).SetLinger(0); err != nil { //nolint:forcetypeassert // it is TCP
		tb.Fatal(err)
	}
}
