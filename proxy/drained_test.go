package proxy

import (
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func (r *rig) wantUnderWay(want bool) {
	r.t.Helper()
	if got := r.w.underWay(); got != want {
		r.t.Errorf("under way: %v; want %v", got, want)
	}
}

func TestUnderWay(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	r.wantUnderWay(false)
	c.send("SET a 1", "GET a")
	b.expect("SET a 1", "GET a")
	r.wantUnderWay(true)
	r.hold()
	d.send("SET b 2") // it waits, and is not under way
	r.wantUnderWay(true)
	b.reply("+OK\r\n")
	r.wantUnderWay(true)
	b.reply("$1\r\n1\r\n")
	r.wantUnderWay(false)
}

func TestPartOfACommandIsUnderWay(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	b.wire.limit = 10
	c.send("SET a 1")
	r.hold()
	r.wantUnderWay(true)
	b.wire.unblock(0)
	b.expect("SET a 1")
	b.reply("+OK\r\n")
	r.wantUnderWay(false)
}

// The rest of a large command goes out as any other's, or the master would never be
// done with it.
func TestRestOfALargeCommandDrains(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n" + strings.Repeat("x", 1000000))
	b := r.ownBackend()
	b.wire.got = nil
	r.hold()
	r.wantUnderWay(true)
	rest := strings.Repeat("x", 1000000) + "\r\n"
	c.wire.peer(rest + frames("GET a"))
	if got := string(b.wire.got); got != rest {
		t.Fatalf("%d bytes came after the hold; want the %d of the command begun", len(got), len(rest))
	}
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	r.wantUnderWay(false)
}

// One of which nothing has gone out yet is not begun.
func TestLargeCommandIsNotBegunInAHold(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.wire.peer("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n")
	var b *backend
	for b == nil || b.wire.h.(*pipe).owner == nil {
		b = r.accept()
		b.expect("HELLO")
		b.wire.blocked = true
		b.reply(helloMaster)
	}
	c.wire.peer(strings.Repeat("x", 1000))
	r.hold()
	b.wire.unblock(0)
	b.expectNothing()
	r.wantUnderWay(false)
	r.serve(nodeA, 1)
	if len(b.wire.got) == 0 {
		t.Error("it does not go on")
	}
}

// A blocking call is ended at the hold, and then waits like any other command.
func TestBlockingCallDrains(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, d)
	c.send("BLPOP q 0")
	own := r.ownBackend()
	own.expect("BLPOP q 0")
	r.hold()
	r.wantUnderWay(true)
	b.expect("CLIENT UNBLOCK 7 ERROR")
	b.reply(":1\r\n")
	own.reply("-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
	r.wantUnderWay(false)
	c.expect("")
	if r.w.route.State != topology.Holding {
		t.Error("the route does not hold")
	}
}
