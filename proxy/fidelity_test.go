package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// What the differential test has found, each as a script.

func TestScanBehindACommandThatUnpins(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("NOSUCH", "SCAN 0")
	o := r.ownBackend()
	o.expect("NOSUCH", "INFO server")
	o.reply("-ERR unknown command\r\n") // it goes back to the shared connection, and must not wait for this one
	b.expect("INFO server")
	b.reply("$0\r\n\r\n")
	b.expect("SCAN 0")
}

func TestResetEndsReplyOff(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("CLIENT REPLY OFF", "RESET x", "CLIENT GETNAME", "RESET", "CLIENT GETNAME")
	b.mayReply()
	b.expect("RESET x")
	b.reply("-ERR wrong number of arguments for 'reset' command\r\n")
	for range 2 {
		b.expect("CLIENT GETNAME")
		b.reply("$1\r\nx\r\n")
	}
	c.expect("+RESET\r\n$-1\r\n")
}

func TestResetWaitsUntilItsSubscriptionsHaveEnded(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SUBSCRIBE ch")
	o := r.ownBackend()
	o.expect("SUBSCRIBE ch")
	o.reply(subscribedRESP2)
	c.expect(subscribedRESP2)
	c.send("RESET", "PUBLISH ch x")
	o.expect("RESET")
	b.expectNothing()
	o.reply("+RESET\r\n")
	b.expect("PUBLISH ch x")
	b.reply(":0\r\n")
	c.expect("+RESET\r\n:0\r\n")
}

func TestReplyOffBehindUnsubscribeIsNotRedis(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("SUBSCRIBE ch")
	b := r.ownBackend()
	b.expect("SUBSCRIBE ch")
	b.reply(subscribedRESP2)
	c.send("UNSUBSCRIBE ch", "CLIENT REPLY OFF", "PING", "CLIENT REPLY ON")
	b.expect("UNSUBSCRIBE ch")
	b.expectNothing() // CLIENT REPLY OFF would have no answer
	b.reply("*3\r\n$11\r\nunsubscribe\r\n$2\r\nch\r\n:0\r\n")
	b = r.backend()
	b.mayReply()
	b.expect("PING")
	b.reply("+PONG\r\n")
	b.mayReply()
	c.expect(subscribedRESP2 + "*3\r\n$11\r\nunsubscribe\r\n$2\r\nch\r\n:0\r\n" + "+OK\r\n")
}

func TestDiscardThatIsNotAllowedEndsNothing(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "DISCARD")
	b := r.backend()
	b.expect("MULTI", "DISCARD")
	b.reply("+OK\r\n-NOPERM no\r\n")
	c.send("GET a", "EXEC")
	b.expect("GET a")
	b.reply("+QUEUED\r\n")
	b.expect("DISCARD") // ours, which fails too
	b.reply("-NOPERM no\r\n")
	c.expect("+OK\r\n-NOPERM no\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n")
	if c.s.own != nil || c.s.tx.active {
		t.Error("it keeps a connection that is in MULTI")
	}
}

func TestMultiThatIsRefusedQueuesNothing(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "GET a", "SELECT 4")
	b := r.backend()
	b.expect("MULTI", "GET a", "SELECT 4")
	b.reply("-NOPERM no\r\n$-1\r\n+OK\r\n")
	c.send("GET b")
	b.expect("GET b")
	if c.s.tx.active || c.s.who.db != 4 {
		t.Errorf("in a transaction: %v, database %d; want none, and 4", c.s.tx.active, c.s.who.db)
	}
}

const noSelect = "-NOPERM this user has no permissions to run the 'select' command\r\n"

func TestUserWithoutSelectNeverLandsInAnotherDatabase(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.send("SELECT 3", "GET a")
	b := r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + noSelect)
	if c.s.who.db != 0 {
		t.Errorf("it is in database %d", c.s.who.db)
	}
	c.expectError("NOPERM", "select")
}

// A login leaves its client in the database where it is, whatever the user may do.
func TestLoginOfAUserWithoutSelect(t *testing.T) {
	for _, login := range []string{"AUTH ann pw", "HELLO 2 AUTH ann pw"} {
		t.Run(login, func(t *testing.T) {
			r := serving(t)
			c, shared := inDB(r)
			c.send(login, "GET a")
			b := r.accept()
			b.expect("HELLO 2 AUTH ann pw", "SELECT 3")
			b.reply(helloMaster + noSelect)
			b = r.accept()
			b.expect("HELLO 2", "SELECT 3")
			b.reply(helloMaster + "+OK\r\n")
			b.expect(login)
			b.reply("-WRONGPASS no\r\n")
			b.expect("GET a")
			b.reply("$-1\r\n")
			if c.s.own != nil || c.s.who.user != "" {
				t.Error("it keeps a connection, or is somebody else")
			}
			c.wire.got = nil
			c.send(login)
			b = r.accept()
			b.expect("HELLO 2 AUTH ann pw", "SELECT 3")
			b.reply(helloMaster + noSelect)
			for len(r.dials) > 0 {
				b = r.accept()
				b.expect("HELLO 2", "SELECT 3")
				b.reply(helloMaster + "+OK\r\n")
			}
			own := c.s.own
			if own == nil {
				t.Fatal("no connection of its own")
			}
			ob := &backend{wire: own.conn.(*fakeWire)} //nolint:forcetypeassert // of the rig
			ob.expect(login)
			ob.reply("+OK\r\n")
			c.send("GET a")
			ob.expect("GET a")
			ob.reply("$1\r\n1\r\n")
			if c.s.own != own || c.s.who.user != "ann" || c.s.who.db != 3 {
				t.Errorf("it is %+v", c.s.who)
			}
			shared.expectNothing()
		})
	}
}

// Such a user's connection cannot be had again when it is lost, as by ACL LOAD: its
// client is disconnected, as by Redis.
func TestUserWithoutSelectIsDisconnectedWithItsConnection(t *testing.T) {
	r := serving(t)
	c, _ := inDB(r)
	c.send("WATCH k")
	b := r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("WATCH k")
	b.reply("+OK\r\n")
	c.send("AUTH ann pw")
	b.expect("AUTH ann pw")
	b.reply("+OK\r\n")
	b.wire.peerEOF()
	b = r.accept()
	b.expect("HELLO 2 AUTH ann pw", "SELECT 3")
	b.reply(helloMaster + noSelect)
	if !c.wire.closed {
		t.Error("its client stays")
	}
}

func TestNameGivenInATransaction(t *testing.T) {
	for name, tt := range map[string]struct{ exec, want string }{
		"executed": {"*1\r\n+OK\r\n", "$1\r\nn\r\n"},
		"touched":  {"*-1\r\n", "$-1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("MULTI", "CLIENT SETNAME n", "EXEC", "CLIENT GETNAME")
			b := r.backend()
			b.expect("MULTI", "CLIENT SETNAME n", "EXEC")
			b.reply("+OK\r\n+QUEUED\r\n" + tt.exec)
			b.expect("CLIENT GETNAME")
			b.reply("$-1\r\n")
			c.expect("+OK\r\n+QUEUED\r\n" + tt.exec + tt.want)
		})
	}
}

// What goes on watching must not go back to the pool: another client's EXEC would be
// answered as if its own keys had changed.
func TestErrorsThatDoNotEndWatch(t *testing.T) {
	for cmd, reply := range map[string]string{
		"EXEC":    "-ERR EXEC without MULTI\r\n",
		"DISCARD": "-ERR DISCARD without MULTI\r\n",
		"UNWATCH": "-NOPERM this user has no permissions to run the 'unwatch' command\r\n",
	} {
		t.Run(cmd, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("WATCH a", cmd)
			b := r.backend()
			b.expect("WATCH a", cmd)
			b.reply("+OK\r\n" + reply)
			c.expect("+OK\r\n" + reply)
			if !c.s.watching || c.s.own == nil {
				t.Error("its connection is given to others, which still watches")
			}
		})
	}
}

func TestSubscribeInATransaction(t *testing.T) {
	const (
		one  = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
		two  = "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
		exec = "*3\r\n" + one + two + "+OK\r\n" + "+OK\r\n" // the array holds the first three
	)
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SUBSCRIBE a b", "SET x 1", "SELECT 3", "EXEC", "CLIENT GETNAME", "PING")
	b := r.backend()
	b.expect("MULTI", "SUBSCRIBE a b", "SET x 1", "SELECT 3", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n" + exec[:len(exec)-5])
	b.expect("CLIENT GETNAME") // it is Redis' to refuse now, in this mode
	b.reply("+OK\r\n-ERR Can't execute\r\n")
	b.expect("PING")
	b.reply("*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	c.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n" + exec + "-ERR Can't execute\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	if len(c.s.subs) != 2 || c.s.who.db != 3 {
		t.Errorf("subscriptions %v, database %d; want two, and 3", c.s.subs, c.s.who.db)
	}
	message := "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
	b.reply(message)
	c.expect(message)
	r.serve(nodeB, 2)
	b = r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SUBSCRIBE", "SUBSCRIBE")
	b.reply(one + two + message)
	c.expect(message)
	c.send("UNSUBSCRIBE")
	b.expect("UNSUBSCRIBE")
}

func TestUnsubscribeInATransaction(t *testing.T) {
	push := func(kind, ch string, n int) string {
		return fmt.Sprintf(">3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(kind), kind, len(ch), ch, n)
	}
	r := serving(t)
	c := r.client()
	c.send("HELLO 3")
	shared := r.accept()
	shared.expect("HELLO 3")
	shared.reply(helloMaster)
	c.wire.got = nil
	c.send("MULTI", "SUBSCRIBE a b", "PSUBSCRIBE p*", "UNSUBSCRIBE", "PUNSUBSCRIBE p*", "PSUBSCRIBE q", "EXEC")
	b := r.accept()
	b.expect("HELLO 3")
	b.reply(helloMaster)
	b.expect("MULTI", "SUBSCRIBE a b", "PSUBSCRIBE p*", "UNSUBSCRIBE", "PUNSUBSCRIBE p*", "PSUBSCRIBE q", "EXEC")
	said := "+OK\r\n" + strings.Repeat("+QUEUED\r\n", 5) + "*5\r\n" + push("subscribe", "a", 1) + push("subscribe", "b", 2) +
		push("psubscribe", "p*", 3) + push("unsubscribe", "a", 2) + push("unsubscribe", "b", 1) + push("punsubscribe", "p*", 0) + push("psubscribe", "q", 1)
	b.reply(said)
	c.expect(said)
	if len(c.s.subs) != 1 || c.s.due != 0 {
		t.Errorf("subscriptions %v, %d replies more to come; want q, and none", c.s.subs, c.s.due)
	}
}

// What did not happen must not be repeated on the next connection.
func TestQueuedCommandsThatFail(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SELECT 99", "CLIENT SETNAME n", "EXEC")
	b := r.backend()
	b.expect("MULTI", "SELECT 99", "CLIENT SETNAME n", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-ERR DB index is out of range\r\n+OK\r\n")
	if c.s.who.db != 0 || c.s.name != "n" {
		t.Errorf("database %d, name %q; want 0 and %q", c.s.who.db, c.s.name, "n")
	}
}

func tracks(s *session) bool {
	on, _ := s.tracking()
	return on
}

func TestLoginInATransaction(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "AUTH joe right", "HELLO 3 AUTH jim secret SETNAME n", "CLIENT TRACKING ON", "EXEC")
	b := r.backend()
	b.expect("MULTI", "AUTH joe right", "HELLO 3 AUTH jim secret SETNAME n", "CLIENT TRACKING ON", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n" + helloMaster + "+OK\r\n")
	if want := (identity{"jim", "secret", 0, 3}); c.s.who != want || c.s.name != "n" || !tracks(c.s) {
		t.Errorf("it is %v with name %q, tracks: %v; want %v with n, which tracks", c.s.who, c.s.name, tracks(c.s), want)
	}
}

func TestWatchBehindUnwatch(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("WATCH a", "UNWATCH", "WATCH b")
	b := r.backend()
	b.expect("WATCH a", "UNWATCH", "WATCH b")
	b.reply("+OK\r\n+OK\r\n+OK\r\n")
	if !c.s.watching || c.s.own == nil {
		t.Error("its connection is given to others, which still watches")
	}
}

func TestNamesAreRedisToAllow(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	for cmd, probe := range map[string]string{
		"CLIENT SETNAME me": "CLIENT SETNAME ", "CLIENT GETNAME": "CLIENT GETNAME", "client setname a b": "client setname a b",
		"CLIENT SETINFO LIB-NAME x": "CLIENT SETINFO LIB-NAME ", "CLIENT SETINFO x": "CLIENT SETINFO x",
	} {
		c.send(cmd)
		b.expect(probe)
		b.reply("-NOPERM not you\r\n")
		c.expect("-NOPERM not you\r\n")
	}
	if c.s.name != "" || c.s.libName != "" {
		t.Errorf("it is named %q and %q all the same", c.s.name, c.s.libName)
	}
	c.send("CLIENT SETNAME me", "CLIENT SETINFO lib-name x")
	b.expect("CLIENT SETNAME ") // which is no error that Redis would count
	b.reply("+OK\r\n")
	b.expect("CLIENT SETINFO lib-name ")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n+OK\r\n")
	r.hold() // nobody can be asked
	c.send("CLIENT GETNAME")
	c.expect("$2\r\nme\r\n")
}

func TestSubscribeInATransactionThatIsNotAnswered(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("HELLO 3")
	shared := r.accept()
	shared.expect("HELLO 3")
	shared.reply(helloMaster)
	c.wire.got = nil
	c.send("CLIENT REPLY OFF", "MULTI", "UNSUBSCRIBE", "SUBSCRIBE a b", "GET x", "SUBSCRIBE c", "EXEC")
	shared.mayReply()
	b := r.accept()
	b.expect("HELLO 3")
	b.reply(helloMaster)
	none := ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"
	a, bb, cc := ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", ">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n", ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:3\r\n"
	b.reply("+OK\r\n" + strings.Repeat("+QUEUED\r\n", 4) + "*4\r\n" + none + a + bb + "$1\r\n1\r\n" + cc)
	c.expect(none + a + bb + cc)
}

// Before Redis 7.2 a message that a transaction publishes to its own client comes among
// EXEC's elements, and pushes one of them out of the array.
func TestPublishToItselfInATransaction(t *testing.T) {
	const msg = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
	const subscribed = ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
	const nested = "-ERR MULTI calls can not be nested\r\n"
	r := serving(t)
	c := r.client()
	c.send("HELLO 3")
	shared := r.accept()
	shared.expect("HELLO 3")
	shared.reply(helloMaster)
	c.wire.got = nil
	c.send("MULTI", "MULTI", "SUBSCRIBE a", "PUBLISH a x", "SELECT 3", "EXEC", "QUIT")
	b := r.accept()
	b.expect("HELLO 3")
	b.reply(helloMaster)
	b.reply("+OK\r\n" + nested + strings.Repeat("+QUEUED\r\n", 3) + "*3\r\n" + subscribed + msg + ":1\r\n")
	c.expect("+OK\r\n" + nested + strings.Repeat("+QUEUED\r\n", 3) + "*3\r\n" + subscribed + msg + ":1\r\n") // and QUIT waits
	b.reply("+OK\r\n")
	c.expect("+OK\r\n+OK\r\n")
	if len(c.s.subs) != 1 || c.s.who.db != 3 {
		t.Errorf("subscriptions %v, database %d; want one, and 3", c.s.subs, c.s.who.db)
	}
}

// A subscriber's MULTI is refused in RESP2, and what it sends behind it is not queued.
func TestSubscribeBehindAMultiThatIsRefused(t *testing.T) {
	const (
		confirmed = "*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n"
		refused   = "-ERR Can't execute\r\n"
		pong      = "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
	)
	r := serving(t)
	c := r.client()
	c.send("SUBSCRIBE ch")
	b := r.ownBackend()
	b.expect("SUBSCRIBE ch")
	b.reply(subscribedRESP2)
	c.expect(subscribedRESP2)
	c.send("MULTI", "GET a", "SUBSCRIBE ch ch ch", "PING", "GET b")
	b.expect("MULTI", "GET a", "SUBSCRIBE ch ch ch", "PING", "GET b")
	b.reply(refused + refused + confirmed + confirmed + confirmed + pong + refused)
	c.expect(refused + refused + confirmed + confirmed + confirmed + pong + refused)
	c.send("PING")
	b.expect("PING")
	b.reply(pong)
	c.expect(pong)
	if c.s.subCalls != 0 || c.s.inflight != 0 || c.s.due != 0 {
		t.Errorf("%d subscriptions and %d commands under way, %d replies to come; want none", c.s.subCalls, c.s.inflight, c.s.due)
	}
}

// Behind a paused write, on the same connection, it would wait for the end of the pause.
func TestUnpausePassesAPausedWrite(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("SET a 1")
	b.expect("SET a 1")
	d.send("CLIENT UNPAUSE")
	o := r.ownBackend()
	o.expect("CLIENT UNPAUSE")
	o.reply("+OK\r\n")
	d.expect("+OK\r\n")
	if d.s.own != nil {
		t.Error("it keeps its connection")
	}
}

// Redis takes an integer only as it would write it.
func TestIntegersAreRedisOwn(t *testing.T) {
	const bad, badID = "-ERR value is not an integer or out of range\r\n", "-ERR client-id should be greater than 0\r\n"
	for _, n := range []string{"05", "+5", "-0"} {
		r := serving(t)
		c := r.client()
		b := warm(r, c)
		c.send("HELLO " + n)
		c.expect("-ERR Protocol version is not an integer or out of range\r\n")
		for cmd, said := range map[string]string{"SELECT " + n: bad, "CLIENT UNBLOCK " + n: bad, "CLIENT KILL ID " + n: badID} {
			c.send(cmd)
			b.expect(cmd)
			b.reply(said)
			c.expect(said)
		}
		c.send("CLIENT TRACKING ON REDIRECT " + n)
		o := r.ownBackend()
		o.expect("CLIENT TRACKING ON REDIRECT " + n)
		o.reply(bad)
		c.expect(bad)
	}
}

func TestHelloBeforeLoginInTheWordsOfItsVersion(t *testing.T) {
	const text = "-NOAUTH HELLO must be called …\r\n"
	r := serving(t)
	c := r.client()
	c.send("HELLO 3")
	r.accept().reply(text)
	c.expect(text)
	for version, form := range map[string]string{
		"6.2.14": "HELLO AUTH", "7.0.15": "HELLO AUTH", "7.2.0": "HELLO <proto> AUTH", "8.0.2": "HELLO <proto> AUTH", "255.255.255": "HELLO <proto> AUTH",
	} {
		if got := noAuthHello(version); !strings.Contains(got, "otherwise the "+form+" <user>") {
			t.Errorf("Redis %s: %s", version, got)
		}
	}
}

// Before Redis 7.2 what stands before a mistake in HELLO has its effect.
func TestHelloOptionByOption(t *testing.T) {
	for version, whole := range map[string]bool{"7.0.15": false, "7.2.00": true} {
		r := serving(t)
		c := r.client()
		c.send("GET a")
		b := r.accept()
		b.expect("HELLO 2")
		b.reply(strings.Replace(helloMaster, "7.0.15", version, 1))
		b.expect("GET a")
		b.reply("$-1\r\n")
		c.wire.got = nil
		c.send("HELLO 3 SETNAME foo FOO")
		c.expectError("ERR", "Syntax error in HELLO option 'FOO'")
		if named := c.s.name == "foo"; named == whole || c.s.who.proto != 2 {
			t.Errorf("Redis %s: name %q, protocol %d", version, c.s.name, c.s.who.proto)
		}
		c.send("HELLO 3 AUTH ann pw SETNAME bar FOO")
		if !whole {
			p := r.accept()
			p.expect("HELLO 2 AUTH ann pw")
			p.reply(helloMaster)
			p.expect("AUTH ann pw")
			p.reply("+OK\r\n")
		}
		c.expectError("ERR", "Syntax error in HELLO option 'FOO'")
		if changed := c.s.name == "bar" && c.s.who.user == "ann"; changed == whole || c.s.who.proto != 2 {
			t.Errorf("Redis %s: name %q, it is %+v", version, c.s.name, c.s.who)
		}
	}
}

// Redis 7.0 would leave the connection open, and deaf.
func TestQuitThatIsNotAnswered(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("CLIENT REPLY OFF", "QUIT")
	b.mayReply()
	c.expect("")
	if !c.wire.closed {
		t.Error("it stays open")
	}
}
