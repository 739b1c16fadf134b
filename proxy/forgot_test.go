package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// confirmation is RESP2's word that a channel is subscribed to.
func confirmation(channel string, n int) string {
	b := resp.AppendBulk([]byte("*3\r\n"), "subscribe")
	return string(resp.AppendInt(resp.AppendBulk(b, channel), int64(n)))
}

// sendInTwo sends a command so that its first part comes alone: a large one is streamed.
func (c *fakeClient) sendInTwo(cmd string) {
	c.wire.r.t.Helper()
	text := frames(cmd)
	c.wire.peer(text[:len(text)/2])
	c.wire.r.turn()
	for _, d := range c.wire.r.dials { // it waits for a connection of its own
		if d.p.state == pipeDialing {
			c.wire.r.backend()
		}
	}
	c.wire.peer(text[len(text)/2:])
}

// A SUBSCRIBE too large to keep, by a client that is subscribed already: what Redis
// answers is passed on, and a later command gets its own reply.
func TestLargeSubscribeOfASubscriber(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("SUBSCRIBE ch")
	b := r.ownBackend()
	b.expect("SUBSCRIBE ch")
	b.reply(subscribedRESP2)
	name := strings.Repeat("x", defaultLargeCommand)
	c.sendInTwo("SUBSCRIBE " + name + " b")
	c.send("PING")
	r.turn()
	if !strings.HasSuffix(string(b.wire.got), "b\r\n") {
		t.Fatalf("the backend has %d bytes, which end with %.20q", len(b.wire.got), b.wire.got[len(b.wire.got)-20:])
	}
	b.wire.got = nil
	b.reply(confirmation(name, 2))
	b.expectNothing() // another confirmation is to come
	b.reply(confirmation("b", 3))
	b.expect("PING")
	b.reply("*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	c.expect(subscribedRESP2 + confirmation(name, 2) + confirmation("b", 3) + "*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	if c.s.inflight != 0 || len(c.s.subs) != 3 {
		t.Errorf("%d commands are in flight, %d channels known", c.s.inflight, len(c.s.subs))
	}
}

// Who has more state than is remembered keeps it for as long as its connection lives,
// and is cut off when a new one would lack it.
func TestStateThatIsNotRemembered(t *testing.T) {
	for name, tt := range map[string]struct {
		cmd func(i int) string
		ok  func(i int) string
		n   int // of them
		cut bool
	}{
		"names of channels": {
			cmd: func(i int) string { return fmt.Sprintf("SUBSCRIBE %s%d", strings.Repeat("n", 900<<10), i) },
			ok:  func(i int) string { return confirmation(fmt.Sprintf("%s%d", strings.Repeat("n", 900<<10), i), i+1) },
			n:   20, cut: true,
		},
		"a few channels": {
			cmd: func(i int) string { return fmt.Sprint("SUBSCRIBE c", i) },
			ok:  func(i int) string { return confirmation(fmt.Sprint("c", i), i+1) },
			n:   100,
		},
		"prefixes": {
			cmd: func(i int) string { return fmt.Sprint("CLIENT TRACKING ON BCAST PREFIX p", i) },
			ok:  func(int) string { return "+OK\r\n" },
			n:   maxSetup + 1, cut: true,
		},
		"long prefixes": {
			cmd: func(i int) string {
				return fmt.Sprint("CLIENT TRACKING ON BCAST PREFIX ", i, strings.Repeat("p", 100<<10))
			},
			ok: func(int) string { return "+OK\r\n" },
			n:  3, cut: true,
		},
		"tracking on and off": {
			cmd: func(i int) string { return "CLIENT TRACKING " + [...]string{"ON", "OFF"}[i%2] },
			ok:  func(int) string { return "+OK\r\n" },
			n:   3 * maxSetup,
		},
		"eviction on and off": {
			cmd: func(i int) string { return "CLIENT NO-EVICT " + [...]string{"ON", "OFF"}[i%2] },
			ok:  func(int) string { return "+OK\r\n" },
			n:   3 * maxSetup,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			var b *backend
			for i := range tt.n {
				c.send(tt.cmd(i))
				if b == nil {
					b = r.ownBackend()
				}
				b.expect(tt.cmd(i))
				b.reply(tt.ok(i))
				c.expect(tt.ok(i))
			}
			r.serve(nodeB, 2)
			for len(r.dials) > 0 {
				r.backend()
			}
			r.turn()
			if c.wire.closed != tt.cut || r.w.stats.stateCut > 0 != tt.cut {
				t.Errorf("cut off: %v, counted %d; want %v", c.wire.closed, r.w.stats.stateCut, tt.cut)
			}
			if n := len(c.s.setup); n > maxSetup {
				t.Errorf("%d commands are kept", n)
			}
		})
	}
}

// A transaction longer than is kept is counted to its end, and fails only if its
// connection is lost.
func TestTransactionLongerThanIsKept(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost ", lost), func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("MULTI")
			b := r.ownBackend()
			b.expect("MULTI")
			b.reply("+OK\r\n")
			long := "SET k " + strings.Repeat("v", 300<<10)
			for range 5 {
				c.send(long, "INCR n")
				b.expect(long, "INCR n")
				b.reply("+QUEUED\r\n+QUEUED\r\n")
			}
			c.expect("+OK\r\n" + strings.Repeat("+QUEUED\r\n", 10))
			if n := c.s.tx.len(); n != 11 || len(c.s.tx.log) > txLogLimit {
				t.Errorf("%d commands counted, %d bytes kept", n, len(c.s.tx.log))
			}
			if lost {
				r.serve(nodeB, 2)
				b = r.ownBackend()
				c.send("EXEC")
				b.expect("MULTI")
				b.reply("+OK\r\n")
				b.expect("DISCARD")
				b.reply("+OK\r\n")
				c.expectError("EXECABORT", "connection was lost")
				return
			}
			c.send("EXEC")
			b.expect("EXEC")
			b.reply("*1\r\n+OK\r\n")
			c.expect("*1\r\n+OK\r\n")
		})
	}
}

// What a client announces is not set aside before it comes.
func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.wire.peer("*2\r\n$3\r\nGET\r\n$536870912\r\nx") // no connection is there yet to stream it on
	if n := cap(c.s.in); n > 2*defaultLargeCommand {
		t.Errorf("%d bytes are set aside", n)
	}
}

// A login does not get it a connection that lacks its state either.
func TestForgottenStateBeforeALogin(t *testing.T) {
	r := dedicated(t)
	c := r.client()
	var b *backend
	for i := range maxSetup + 1 {
		c.send(fmt.Sprint("CLIENT TRACKING ON BCAST PREFIX p", i))
		if b == nil {
			b = r.ownBackend()
		}
		b.reply("+OK\r\n")
	}
	r.hold()
	b.wire.peerReset()
	c.send("SELECT 1", "GET a")
	r.serve(nodeB, 2)
	if !c.wire.closed || r.w.stats.stateCut != 1 {
		t.Errorf("closed: %v, %d cut off; want it cut off", c.wire.closed, r.w.stats.stateCut)
	}
}

// A new master that does not let a client subscribe or track again ends it: it would
// wait for ever.
func TestStateThatANewMasterRefuses(t *testing.T) {
	for cmd, answer := range map[string]string{
		"SUBSCRIBE ch":       confirmation("ch", 1),
		"PSUBSCRIBE ch":      strings.Replace(confirmation("ch", 1), "$9\r\n", "$10\r\np", 1),
		"CLIENT TRACKING ON": "+OK\r\n",
		"MONITOR":            "+OK\r\n",
		"CLIENT NO-EVICT ON": "+OK\r\n",
	} {
		t.Run(cmd, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send(cmd)
			b := r.ownBackend()
			b.expect(cmd)
			b.reply(answer)
			c.expect(answer)
			r.serve(nodeB, 2)
			b = r.ownBackend()
			b.expect(cmd)
			b.reply("-NOPERM this user has no permissions\r\n")
			c.expect("")
			if got, want := c.wire.whenFlushed, cmd != "CLIENT NO-EVICT ON"; got != want {
				t.Errorf("cut off: %v; want %v", got, want)
			}
		})
	}
}
