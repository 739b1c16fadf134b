package proxy

import (
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
