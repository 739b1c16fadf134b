package proxy

import (
	"strings"
	"testing"
)

const busyReply = "-BUSY Redis is busy running a script.\r\n"

// inDB returns a client in database 3, and the shared connection that it uses.
func inDB(r *rig) (*fakeClient, *backend) {
	r.t.Helper()
	c := r.client()
	c.send("SELECT 3")
	b := r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SELECT 3")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	return c, b
}

// busyBackend greets a new connection while a script runs too long.
func (r *rig) busyBackend() *backend {
	r.t.Helper()
	b := r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + busyReply)
	return b
}

func TestSelectWhileBusy(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.send("SELECT 3")
	b := r.busyBackend()
	b.expect("SELECT 3") // the client's
	b.reply(busyReply)
	c.expect(busyReply)
	if c.s.who.db != 0 {
		t.Errorf("it is in database %d", c.s.who.db)
	}
	c.send("SELECT 3")
	b.expect("SELECT 3")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	c.send("GET a")
	b.expect("SELECT 3") // of the greeting
	b.reply("+OK\r\n")
	b.expect("GET a")
}

// HELLO and AUTH are answered meanwhile, in whatever database.
func TestHelloWhileBusy(t *testing.T) {
	r := serving(t)
	c, _ := inDB(r)
	c.send("HELLO 3", "GET a")
	b := r.accept()
	b.expect("HELLO 3", "SELECT 3")
	b.reply(helloMaster + busyReply)
	c.wire.r.turn()
	if got := string(c.wire.got); !strings.HasPrefix(got, "%7\r\n") || !strings.HasSuffix(got, busyReply) {
		t.Errorf("client got %q; want HELLO's answer, and BUSY", got)
	}
}

func TestTransactionWhileBusy(t *testing.T) {
	for name, tt := range map[string]struct {
		busy  []string // sent while it is busy
		told  string
		later []string // sent afterwards
		runs  []string // what reaches Redis of all that, behind MULTI
		ends  string
	}{
		"begun":     {[]string{"MULTI"}, "+OK\r\n", []string{"INCR a", "EXEC"}, []string{"INCR a", "EXEC"}, "+QUEUED\r\n*1\r\n:1\r\n"},
		"disturbed": {[]string{"MULTI", "INCR a"}, "+OK\r\n" + busyReply, []string{"INCR a", "EXEC"}, []string{"INCR a", "DISCARD"}, "+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n"},
		"ended":     {[]string{"MULTI", "EXEC"}, "+OK\r\n-EXECABORT Transaction discarded because of: " + busyReply[1:], nil, nil, ""},
		"discarded": {[]string{"MULTI", "INCR a", "DISCARD"}, "+OK\r\n" + busyReply + "+OK\r\n", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c, shared := inDB(r)
			c.send(tt.busy...)
			b := r.busyBackend()
			c.expect(tt.told)
			if tt.later == nil {
				if c.s.own != nil || c.s.tx.active {
					t.Error("it keeps a connection")
				}
				c.send("GET a")
				shared.expect("GET a")
				return
			}
			r.advance(redialMax)
			b.expect("SELECT 3")
			b.reply("+OK\r\n")
			b.expect("MULTI")
			b.reply("+OK\r\n")
			c.send(tt.later...)
			b.expect(tt.runs[0])
			b.reply("+QUEUED\r\n")
			b.expect(tt.runs[1])
			if tt.runs[1] == "EXEC" {
				b.reply("*1\r\n:1\r\n")
			} else {
				b.reply("+OK\r\n")
			}
			c.expect(tt.ends)
		})
	}
}

// What kills the script needs no database.
func TestKillWhileBusy(t *testing.T) {
	for _, command := range []string{"SCRIPT KILL", "SHUTDOWN NOSAVE"} {
		t.Run(command, func(t *testing.T) {
			r := serving(t)
			r.w.cmds = newCommands(nil)
			c, _ := inDB(r)
			c.send(command)
			b := r.busyBackend()
			b.expect(command)
			b.reply("+OK\r\n")
			c.expect("+OK\r\n")
			if !b.wire.closed {
				t.Error("a connection in no database is kept for others")
			}
		})
	}
}

// Who waits for a connection and says nothing is not told anything.
func TestSubscriberWhileBusy(t *testing.T) {
	r := serving(t)
	c, _ := inDB(r)
	c.send("SUBSCRIBE ch")
	b := r.accept()
	b.expect("HELLO 2", "SELECT 3")
	b.reply(helloMaster + "+OK\r\n")
	b.expect("SUBSCRIBE ch")
	b.reply(subscribedRESP2)
	c.expect(subscribedRESP2)
	b.wire.peerEOF()
	b = r.busyBackend()
	c.expect("")
	r.advance(redialMax)
	b.expect("SELECT 3")
	b.reply("+OK\r\n")
	b.expect("SUBSCRIBE ch")
	b.reply(subscribedRESP2)
	c.expect("")
}
