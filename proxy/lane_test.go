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
		"another password": func(r *rig) {
			r.accept().reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
		},
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
