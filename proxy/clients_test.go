package proxy

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestClientsSeeThemselvesAndOthers(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("CLIENT ID")
	b.expect("CLIENT ID")
	b.reply(":77\r\n")
	c.expect(":1\r\n")
	d.send("CLIENT SETNAME dave", "CLIENT LIST ID 2 9")
	b.expect("CLIENT SETNAME ")
	b.reply("+OK\r\n")
	b.expect("CLIENT LIST ID 2 9")
	b.reply("$1\r\n\n\r\n")
	d.wire.r.turn()
	if got := string(d.wire.got); !strings.Contains(got, "id=2 addr=client laddr=us fd=0 name=dave ") || strings.Contains(got, "id=1 ") {
		t.Errorf("CLIENT LIST ID 2 9 says %q", got)
	}
	d.wire.got = nil
	d.send("CLIENT KILL ID 1 TYPE normal")
	b.expect("CLIENT KILL ID 9223372036854775807 TYPE normal")
	b.reply(":0\r\n")
	d.expect(":1\r\n")
	if !c.wire.closed {
		t.Error("the client with id 1 lives on")
	}
	d.send("CLIENT KILL TYPE normal")
	b.expect("CLIENT KILL TYPE normal ID 9223372036854775807")
	b.reply(":0\r\n")
	d.expect(":0\r\n") // not itself
	d.send("CLIENT KILL client")
	b.expect("CLIENT KILL 0.0.0.0:0")
	b.reply("-ERR No such client\r\n")
	d.expect("+OK\r\n")
	if !d.wire.closed {
		t.Error("it has not killed itself")
	}
}

func TestClientCommandsAreRedisToAllow(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	for cmd, probe := range map[string]string{
		"CLIENT ID": "CLIENT ID", "CLIENT INFO": "CLIENT INFO", "CLIENT LIST": "CLIENT LIST", "CLIENT LIST FOO": "CLIENT LIST FOO",
		"CLIENT KILL 1.2.3.4:5": "CLIENT KILL 0.0.0.0:0", "CLIENT KILL ID 3": "CLIENT KILL ID 9223372036854775807",
		"CLIENT KILL ID 3 4 SKIPME no":    "CLIENT KILL ID 9223372036854775807 9223372036854775807 SKIPME no",
		"CLIENT KILL NOT-ID 3 4 ID 7 8 9": "CLIENT KILL NOT-ID 3 4 ID 9223372036854775807 9223372036854775807 9223372036854775807",
		"CLIENT KILL TYPE normal 7":       "CLIENT KILL TYPE normal 7 ID 9223372036854775807",
		"CLIENT KILL ID x":                "CLIENT KILL ID x ID 9223372036854775807", "CLIENT UNBLOCK 3 ERROR": "CLIENT UNBLOCK 9223372036854775807 ERROR",
	} {
		c.send(cmd)
		b.expect(probe)
		b.reply("-NOPERM not you\r\n")
		c.expect("-NOPERM not you\r\n")
	}
}

// Valkey 8.1 takes several ids. None of them may hit the sidecar's own connections.
func TestKillSeveralIDs(t *testing.T) {
	r := serving(t)
	c, d, e := r.client(), r.client(), r.client()
	b := warm(r, c)
	c.send("CLIENT KILL ID 2 3 99 ID 3 4")
	b.expect("CLIENT KILL ID " + strings.TrimSpace(strings.Repeat(noClient+" ", 3)) + " ID " + noClient + " " + noClient)
	b.reply(":0\r\n")
	c.expect(":1\r\n") // as Redis, which obeys the last of two
	if d.s.closing || !e.s.closing {
		t.Error("the wrong client was ended")
	}
}

func TestOthersAreNotKilledWithoutAMasterToAsk(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	warm(r, c)
	r.hold()
	c.send("CLIENT KILL ID 2")
	c.expect("")
	r.advance(r.w.route.HoldTimeout + time.Second)
	c.expectError("MASTERDOWN", "")
	if d.wire.closed {
		t.Error("it was killed by somebody who may not be allowed to")
	}
}

func TestClientUnblock(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, d)
	c.send("BLPOP q 0")
	o := r.ownBackend()
	o.expect("BLPOP q 0")
	d.send("CLIENT UNBLOCK 1 ERROR", "CLIENT UNBLOCK 2")
	b.expect("CLIENT UNBLOCK 9223372036854775807 ERROR")
	b.reply(":0\r\n")
	b.expect("CLIENT UNBLOCK 7 ERROR") // as HELLO named the connection
	o.reply("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
	b.reply(":1\r\n")
	b.expect("CLIENT UNBLOCK 9223372036854775807")
	b.reply(":0\r\n")
	d.expect(":1\r\n:0\r\n")
	c.expect("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
}

func TestClientTableOnRealRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node, func(o *Options) { o.Loops = 3 })
	ctx := t.Context()
	var all []*redis.Client
	ids := map[int64]bool{}
	for i := range 6 {
		c := r.client(func(o *redis.Options) { o.PoolSize, o.ClientName = 1, fmt.Sprint("n", i) })
		all = append(all, c)
		ids[c.ClientID(ctx).Val()] = true
	}
	if len(ids) != 6 {
		t.Fatalf("%d ids; want 6", len(ids))
	}
	list := strings.Split(strings.TrimSpace(all[0].ClientList(ctx).Val()), "\n")
	if len(list) != 6 {
		t.Errorf("CLIENT LIST has %d lines; want 6:\n%s", len(list), strings.Join(list, "\n"))
	}
	direct := redis.NewClient(&redis.Options{Addr: string(node.Addr()), DisableIdentity: true})
	defer direct.Close()
	fields := func(line string) []string {
		var names []string
		for _, m := range regexp.MustCompile(`([a-z-]+)=`).FindAllStringSubmatch(line, -1) {
			names = append(names, m[1])
		}
		return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "lib-") })
	}
	own, _, _ := strings.Cut(direct.ClientList(ctx).Val(), "\n")
	if got, want := fields(list[0]), fields(own); !slices.Equal(got, want) {
		t.Errorf("fields of CLIENT LIST\n%v\nRedis has\n%v", got, want)
	}
	done := make(chan error, 1)
	blocker := all[1].ClientID(ctx).Val()
	go func() { done <- all[1].BLPop(context.WithoutCancel(ctx), 0, "nothing").Err() }()
	eventually(t, "unblocked", func() (bool, string) {
		n := all[0].ClientUnblock(ctx, blocker).Val()
		return n == 1, fmt.Sprint(n)
	})
	select {
	case err := <-done:
		if err != redis.Nil { //nolint:errorlint // as go-redis says
			t.Errorf("the blocked call ends with %v; want nil", err)
		}
	case <-time.After(testWait):
		t.Fatal("still blocked")
	}
	if n := all[0].ClientKillByFilter(ctx, "TYPE", "normal").Val(); n != 5 {
		t.Errorf("CLIENT KILL ended %d clients; want the 5 others", n)
	}
	if n := all[2].ClientID(ctx).Val(); ids[n] { // on the connection that is dead, or a new one
		t.Errorf("id %d is in use again", n)
	}
}

// What CLIENT LIST says of a client is what Redis would say of it.
func TestClientLinesAsOfRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node)
	said := regexp.MustCompile(` (name|flags|db|sub|psub|ssub|multi|cmd|user|redir|resp)=(\S*)`)
	for _, script := range []string{
		"PING", "GET x", "NOSUCH", "CLIENT NOSUCH", "CLIENT SETNAME me", "SELECT 3", "HELLO 3", "MONITOR", "CLIENT NO-EVICT ON",
		"CLIENT NO-EVICT ON|CLIENT NO-EVICT OFF", "HELLO 3|CLIENT TRACKING ON", "HELLO 3|CLIENT TRACKING ON BCAST PREFIX a PREFIX bcast",
		"HELLO 3|CLIENT TRACKING ON OPTIN", "HELLO 3|CLIENT TRACKING ON BCAST|CLIENT TRACKING OFF", "SUBSCRIBE a b|PSUBSCRIBE c", "SSUBSCRIBE s",
		"MULTI", "MULTI|SET x 1|GET x", "MULTI|NOSUCH", "MULTI|SET x 1|MULTI|GET|WATCH x", "MULTI|NOSUCH|EXEC", "WATCH x", "BLPOP none 0",
		"XREAD BLOCK 0 STREAMS none $", "KEYS none", "MULTI|BLPOP none 0|EXEC",
	} {
		lineOf := func(dial func() *raw) func() string {
			c, asks := dial(), dial()
			c.send("CLIENT ID\r\n")
			id := strings.TrimPrefix(c.line(), ":")
			c.send(frames(strings.Split(script, "|")...))
			return func() string {
				asks.send("CLIENT LIST ID " + id + "\r\n")
				asks.line()
				line := asks.line()
				asks.line()
				return fmt.Sprint(said.FindAllString(line, -1))
			}
		}
		want, got := lineOf(func() *raw { return dialRaw(t, "tcp", string(node.Addr())) }), lineOf(r.raw)
		eventually(t, script, func() (bool, string) {
			w, g := want(), got()
			return w == g, "Redis says   " + w + "\nthe sidecar  " + g
		})
	}
}
