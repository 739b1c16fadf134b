package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// passes answers the questions of a trial.
func (b *backend) passes(question string) {
	b.wire.r.t.Helper()
	for range 2 {
		b.expect(question)
		b.reply(":0\r\n")
	}
}

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
	c.expect("")
	trial.passes("PFCOUNT") // as the SET, it would wait in a CLIENT PAUSE WRITE
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

// A script that runs for seconds has Redis answer BUSY on a new connection, after its
// greeting: the script's own connection is not dead.
func TestBusyScriptIsNotSilent(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("EVAL slow 0")
	b.expect("EVAL slow 0")
	for range 5 {
		for len(r.dials) == 0 {
			r.advance(watchEvery)
		}
		trial := r.backend()
		trial.expect("PFCOUNT")
		trial.reply("-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n")
	}
	b.reply("+done\r\n")
	c.expect("+done\r\n")
}

// Neither is the connection of a write that CLIENT PAUSE has wait: what the trial asks
// waits, too.
func TestPausedWriteIsNotSilent(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1")
	b.expect("SET a 1")
	for range 3 {
		for len(r.dials) == 0 {
			r.advance(watchEvery)
		}
		trial := r.backend()
		trial.expect("PFCOUNT") // and no answer
		r.advance(3 * watchEvery)
		if !trial.wire.reaped {
			t.Fatal("the trial does not end")
		}
	}
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
}

// Who only reads does not wait behind a paused write, and neither does what is read later.
func TestReadsBehindAPausedWrite(t *testing.T) {
	for _, paused := range []string{"SET a 1", "PFCOUNT h", "PUBLISH ch m"} {
		t.Run(paused, func(t *testing.T) {
			r := serving(t)
			c, reader, late := r.client(), r.client(), r.client()
			b := warm(r, c)
			c.send(paused)
			reader.send("GET a")
			b.expect(paused, "GET a")
			r.advance(staleLooks*watchEvery + watchEvery)
			trial := r.backend()
			trial.expect("PFCOUNT") // and no answer
			r.advance(greetTimeout + watchEvery)
			n := r.backend()
			n.expect("GET a")
			n.reply("$1\r\n0\r\n")
			reader.expect("$1\r\n0\r\n")
			late.send("GET a")
			n.expect("GET a")
			n.reply("$1\r\n0\r\n")
			late.expect("$1\r\n0\r\n")
			c.expect("")
			b.reply("+OK\r\n$1\r\n1\r\n")
			c.expect("+OK\r\n")
			reader.expect("")
		})
	}
}

// Nor does what we ask Redis for a client, whatever its connection waits for: a login, the
// right to call what is answered here, a database.
func TestChecksBehindAPausedWrite(t *testing.T) {
	for sent, asked := range map[string]string{
		"CLIENT LIST": "CLIENT LIST", "CLIENT ID": "CLIENT ID", "SELECT 0": "SELECT 0", "CLIENT SETNAME x": "CLIENT SETNAME ",
	} {
		t.Run(sent, func(t *testing.T) {
			r := serving(t)
			c, d := r.client(), r.client()
			b := warm(r, c)
			c.send("SET a 1")
			d.send(sent, "GET a")
			b.expect("SET a 1")
			if got := strings.Join(b.next(), " "); !strings.HasPrefix(got, strings.Fields(asked)[0]) {
				t.Fatalf("Redis was asked %q for %q", got, sent)
			}
			r.advance(staleLooks*watchEvery + watchEvery)
			r.backend().expect("PFCOUNT") // and no answer
			r.advance(greetTimeout + watchEvery)
			n := r.backend()
			if got := strings.Join(n.next(), " "); !strings.HasPrefix(got, strings.Fields(asked)[0]) {
				t.Fatalf("Redis was asked %q on the other connection", got)
			}
			n.reply("-BUSY a script\r\n")
			n.expect("GET a")
			n.reply("-BUSY a script\r\n")
			d.expect("-BUSY a script\r\n-BUSY a script\r\n")
			b.reply("+OK\r\n+late\r\n") // the second is nobody's
			c.expect("+OK\r\n")
			d.expect("")
		})
	}
}

// A CLIENT UNBLOCK does something: who sent it waits to know what.
func TestUnblockBehindAPausedWrite(t *testing.T) {
	r := serving(t)
	c, blocked, d := r.client(), r.client(), r.client()
	b := warm(r, c)
	blocked.send("BLPOP q 0")
	o := r.ownBackend()
	o.expect("BLPOP q 0")
	d.send("CLIENT UNBLOCK 2")
	b.expect("CLIENT UNBLOCK 9223372036854775807")
	c.send("SET a 1")
	b.expect("SET a 1")
	b.reply(":0\r\n")
	r.turn()
	b.expect("CLIENT UNBLOCK 7 TIMEOUT")
	r.advance(staleLooks*watchEvery + watchEvery)
	for len(r.dials) > 0 {
		r.backend()
	}
	r.advance(greetTimeout + watchEvery)
	d.expect("")
	b.reply("+OK\r\n:1\r\n")
	c.expect("+OK\r\n")
	d.expect(":1\r\n")
}

// A login waits no longer than that either.
func TestLoginBehindAPausedWrite(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	c.send("AUTH joe x", "SET a 1")
	b := r.accept()
	b.expect("HELLO 2 AUTH joe x")
	b.reply(helloMaster)
	b.expect("AUTH joe x")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	b.expect("SET a 1")
	d.send("AUTH joe x", "GET a")
	b.expect("AUTH joe x")
	r.advance(staleLooks*watchEvery + watchEvery)
	trial := r.accept()
	trial.expect("HELLO 2 AUTH joe x")
	trial.reply(helloMaster)
	trial.expect("PFCOUNT") // and no answer
	r.advance(greetTimeout + watchEvery)
	n := r.accept()
	n.expect("HELLO 2 AUTH joe x")
	n.reply(helloMaster)
	n.expect("AUTH joe x")
	n.reply("+OK\r\n")
	n.expect("GET a")
	n.reply("$1\r\n0\r\n")
	d.expect("+OK\r\n$1\r\n0\r\n")
	b.reply("+OK\r\n+OK\r\n")
	c.expect("+OK\r\n")
	d.expect("")
}

// A pause may end during the trial: the write is answered just behind the question.
func TestPauseEndsDuringATrial(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1")
	b.expect("SET a 1")
	r.advance(staleLooks*watchEvery + watchEvery)
	trial := r.backend()
	trial.expect("PFCOUNT")
	trial.reply(":0\r\n")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	trial.expect("PFCOUNT")
	trial.reply(":0\r\n")
	c.send("GET a")
	b.expect("GET a")
	b.reply("$1\r\n1\r\n")
	c.expect("$1\r\n1\r\n")
}

func TestReadsBehindAPausedWriteOnRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	admin := redis.NewClient(&redis.Options{Addr: string(node.Addr()), MaxRetries: -1})
	defer func() { _ = admin.Close() }()
	do := func(args ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	reader, writer := r.raw(), r.raw()
	writer.send(frames("SET k 1"))
	writer.expect("+OK\r\n")
	do("CLIENT", "PAUSE", "600000", "WRITE")
	writer.send(frames("SET k 2"))
	eventually(t, "the write is paused", func() (bool, string) {
		info := admin.Info(t.Context(), "clients").Val()
		return !strings.Contains(info, "blocked_clients:0"), info
	})
	reader.send(frames("GET k"))
	reader.expect("$1\r\n1\r\n")
	do("CLIENT", "UNPAUSE")
	writer.expect("+OK\r\n")
	reader.send(frames("GET k"))
	reader.expect("$1\r\n2\r\n")
}

// A trial ends with the connection that it is about.
func TestTrialEndsWithItsPipe(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("GET a")
	b.expect("GET a")
	r.advance(staleLooks*watchEvery + watchEvery)
	trial := r.accept()
	trial.expect("HELLO 2") // and no answer
	r.serve(nodeB, 2)
	r.advance(5 * watchEvery)
	if !trial.wire.reaped {
		t.Error("the trial's connection is still there")
	}
}

// A script that runs too long is no silence. Who waits behind it is told what Redis says
// meanwhile; what was written behind it waits.
func TestLongScriptIsNotSilent(t *testing.T) {
	r := serving(t)
	c, reader, writer, late := r.client(), r.client(), r.client(), r.client()
	b := warm(r, c)
	c.send("EVAL slow 0")
	reader.send("GET a")
	writer.send("SET a 1")
	b.expect("EVAL slow 0", "GET a", "SET a 1")
	r.advance(staleLooks*watchEvery + watchEvery)
	trial := r.accept()
	trial.expect("HELLO 2")
	trial.reply(helloMaster)
	trial.expect("PFCOUNT")
	trial.reply(busyReply)
	n := r.backend()
	n.expect("GET a")
	n.reply(busyReply)
	reader.expect(busyReply)
	late.send("GET a")
	n.expect("GET a")
	n.reply(busyReply)
	late.expect(busyReply)
	b.reply("+done\r\n$-1\r\n+OK\r\n")
	c.expect("+done\r\n")
	writer.expect("+OK\r\n")
	reader.expect("")
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
