package proxy

import "testing"

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
	b.expect("RESET x")
	b.reply("-ERR wrong number of arguments for 'reset' command\r\n")
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
	b.expect("PING")
	b.reply("+PONG\r\n")
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

func TestUserWithoutSelectNeverLandsInAnotherDatabase(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.send("SELECT 3", "GET a")
	b := r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + "-NOPERM this user has no permissions to run the 'select' command\r\n")
	if c.s.who.db != 0 {
		t.Errorf("it is in database %d", c.s.who.db)
	}
	c.expectError("NOPERM", "select")
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
			c.expect("+OK\r\n+QUEUED\r\n" + tt.exec + tt.want)
		})
	}
}
