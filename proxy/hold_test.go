package proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestHoldAndRelease(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	r.hold()
	if r.reported(topology.ReportHeld) != 1 {
		t.Error("the hold was not acknowledged")
	}
	c.send("SET a 1", "GET a")
	d.send("GET z")
	if !c.wire.paused {
		t.Error("a held client is still read")
	}
	b.expectNothing()
	r.checkHeld(0, 0, 0, 3)
	r.serve(nodeA, 1)
	b.expect("SET a 1", "GET a", "GET z")
	b.reply("+OK\r\n$1\r\n1\r\n$-1\r\n")
	c.expect("+OK\r\n$1\r\n1\r\n")
	d.expect("$-1\r\n")
	if c.wire.paused || !c.s.fast {
		t.Error("the client is not back to normal")
	}
	r.checkHeld(3, 0, 0, 0)
}

func TestUnsentIsPulledBack(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	d.send("PING")
	b.expect("PING")
	b.reply("+PONG\r\n")
	d.expect("+PONG\r\n")
	whole := frames("SET a 1")
	b.wire.limit = len(whole) + 5 // a part of the second command goes out
	c.send("SET a 1", "SET b 2", "SET c 3")
	d.send("GET d")
	if !b.wire.blocked {
		t.Fatal("the backend is not blocked")
	}
	r.hold(doubt)
	b.wire.unblock(0)
	b.expect("SET a 1", "SET b 2")
	b.expectNothing()
	r.checkHeld(0, 0, 0, 2)
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("SET c 3", "GET d")
	b.reply("+OK\r\n$-1\r\n")
	c.expectError("UNCERTAIN", "SET")
	c.expectError("UNCERTAIN", "SET")
	c.expect("+OK\r\n")
	d.expect("$-1\r\n")
	r.checkHeld(2, 0, 0, 0)
}

func TestPartOfACommandIsSentAgainAfterASwitch(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	b.wire.limit = 10
	c.send("SET a 1")
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("SET a 1")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
}

func TestHoldTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		state topology.State
		code  string
	}{
		"holding":     {topology.Holding, "MASTERDOWN"},
		"discovering": {topology.Discovering, "MASTERDOWN"},
		"fenced":      {topology.Fenced, "NOREPLICAS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c, d := r.client(), r.client()
			b := warm(r, c)
			r.hold(func(rt *topology.Route) { rt.State = tt.state })
			c.send("SET a 1", "SET b 2")
			r.advance(2 * time.Second)
			d.send("GET z")
			r.advance(4 * time.Second)
			c.expectError(tt.code, "nothing was sent (sentinelproxy)")
			c.expectError(tt.code, "a test")
			c.expect("")
			d.expect("")
			r.checkHeld(0, 2, 0, 1)
			c.send("SET c 3") // waits anew
			c.expect("")
			r.advance(2 * time.Second)
			d.expectError(tt.code, "")
			r.advance(4 * time.Second)
			c.expectError(tt.code, "")
			c.send("SET d 4")
			r.serve(nodeA, 1)
			b.expect("SET d 4")
			b.expectNothing()
			r.checkHeld(1, 4, 0, 0)
		})
	}
}

// A route that comes and goes while no new connection can be made has nobody wait for ever.
func TestHoldTimeoutThroughSeveralHolds(t *testing.T) {
	for name, command := range map[string]string{"shared": "GET a", "own": "BLPOP q 0", "transaction": "MULTI"} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			waitedFor := func() (waited time.Duration) {
				for waited < 2*r.w.route.HoldTimeout && len(c.wire.got) == 0 {
					for _, d := range r.dials {
						d.done(nil, errors.New("connection refused"))
					}
					r.dials = nil
					r.hold()
					r.serve(nodeA, 1)
					r.advance(redialMax)
					waited += redialMax
				}
				return waited
			}
			for range 2 { // the second wait begins anew
				c.send(command)
				if d := waitedFor(); d < r.w.route.HoldTimeout {
					t.Errorf("failed after %v", d)
				}
				c.expectError("MASTERDOWN", "it can't be connected to")
			}
			if n := r.w.stats.holdCount; n != 0 {
				t.Errorf("%d holds are said to have ended well", n)
			}
			c.send("GET a")
			for range 2 {
				r.hold()
				r.advance(r.w.route.HoldTimeout / 4)
				r.serve(nodeA, 1)
			}
			b := r.backend()
			b.expect("GET a")
			b.reply("$-1\r\n")
			c.expect("$-1\r\n")
			if s := &r.w.stats; s.holdCount != 1 || s.holdSum < r.w.route.HoldTimeout/2 {
				t.Errorf("%d holds of %v in all; want 1, from its first hold on", s.holdCount, s.holdSum)
			}
			r.hold()
			c.send("GET a")
			r.advance(r.w.route.HoldTimeout * 3 / 4)
			c.expect("")
		})
	}
}

func TestBlankLinesAreNotHeld(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	r.hold()
	c.wire.peer("\r\nGET a\r\n \r\n*0\r\nGET b\r\n")
	r.checkHeld(0, 0, 0, 2)
	r.serve(nodeA, 1)
	b.expect("GET a", "GET b")
	b.reply("$-1\r\n$-1\r\n")
	r.checkHeld(2, 0, 0, 0)
	c.send("GET c")
	if b.expect("GET c"); !c.s.fast {
		t.Error("the short way stays closed")
	}
}

func TestDownFailsAtOnce(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	d.send("GET a")
	b.expect("GET a")
	r.hold()
	c.send("SET a 1")
	r.hold(func(rt *topology.Route) { rt.State = topology.Down })
	c.expectError("MASTERDOWN", "")
	d.expectError("MASTERDOWN", "") // it was under way, and nobody will answer it
	if !b.wire.aborted {
		t.Error("the connection is kept")
	}
	c.send("SET a 1", "GET a")
	c.expectError("MASTERDOWN", "")
	c.expectError("MASTERDOWN", "")
	r.checkHeld(0, 1, 0, 0)
	if r.w.stats.rejected != 3 {
		t.Errorf("%d rejected; want 3", r.w.stats.rejected)
	}
	r.serve(nodeA, 2)
	c.send("GET a")
	r.backend().expect("GET a")
}

// Where the circuit opened on the losing side of a partition, it is still the fence
// that refuses.
func TestDownBehindTheFence(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	r.hold(func(rt *topology.Route) { rt.State = topology.Fenced })
	c.send("SET a 1")
	r.hold(func(rt *topology.Route) { rt.State, rt.Cut = topology.Down, true })
	c.expectError("NOREPLICAS", "fenced")
	c.send("SET a 1")
	c.expectError("NOREPLICAS", "fenced")
}

func TestClientGoneWhileHeld(t *testing.T) {
	for name, gone := range map[string]func(*fakeClient){
		"eof": func(c *fakeClient) { c.wire.peerEOF() }, "reset": func(c *fakeClient) { c.wire.peerReset() },
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			r.hold()
			c.send("SET a 1", "SET b 2")
			gone(c)
			if !c.wire.reaped || len(r.w.sessions) != 0 {
				t.Error("the session lives on")
			}
			r.serve(nodeA, 1)
			b.expectNothing()
			r.checkHeld(0, 0, 2, 0)
		})
	}
}

func TestLocalCommandsPassAHold(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	r.hold()
	c.send("CLIENT SETNAME me", "CLIENT GETNAME")
	c.expect("+OK\r\n$2\r\nme\r\n")
	c.send("GET a", "CLIENT GETNAME") // not past what waits
	c.expect("")
	r.checkHeld(0, 0, 0, 2)
}

func TestLeaseIsCheckedBeforeWriting(t *testing.T) {
	r := newRig(t)
	r.lease = new(topology.Lease)
	r.lease.Extend(r.at + time.Second)
	r.serve(nodeA, 1)
	c := r.client()
	b := warm(r, c)
	r.advance(time.Second)
	c.send("SET a 1")
	b.expectNothing()
	c.send("SET b 2")
	if n := r.reported(topology.ReportLeaseEnded); n != 1 {
		t.Errorf("the lease's end was reported %d times", n)
	}
	r.lease.Extend(r.at + time.Second)
	r.advance(leaseCheck)
	b.expect("SET a 1", "SET b 2")
	b.reply("+OK\r\n+OK\r\n")
	c.expect("+OK\r\n+OK\r\n")
}

func TestOwnPipeGoesOnWithTheSameMaster(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("WATCH a")
	b := r.backend()
	b.expect("WATCH a")
	b.reply("+OK\r\n")
	b.wire.limit = 1
	b.wire.blocked = true
	c.send("GET a")
	r.hold()
	b.wire.unblock(0)
	b.expectNothing()
	r.serve(nodeA, 1)
	b.expect("GET a")
}

func TestLargeCommandIsHeldAndFailed(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	r.hold()
	head := "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n"
	c.wire.peer(head)
	r.advance(10 * time.Second)
	for range 20 {
		c.wire.peer(strings.Repeat("x", 100000))
	}
	c.wire.peer("\r\n" + frames("GET a"))
	c.expectError("MASTERDOWN", "")
	r.serve(nodeA, 1)
	b.expect("GET a")
}

// A client in a mode, whose connection is lost with the master, waits no longer than
// others, and not at all once the route is down.
func TestPinnedClientIsHeldLikeAnyOther(t *testing.T) {
	for name, down := range map[string]bool{"holding": false, "down": true} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("WATCH k")
			b := r.ownBackend()
			b.expect("WATCH k")
			b.reply("+OK\r\n")
			c.expect("+OK\r\n")
			r.hold(func(rt *topology.Route) {
				if down {
					rt.State = topology.Down
				}
			})
			b.wire.peerReset()
			if c.wire.paused {
				t.Error("the client is not read though it waits for nothing")
			}
			c.send("GET a")
			if !down {
				r.checkHeld(0, 0, 0, 1)
				r.advance(6*time.Second - 1)
				c.expect("")
				r.advance(1)
			}
			c.expectError("MASTERDOWN", "")
			r.serve(nodeA, 1)
			c.send("GET a", "EXEC")
			r.ownBackend().expect("GET a")
		})
	}
}

func TestHeldSubscriberWaitsQuietly(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("SUBSCRIBE ch")
	b := r.backend()
	b.expect("SUBSCRIBE ch")
	b.reply("*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n")
	c.expect("*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n")
	r.hold(func(rt *topology.Route) { rt.HoldTimeout = -1 })
	b.wire.peerReset()
	r.advance(time.Minute) // fails the test if a timer spins
	c.expect("")
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("SUBSCRIBE ch")
	b.reply("*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n")
	c.expect("")
	b.reply("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n")
	c.expect("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n")
}

func TestStaleRouteIsIgnored(t *testing.T) {
	r := serving(t)
	r.serve(nodeB, 2)
	r.w.setRoute(topology.Route{Group: "orders", Gen: 1, State: topology.Serving, Master: nodeA, Epoch: 1})
	if r.w.route.Master != nodeB {
		t.Error("an older route replaced a newer one")
	}
}

// A hold is as long as the client waited, also where something of its own was under way at
// the old master.
func TestHoldBehindACommandInFlight(t *testing.T) {
	r := serving(t)
	c := r.client()
	a := warm(r, c)
	c.send("GET a")
	a.expect("GET a")
	r.hold()
	c.send("GET b")
	r.advance(time.Second)
	r.serve(nodeB, 2)
	b := r.backend()
	b.expect("GET a", "GET b")
	b.reply("$-1\r\n$-1\r\n")
	c.expect("$-1\r\n$-1\r\n")
	if s := &r.w.stats; s.holdCount != 1 || s.holdSum != time.Second {
		t.Errorf("%d holds of %v in all; want one of 1s", s.holdCount, s.holdSum)
	}
}

// hold_duration_seconds is of holds until a master could be served: what an outage's
// policy or its end answers is none of them.
func TestHoldsThatNoMasterEnds(t *testing.T) {
	r := servingWith(t, "1s", "GET=nil")
	c := r.client()
	warm(r, c)
	r.hold()
	c.send("GET a")
	r.advance(2 * time.Second)
	c.expect("$-1\r\n")
	c.send("SET a 1")
	r.setRoute(topology.Route{State: topology.Down, Why: "a test"})
	c.expectError("MASTERDOWN", "")
	if n := r.w.stats.holdCount; n != 0 {
		t.Errorf("%d holds ended well; want none", n)
	}
}
