package proxy

import (
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// A reply that a suspicion keeps back is owed like one that has not come yet.
func TestDrainWaitsForAReplyKeptBack(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("INCR a")
	b := r.backend()
	b.expect("INCR a")
	r.setRoute(topology.Route{State: topology.Serving, Master: nodeA, Epoch: 1, Suspect: true})
	b.reply(":1\r\n")
	c.expect("")
	r.w.drain()
	r.turn()
	if c.wire.closed {
		t.Fatal("closed before its reply")
	}
	r.serve(nodeA, 1)
	c.expect(":1\r\n")
	if !c.wire.closed {
		t.Error("it is still connected")
	}
}

// What EXEC answers behind its reply belongs to it.
func TestLastCommandIsAnsweredToItsEnd(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "UNSUBSCRIBE a b", "EXEC")
	b := r.ownBackend()
	b.expect("MULTI", "UNSUBSCRIBE a b", "EXEC")
	a, z := "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n"
	b.reply("+OK\r\n+QUEUED\r\n")
	c.wire.peerEOF()
	b.reply("*1\r\n" + a)
	c.expect("+OK\r\n+QUEUED\r\n*1\r\n" + a)
	if c.wire.closed {
		t.Fatal("closed in the middle of EXEC's answer")
	}
	b.reply(z)
	c.expect(z)
	if !c.wire.closed {
		t.Error("it is still connected")
	}
}
