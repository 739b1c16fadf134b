package proxy

import (
	"strings"
	"testing"
	"time"
)

// A connection that died without a word is found by a trial on a new one: reads
// are sent again, writes are uncertain, and everything goes on.
func TestSilentConnection(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("SET a 1")
	d.send("GET a")
	b.expect("SET a 1", "GET a")
	r.advance(staleLooks*watchEvery + watchEvery)
	trial := r.accept()
	trial.expect("HELLO 2")
	trial.reply(helloMaster)
	c.expectError("UNCERTAIN", "SET may or may not have been executed")
	again := r.accept()
	again.expect("HELLO 2")
	again.reply(helloMaster)
	again.expect("GET a")
	again.reply("$1\r\n1\r\n")
	d.expect("$1\r\n1\r\n")
}

// A master that is busy greets nobody: its connections stay as they are.
func TestBusyMasterIsNotSilent(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("EVAL slow 0")
	b.expect("EVAL slow 0")
	r.advance(staleLooks*watchEvery + watchEvery)
	r.accept().expect("HELLO 2") // and no answer
	r.advance(5 * watchEvery)
	b.reply("+done\r\n")
	c.expect("+done\r\n")
}

// While the master turns connections away, clients wait as in a hold, and no
// longer.
func TestMasterTurnsConnectionsAway(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	b.wire.peerEOF()
	c.send("GET a")
	for range 3 {
		n := r.accept()
		n.reply("-ERR max number of clients reached\r\n")
		if !n.wire.closed {
			n.wire.peerEOF()
		}
		r.advance(redialMax * 2)
	}
	if !strings.Contains(r.failure, "max number of clients") {
		t.Errorf("failing: %q; want Redis' words", r.failure)
	}
	r.advance(30 * time.Second)
	c.expectError("MASTERDOWN", "max number of clients reached")
}
