package proxy

import (
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// longSet is a command that has its session count as one that sends much.
func longSet() string { return "SET k " + strings.Repeat("v", muchMark) }

// laned returns a client that was given a lane, with the ends of the connection that
// everybody shares and of the lane.
func laned(r *rig) (c *fakeClient, shared, lane *backend) {
	r.t.Helper()
	c = r.client()
	shared = warm(r, c)
	for range 2 { // the second has the lane dialled, and goes where the first went
		c.send(longSet())
		shared.next()
		shared.reply("+OK\r\n")
		c.expect("+OK\r\n")
	}
	lane = r.backend()
	c.send(longSet())
	lane.next()
	lane.reply("+OK\r\n")
	c.expect("+OK\r\n")
	return c, shared, lane
}

// What is long goes another way than what is short, and comes back after a while.
func TestLane(t *testing.T) {
	r := serving(t)
	c, shared, lane := laned(r)
	other := r.client()
	other.send("GET a")
	shared.expect("GET a")
	shared.reply("$-1\r\n")
	other.expect("$-1\r\n")

	for range bulkyFor {
		c.send("GET a")
		lane.expect("GET a")
		lane.reply("$-1\r\n")
		c.expect("$-1\r\n")
	}
	c.send("GET a")
	shared.expect("GET a")
	shared.reply("$-1\r\n")
	c.expect("$-1\r\n")
	if !c.s.fast {
		t.Error("the session is slow from now on")
	}
	r.advance(2 * idlePipe)
	if !lane.wire.closed || len(r.w.lanes) > 0 {
		t.Error("the lane is kept, though nobody uses it")
	}
	if shared.wire.closed {
		t.Error("the connection that two clients share was closed")
	}
}

// A session changes its connection only while nothing of its own is under way: its
// commands are executed in their order.
func TestLaneKeepsTheOrder(t *testing.T) {
	r := serving(t)
	c := r.client()
	shared := warm(r, c)
	c.send(longSet())
	c.send(longSet())
	shared.next()
	shared.next()
	if len(r.dials) > 0 {
		t.Fatal("a lane is dialled while it could not be used")
	}
	shared.reply("+OK\r\n+OK\r\n")
	c.expect("+OK\r\n+OK\r\n")
	c.send(longSet())
	shared.next()
	lane := r.backend()
	c.send("GET k")
	shared.expect("GET k")
	lane.expectNothing()
	shared.reply("+OK\r\n$1\r\nv\r\n")
	c.expect("+OK\r\n$1\r\nv\r\n")
	c.send("GET k")
	lane.expect("GET k")
}

// Long pipelines of short commands have lanes, too.
func TestLaneForPipelines(t *testing.T) {
	r := serving(t)
	c := r.client()
	shared := warm(r, c)
	batch, answers := strings.Repeat(frames("SET k v"), 200), strings.Repeat("+OK\r\n", 200)
	for range 2 {
		c.wire.peer(batch)
		r.turn()
		shared.wire.got = nil
		shared.reply(answers)
		c.expect(answers)
	}
	lane := r.backend()
	c.wire.peer(batch)
	r.turn()
	if string(lane.wire.got) != batch || len(shared.wire.got) > 0 {
		t.Errorf("%d bytes on the lane, %d on the shared connection; want all on the lane", len(lane.wire.got), len(shared.wire.got))
	}
}

// Where no lane can be had everything goes on as if there were none, and none is asked
// for again at once.
func TestNoLane(t *testing.T) {
	for name, refuse := range map[string]func(*rig){
		"unreachable":     func(r *rig) { d := r.dials[0]; r.dials = r.dials[1:]; d.done(nil, errReset); r.turn() },
		"no more clients": func(r *rig) { r.accept().reply("-ERR max number of clients reached\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			shared := warm(r, c)
			for i := range 5 {
				c.send(longSet())
				shared.next()
				shared.reply("+OK\r\n")
				c.expect("+OK\r\n")
				if i == 1 {
					refuse(r)
				}
			}
			if len(r.dials) > 0 || len(r.w.lanes) > 0 {
				t.Errorf("%d dials, %d lanes; want none", len(r.dials), len(r.w.lanes))
			}
			if !c.s.fast || r.failure != "" || len(r.w.refusals) > 0 || r.w.stats.backendLost > 0 || r.reported(topology.ReportLost) > 0 {
				t.Errorf("fast = %v, failure %q, %d refusals, %d connections lost, %d reported; a lane is no condition", c.s.fast, r.failure,
					len(r.w.refusals), r.w.stats.backendLost, r.reported(topology.ReportLost))
			}
			r.advance(2 * laneRest)
			r.w.second = r.now() // as the next look for idle clients does
			c.send(longSet())
			c.send("PING")
			shared.next()
			shared.expect("PING")
			shared.reply("+OK\r\n+PONG\r\n")
			c.expect("+OK\r\n+PONG\r\n")
			c.send(longSet())
			if len(r.dials) != 1 {
				t.Error("no lane is dialled after the rest")
			}
		})
	}
}

// A client whose password was changed since it logged in has no lane, and the old password
// is not tried again and again.
func TestNoLaneWithAnOldPassword(t *testing.T) {
	r := serving(t)
	c := r.client()
	shared := warm(r, c)
	sets := func(n int) {
		for range n {
			c.send(longSet())
			shared.next()
			shared.reply("+OK\r\n")
			c.expect("+OK\r\n")
		}
	}
	sets(2)
	r.accept().reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	r.advance(2 * laneRest)
	sets(5)
	if len(r.dials) > 0 || r.failure != "" || len(r.w.refusals) > 0 {
		t.Errorf("%d dials, failure %q, %d refusals; want none", len(r.dials), r.failure, len(r.w.refusals))
	}
	shared.wire.h.EOF()
	shared = r.backend() // the password is what it was
	sets(2)
	if len(r.dials) != 1 || r.dials[0].p.lane == 0 {
		t.Errorf("dials %v; want a lane, now that the login is taken", r.dials)
	}
}

// A client that has something under way at all times goes the short way, on the
// connection that it is on.
func TestLaneNeverDrained(t *testing.T) {
	r := serving(t)
	c := r.client()
	shared := warm(r, c)
	c.send("GET a")
	shared.next()
	for range 10 {
		c.send(longSet())
		shared.next()
		shared.reply("+OK\r\n")
		c.wire.got = nil
		if !c.s.fast {
			t.Fatal("it goes the long way")
		}
	}
	if len(r.dials) > 0 {
		t.Error("a lane is dialled that could not be used")
	}
}

// What goes out on a connection of its own counts, too: the session leaves the lane all
// the same.
func TestLaneLeftAfterBlocking(t *testing.T) {
	r := serving(t)
	c, shared, lane := laned(r)
	c.s.bulky = 1
	c.send("BLPOP q 1")
	own := r.ownBackend()
	own.expect("BLPOP q 1")
	own.reply("*-1\r\n")
	c.expect("*-1\r\n")
	for _, on := range []*backend{lane, shared} { // the first shows that it is the wrong one
		c.send("GET a")
		on.expect("GET a")
		on.reply("$-1\r\n")
		c.expect("$-1\r\n")
	}
	if lane.wire.h.(*pipe).sessions != 0 {
		t.Error("it is still counted there")
	}
}

// Where the way back is refused the lane serves on, and Redis is not asked for each command.
func TestLaneWithoutAWayBack(t *testing.T) {
	r := serving(t)
	c, shared, lane := laned(r)
	c.s.bulky = 0
	shared.wire.h.EOF()
	r.turn()
	r.accept().reply("-NOAUTH Authentication required.\r\n")
	for range 5 {
		c.send("GET a")
		lane.expect("GET a")
		lane.reply("$-1\r\n")
		c.expect("$-1\r\n")
	}
	if len(r.dials) > 0 {
		t.Errorf("%d dials", len(r.dials))
	}
}

// A large reply retires the first connection. The lanes need one nevertheless.
func TestLanesNeedAFirst(t *testing.T) {
	r := serving(t)
	_, shared, _ := laned(r)
	shared.wire.h.(*pipe).isolate(nil, nil)
	r.turn()
	if len(r.dials) != 1 || r.dials[0].p.lane != 0 {
		t.Errorf("dials %v; want another first connection", r.dials)
	}
}

// What was under way on a lane that is lost is judged as on any connection, and its
// sessions go on where the others are.
func TestLaneLost(t *testing.T) {
	r := serving(t)
	c, shared, lane := laned(r)
	c.send("GET a")
	lane.expect("GET a")
	lane.wire.h.EOF()
	r.turn()
	shared.expect("GET a")
	shared.reply("$-1\r\n")
	c.expect("$-1\r\n")
	if c.s.pipe != shared.wire.h || c.s.pipe.sessions != 1 || r.reported(topology.ReportLost) != 1 {
		t.Errorf("%d sessions on the shared connection, %d reports; want 1 of each", c.s.pipe.sessions, r.reported(topology.ReportLost))
	}
	c.send(longSet())
	shared.next()
	shared.wire.h.EOF() // nothing can be known of a write
	r.turn()
	c.expectError("UNCERTAIN", "")
}

// A user's clients may all be on lanes when Redis ends its connections, because it was
// deleted: they are disconnected all the same.
func TestLaneOfADeletedUser(t *testing.T) {
	r := serving(t)
	r.w.opts.Auth = AuthPassthrough
	c := r.client()
	c.send("AUTH bob secret")
	first := r.accept()
	first.expect("HELLO 2 AUTH bob secret")
	first.reply(helloMaster)
	first.expect("AUTH bob secret")
	first.reply("+OK\r\n")
	c.expect("+OK\r\n")
	for range 2 {
		c.send(longSet())
		first.next()
		first.reply("+OK\r\n")
		c.expect("+OK\r\n")
	}
	lane := r.accept()
	lane.expect("HELLO 2 AUTH bob secret")
	lane.reply(helloMaster)
	c.send("GET a")
	lane.expect("GET a")
	lane.reply("$-1\r\n")
	c.expect("$-1\r\n")

	first.wire.h.EOF()
	r.turn()
	first = r.accept()
	first.expect("HELLO 2 AUTH bob secret")
	first.reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	c.send("GET a")
	lane.expect("GET a")
	lane.reply("$-1\r\n")
	c.expect("$-1\r\n") // his connection is there: Redis may only have another password by now

	lane.wire.h.EOF()
	r.turn()
	again := r.accept()
	again.expect("HELLO 2 AUTH bob secret")
	again.reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	r.turn()
	if !c.wire.closed {
		t.Error("the deleted user's client is still connected")
	}
}

// A hold takes back what is unsent on a lane, and a new master gets a lane of its own.
func TestLaneThroughFailover(t *testing.T) {
	r := serving(t)
	c, _, lane := laned(r)
	lane.wire.blocked = true
	c.send("INCR a")
	r.hold()
	lane.expectNothing()
	r.serve(nodeB, 2)
	if !lane.wire.closed {
		t.Error("the old master's lane is open")
	}
	b := r.backend()
	b.expect("INCR a")
	b.reply(":1\r\n")
	c.expect(":1\r\n")
	c.send(longSet())
	b.next()
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	c.send(longSet())
	if len(r.dials) != 1 || r.dials[0].addr != nodeB || r.dials[0].p.lane == 0 {
		t.Errorf("dials %v; want a lane to the new master", r.dials)
	}
}

// There are no more lanes than are allowed, whoever sends much.
func TestLanesAreBounded(t *testing.T) {
	r := serving(t)
	for db := range maxLanes {
		for range laneCount {
			s := r.client().s
			s.who.db, s.reqs.Unauthenticated = db, false
			s.pipe = &pipe{w: r.w, id: s.who, state: pipeReady}
			s.bulky = bulkyFor
			s.changeLane(s.pipe)
		}
	}
	if len(r.w.lanes) != maxLanes || len(r.dials) != maxLanes {
		t.Errorf("%d lanes, %d dials; want %d", len(r.w.lanes), len(r.dials), maxLanes)
	}
}
