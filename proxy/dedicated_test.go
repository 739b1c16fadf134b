package proxy

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// dedicated is serving with a backend connection for each client.
func dedicated(tb testing.TB) *rig {
	tb.Helper()
	r := serving(tb)
	r.w.opts.Dedicated = true
	return r
}

func TestDedicatedClientsShareNothing(t *testing.T) {
	r := dedicated(t)
	c, d := r.client(), r.client()
	c.send("GET a")
	b := r.ownBackend()
	b.expect("GET a")
	d.send("GET b")
	e := r.ownBackend()
	e.expect("GET b")
	b.reply("$1\r\n1\r\n")
	e.reply("$1\r\n2\r\n")
	c.expect("$1\r\n1\r\n")
	d.expect("$1\r\n2\r\n")
	c.send("CLIENT ID", "CLIENT GETNAME", "SELECT 3")
	b.expect("CLIENT ID", "CLIENT GETNAME")
	b.reply(":77\r\n$-1\r\n")
	b.expect("SELECT 3")
	b.reply("+OK\r\n")
	c.expect(":77\r\n$-1\r\n+OK\r\n")
	if len(r.dials) != 0 {
		t.Errorf("%d further connections are dialled", len(r.dials))
	}
}

func TestDedicatedLoginIsMadeOnTheOwnConnection(t *testing.T) {
	r := dedicated(t)
	c := r.client()
	c.send("AUTH joe wrong", "HELLO 3 AUTH joe right SETNAME me", "GET a")
	b := r.accept()
	b.expect("HELLO 2 AUTH joe wrong")
	b.reply("-WRONGPASS invalid\r\n")
	c.expect("-WRONGPASS invalid\r\n")
	b = r.accept()
	b.expect("HELLO 3 AUTH joe right")
	b.reply(helloMaster)
	b.expect("HELLO 3 AUTH joe right SETNAME me")
	b.reply(helloMaster)
	c.expect(helloMaster)
	b.expect("GET a")
	b.reply("$1\r\n1\r\n")
	c.expect("$1\r\n1\r\n")
	if r.w.owned != 1 || c.s.name != "me" {
		t.Errorf("%d own connections, name %q; want 1 and %q", r.w.owned, c.s.name, "me")
	}
}

func TestDedicatedIdentityNeverOutlivesAnAbandonedLogin(t *testing.T) {
	r := dedicated(t)
	c := r.client()
	c.send("AUTH joe right")
	b := r.accept() // not greeted yet
	r.hold()
	r.advance(r.w.route.HoldTimeout + 1)
	c.expectError("MASTERDOWN", "")
	r.serve(nodeA, 1)
	if !b.wire.closed {
		b.reply(helloMaster)
	}
	c.send("GET a")
	for {
		b := r.accept()
		if got := strings.Join(b.next(), " "); got == "HELLO 2" {
			b.reply(helloMaster)
			b.expect("GET a")
			return
		}
	}
}

func TestDedicatedResetKeepsTheConnection(t *testing.T) {
	r := dedicated(t)
	c := r.client()
	c.send("SELECT 4", "MULTI", "RESET", "GET a")
	b := r.accept()
	b.expect("HELLO 2", "SELECT 4")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SELECT 4") // now as the client's
	b.reply("+OK\r\n")
	b.expect("MULTI")
	b.reply("+OK\r\n")
	b.expect("RESET")
	b.reply("+RESET\r\n")
	b.expect("GET a")
	b.reply("$-1\r\n")
	c.expect("+OK\r\n+OK\r\n+RESET\r\n$-1\r\n")
	if c.s.who.db != 0 || r.w.owned != 1 {
		t.Errorf("database %d, %d own connections; want 0 and 1", c.s.who.db, r.w.owned)
	}
}

func TestDedicatedIsHeldAndRestored(t *testing.T) {
	r := dedicated(t)
	c := r.client()
	c.send("GET a")
	b := r.backend()
	b.expect("GET a")
	b.reply("$-1\r\n")
	c.send("SELECT 2", "CLIENT SETNAME me")
	b.expect("SELECT 2")
	b.reply("+OK\r\n")
	b.expect("CLIENT SETNAME me")
	b.reply("+OK\r\n")
	c.expect("$-1\r\n+OK\r\n+OK\r\n")
	r.hold()
	c.send("SET a 1")
	b.expectNothing()
	r.serve(nodeB, 2)
	b = r.accept()
	b.expect("HELLO 2", "SELECT 2")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("CLIENT SETNAME me", "SET a 1")
	b.reply("+OK\r\n+OK\r\n")
	c.expect("+OK\r\n")
	r.checkHeld(1, 0, 0, 0)
}

func TestDedicatedOnRealRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{Password: "secret"})
	r := startServer(t, node, func(o *Options) { o.Dedicated, o.MaxClients = true, 5 })
	a := r.client(func(o *redis.Options) { o.Password, o.PoolSize, o.ClientName = "secret", 1, "a" })
	b := r.client(func(o *redis.Options) { o.Password, o.PoolSize, o.ClientName = "secret", 1, "b" })
	ctx := t.Context()
	ida, idb := a.ClientID(ctx).Val(), b.ClientID(ctx).Val()
	if ida == 0 || ida == idb {
		t.Errorf("client ids %d and %d; want two", ida, idb)
	}
	if info := a.ClientInfo(ctx).Val(); info == nil || info.ID != ida || info.Name != "a" {
		t.Errorf("CLIENT INFO says %+v; want id %d and name a", info, ida)
	}
	if err := a.ClientKillByFilter(ctx, "ID", b.ClientInfo(ctx).Val().Addr).Err(); err == nil {
		t.Error("CLIENT KILL ID with an address succeeded")
	}
	if n := a.ClientKillByFilter(ctx, "SKIPME", "yes").Val(); n < 1 {
		t.Errorf("CLIENT KILL ended %d connections; want the other one at least", n)
	}
}
