package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The error for a large command waits for the reply to the one before it.
func TestLargeCommandFailsInOrder(t *testing.T) {
	r := servingWith(t, "1s")
	c := r.client()
	b := warm(r, c)
	c.send("GET a")
	b.expect("GET a") // the master hangs now
	r.hold()
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n" + strings.Repeat("x", 1000))
	r.advance(2 * time.Second)
	for range 20 {
		c.wire.peer(strings.Repeat("x", 100000))
	}
	if got := string(c.wire.got); strings.HasPrefix(got, "-MASTERDOWN") {
		t.Errorf("the error for SET came before the reply to GET: %q", got)
	}
	r.serve(nodeA, 1)
	b.reply("$1\r\n1\r\n")
}

// What is taken back while a large command is thrown away is no part of it: else the
// end of its value would be read as commands.
func TestTakenBackIsNotPartOfALargeCommand(t *testing.T) {
	r := servingWith(t, "1s")
	c := r.client()
	b := warm(r, c)
	c.send("GET " + strings.Repeat("a", 10))
	b.expect("GET") // the master hangs now
	r.hold()
	inject := "\r\nFLUSHALL\r\n"
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n" + strings.Repeat("x", 1000))
	r.advance(2 * time.Second)
	r.serve(nodeB, 2) // GET is taken back
	for n := 2000000 - 1000 - len(inject); n > 0; n -= 50000 {
		c.wire.peer(strings.Repeat("x", min(n, 50000)))
	}
	c.wire.peer(inject)
	c.wire.peer("\r\n")
	for len(r.dials) > 0 {
		b := r.backend()
		for cmd := b.next(); cmd != nil; cmd = b.next() {
			if cmd[0] == "FLUSHALL" {
				t.Error("the end of the value reached the master as a command")
			}
			b.reply("+x\r\n")
		}
	}
}

// The window is filled, and all of it pulled back in the same turn: no reply is left to
// come that would wake those who wait for room.
func TestWindowPulledBack(t *testing.T) {
	r := serving(t)
	warmer := r.client()
	b := warm(r, warmer)
	var cs []*fakeClient
	val := strings.Repeat("v", 900<<10)
	for range 8 {
		cs = append(cs, r.client())
	}
	// one turn: all clients' data is read, then a posted route comes, then output is written
	for _, c := range cs {
		c.s.Data([]byte(frames("SET k " + val)))
		r.w.pump()
	}
	p := r.w.pipes[r.w.anonymous()]
	r.hold()
	r.serve(nodeA, 1)
	r.advance(time.Minute)
	for n := 0; b.next() != nil; n++ {
		b.reply("+OK\r\n")
	}
	for i, c := range cs {
		if string(c.wire.got) != "+OK\r\n" {
			t.Errorf("client %d got %q, waits %d", i, c.wire.got, c.s.wait)
		}
	}
	warmer.send("PING")
	if w := b.next(); w == nil {
		t.Errorf("PING of another client never reaches the master: wait %d, p.waiting %d, queue %d", warmer.s.wait, len(p.waiting), p.queue.len())
	}
}

// Who waits for the window of a hung master is held as everybody.
func TestWaitingForAWindowIsNoWayAroundAHold(t *testing.T) {
	r := servingWith(t, "0s")
	warmer := r.client()
	b := warm(r, warmer)
	b.wire.limit = 100
	val := strings.Repeat("v", 900<<10)
	var cs []*fakeClient
	for range 8 {
		c := r.client()
		c.send("SET k " + val)
		cs = append(cs, c)
	}
	last := cs[7]
	if last.s.wait != waitPipe {
		t.Fatal("no window")
	}
	r.hold()
	r.advance(30 * time.Second)
	if len(last.wire.got) == 0 {
		t.Error("a command that was never sent is not answered in the outage")
	}
}

// A pinned client whose connection is lost may find others in its place.
func TestReviveAtTheLimit(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("WATCH k")
	b := r.ownBackend()
	b.expect("WATCH k")
	b.reply("+OK\r\n")
	r.hold()
	b.wire.peerReset()
	r.w.owned = maxOwn // others got theirs first
	r.serve(nodeB, 2)
}

// A large command that failed leaves nothing of its hold to the next one.
func TestLargeCommandEndsItsHold(t *testing.T) {
	r := servingWith(t, "1s")
	c := r.client()
	b := warm(r, c)
	r.hold()
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n" + strings.Repeat("x", 1000))
	r.advance(2 * time.Second)
	for range 20 {
		c.wire.peer(strings.Repeat("x", 99950))
	}
	c.wire.peer("\r\n")
	c.wire.got = nil
	r.serve(nodeA, 1)
	r.w.setOutage(Outage{})
	r.advance(time.Hour)
	c.send("GET a")
	b.expect("GET a")
	b.reply("$-1\r\n")
	c.expect("$-1\r\n")
	r.hold()
	c.send("GET a")
	r.advance(time.Millisecond)
	c.expect("")
}

// hold.timeout passes while an answer is due, and the master comes back: the next hold
// begins anew.
func TestExpiredEndsWithItsHold(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("GET a")
	b.expect("GET a")
	r.hold()
	c.send("SET b 1")
	r.advance(7 * time.Second) // hold.timeout is over, hold.max is not
	c.expect("")
	r.serve(nodeA, 1)
	b.reply("$-1\r\n")
	b.expect("SET b 1")
	b.reply("+OK\r\n")
	c.expect("$-1\r\n+OK\r\n")
	r.advance(time.Hour)
	r.hold()
	c.send("SET c 1")
	c.expect("")
}

// Commands that come back to a session which is held already wait no longer than it.
func TestTakenBackToOneThatIsHeld(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("GET a")
	b.expect("GET a")
	r.hold()
	c.send("SET b 1")
	b.wire.peerReset()
	r.advance(6*time.Second + time.Millisecond)
	if n := strings.Count(string(c.wire.got), "-MASTERDOWN"); n != 2 {
		t.Errorf("%d of 2 commands failed after hold.timeout: %q", n, c.wire.got)
	}
}

// Between the end of the lease and the route that says so, it is the fence that refuses.
func TestLeaseEndedIsTheFence(t *testing.T) {
	r := newRig(t)
	r.w.setOutage(outagePolicy(t, "0s"))
	r.lease = new(topology.Lease)
	r.lease.Extend(r.at + time.Second)
	r.serve(nodeA, 1)
	c := r.client()
	warm(r, c)
	r.advance(2 * time.Second)
	c.send("SET a 1") // it is noticed when this is to be written
	d := r.client()
	d.send("SET b 1")
	d.expectError("NOREPLICAS", "lease has ended")
}
