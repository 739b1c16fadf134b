package proxy

import (
	"testing"
	"time"
)

// A client that leaves before RESET is answered.
func TestResetOfOneThatLeaves(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := r.subscribed(c)
	c.send("RESET")
	b.expect("RESET")
	c.wire.peerEOF()
}

// The master is replaced before RESET is answered.
func TestResetLostWithTheMaster(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := r.subscribed(c)
	c.send("RESET")
	b.expect("RESET")
	r.serve(nodeB, 2)
}

// While the other loops are asked nothing goes on, even if the connection is lost.
func TestAskedLoopsKeepTheOrder(t *testing.T) {
	r := serving(t)
	d := r.client()
	d.send("HELLO 3")
	r.backend()
	d.wire.got = nil
	d.send("WATCH k")
	o := r.ownBackend()
	o.expect("WATCH k")
	o.reply("+OK\r\n")
	d.expect("+OK\r\n")
	var release func(found)
	r.w.host = slowHost{r, &release}
	d.send("CLIENT LIST", "CLIENT SETNAME x", "DEBUG SLEEP 1")
	o.expect("CLIENT LIST")
	o.reply("$1\r\n\n\r\n")
	if release == nil {
		t.Fatal("no everywhere")
	}
	d.expect("")
	o.wire.peerReset() // or the route moves on
	if len(d.wire.got) > 0 {
		t.Error("out of order")
	}
}

type slowHost struct {
	*rig

	release *func(found)
}

func (h slowHost) everywhere(_ func(*worker, func(found)), then func(found)) { *h.release = then }

// A SELECT that a replica has answered counts for a large command too.
func TestLargeCommandAfterASelectInAnOutage(t *testing.T) {
	r := dedicated(t)
	r.w.setOutage(outagePolicy(t, "0s", "read=stale"))
	c := r.client()
	c.send("GET a")
	b := r.ownBackend()
	b.expect("GET a")
	b.reply("$1\r\n1\r\n")
	c.expect("$1\r\n1\r\n")
	r.hold(replicasAre(nodeC))
	c.send("SELECT 5")
	e := r.accept()
	e.expect("HELLO", "SELECT 5")
	e.reply(helloReplica + "+OK\r\n")
	e.expect("SELECT 5")
	e.reply("+OK\r\n")
	c.expect("+OK\r\n")
	r.serve(nodeA, 1)
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n")
	r.turn()
	if len(b.wire.got) > 0 {
		t.Error("SET went to db 0")
	}
}

// Lines of MONITOR are no reply to RESET.
func TestResetEndsMonitor(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MONITOR")
	b := r.ownBackend()
	b.expect("MONITOR")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	b.reply("+1.0 [0 x] \"get\" \"a\"\r\n")
	c.expect("+1.0 [0 x] \"get\" \"a\"\r\n")
	c.send("RESET")
	c.expect("+RESET\r\n")
	b.expectNothing()
}

// CLIENT REPLY SKIP goes with the command that is sent again.
func TestSkipIsSaidAgain(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("CLIENT REPLY SKIP", "CLIENT ID", "PING")
	b.mayReply()
	b.expect("CLIENT ID")
	b.wire.peerReset()
	b = r.backend()
	b.mayReply()
	b.expect("CLIENT ID")
	b.reply(":7\r\n")
	b.expect("PING")
	b.reply("+PONG\r\n")
	c.expect("+PONG\r\n")
}

// A SELECT that is lost with its master is a pause, as all else.
func TestSelectWaitsForAMaster(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.send("SELECT 5")
	b := r.accept()
	b.expect("HELLO", "SELECT 5")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SELECT 5")
	r.hold()
	r.serve(nodeB, 2)
	if len(c.wire.got) > 0 {
		t.Error("error instead of a pause")
	}
}

// A CLIENT TRACKING that Redis refused is not repeated on the next connection.
func TestRefusedTrackingIsNotRepeated(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("CLIENT TRACKING ON NOLOOP")
	b := r.ownBackend()
	b.expect("CLIENT TRACKING ON NOLOOP")
	b.reply("-ERR not now\r\n")
	c.expect("-ERR not now\r\n")
	c.send("WATCH k")
	b.expect("WATCH k")
	b.reply("+OK\r\n")
	r.serve(nodeB, 2)
	c.send("PING")
	for len(r.dials) > 0 {
		b := r.backend()
		for cmd := b.next(); cmd != nil; cmd = b.next() {
			if cmd[0] == "CLIENT" {
				t.Errorf("the new connection gets %q", cmd)
			}
			b.reply("+OK\r\n")
		}
	}
}

// What Redis did not say that it had taken is not repeated either, and least of all on a
// connection that others get next.
func TestLostTrackingIsNotRepeated(t *testing.T) {
	for name, lose := range map[string]func(r *rig, c *fakeClient, b *backend){
		"uncertain, before a write": func(_ *rig, c *fakeClient, b *backend) {
			c.send("CLIENT TRACKING ON", "SET a 1")
			b.expect("CLIENT TRACKING ON", "SET a 1")
			b.wire.peerReset()
			c.expectError("UNCERTAIN", "CLIENT TRACKING")
			c.expectError("UNCERTAIN", "SET")
		},
		"never sent": func(r *rig, c *fakeClient, b *backend) {
			b.wire.blocked = true
			c.send("CLIENT NO-TOUCH ON")
			r.hold()
			b.wire.peerReset()
			r.advance(7 * time.Second)
			c.expectError("MASTERDOWN", "nothing was sent")
			r.serve(nodeA, 1)
		},
		"refused": func(_ *rig, c *fakeClient, b *backend) {
			c.send("CLIENT NO-EVICT ON", "SET a 1")
			b.expect("CLIENT NO-EVICT ON", "SET a 1")
			answer := "-LOADING Redis is loading the dataset in memory\r\n+OK\r\n"
			b.reply(answer)
			c.expect(answer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("BLPOP q 1")
			b := r.ownBackend()
			b.expect("BLPOP q 1")
			b.reply("*-1\r\n")
			c.expect("*-1\r\n")
			lose(r, c, b)
			c.send("BLPOP q 2")
			if b.wire.closed {
				b = r.ownBackend()
			}
			b.expect("BLPOP q 2")
		})
	}
}

// Of two commands under way the refused one is forgotten, not the other.
func TestTrackingBehindARefusedOneIsRepeated(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("CLIENT TRACKING ON PREFIX a", "CLIENT TRACKING ON BCAST")
	b := r.ownBackend()
	b.expect("CLIENT TRACKING ON PREFIX a", "CLIENT TRACKING ON BCAST")
	b.reply("-ERR PREFIX option requires BCAST mode to be enabled\r\n+OK\r\n")
	r.serve(nodeB, 2)
	r.ownBackend().expect("CLIENT TRACKING ON BCAST")
}

// A redirection that is lost with its connection is sent again with the id that its
// client gave.
func TestLostRedirectIsSentAgainAsItCame(t *testing.T) {
	r := serving(t)
	d, c := r.client(), r.client()
	r.subscribed(d)
	c.send("CLIENT TRACKING ON REDIRECT 1")
	o := r.ownBackend()
	r.turn()
	o.expect("CLIENT TRACKING ON REDIRECT 7")
	o.wire.peerReset()
	d.s.own.info.id = 8
	o = r.ownBackend()
	r.turn()
	o.expect("CLIENT TRACKING ON REDIRECT 8")
	o.reply("+OK\r\n")
	c.expect("+OK\r\n")
}
