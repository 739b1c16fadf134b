package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	subscribedRESP2 = "*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n"
	subscribedRESP3 = ">3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n"
)

func TestSubscriberIsSubscribedAgainSilently(t *testing.T) {
	for proto, confirmed := range map[int]string{2: subscribedRESP2, 3: subscribedRESP3} {
		t.Run(fmt.Sprintf("RESP%d", proto), func(t *testing.T) {
			r := serving(t)
			c := r.client()
			if proto == 3 {
				c.send("HELLO 3")
				r.backend()
				c.wire.got = nil
			}
			c.send("SUBSCRIBE ch", "CLIENT SETNAME me")
			b := r.ownBackend()
			b.expect("SUBSCRIBE ch")
			b.reply(confirmed)
			if proto == 2 { // refused by Redis in this mode
				b.expect("CLIENT SETNAME me")
				b.reply("-ERR Can't execute 'client|setname'\r\n")
				c.expect(confirmed + "-ERR Can't execute 'client|setname'\r\n")
			} else {
				b.expect("CLIENT SETNAME me")
				b.reply("+OK\r\n")
				c.expect(confirmed + "+OK\r\n")
			}
			r.serve(nodeB, 2)
			b = r.ownBackend()
			if proto == 3 {
				b.expect("CLIENT SETNAME me")
				b.reply("+OK\r\n")
			}
			b.expect("SUBSCRIBE ch")
			message := strings.NewReplacer("$9", "$7", "subscribe", "message", ":1\r\n", "$1\r\nx\r\n").Replace(confirmed)
			b.reply(confirmed + message)
			c.expect(message)
		})
	}
}

func TestSubscriptionRefusedDoesNotPinForEver(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("SUBSCRIBE ch")
	b := r.backend()
	b.expect("SUBSCRIBE ch")
	b.reply("-NOPERM this user has no permissions to access the 'ch' channel\r\n")
	if c.s.own != nil || c.s.subCalls != 0 {
		t.Error("still pinned")
	}
}

func TestListThatLooksLikeAMessage(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("WATCH k", "LRANGE l 0 -1", "SUBSCRIBE ch")
	b := r.backend()
	b.expect("WATCH k", "LRANGE l 0 -1", "SUBSCRIBE ch")
	list := "*2\r\n$7\r\nmessage\r\n$1\r\na\r\n"
	b.reply("+OK\r\n" + list + subscribedRESP2)
	c.expect("+OK\r\n" + list + subscribedRESP2)
	if c.s.inflight != 0 || c.s.subCalls != 0 {
		t.Errorf("%d in flight, %d subscriptions under way", c.s.inflight, c.s.subCalls)
	}
}

func TestOwnPipesArePooled(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	c.send("BLPOP q 1")
	b := r.ownBackend()
	b.expect("BLPOP q 1")
	b.reply("*-1\r\n")
	c.expect("*-1\r\n")
	shared := warm(r, c)
	d.send("CLIENT SETNAME d", "BLPOP q 1")
	shared.expect("CLIENT SETNAME ")
	shared.reply("+OK\r\n")
	b.expect("CLIENT SETNAME d", "BLPOP q 1")
	b.reply("+OK\r\n*-1\r\n")
	d.expect("+OK\r\n*-1\r\n")
	if n := r.w.owned; n != 0 {
		t.Errorf("%d own pipes in use", n)
	}
	c.send("CLIENT NO-TOUCH ON") // sticky
	b.expect("CLIENT SETNAME", "CLIENT NO-TOUCH ON")
	b.reply("+OK\r\n+OK\r\n")
	c.wire.peerEOF()
	if !b.wire.aborted {
		t.Error("a connection with state was kept for others")
	}
}

func TestOwnPipeRefusedInItsGreetingRests(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("BLPOP q 1")
	for range 5 {
		b := r.accept()
		b.expect("HELLO")
		b.reply("-LOADING Redis is loading the dataset in memory\r\n")
		if len(r.dials) > 0 {
			t.Fatal("dialled again at once")
		}
		r.advance(2 * redialMax)
	}
	b := r.backend()
	b.expect("BLPOP q 1")
}

func TestLargeReplyRetiresItsPipe(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("GET big")
	d.send("EXISTS small")
	b.expect("GET big", "EXISTS small")
	part := strings.Repeat(">", defaultLargeCommand)
	b.reply("$2097152\r\n" + part)
	c.expect("$2097152\r\n" + part)
	if r.w.pipes[c.s.who] == c.s.pipe {
		t.Fatal("the pipe takes further commands")
	}
	c.send("EXISTS z") // waits for its turn
	d2 := r.client()
	d2.send("GET y")
	nb := r.backend()
	nb.expect("EXISTS small", "GET y")
	nb.reply(":1\r\n")
	d.expect(":1\r\n")
	b.reply(part + "\r\n:0\r\n")
	c.expect(part + "\r\n")
	d.expect("")
	nb.expect("EXISTS z")
	if !b.wire.reaped || len(r.w.retired) != 0 {
		t.Error("the retired pipe lives on")
	}
}

func TestLargeReplyCutOff(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("GET big")
	d.send("GET small")
	b.reply("$2097152\r\n" + strings.Repeat("x", defaultLargeCommand))
	b.wire.peerReset()
	if !c.wire.aborted {
		t.Error("the client does not learn that its reply is broken")
	}
	r.backend().expect("GET small")
}

func TestLargeReplyToAnIdleReaderStopsReading(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("GET big")
	c.wire.blocked = true
	b.reply("$10485760\r\n" + strings.Repeat("x", defaultLargeCommand))
	if !b.wire.paused {
		t.Error("the backend is still read")
	}
	c.wire.unblock(0)
	if b.wire.paused {
		t.Error("the backend is not read again")
	}
}

func TestLargeCommandIsStreamed(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	value := strings.Repeat("v", 3<<20)
	cmd := "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$" + fmt.Sprint(len(value)) + "\r\n" + value + "\r\n"
	c.wire.peer(cmd[:100])
	b := r.backend()
	b.wire.limit, b.wire.blocked = 1<<30, true
	for pos := 100; pos < len(cmd); {
		if c.wire.paused {
			b.wire.unblock(1 << 30)
			b.wire.blocked = true
			continue
		}
		n := min(64<<10, len(cmd)-pos)
		c.wire.peer(cmd[pos : pos+n])
		pos += n
		if kept := len(c.s.in) + keptBy(b); kept > streamMark+queryMark+(128<<10) {
			t.Fatalf("%d bytes are kept of a streamed command", kept)
		}
	}
	c.send("GET a") // behind it
	b.wire.unblock(0)
	if got := string(b.wire.got); got != cmd {
		t.Fatalf("%d bytes arrived; want %d", len(got), len(cmd))
	}
	b.wire.got = nil
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	if c.s.own != nil {
		t.Error("still pinned")
	}
}

func TestLargeCommandsConnectionIsLost(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n" + strings.Repeat("x", 1000000))
	b := r.ownBackend() // behind a shared one that tells whether this client must log in
	b.wire.peerReset()
	c.expect("")
	c.wire.peer(strings.Repeat("x", 1000000) + "\r\n" + frames("QUIT"))
	c.expectError("MASTERDOWN", "it was not executed") // its end was not there to be sent
	c.expect("+OK\r\n")
}

// Redis refuses some large commands by a length in them, before their end is there, and
// closes the connection. So do we: a second answer would be taken for the next command's.
func TestLargeCommandRefusedBeforeItsEnd(t *testing.T) {
	for name, inTx := range map[string]bool{"alone": false, "in MULTI": true} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			warm(r, c)
			large := "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n" + strings.Repeat("x", 1000000)
			var b *backend
			if inTx {
				c.send("MULTI")
				b = r.ownBackend()
				b.reply("+OK\r\n")
				c.expect("+OK\r\n")
				c.wire.peer(large)
			} else {
				c.wire.peer(large)
				b = r.ownBackend()
			}
			b.reply("-ERR Protocol error: invalid bulk length\r\n")
			c.expect("-ERR Protocol error: invalid bulk length\r\n")
			if !c.wire.closed {
				b.wire.peerEOF()
				c.wire.peer(strings.Repeat("x", 1000000) + "\r\n" + frames("PING"))
				t.Errorf("the client goes on, and gets %q", c.wire.got)
			}
			if !b.wire.closed || r.w.owned != 0 {
				t.Error("its connection to the master is still there")
			}
		})
	}
}

func TestLargeCommandCannotDodgeARefusal(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.wire.peer("*3\r\n$9\r\nREPLICAOF\r\n$2000000\r\n")
	c.wire.peer(strings.Repeat("x", 2000000) + "\r\n$1\r\n1\r\n" + frames("QUIT"))
	c.expectError("ERR", "is refused by the proxy")
	c.expect("+OK\r\n")
	if len(r.dials) > 0 {
		t.Error("a connection was opened for it")
	}
}

func TestBackPressure(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.wire.blocked = true
	c.send("GET a")
	b.expect("GET a")
	b.reply("$1000000\r\n" + strings.Repeat("x", 1000000) + "\r\n")
	c.send("GET b")
	b.expect("GET b") // under the mark still
	b.reply("$1000000\r\n" + strings.Repeat("x", 1000000) + "\r\n")
	c.send("GET c")
	b.expectNothing()
	if c.wire.paused {
		t.Error("commands are to be read ahead")
	}
	c.wire.unblock(0)
	b.expect("GET c")
}

// A long pipeline takes no more than its share: others wait behind that at most.
func TestShare(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.wire.peer(strings.Repeat(frames("GET a"), 2*maxShare))
	d.send("GET d")
	if n := c.s.pipe.queue.len(); n != maxShare+1 {
		t.Fatalf("%d commands under way; want %d", n, maxShare+1)
	}
	for range maxShare {
		b.expect("GET a")
		b.reply("$-1\r\n")
	}
	b.expect("GET d")
	b.reply("$1\r\nd\r\n")
	for range maxShare {
		b.expect("GET a")
		b.reply("$-1\r\n")
	}
}

func TestWindow(t *testing.T) {
	r := serving(t)
	d := r.client()
	b := warm(r, d)
	d.s.pipe.gotBytes = 0 // its greeting says more than other replies
	for range windowCommands / maxShare {
		r.client().wire.peer(strings.Repeat(frames("GET a"), maxShare))
	}
	d.send("GET d")
	if n := d.s.pipe.queue.len(); n != windowCommands {
		t.Fatalf("%d commands under way; want %d", n, windowCommands)
	}
	for range windowCommands {
		b.expect("GET a")
		b.reply("$-1\r\n")
	}
	b.expect("GET d")
}

// Who comes when there is room again does not overtake those who wait for it.
func TestWindowIsFair(t *testing.T) {
	r := serving(t)
	first, late := r.client(), r.client()
	b := warm(r, first)
	late.send("PING")
	b.expect("PING")
	b.reply("+PONG\r\n")
	for range windowCommands / maxShare {
		r.client().wire.peer(strings.Repeat(frames("GET a"), maxShare))
	}
	first.send("GET first")
	for n := range windowCommands {
		b.expect("GET a")
		b.reply("$-1\r\n")
		if n == 0 {
			late.send("GET late")
		}
	}
	b.expect("GET first")
	b.reply("$-1\r\n")
	b.expect("GET late")
}

func TestClientReply(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("CLIENT REPLY OFF", "SET a 1", "CLIENT GETNAME", "NOSUCH", "CLIENT REPLY ON", "GET a")
	b.mayReply()
	b.expect("SET a 1")
	b.reply("+OK\r\n")
	b.expect("CLIENT GETNAME")
	b.reply("$-1\r\n")
	o := r.ownBackend()
	o.expect("NOSUCH")
	o.reply("-ERR unknown command\r\n")
	b.mayReply()
	b.expect("GET a") // what Redis does not know has changed nothing
	b.reply("$1\r\n1\r\n")
	c.expect("+OK\r\n$1\r\n1\r\n")
}

func TestIdentityMoves(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SELECT 3", "GET a", "SELECT 0", "GET b")
	three := r.accept()
	three.expect("HELLO 2", "SELECT 3")
	three.reply(helloMaster + "+OK\r\n")
	three.expect("SELECT 3") // the client's own: it may not be allowed to
	three.reply("+OK\r\n")
	three.expect("GET a")
	three.reply("$1\r\n3\r\n")
	b.expect("SELECT 0")
	b.reply("+OK\r\n")
	b.expect("GET b")
	b.reply("$1\r\n0\r\n")
	c.expect("+OK\r\n$1\r\n3\r\n+OK\r\n$1\r\n0\r\n")
	c.send("AUTH alice wonder", "GET c")
	alice := r.accept()
	alice.expect("HELLO 2 AUTH alice wonder")
	alice.reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	c.expect("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	b.expect("GET c") // the old login stays
}

// A login that was not answered is asked anew, as a read is.
func TestLoginLostWhileChecked(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("AUTH alice wonder", "GET c")
	alice := r.backend()
	alice.expect("AUTH alice wonder")
	alice.wire.peerReset()
	alice = r.backend()
	alice.expect("AUTH alice wonder")
	alice.reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	c.expect("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	b.expect("GET c") // as whoever it was before
}

func TestSelectInTransactionSurvivesAFailover(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SELECT 5", "EXEC")
	b := r.backend()
	b.expect("MULTI", "SELECT 5", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	c.expect("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	r.serve(nodeB, 2)
	c.send("SET a 1")
	b = r.accept()
	b.expect("HELLO 2", "SELECT 5")
}

func TestWatchSurvivesASelect(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("WATCH a")
	b := r.backend()
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	c.send("SELECT 1", "MULTI", "SET a 1", "EXEC")
	b.expect("WATCH a", "SELECT 1")
	b.expectNothing() // what follows depends on the answer
	b.reply("+OK\r\n")
	b.expect("MULTI", "SET a 1", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	c.expect("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	c.send("GET a")
	b = r.accept()
	b.expect("HELLO 2", "SELECT 1")
}

func TestSelectOnOwnConnectionIsRepeatedWhenItIsLost(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("WATCH a")
	b := r.backend()
	b.reply("+OK\r\n")
	c.send("SELECT 1", "MULTI", "EXEC")
	b.expect("WATCH a", "SELECT 1")
	c.expect("+OK\r\n")
	r.serve(nodeB, 2)
	b = r.accept() // the shared one, which a SELECT without state would use
	b.expect("HELLO 2", "SELECT 1")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SELECT 1")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
}

// The larger the replies are, the fewer are asked for at once.
func TestWindowOfLargeReplies(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	reply := bulkReply(64 << 10)
	for range 2 * repliesSeen {
		c.send("GET a")
		b.expect("GET a")
		b.reply(reply)
		c.expect(reply)
	}
	const window = windowReplies >> 16
	c.wire.peer(strings.Repeat(frames("GET a"), 2*window))
	d.send("GET d")
	if n := c.s.pipe.queue.len(); n < window-1 || n > window {
		t.Fatalf("%d commands under way; want %d", n, window)
	}
	for range 2 * window {
		b.expect("GET a")
		b.reply(reply)
		c.expect(reply)
	}
	b.expect("GET d")
	for range 100 * repliesSeen {
		b.reply("$-1\r\n")
		d.expect("$-1\r\n")
		d.send("GET d")
		b.expect("GET d")
	}
	if n := c.s.pipe.window(); n != windowCommands {
		t.Errorf("the window is %d after small replies; want %d", n, windowCommands)
	}
}

func TestPasswordGuesserIsForgotten(t *testing.T) {
	r := serving(t)
	c := r.client()
	for i := range maxRefusals + 10 {
		c.wire.name = fmt.Sprintf("10.0.%d.%d:6000", i/256, i%256) // none of them guesses too much
		c.send(fmt.Sprintf("AUTH alice %d", i))
		b := r.accept()
		b.expect("HELLO")
		b.reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	}
	if n := len(r.w.refusals); n > maxRefusals {
		t.Errorf("%d refused logins are remembered", n)
	}
}

func TestRetiredPipeLostDoesNotReplaceItsSuccessor(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("GET big")
	d.send("EXISTS a")
	b.reply("$2097152\r\n" + strings.Repeat("x", defaultLargeCommand))
	e := r.client()
	e.send("GET e")
	n := r.backend()
	n.expect("EXISTS a", "GET e") // the first was taken back from behind the large reply
	b.wire.peerReset()
	r.advance(time.Second)
	if len(r.dials) > 0 || len(r.w.pipes) != 1 {
		t.Error("a second shared pipe was opened")
	}
}

// What a client has cached is void after a failover only if it tracks.
func TestInvalidationAfterAFailoverIsForThoseThatTrack(t *testing.T) {
	for name, tt := range map[string]struct {
		commands []string
		again    []string // what the new connection is told
		want     string
	}{
		"tracks":       {[]string{"CLIENT TRACKING ON"}, []string{"CLIENT TRACKING ON"}, ">2\r\n$10\r\ninvalidate\r\n_\r\n"},
		"did once":     {[]string{"CLIENT TRACKING ON", "CLIENT TRACKING OFF"}, []string{"CLIENT TRACKING OFF"}, ""},
		"never did":    {[]string{"CLIENT NO-TOUCH ON"}, []string{"CLIENT NO-TOUCH ON"}, ""},
		"tells a name": {[]string{"CLIENT SETINFO LIB-NAME x"}, []string{"CLIENT SETINFO LIB-NAME x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := dedicated(t)
			c := r.client()
			c.send("HELLO 3")
			b := r.accept()
			b.expect("HELLO 3")
			b.reply(helloMaster)
			b.expect("HELLO 3")
			b.reply(helloMaster)
			c.expect(helloMaster)
			c.send(tt.commands...)
			b.expect(tt.commands...)
			b.reply(strings.Repeat("+OK\r\n", len(tt.commands)))
			c.expect(strings.Repeat("+OK\r\n", len(tt.commands)))
			c.send("GET a")
			b.expect("GET a")
			r.serve(nodeB, 2)
			b = r.accept()
			b.expect("HELLO 3")
			b.reply(helloMaster)
			b.expect(tt.again...)
			b.expect("GET a")
			b.reply(strings.Repeat("+OK\r\n", len(tt.again)) + "_\r\n")
			c.expect(tt.want + "_\r\n")
		})
	}
}
