package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// Where an odd name for EXEC is all that Redis knows, a transaction goes on behind EXEC: its
// connection must not be another client's.
func TestExecThatRedisDoesNotKnow(t *testing.T) {
	node := redistest.Single(t, redistest.Options{RedisConfig: []string{"rename-command EXEC commit"}})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	odd, other := r.raw(), r.raw()
	odd.send(frames("MULTI", "EXEC"))
	odd.expect("+OK\r\n-ERR unknown command 'EXEC', with args beginning with: \r\n")
	other.send(frames("BLPOP q 0.01"))
	other.expect("*-1\r\n")
	odd.send(frames("EXEC"))
	odd.expect("-EXECABORT Transaction discarded because of previous errors.\r\n")
	odd.send(frames("MULTI", "INCR n", "commit", "GET n"))
	odd.expect("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n$1\r\n1\r\n")
}

// What a renamed EXEC has executed is not executed again on another connection.
func TestRenamedExecIsNotRepeated(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "INCR n", "commit")
	b := r.ownBackend()
	b.expect("MULTI", "INCR n", "commit")
	b.reply("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n")
	c.expect("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n")
	b.wire.peerReset()
	if !c.wire.whenFlushed {
		t.Errorf("the client goes on; want it cut off")
	}
}

// Commands behind a MULTI that Redis has refused are executed at once, WATCH too.
func TestWatchBehindRefusedMulti(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "WATCH k")
	b := r.ownBackend()
	b.expect("MULTI", "WATCH k")
	b.reply("-BUSY a script\r\n+OK\r\n")
	c.send("GET k")
	b.expect("GET k")
	b.reply("$1\r\nv\r\n")
	c.expect("-BUSY a script\r\n+OK\r\n$1\r\nv\r\n")
	if c.s.own == nil {
		t.Error("its connection, where a key is watched, is for others")
	}
}

// A connection whose id was given to Redis for the invalidations of others gets them
// whatever it is used for: it is for nobody else.
func TestRedirectedInvalidationsStayWithTheirClient(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	listener, tracker, other := r.raw(), r.raw(), r.raw()
	listener.send(frames("CLIENT ID"))
	id := strings.TrimPrefix(listener.line(), ":")
	listener.send(frames("SUBSCRIBE a"))
	listener.expect(confirmation("a", 1))
	tracker.send(frames("CLIENT TRACKING ON BCAST REDIRECT " + id))
	tracker.expect("+OK\r\n")
	listener.send(frames("UNSUBSCRIBE"))
	listener.expect("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n")
	other.send(frames("SUBSCRIBE news"))
	other.expect(confirmation("news", 1))
	listener.send(frames("SUBSCRIBE b"))
	listener.expect(confirmation("b", 1))
	tracker.send(frames("SET k 1"))
	tracker.expect("+OK\r\n")
	listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n")
	tracker.send(frames("PUBLISH news x"))
	tracker.expect(":1\r\n")
	other.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n")
	listener.send(frames("RESET"))
	listener.expect("+RESET\r\n")
	if b, err := tracker.r.ReadByte(); err == nil {
		t.Errorf("the tracker, whose listener is gone, got %q; want the end", b)
	}
}

// Where the connection that invalidations go to is lost alone, who has redirected them
// is ended: what it has cached may be stale.
func TestLostListenerEndsItsTrackers(t *testing.T) {
	r := serving(t)
	d, c := r.client(), r.client()
	b := r.subscribed(d)
	c.send("CLIENT TRACKING ON REDIRECT 1")
	r.turn()
	o := r.ownBackend()
	r.turn()
	o.expect("CLIENT TRACKING ON REDIRECT 7")
	o.reply("+OK\r\n")
	c.expect("+OK\r\n")
	b.wire.peerReset()
	if !c.wire.aborted || d.wire.aborted {
		t.Errorf("ended: %v, the listener: %v; want it alone", c.wire.aborted, d.wire.aborted)
	}
}

// CLIENT UNBLOCK may come to be executed when the call has ended: it must not end the
// call of who has the connection next.
func TestUnblockHitsNobodyElse(t *testing.T) {
	for name, unblock := range map[string]func(r *rig, by *fakeClient){
		"by a client": func(_ *rig, by *fakeClient) { by.send("CLIENT UNBLOCK 2") },
		"by a hold":   func(r *rig, _ *fakeClient) { r.hold() },
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			by, first, next := r.client(), r.client(), r.client()
			b := warm(r, by)
			first.send("BLPOP q 1")
			o := r.ownBackend()
			o.expect("BLPOP q 1")
			unblock(r, by)
			if name == "by a client" {
				b.expect("CLIENT UNBLOCK 9223372036854775807")
				b.reply(":0\r\n")
			}
			b.expect("CLIENT UNBLOCK 7")
			o.reply("*-1\r\n")
			first.expect("*-1\r\n")
			r.serve(nodeA, 1)
			next.send("BLPOP r 0")
			r.ownBackend().expect("BLPOP r 0")
			o.expectNothing()
		})
	}
}

// A client that goes in the middle of a large reply leaves nothing behind.
func TestClientGoneInALargeReply(t *testing.T) {
	r := serving(t)
	c, other := r.client(), r.client()
	b := warm(r, c)
	other.send("INCR n")
	b.expect("INCR n")
	b.reply(":1\r\n")
	c.send("LPOP l")
	b.expect("LPOP l")
	b.reply("$5000000\r\n" + strings.Repeat("x", 2000000))
	c.wire.peerReset()
	b.reply(strings.Repeat("x", 3000000) + "\r\n")
	other.expect(":1\r\n")
	if !b.wire.closed || len(r.w.retired) > 0 || r.w.underWay() {
		t.Errorf("closed %v, retired %d, under way %v; want the connection gone", b.wire.closed, len(r.w.retired), r.w.underWay())
	}
}

// Redis compares names up to a null byte, those of the same slot of its table.
func TestDeniedNamesWithNullBytes(t *testing.T) {
	cmds := newCommands([]string{"ECHO", "CLIENT|PAUSE", "DEBUG"})
	for said, want := range map[string]class{
		"ECHO\x00 a":             classDenied,
		"echo\x0012 a":           classDenied,
		"CLIENT PAUSE\x00x 1":    classDenied,
		"CLIENT\x00x pause\x001": classDenied,
		"client\x00x PAUSE 1":    classDenied,
		"DEBUG\x00 SLEEP 1":      classDenied,
		"CLIENT|PAUSE\x00 1":     classSticky,
		"PING\x00":               classSticky,
		"CLIENT LIST\x00":        classSticky,
		"ECHOS\x00":              classSticky,
	} {
		if got := cmds.find([]byte(frames(said))).class; got != want {
			t.Errorf("%q is of class %d; want %d", said, got, want)
		}
	}
}

func TestRedisFindsNoDeniedCommand(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node, func(o *Options) { o.DenyCommands = []string{"CLIENT|PAUSE"} })
	c := r.raw()
	var said strings.Builder
	for i := range 300 { // Redis takes one in 32 for CLIENT PAUSE
		said.WriteString(frames(fmt.Sprintf("CLIENT PAUSE\x00%d 1", i)))
	}
	c.send(said.String())
	for i := range 300 {
		if got := c.line(); !strings.Contains(got, "is refused by the proxy") {
			t.Fatalf("PAUSE\\x00%d got %q", i, got)
		}
	}
}

// Behind a null byte a subcommand may be of any length, and still mean something.
func TestLongSubcommand(t *testing.T) {
	for name, n := range map[string]int{"long": 200, "streamed": 2_000_000} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("BLPOP q 0") // its connection waits for the next
			b := r.ownBackend()
			b.expect("BLPOP q 0")
			b.reply("*-1\r\n")
			c.expect("*-1\r\n")
			c.wire.peer(fmt.Sprintf("*4\r\n$6\r\nCLIENT\r\n$%d\r\nTRACKING\x00", n+9))
			c.wire.peer(strings.Repeat("x", n) + "\r\n$2\r\nON\r\n$5\r\nBCAST\r\n")
			if got := b.next(); len(got) != 4 || !strings.HasPrefix(got[1], "TRACKING\x00") {
				t.Fatalf("Redis got %d words", len(got))
			}
			b.reply("+OK\r\n")
			c.expect("+OK\r\n")
			if c.s.own == nil {
				t.Error("its connection, which may track, is for others")
			}
		})
	}
}

func TestLongSubcommandThatRedisTakes(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	odd, other := r.raw(), r.raw()
	other.send(frames("CLIENT GETNAME"))
	other.expect("$-1\r\n")
	took := false
	for i := 0; i < 1000 && !took; i++ { // Redis takes one in 32 for CLIENT TRACKING
		odd.send(frames(fmt.Sprintf("CLIENT TRACKING\x00%0200d ON BCAST", i)))
		took = odd.line() == "+OK"
	}
	if !took {
		t.Skip("this Redis takes none")
	}
	odd.send(frames("PING"))
	odd.expect("+PONG\r\n")
	other.send(frames("MULTI", "CLIENT TRACKINGINFO", "EXEC"))
	other.expect("+OK\r\n+QUEUED\r\n*1\r\n*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n")
}

// A prefix may be called off, which turns no tracking off.
func TestTrackingOfAPrefixCalledOff(t *testing.T) {
	cmds := newCommands(nil)
	setup := [][]byte{[]byte(frames("CLIENT TRACKING ON BCAST PREFIX a")), []byte(frames("CLIENT TRACKING ON BCAST PREFIX off"))}
	if got := cmds.inForce(setup); len(got) != 2 {
		t.Errorf("%d commands are in force; want both", len(got))
	}
}

// Redis before 7.2 keeps the first of two logins of a HELLO that fails at the second: who
// its client is then must not depend on what is in one command.
func TestHelloWithTwoLoginsSaysOneAtATime(t *testing.T) {
	for version, want := range map[string]string{"7.0.15": "HELLO 2 AUTH root good SETNAME n", "7.2.00": "HELLO 3 AUTH root bad SETNAME n"} {
		r := serving(t)
		r.w.opts.Auth = AuthPassthrough
		c := r.client()
		c.send("WATCH k")
		b := r.accept()
		b.expect("HELLO 2")
		b.reply(strings.Replace(helloMaster, "7.0.15", version, 1))
		b.expect("WATCH k")
		b.reply("+OK\r\n")
		c.send("HELLO 3 AUTH root good SETNAME n AUTH root bad")
		if got := strings.Join(b.next(), " "); got != want {
			t.Errorf("Redis %s is told %q; want %q", version, got, want)
		}
		who := identity{proto: 2}
		if !r.w.wholeHello {
			b.reply(helloMaster)
			b.expect("HELLO 3 AUTH root bad")
			who = identity{user: "root", pass: "good", proto: 2}
		}
		b.reply("-WRONGPASS no\r\n")
		c.expect("+OK\r\n-WRONGPASS no\r\n")
		if c.s.who != who || b.wire.closed {
			t.Errorf("on Redis %s it is %+v; want %+v", version, c.s.who, who)
		}
	}
}

func TestKillFilterWithANullByte(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("CLIENT KILL ID\x00x 7")
	b.expect("CLIENT KILL ID\x00x 9223372036854775807") // of some servers each id counts
}
