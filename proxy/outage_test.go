package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// nodeC is a replica.
const nodeC = topology.Addr("c:6379")

const helloReplica = "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:7\r\n" +
	"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$7\r\nreplica\r\n$7\r\nmodules\r\n*0\r\n"

// outagePolicy makes a policy of rules; after "" is auto.
func outagePolicy(tb testing.TB, after string, rules ...string) Outage {
	tb.Helper()
	var o Outage
	if after != "" {
		d, err := time.ParseDuration(after)
		if err != nil {
			tb.Fatal(err)
		}
		o.Fixed, o.After = true, d
	}
	for _, r := range rules {
		rule, err := ParseOutageRule(r)
		if err != nil {
			tb.Fatal(err)
		}
		o.Rules = append(o.Rules, rule)
	}
	return o
}

// servingWith is serving with a policy. HoldTimeout is 6 s, as in all routes of a rig.
func servingWith(tb testing.TB, after string, rules ...string) *rig {
	tb.Helper()
	r := serving(tb)
	r.w.setOutage(outagePolicy(tb, after, rules...))
	return r
}

// replicasAre has the routes of a hold name these.
func replicasAre(addrs ...topology.Addr) func(*topology.Route) {
	return func(rt *topology.Route) { rt.Replicas = addrs }
}

func down(rt *topology.Route) { rt.State = topology.Down }

// replica answers the oldest dial and greets as a replica.
func (r *rig) replica() *backend {
	r.t.Helper()
	b := r.accept()
	if !b.wire.h.(*pipe).replica {
		r.t.Fatalf("%s was dialled as a master", b.addr)
	}
	b.expect("HELLO")
	b.reply(helloReplica)
	return b
}

func (r *rig) expectNoDial() {
	r.t.Helper()
	r.turn()
	for _, d := range r.dials {
		if d.p.state == pipeDialing {
			r.t.Fatalf("%s is being dialled", d.addr)
		}
	}
}

func (r *rig) checkReplies(fail, stale, none uint64) {
	r.t.Helper()
	if got := r.w.stats.outageReplies; got != [...]uint64{fail, stale, none} {
		r.t.Errorf("outage replies %v; want %d errors, %d stale, %d nil", got, fail, stale, none)
	}
}

// When an outage begins, by what the operator said and what the command's rule is.
func TestOutageBegins(t *testing.T) {
	for name, tt := range map[string]struct {
		after    string
		arrives  time.Duration // after the route stopped serving
		answered time.Duration // what a rule answers
		failed   time.Duration // what gets an error
	}{
		"auto":                       {"", time.Second, 6 * time.Second, 7 * time.Second},
		"auto, it began before":      {"", 7 * time.Second, 7 * time.Second, 13 * time.Second},
		"at once":                    {"0s", time.Second, time.Second, time.Second},
		"earlier than hold.timeout":  {"2s", time.Second, 2 * time.Second, 2 * time.Second},
		"later than hold.timeout":    {"10s", 5 * time.Second, 10 * time.Second, 10 * time.Second},
		"later, and already expired": {"10s", time.Second, 7 * time.Second, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := servingWith(t, tt.after, "GET=nil")
			c, d := r.client(), r.client()
			warm(r, c)
			r.hold()
			r.advance(tt.arrives)
			c.send("GET a")
			d.send("SET a 1")
			if tt.answered > tt.arrives {
				r.advance(tt.answered - tt.arrives - 1)
				c.expect("")
				r.advance(1)
			}
			if name == "later, and already expired" {
				c.expectError("MASTERDOWN", "nothing was sent (sentinelproxy)")
			} else {
				c.expect("$-1\r\n")
			}
			if left := tt.failed - max(tt.answered, tt.arrives); left > 0 {
				r.advance(left - 1)
				d.expect("")
				r.advance(1)
			}
			d.expectError("MASTERDOWN", "nothing was sent (sentinelproxy)")
		})
	}
}

func TestDownAnswersByPolicyAtOnce(t *testing.T) {
	for _, after := range []string{"", "0s", "1h"} {
		r := servingWith(t, after, "read:rate-*=nil")
		c := r.client()
		warm(r, c)
		r.hold(down)
		c.send("GET rate-1", "SET rate-1 5", "GET other", "MGET rate-1 rate-2", "MGET rate-1 other", "PING")
		c.expect("$-1\r\n" + r.noMaster() + r.noMaster() + "*2\r\n$-1\r\n$-1\r\n" + r.noMaster() + r.noMaster())
		r.checkReplies(4, 0, 2)
		r.checkHeld(0, 0, 0, 0)
	}
}

func (r *rig) noMaster() string { return "-" + r.w.noMaster() + "\r\n" }

// What waited when the outage began is answered in its order, and accounted for.
func TestOutageAnswersWhatWaits(t *testing.T) {
	r := servingWith(t, "", "GET=nil")
	c := r.client()
	warm(r, c)
	r.hold()
	c.send("GET a", "GET b", "SET c 1", "GET d")
	r.advance(6*time.Second - 1)
	c.expect("")
	r.advance(1)
	c.expect("$-1\r\n$-1\r\n" + r.noMaster() + "$-1\r\n") // all have waited equally long
	r.checkReplies(1, 0, 3)
	if s := &r.w.stats; s.held != 4 || s.heldPolicy != 3 || s.heldFailed != 1 {
		t.Errorf("held %d, policy %d, failed %d; want 4, 3, 1", s.held, s.heldPolicy, s.heldFailed)
	}
	r.checkHeld(0, 1, 0, 0)
	r.serve(nodeA, 1)
	c.send("GET a")
	c.send("GET b")
	if !c.s.fast {
		t.Error("the short way stays closed")
	}
}

// One that waits longer keeps those behind it back: replies stay in order.
func TestOutageKeepsOrder(t *testing.T) {
	r := servingWith(t, "", "GET=nil")
	c := r.client()
	b := warm(r, c)
	r.hold()
	r.advance(3 * time.Second)
	c.send("SET a 1", "GET a")
	r.advance(4 * time.Second)
	c.expect("")
	r.serve(nodeA, 1)
	b.expect("SET a 1", "GET a")
	b.reply("+OK\r\n$1\r\n1\r\n")
	c.expect("+OK\r\n$1\r\n1\r\n")
	r.checkHeld(2, 0, 0, 0)
	r.checkReplies(0, 0, 0)
}

// A reply to what was sent before the hold comes before an answer of ours.
func TestOutageWaitsForWhatIsUnderWay(t *testing.T) {
	r := servingWith(t, "0s", "GET=nil")
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1")
	b.expect("SET a 1")
	r.hold()
	c.send("GET a")
	c.expect("")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n$-1\r\n")
}

// Policies leave alone whoever has state on the backend.
func TestOutageSparesState(t *testing.T) {
	for name, setup := range map[string][]string{
		"MULTI": {"MULTI"}, "WATCH": {"WATCH k"}, "CLIENT REPLY OFF": {"CLIENT REPLY OFF"},
	} {
		r := servingWith(t, "0s", "read=nil")
		c := r.client()
		c.send(setup...)
		if name == "CLIENT REPLY OFF" {
			r.backend().mayReply()
		} else {
			b := r.ownBackend()
			b.expect(setup...)
			b.reply("+OK\r\n")
			c.expect("+OK\r\n")
		}
		r.hold(down)
		c.send("GET a")
		if name == "CLIENT REPLY OFF" {
			c.expect("")
			c.send("CLIENT REPLY ON", "GET a")
			c.expect("+OK\r\n$-1\r\n")
		} else {
			c.expectError("MASTERDOWN", "")
		}
		if name == "MULTI" {
			c.send("EXEC")
			c.expectError("MASTERDOWN", "")
		}
	}
}

func TestStaleRead(t *testing.T) {
	r := servingWith(t, "0s", "read:apikey-*=stale")
	c, d := r.client(), r.client()
	b := warm(r, c)
	r.hold(replicasAre(nodeC, nodeB))
	c.send("GET apikey-1")
	d.send("GET apikey-2", "SET apikey-2 x", "HGETALL apikey-2")
	if len(r.dials) != 1 {
		t.Fatalf("%d dials; want one for both", len(r.dials))
	}
	rep := r.replica()
	if rep.addr != nodeC {
		t.Errorf("%s was dialled; want the first of the replicas", rep.addr)
	}
	rep.expect("GET apikey-1", "GET apikey-2")
	rep.expectNothing() // the error comes in its turn, and the read behind it
	rep.reply("$1\r\na\r\n$1\r\nb\r\n")
	c.expect("$1\r\na\r\n")
	rep.expect("HGETALL apikey-2")
	d.expect("$1\r\nb\r\n" + r.noMaster())
	rep.reply("*0\r\n")
	d.expect("*0\r\n")
	rep.expectNothing()
	r.checkReplies(1, 3, 0)
	// Back with the master, though an answer of the replica is still to come.
	c.send("GET apikey-1")
	rep.expect("GET apikey-1")
	r.serve(nodeA, 1)
	c.send("GET apikey-1")
	d.send("SET apikey-2 y")
	b.expect("SET apikey-2 y")
	b.expectNothing()
	rep.reply("$1\r\na\r\n")
	c.expect("$1\r\na\r\n")
	b.expect("GET apikey-1")
	b.reply("+OK\r\n$1\r\nn\r\n")
	c.expect("$1\r\nn\r\n")
	if !rep.wire.closed {
		t.Error("the replica's connection stays open")
	}
	if !c.s.fast || !d.s.fast {
		t.Error("the short way stays closed")
	}
	r.checkHeld(0, 0, 0, 0)
	r.advance(time.Minute) // no timer spins
}

// Whatever keeps a replica from answering, the command gets the error, once, and
// nobody dials for every command.
func TestStaleReadFails(t *testing.T) {
	for name, play := range map[string]func(r *rig, c *fakeClient){
		"nobody": func(r *rig, c *fakeClient) { r.hold(down, replicasAre()); c.send("GET a") },
		"refused": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			d := r.dials[0]
			r.dials = nil
			d.done(nil, errReset)
		},
		"no connection": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			r.advance(replicaPatience - 1)
			c.expect("")
			r.advance(replicaLook)
			r.dials = nil
		},
		"no greeting": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			r.accept().expect("HELLO")
			r.advance(replicaPatience)
		},
		"loading": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			b := r.accept()
			b.expect("HELLO")
			b.reply("-LOADING Redis is loading the dataset in memory\r\n")
		},
		"login refused": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			b := r.accept()
			b.expect("HELLO")
			b.reply("-NOAUTH HELLO must be called with the client already authenticated\r\n")
		},
		"no stale data": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			b := r.replica()
			b.expect("GET a")
			b.reply("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n")
		},
		"it hangs": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			r.replica().expect("GET a")
			r.advance(replicaPatience + replicaLook)
		},
		"it dies": func(r *rig, c *fakeClient) {
			r.hold(down, replicasAre(nodeC))
			c.send("GET a")
			b := r.replica()
			b.expect("GET a")
			b.wire.peerReset()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := servingWith(t, "", "read=stale")
			c := r.client()
			warm(r, c)
			play(r, c)
			c.expect(r.noMaster())
			c.send("GET b", "GET c")
			r.expectNoDial()
			c.expect(r.noMaster() + r.noMaster())
			r.checkReplies(3, 0, 0)
			if r.failure != "" || r.reported(topology.ReportNotMaster)+r.reported(topology.ReportUnreachable)+r.reported(topology.ReportRefused) > 0 {
				t.Errorf("the master is blamed: %q, %v", r.failure, r.reports)
			}
			if name == "nobody" {
				return
			}
			r.advance(2 * replicaRest)
			c.send("GET d")
			rep := r.replica()
			rep.expect("GET d")
			rep.reply("$1\r\nd\r\n")
			c.expect("$1\r\nd\r\n")
			r.serve(nodeA, 1)
			c.send("GET e")
			r.backend().expect("GET e")
		})
	}
}

func TestStaleReadFindsTheNextReplica(t *testing.T) {
	r := servingWith(t, "", "read=stale")
	c := r.client()
	warm(r, c)
	r.hold(down, replicasAre(nodeC, nodeB))
	c.send("GET a")
	d := r.dials[0]
	r.dials = nil
	d.done(nil, errReset)
	b := r.replica()
	if b.addr != nodeB {
		t.Fatalf("%s was dialled; want the second", b.addr)
	}
	b.expect("GET a")
	b.wire.peerReset() // it answers nobody, and is asked no more
	c.expect(r.noMaster())
	r.advance(2 * replicaRest)
	c.send("GET a")
	if b = r.replica(); b.addr != nodeC {
		t.Fatalf("%s was dialled; want the first again", b.addr)
	}
	b.expect("GET a")
	b.reply("$1\r\na\r\n")
	c.expect("$1\r\na\r\n")
}

// A replica that was promoted may be read from; it never becomes the master's pipe.
func TestReplicaThatBecameMaster(t *testing.T) {
	r := servingWith(t, "", "read=stale")
	c := r.client()
	warm(r, c)
	r.hold(down, replicasAre(nodeB))
	c.send("GET a")
	rep := r.accept()
	rep.expect("HELLO")
	rep.reply(helloMaster)
	rep.expect("GET a")
	c.send("SET a 1")
	r.serve(nodeB, 0) // even at the epoch that replicas' pipes have
	rep.expectNothing()
	rep.reply("$1\r\na\r\n")
	b := r.backend()
	if b.wire == rep.wire || b.addr != nodeB {
		t.Fatal("no connection of its own to the master")
	}
	c.send("SET a 2")
	b.expect("SET a 1", "SET a 2") // the first waited for the reply before it
	rep.expectNothing()
	if r.reported(topology.ReportVerified) == 0 {
		t.Error("the new master was not verified on its own connection")
	}
}

// A held read is answered as soon as a route names somebody to ask.
func TestReplicaComesLater(t *testing.T) {
	r := servingWith(t, "", "read=stale")
	c := r.client()
	warm(r, c)
	r.hold()
	r.advance(5 * time.Second)
	c.send("GET a")
	r.advance(2 * time.Second)
	c.expect("")
	r.expectNoDial()
	r.hold(replicasAre(nodeC))
	rep := r.replica()
	rep.expect("GET a")
	rep.reply("$1\r\na\r\n")
	c.expect("$1\r\na\r\n")
	if r.w.stats.heldPolicy != 1 {
		t.Errorf("%d held commands settled by policy; want 1", r.w.stats.heldPolicy)
	}
	r.checkHeld(0, 0, 0, 0)
}

// Clients that connect in an outage are let in by a replica.
func TestLoginInAnOutage(t *testing.T) {
	r := servingWith(t, "", "read=stale")
	r.hold(down, replicasAre(nodeC))
	c := r.client()
	c.send("AUTH bob secret", "SELECT 3", "GET a")
	rep := r.accept()
	rep.expect("HELLO 2 AUTH bob secret")
	rep.reply(helloReplica)
	rep.expect("AUTH bob secret")
	rep.reply("+OK\r\n")
	c.expect("+OK\r\n")
	rep = r.accept()
	rep.expect("HELLO 2 AUTH bob secret", "SELECT 3")
	rep.reply(helloReplica + "+OK\r\n")
	rep.expect("SELECT 3")
	rep.reply("+OK\r\n")
	rep.expect("GET a")
	rep.reply("$-1\r\n")
	c.expect("+OK\r\n$-1\r\n")
	r.serve(nodeA, 2)
	c.send("SET a 1")
	b := r.accept()
	b.expect("HELLO 2 AUTH bob secret", "SELECT 3")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SET a 1")
}

func TestWrongLoginInAnOutage(t *testing.T) {
	r := servingWith(t, "", "read=stale")
	r.hold(down, replicasAre(nodeC))
	c := r.client()
	c.send("AUTH bob wrong")
	rep := r.accept()
	rep.expect("HELLO 2 AUTH bob wrong")
	rep.reply("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	c.expectError("MASTERDOWN", "")
	if c.s.who.user != "" {
		t.Error("the login was taken")
	}
	d := r.client() // the replica is still good for others
	d.send("GET a")
	r.replica().expect("GET a")
}

// A policy that changes in an outage is obeyed at once, by what waits too.
func TestPolicyChangesInAnOutage(t *testing.T) {
	r := servingWith(t, "")
	c := r.client()
	warm(r, c)
	r.hold()
	c.send("GET a")
	c.expect("")
	r.w.setOutage(outagePolicy(t, "0s", "read=nil"))
	r.turn()
	c.expect("$-1\r\n")
	r.w.setOutage(outagePolicy(t, "0s"))
	c.send("GET a")
	c.expect(r.noMaster())
}

// Under RESP3 a missing key looks otherwise.
func TestNilInRESP3(t *testing.T) {
	r := servingWith(t, "0s", "read=nil")
	c := r.client()
	c.send("HELLO 3")
	b := r.accept()
	b.expect("HELLO 3")
	b.reply(strings.Replace(helloMaster, ":2", ":3", 1))
	c.wire.got = nil
	r.hold()
	c.send("GET a", "HGETALL a", "SMEMBERS a", "XPENDING s g")
	c.expect("_\r\n%0\r\n~0\r\n" + r.noMaster())
	r.checkReplies(1, 0, 3)
}

// Pipes to replicas are few, whoever asks; idle ones make room.
func TestReplicaPipesAreBounded(t *testing.T) {
	r := servingWith(t, "", "read=stale")
	r.hold(down, replicasAre(nodeC))
	for range 2 * maxReplicaPipes {
		c := r.client()
		c.s.who.db = int(c.s.id)
		c.send("GET a")
	}
	if n := len(r.dials); n != maxReplicaPipes {
		t.Errorf("%d dials; want %d", n, maxReplicaPipes)
	}
	if n := int(r.w.stats.outageReplies[outage.Fail]); n != maxReplicaPipes {
		t.Errorf("%d errors; want one for each of the rest", n)
	}
}

// -READONLY is no failure of a node: the master that says so is asked again, and not
// called unreachable, lost or turning us away.
func TestReadOnlyIsNoFailureOfTheNode(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1")
	b.expect("SET a 1")
	b.reply(readOnly)
	if b.wire.closed || r.failure != "" || r.w.failure != "" {
		t.Errorf("the node counts as failed: closed %v, %q", b.wire.closed, r.failure)
	}
	s := &r.w.stats
	if s.backendLost != 0 || s.dialErrors != 0 || s.rejected != 0 || s.outageReplies != [3]uint64{} {
		t.Errorf("counted as a failure: %+v", *s)
	}
	for _, k := range []topology.ReportKind{topology.ReportLost, topology.ReportUnreachable, topology.ReportNotMaster} {
		if r.reported(k) > 0 {
			t.Errorf("%v was reported", k)
		}
	}
	if r.reported(topology.ReportReadOnly) != 1 {
		t.Error("the control plane was not told")
	}
	c.expect("")
	r.advance(retryAfter)
	b.expect("SET a 1") // the same connection
}

func TestOnlyReadsMayBeStale(t *testing.T) {
	r := servingWith(t, "0s", "read=stale")
	r.hold(replicasAre(nodeC))
	c := r.client()
	c.send("GET a")
	p := r.replica().wire.h.(*pipe)
	for _, cmd := range r.w.cmds.all {
		func() {
			defer func() {
				if refused := recover() != nil; refused == cmd.mayBeStale() {
					t.Errorf("%s: refused %v", cmd.name, refused)
				}
			}()
			p.send(c.s, []byte(frames(cmd.name)), cmd, 0)
		}()
		if cmd.mayBeStale() && (cmd.write() || cmd.class != classShared) {
			t.Errorf("%s may be stale", cmd.name)
		}
	}
}

// Every read that rules know is one for the data path too, and no other way round.
func TestReadsAreReads(t *testing.T) {
	cmds := newCommands(DefaultDenied())
	for name := range outage.Reads() {
		if cmd := cmds.shared(name); cmd.name != name || cmd.read == nil {
			t.Errorf("%s: the data path does not take it for a read", name)
		}
	}
	for _, cmd := range cmds.all {
		if cmd.read != nil && cmd.write() {
			t.Errorf("%s writes", cmd.name)
		}
	}
}
