package proxy

import (
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestTransactionIsReplayed(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SET a 1")
	b := r.backend()
	b.expect("MULTI", "SET a 1")
	b.reply("+OK\r\n+QUEUED\r\n")
	c.expect("+OK\r\n+QUEUED\r\n")
	c.send("INCR b") // its reply is lost
	b.expect("INCR b")
	r.hold(doubt)
	c.send("EXEC")
	b.expectNothing()
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("MULTI", "SET a 1", "INCR b", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n")
	c.expect("+QUEUED\r\n*2\r\n+OK\r\n:1\r\n")
	if c.s.own != nil {
		t.Error("still pinned after EXEC")
	}
}

func TestTransactionLost(t *testing.T) {
	for name, tt := range map[string]struct {
		queued  string // answered before the loss
		behind  []string
		replies string
		again   []string
		want    string
	}{
		"EXEC handed over":  {"", []string{"EXEC"}, "", nil, "U"},
		"EXEC and more":     {"", []string{"EXEC", "GET z"}, "", []string{"GET z"}, "U$1\r\nz\r\n"},
		"replay is refused": {"", nil, "+OK\r\n-ERR unknown command\r\n+OK\r\n", []string{"MULTI", "SET a 1", "DISCARD"}, "E"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			c.send("MULTI", "SET a 1")
			b := r.backend()
			b.reply("+OK\r\n+QUEUED\r\n")
			c.expect("+OK\r\n+QUEUED\r\n")
			b.expect("MULTI", "SET a 1")
			if len(tt.behind) > 0 {
				c.send(tt.behind...)
			}
			b.wire.peerReset()
			switch tt.want {
			case "U":
				c.expectError("UNCERTAIN", "EXEC")
			case "E":
				b = r.backend()
				b.expect("MULTI", "SET a 1")
				b.reply("+OK\r\n-ERR unknown command\r\n")
				c.send("EXEC")
				b.expect("DISCARD")
				b.reply("+OK\r\n")
				c.expectError("EXECABORT", "connection was lost")
			default:
				b = r.backend()
				b.expect(tt.again...)
				b.reply("$1\r\nz\r\n")
				c.expectError("UNCERTAIN", "EXEC")
				c.expect("$1\r\nz\r\n")
			}
			c.expect("")
			if c.s.tx.active {
				t.Error("still in a transaction")
			}
		})
	}
}

func TestPipelinedTransactionsLost(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SET a 1", "EXEC", "MULTI", "SET b 2", "EXEC", "INCR c")
	b := r.backend()
	b.expect("MULTI", "SET a 1", "EXEC")
	b.expectNothing() // one recording holds one transaction
	b.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	b.expect("MULTI", "SET b 2", "EXEC")
	b.reply("+OK\r\n")
	b.wire.peerReset()
	c.expect("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+OK\r\n-UNCERTAIN SET may or may not have been executed: connection reset by peer (sentinelproxy)\r\n" +
		"-UNCERTAIN EXEC may or may not have been executed: connection reset by peer (sentinelproxy)\r\n")
	b = r.backend()
	b.expect("INCR c")
	b.reply(":1\r\n")
	c.expect(":1\r\n")
}

func TestTransactionRefused(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SET a 1", "SET b 2", "EXEC")
	b := r.backend()
	b.expect("MULTI", "SET a 1", "SET b 2", "EXEC")
	b.reply("+OK\r\n" + readOnly + readOnly + "-EXECABORT Transaction discarded because of previous errors.\r\n")
	c.expect("+OK\r\n")
	r.hold(doubt)
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("MULTI", "SET a 1", "SET b 2", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n")
	c.expect("+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n")
}

func TestTransactionRefusedAtExec(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SET a 1", "EXEC", "GET a")
	b := r.backend()
	b.expect("MULTI", "SET a 1", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n")
	c.expect("+OK\r\n+QUEUED\r\n")
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("MULTI", "SET a 1", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	c.expect("*1\r\n+OK\r\n")
	b = r.backend()
	b.expect("GET a")
}

func TestLateExecIsUncertainAndOver(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SET a 1", "EXEC")
	b := r.backend()
	b.reply("+OK\r\n+QUEUED\r\n")
	r.hold(doubt)
	b.reply("*1\r\n+OK\r\n")
	c.expect("+OK\r\n+QUEUED\r\n-UNCERTAIN EXEC may or may not have been executed: " + errReplaced + " (sentinelproxy)\r\n")
	if c.s.tx.active || c.s.own != nil {
		t.Error("the transaction goes on after its EXEC")
	}
}

func TestWatchLostAnswersNil(t *testing.T) {
	for name, proto := range map[string]string{"2": "*-1\r\n", "3": "_\r\n"} {
		t.Run("RESP"+name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			if name == "3" {
				c.send("HELLO 3")
				r.backend()
				c.wire.got = nil
			}
			c.send("WATCH a")
			b := r.backend()
			b.expect("WATCH a")
			b.reply("+OK\r\n")
			b.wire.peerReset()
			b = r.backend()
			c.send("MULTI", "SET a 1")
			b.expect("MULTI", "SET a 1")
			b.reply("+OK\r\n+QUEUED\r\n")
			c.expect("+OK\r\n+OK\r\n+QUEUED\r\n")
			c.send("EXEC", "GET a")
			b.expect("DISCARD")
			b.reply("+OK\r\n")
			c.expect(proto)
		})
	}
}

func TestDeniedInTransaction(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "REPLICAOF x 1", "SET a 1", "EXEC")
	b := r.backend()
	b.expect("MULTI")
	b.reply("+OK\r\n")
	b.expect("SET a 1")
	b.reply("+QUEUED\r\n")
	b.expect("DISCARD")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n" + string(denial(r.w.cmds.find([]byte(frames("REPLICAOF"))))) + "+QUEUED\r\n" +
		"-EXECABORT Transaction discarded because of previous errors.\r\n")
}

// An EXEC that is out of place does not end the transaction behind it: its connection
// would go to the next client in MULTI.
func TestExecWithoutMulti(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	c.send("EXEC", "MULTI", "SET a 1")
	b := r.backend()
	b.expect("EXEC")
	b.expectNothing()
	b.reply("-ERR EXEC without MULTI\r\n")
	own := r.backend()
	own.expect("MULTI", "SET a 1")
	own.reply("+OK\r\n+QUEUED\r\n")
	c.expect("-ERR EXEC without MULTI\r\n+OK\r\n+QUEUED\r\n")
	d.send("KEYS a")
	r.backend().expect("KEYS a")
	c.send("EXEC")
	own.expect("EXEC")
}

// What was queued and refused is repeated on the next master; where none comes it
// is answered, in its turn.
func TestQueuedIsAnsweredInAnOutage(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "SET a 1", "GET b")
	b := r.backend()
	b.expect("MULTI", "SET a 1", "GET b")
	b.reply("+OK\r\n" + readOnly)
	c.expect("+OK\r\n")
	r.hold()
	c.expect("")
	r.hold(func(rt *topology.Route) { rt.State = topology.Down })
	c.expect(r.noMaster() + r.noMaster())
	c.send("EXEC", "PING")
	for range 2 {
		c.expectError("MASTERDOWN", "nothing was sent")
	}
	c.expect("")
	r.serve(nodeB, 2)
	c.send("GET a")
	r.backend().expect("GET a")
}

// A transaction that fails while its connection lives on leaves that in MULTI, so
// nobody else gets it.
func TestConnectionOfAFailedExecIsNotUsedAgain(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	c.send("MULTI")
	b := r.backend()
	b.expect("MULTI")
	b.reply("+OK\r\n")
	r.hold()
	c.send("EXEC")
	r.advance(6 * time.Second)
	c.expect("+OK\r\n" + r.noMaster())
	r.serve(nodeA, 1)
	if !b.wire.closed {
		t.Error("the connection stays open")
	}
	d.send("KEYS a")
	r.backend().expect("KEYS a")
}

// Where MULTI was refused, a SUBSCRIBE behind it is answered by a push in RESP3.
func TestSubscribeBehindARefusedMulti(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("HELLO 3")
	r.backend()
	r.turn()
	c.wire.got = nil
	c.send("MULTI", "SUBSCRIBE a b", "GET k")
	b := r.ownBackend()
	b.expect("MULTI", "SUBSCRIBE a b", "GET k")
	pushes := ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
	b.reply("-NOPERM no\r\n" + pushes + "$1\r\nv\r\n")
	c.expect("-NOPERM no\r\n" + pushes + "$1\r\nv\r\n")
	if c.s.inflight != 0 || len(c.s.subs) != 2 {
		t.Errorf("%d under way, %d subscriptions; want 0 and 2", c.s.inflight, len(c.s.subs))
	}
	c.send("GET l")
	b.expect("GET l")
	b.reply("$1\r\nw\r\n")
	c.expect("$1\r\nw\r\n")
}

// A server that takes what Redis refuses must not bring the proxy down.
func TestQueuedCommandsWithoutArguments(t *testing.T) {
	for _, cmd := range []string{"SELECT", "CLIENT SETNAME", "AUTH", "HELLO", "SUBSCRIBE"} {
		r := serving(t)
		c := r.client()
		c.send("MULTI", cmd, "EXEC")
		b := r.ownBackend()
		b.expect("MULTI", cmd, "EXEC")
		b.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
		c.expect("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	}
}

func TestTransactionFrame(t *testing.T) {
	var tx transaction
	all := []string{frames("MULTI"), frames("SET a 1"), frames("GET a")}
	for _, f := range all {
		tx.record([]byte(f))
	}
	for i, want := range append(all, "") {
		if got := string(tx.frame(i)); got != want {
			t.Errorf("command %d is %q; want %q", i, got, want)
		}
	}
}

// Who wants no replies gets none to what is repeated of its transaction either.
func TestRepeatedTransactionWithoutReplies(t *testing.T) {
	for name, tt := range map[string]struct {
		before   string // what is said before MULTI
		answered bool   // MULTI, before the connection is lost
		want     string
	}{
		"OFF, begun":   {"CLIENT REPLY OFF", true, ""},
		"OFF, lost":    {"CLIENT REPLY OFF", false, ""},
		"SKIP, begun":  {"CLIENT REPLY SKIP", true, "+QUEUED\r\n"},
		"SKIP, lost":   {"CLIENT REPLY SKIP", false, "+QUEUED\r\n"},
		"all, as ever": {"PING", false, "+OK\r\n+QUEUED\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			warm(r, c)
			c.send(tt.before)
			for _, w := range r.wires { // the shared connection
				if p, ok := w.h.(*pipe); ok && p.owner == nil {
					w.peer("+OK\r\n")
				}
			}
			c.wire.got = nil
			c.send("MULTI", "SET a 1")
			b := r.ownBackend()
			b.expect("MULTI", "SET a 1")
			if tt.answered {
				b.reply("+OK\r\n")
			}
			r.serve(nodeB, 2)
			var m []*model
			for range 3 {
				if len(r.dials) > 0 {
					m = append(m, &model{backend: r.backend()})
				}
				for _, m := range m {
					for w := m.next(); w != nil; w = m.next() {
						m.reply(m.answer(w))
					}
				}
			}
			c.expect(tt.want)
		})
	}
}
