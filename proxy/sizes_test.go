package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// bulkReply is a reply with n bytes of value.
func bulkReply(n int) string {
	return "$" + strconv.Itoa(n) + "\r\n" + strings.Repeat("x", n) + "\r\n"
}

// pieces replies as a loop reads: a piece at a time.
func (b *backend) pieces(s string) {
	b.wire.r.t.Helper()
	for ; len(s) > 64<<10; s = s[64<<10:] {
		b.reply(s[:64<<10])
	}
	b.reply(s)
}

// The reads of others do not wait behind a large reply that its client does not read:
// they are asked again elsewhere, and what the old connection says to them is for nobody.
func TestReadsDoNotWaitBehindALargeReply(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("GET big")
	d.send("GET d1", "GET d2")
	b.expect("GET big", "GET d1", "GET d2")
	c.wire.blocked = true
	big := bulkReply(3 << 20)
	b.reply(big[:2<<20])
	n := r.backend()
	n.expect("GET d1", "GET d2")
	n.reply("$1\r\n1\r\n$1\r\n2\r\n")
	d.expect("$1\r\n1\r\n$1\r\n2\r\n")
	if !b.wire.paused {
		t.Error("the large reply is read though nobody takes it")
	}
	c.wire.unblock(0)
	b.reply(big[2<<20:])
	c.expect(big)
	b.reply("$1\r\n7\r\n$1\r\n8\r\n")
	d.expect("")
	if !b.wire.reaped || len(r.w.retired) != 0 {
		t.Error("the retired pipe lives on")
	}
	if got := r.w.stats.recalled; got != 2 {
		t.Errorf("%d reads were counted as sent again; want 2", got)
	}
}

// A write cannot be asked again: the large reply before it is thrown away as fast as it
// comes, and its command sent again on a pipe of its own.
func TestWriteDoesNotWaitForASlowReader(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("GET big", "GET next")
	d.send("INCR n")
	b.expect("GET big", "GET next", "INCR n")
	c.wire.blocked = true
	big := bulkReply(8 << 20)
	for pos := 0; pos < len(big); pos += 64 << 10 {
		b.reply(big[pos:min(pos+64<<10, len(big))])
		if b.wire.paused {
			t.Fatal("others wait, and the connection is not read")
		}
	}
	b.reply("$1\r\nn\r\n:1\r\n")
	d.expect(":1\r\n")
	c.expect("")
	own := r.ownBackend()
	own.expect("GET big")
	own.reply(big[:2<<20])
	if !own.wire.paused {
		t.Error("a pipe of its own is read though its client does not read")
	}
	c.wire.unblock(0)
	own.reply(big[2<<20:])
	own.expect("GET next")
	own.reply("$1\r\nn\r\n")
	c.expect(big + "$1\r\nn\r\n")
}

// A reply that is not given twice is passed on, with all that wait for it.
func TestLargeReplyOfAWriteIsPassedOn(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("EVAL s 0")
	d.send("INCR n")
	b.expect("EVAL s 0", "INCR n")
	big := bulkReply(3 << 20)
	b.pieces(big + ":1\r\n")
	c.expect(big)
	d.expect(":1\r\n")
	if len(r.dials) > 0 {
		t.Error("something was sent again")
	}
}

// Who had a large reply has a pipe for itself the next time, until its reply is small.
func TestLargeReplyIsRemembered(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	big := bulkReply(2 << 20)
	c.send("GET big")
	b.expect("GET big")
	b.pieces(big)
	c.expect(big)
	d.send("PING")
	shared := r.backend()
	shared.expect("PING")
	shared.reply("+PONG\r\n")
	d.expect("+PONG\r\n")
	small := "$1\r\ns\r\n"
	for i := range 1 + largeFor {
		reply := small
		if i == 0 {
			reply = big
		}
		c.send("GET big")
		if len(r.dials) > 0 {
			b = r.ownBackend()
		}
		b.expect("GET big")
		b.pieces(reply)
		c.expect(reply)
	}
	c.send("GET big", "GET small")
	shared.expect("GET big", "GET small")
	if r.w.bulk.n != 0 {
		t.Errorf("%d commands are remembered; want none", r.w.bulk.n)
	}
}

// Reads like one with a large reply, behind it, are expected to have large ones too: each
// gets a pipe for itself, instead of being taken back again by the next of them.
func TestReadsBehindALargeReplyGetPipesOfTheirOwn(t *testing.T) {
	r := serving(t)
	clients := []*fakeClient{r.client(), r.client(), r.client()}
	b := warm(r, clients[0])
	big := bulkReply(2 << 20)
	for i, c := range clients {
		c.send(fmt.Sprintf("GET big%d", i))
	}
	b.expect("GET big0", "GET big1", "GET big2")
	b.pieces(big[:defaultLargeCommand])
	for i, c := range clients[1:] {
		n := r.ownBackend()
		n.expect(fmt.Sprintf("GET big%d", i+1))
		n.pieces(big)
		c.expect(big)
	}
	b.pieces(big[defaultLargeCommand:] + big + big)
	clients[0].expect(big)
	if n := r.w.stats.recalled; n != 2 {
		t.Errorf("%d commands were sent again; want 2", n)
	}
}

// At the limit of own pipes a large reply is only slower.
func TestLargeReplyAtTheLimitOfOwnPipes(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	big := bulkReply(2 << 20)
	c.send("GET big")
	b.expect("GET big")
	b.pieces(big)
	c.expect(big)
	r.w.owned = maxOwn
	c.send("GET big")
	b = r.backend()
	b.expect("GET big")
	b.pieces(big)
	c.expect(big)
	r.w.owned = 0
}

// A client that asks for much and reads nothing has its reads taken back: what others are
// answered does not wait, and little is kept.
func TestCrowdedReadsAreTakenBack(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.wire.blocked = true
	const n = 40
	for i := range n {
		c.send("GET " + strconv.Itoa(i))
	}
	d.send("INCR d")
	answer := func(words []string) string {
		if words[0] == "INCR" {
			return ":1\r\n"
		}
		return fmt.Sprintf("$900000\r\n%-900000s\r\n", words[1])
	}
	play := func() {
		for w := b.next(); w != nil; w = b.next() {
			b.reply(answer(w))
			if kept := c.s.pending(); kept > crowdMark+(1<<20) {
				t.Fatalf("%d bytes are kept for a client that does not read", kept)
			}
		}
	}
	play()
	d.expect(":1\r\n")
	c.wire.blocked = false
	for range n {
		c.wire.unblock(0)
		play()
	}
	var want strings.Builder
	for i := range n {
		want.WriteString(answer([]string{"GET", strconv.Itoa(i)}))
	}
	c.expect(want.String())
}

// What cannot be taken back crowds its own pipe, which serves nobody else any more.
func TestCrowdedWritesAreIsolated(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.wire.blocked = true
	var want strings.Builder
	for i := range 8 {
		c.send("EVAL s" + strconv.Itoa(i) + " 0")
	}
	d.send("GET d")
	for i := range 6 {
		reply := bulkReply(900000 + i)
		b.reply(reply)
		want.WriteString(reply)
	}
	n := r.backend()
	n.expect("GET d")
	n.reply("$-1\r\n")
	d.expect("$-1\r\n")
	if !b.wire.paused {
		t.Error("it is read on though nobody takes it")
	}
	c.wire.unblock(0)
	b.reply(bulkReply(6) + bulkReply(7))
	c.expect(want.String() + bulkReply(6) + bulkReply(7))
}

func TestOutputLimits(t *testing.T) {
	message := func(n int) string {
		return "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n" + bulkReply(n)
	}
	subscriber := func(t *testing.T) (*rig, *fakeClient, *backend) {
		t.Helper()
		r := serving(t)
		c := r.client()
		warm(r, c)
		c.send("SUBSCRIBE c")
		b := r.ownBackend()
		b.expect("SUBSCRIBE c")
		b.reply("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
		c.wire.got, c.wire.blocked = nil, true
		return r, c, b
	}
	cutFor := func(t *testing.T, r *rig, c *fakeClient, why cutReason) {
		t.Helper()
		if !c.wire.aborted {
			t.Fatal("the client is not cut off")
		}
		for k, n := range r.w.stats.outputCut {
			if want := uint64(0); cutReason(k) == why {
				want = 1
				if n != want {
					t.Errorf("%d counted for reason %d; want %d", n, k, want)
				}
			} else if n != want {
				t.Errorf("%d counted for reason %d; want none", n, k)
			}
		}
	}
	t.Run("hard", func(t *testing.T) {
		r, c, b := subscriber(t)
		for range 31 {
			b.reply(message(1 << 20))
		}
		if c.wire.aborted || b.wire.paused {
			t.Fatal("cut off or held back below the limit")
		}
		b.reply(message(1 << 20))
		cutFor(t, r, c, cutPubSubHard)
	})
	t.Run("soft", func(t *testing.T) {
		r, c, b := subscriber(t)
		b.reply(message(9 << 20))
		r.advance(59 * time.Second)
		if c.wire.aborted {
			t.Fatal("cut off before its time")
		}
		r.advance(3 * time.Second) // nothing more is published
		cutFor(t, r, c, cutPubSubSoft)
	})
	t.Run("soft, and read in between", func(t *testing.T) {
		r, c, b := subscriber(t)
		b.reply(message(9 << 20))
		r.advance(59 * time.Second)
		c.wire.unblock(0)
		c.wire.blocked = true
		b.reply(message(9 << 20))
		r.advance(59 * time.Second)
		if c.wire.aborted {
			t.Fatal("cut off though it has read")
		}
		r.advance(3 * time.Second)
		cutFor(t, r, c, cutPubSubSoft)
	})
	t.Run("one message above the limit", func(t *testing.T) {
		r, c, b := subscriber(t)
		b.reply(message(512 << 20)[:64<<10]) // the first of it tells
		cutFor(t, r, c, cutPubSubHard)
	})
	t.Run("normal", func(t *testing.T) {
		r := serving(t)
		r.w.sizes.out.Normal = OutputLimit{Hard: 10 << 20}
		c, d := r.client(), r.client()
		b := warm(r, c)
		c.wire.blocked = true
		c.send("EVAL s 0")
		d.send("INCR d") // cannot be asked again: what is before it is read
		big := bulkReply(20 << 20)
		for pos := 0; pos < len(big) && !c.wire.closed; pos += 64 << 10 {
			b.reply(big[pos:min(pos+64<<10, len(big))])
		}
		cutFor(t, r, c, cutNormalHard)
	})
}

// A client that sends all before it reads is read up to query_buffer_limit, and loses
// nothing by it.
func TestQueryBufferLimit(t *testing.T) {
	r := serving(t)
	r.w.sizes.query = 1 << 20
	c := r.client()
	b := warm(r, c)
	c.wire.blocked = true
	c.send("GET a")
	b.expect("GET a")
	b.reply(bulkReply(900 << 10))
	c.send("GET b")
	b.expect("GET b")
	b.reply(bulkReply(900 << 10))
	sent := 0
	for ; !c.wire.paused; sent++ {
		if sent > 1<<16 {
			t.Fatal("reading never stops")
		}
		c.send("SET k " + strconv.Itoa(sent))
	}
	if kept := len(c.s.in) + c.s.stowed; kept < 1<<20 || kept > 1<<20+100 {
		t.Errorf("%d bytes are read ahead", kept)
	}
	if r.w.stats.queryFull != 1 {
		t.Errorf("counted %d times; want once", r.w.stats.queryFull)
	}
	c.wire.unblock(0)
	for i := range sent {
		b.expect("SET k " + strconv.Itoa(i))
		b.reply("+OK\r\n")
	}
	if c.wire.paused || len(c.s.in)+c.s.stowed > 0 || c.s.more != nil {
		t.Error("it is not read again, or something is left")
	}
}

// Whether a large reply to a write may reach its client is not known for a while: it is
// left with Redis meanwhile.
func TestLargeReplyInDoubtIsNotCollected(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("EVAL s 0")
	b.expect("EVAL s 0")
	r.setRoute(topology.Route{State: topology.Serving, Master: nodeA, Epoch: 1, Suspect: true})
	big := bulkReply(5 << 20)
	pos := 0
	for ; !b.wire.paused; pos += 64 << 10 {
		if pos > 2<<20 {
			t.Fatal("it is collected")
		}
		b.reply(big[pos : pos+64<<10])
	}
	r.advance(30 * time.Second) // the watchdog does not take it for dead
	b.wire.paused = false
	b.reply(big[pos : pos+64<<10])
	pos += 64 << 10
	if !b.wire.paused {
		t.Error("it is read on while in doubt")
	}
	r.serve(nodeA, 1)
	if b.wire.paused {
		t.Error("it is not read on")
	}
	b.reply(big[pos:])
	c.expect(big)
}

// The end of a large reply may begin with anything, also with what an error begins with.
func TestLargeReplyOfExecMovesTheDatabase(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.send("MULTI")
	b := r.ownBackend()
	b.expect("MULTI")
	b.reply("+OK\r\n")
	c.send("SELECT 3", "GET big", "EXEC")
	b.expect("SELECT 3", "GET big", "EXEC")
	b.reply("+QUEUED\r\n+QUEUED\r\n")
	big := "*2\r\n+OK\r\n$2000000\r\n" + strings.Repeat("-", 2000000) + "\r\n"
	b.reply(big[:1500000])
	b.reply(big[1500000:])
	c.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n" + big)
	if c.s.who.db != 3 {
		t.Errorf("the client is in database %d; want 3", c.s.who.db)
	}
}

// A pipe of its own that rests is handed on awake.
func TestRestEndsWithTheCall(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	warm(r, c)
	c.wire.blocked = true
	c.send("KEYS *")
	b := r.ownBackend()
	b.expect("KEYS *")
	b.reply("*3\r\n" + strings.Repeat(bulkReply(500000), 3))
	if c.s.own != nil || b.wire.paused {
		t.Fatal("the call is over; its pipe is kept or rests")
	}
	d.send("KEYS d")
	b.expect("KEYS d")
}

// A status as long as a bulk is passed on like one.
func TestLongStatusReply(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("EVAL s 0", "GET a")
	line := "+" + strings.Repeat("x", 5<<20) + "\r\n"
	for pos := 0; pos < len(line); pos += 64 << 10 {
		b.reply(line[pos:min(pos+64<<10, len(line))])
		if kept := len(b.wire.h.(*pipe).in); kept > 2<<20 {
			t.Fatalf("%d bytes of it are collected", kept)
		}
	}
	b.reply("$-1\r\n")
	c.expect(line + "$-1\r\n")
}

// A large command that must wait is not given room for all of it.
func TestLargeCommandThatWaitsTakesNoRoom(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.wire.peer(frames("DEL k") + "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n" + strings.Repeat("x", 60000))
	b.expect("DEL k")
	if n := cap(c.s.in); n > 2<<20 {
		t.Errorf("%d bytes of room for a command that waits", n)
	}
	b.reply(":1\r\n")
	r.ownBackend()
	if c.s.stream != streamOn {
		t.Error("it does not go on")
	}
}

// Commands stowed while their client does not read come in order, also when they were
// cut anywhere.
func TestStowedCommandsStayInOrder(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.wire.blocked = true
	c.send("GET a")
	b.expect("GET a")
	b.reply(bulkReply(1020 << 10))
	c.send("GET b")
	b.expect("GET b")
	b.reply(bulkReply(1020 << 10))
	var all []byte
	const n = 3000
	for i := range n {
		all = resp.AppendCommand(all, "SET", "k", fmt.Sprintf("%0*d", 1+i%400, i))
	}
	for i := 0; len(all) > 0; i++ {
		k := min(len(all), 1+(i*7919)%9000)
		c.wire.peer(string(all[:k]))
		all = all[k:]
	}
	if len(c.s.more) < 3 {
		t.Fatalf("%d pieces are stowed; want several", len(c.s.more))
	}
	c.wire.unblock(0)
	for i := range n {
		b.expect(fmt.Sprintf("SET k %0*d", 1+i%400, i))
		b.reply("+OK\r\n")
	}
}

// EXEC's reply is collected where it tells what has become of the connection, but not
// for ever.
func TestCollectedReplyOfExecIsBounded(t *testing.T) {
	r := serving(t)
	r.w.sizes.large = 100
	r.w.sizes.out.Normal = OutputLimit{Hard: 1000}
	c := r.client()
	c.send("MULTI", "SELECT 1", "GET a", "EXEC")
	b := r.ownBackend()
	b.expect("MULTI", "SELECT 1", "GET a", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$100000\r\n" + strings.Repeat("x", 500))
	if !c.wire.aborted {
		t.Error("the client is not cut off")
	}
}

// A large reply is only a guess: if the master has no connection for it, the command
// goes the way of the others.
func TestLargeReplyIsExpectedInVain(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	big := bulkReply(2 << 20)
	c.send("GET big")
	b.expect("GET big")
	b.pieces(big)
	c.expect(big)
	d.send("PING")
	shared := r.backend()
	shared.expect("PING")
	shared.reply("+PONG\r\n")
	c.send("GET small")
	for range 2 {
		r.advance(100 * time.Millisecond)
		own := r.accept()
		own.expect("HELLO")
		own.reply("-ERR max number of clients reached\r\n")
	}
	shared.expect("GET small")
	shared.reply("$1\r\ns\r\n")
	c.expect("$1\r\ns\r\n")
	if r.w.owned != 0 || len(r.w.owns) != 0 {
		t.Errorf("%d own pipes are left, %d in use", r.w.owned, len(r.w.owns))
	}
	r.checkHeld(0, 0, 0, 0)
}

// The list of clients says why such a client has a connection of its own.
func TestLargeReplyIsWhyAClientIsPinned(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	big := bulkReply(2 << 20)
	c.send("GET big")
	b.expect("GET big")
	b.pieces(big)
	c.expect(big)
	c.send("GET big")
	own := r.ownBackend()
	own.expect("GET big")
	if got := c.s.describe(); got.Backend != "own" || got.Pinned != pinLargeReply.String() || r.w.stats.pinned[pinLargeReply] != 1 {
		t.Errorf("backend %q for %q, counted %d times", got.Backend, got.Pinned, r.w.stats.pinned[pinLargeReply])
	}
}

// However many wait behind a large reply, few of them get a connection for it.
func TestLargeReplyTakesFewConnections(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("GET big")
	others := make([]*fakeClient, 3*maxIdleOwn)
	for i := range others {
		others[i] = r.client()
		others[i].send("GET " + strconv.Itoa(i))
	}
	b.pieces(bulkReply(2 << 20)[:defaultLargeCommand])
	if r.w.owned != maxIdleOwn {
		t.Errorf("%d connections for %d commands; want %d", r.w.owned, len(others), maxIdleOwn)
	}
	shared := r.backend()
	for shared.wire.h.(*pipe).owner != nil {
		shared = r.backend()
	}
	for i := maxIdleOwn; i < len(others); i++ {
		shared.expect("GET " + strconv.Itoa(i))
		shared.reply("$-1\r\n")
		others[i].expect("$-1\r\n")
	}
}

// A long command goes to its connection in the buffer it was collected in, which is a
// spare one again once it is answered.
func TestLongCommandIsNotCopied(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	set := frames("SET k " + strings.Repeat("v", 200<<10))
	c.wire.data([]byte(set[:50<<10]))
	begun := c.s.in
	c.wire.data([]byte(set[50<<10:]))
	p, _ := b.wire.h.(*pipe)
	if got := p.frame(p.queue.front()); &got[0] != &begun[0] || string(got) != set {
		t.Error("the command was copied")
	}
	if c.s.in != nil {
		t.Errorf("%d bytes are kept by the session, too", len(c.s.in))
	}
	r.turn()
	b.wire.got = nil
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	if got := r.w.takeBufOf(len(set)); &got[:1][0] != &begun[0] {
		t.Error("the buffer is not spare again")
	}
}

// Where much comes and the connection to the master is full, no more is read than that
// takes, and reading goes on when it has room.
func TestBulkIsLeftToTheKernel(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	set := frames("SET k " + strings.Repeat("v", 16<<10))
	d.wire.peer(set)
	b.next()
	b.wire.blocked = true
	sent := 1
	for range 4 * windowBytes / len(set) {
		if c.s.Room(); c.wire.paused {
			break
		}
		c.wire.peer(set)
		sent++
	}
	if !c.wire.paused || len(c.s.in) > 0 {
		t.Fatalf("paused = %v, %d bytes are set aside", c.wire.paused, len(c.s.in))
	}
	if d.s.Room(); !d.wire.paused {
		t.Fatal("the other client is read")
	}
	b.wire.unblock(0)
	b.wire.got = nil
	b.reply(strings.Repeat("+OK\r\n", sent))
	if c.wire.paused || d.wire.paused {
		t.Errorf("paused = %v, %v with nothing under way", c.wire.paused, d.wire.paused)
	}
}

// Who has not logged in and does not read is cut off before it costs memory.
func TestUnauthenticatedClientThatDoesNotRead(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.wire.limit = 1
	c.send("GET a")
	b := r.accept()
	b.expect("HELLO 2")
	b.reply("-NOAUTH HELLO must be called with the client already authenticated\r\n")
	many := strings.Repeat(frames("GET a"), 1000)
	for n := 0; n < 100 && !c.wire.closed; n++ {
		c.wire.peer(many)
		if kept := len(c.s.in) + c.s.stowed; kept > len(many) {
			t.Fatalf("%d bytes of its commands are kept", kept)
		}
	}
	if !c.wire.aborted {
		t.Error("it is still connected")
	}
}

// Spare buffers that nobody wants are given up within seconds; those in use stay.
func TestSpareBuffersAreGivenUp(t *testing.T) {
	r := serving(t)
	warm(r, r.client())
	const big = 1 << 20
	fill := func() {
		for range maxPieces {
			r.w.giveBuf(make([]byte, 0, bigBuf))
			r.w.giveBuf(make([]byte, 0, big))
		}
	}
	fill()
	if r.w.bigBytes != bigsKeep {
		t.Fatalf("%d bytes are kept of %d", r.w.bigBytes, maxPieces*big)
	}
	for range 12 {
		piece, large := r.w.takeBufOf(bigBuf), r.w.takeBufOf(big)
		r.w.giveBuf(piece)
		r.w.giveBuf(large)
		r.advance(watchEvery)
	}
	if len(r.w.pieces) != 1 || len(r.w.bigs) != 1 || r.w.bigBytes != big {
		t.Errorf("%d and %d are kept, %d bytes; want the two that are used", len(r.w.pieces), len(r.w.bigs), r.w.bigBytes)
	}
	fill()
	r.advance(12 * watchEvery)
	if len(r.w.pieces)+len(r.w.bigs)+r.w.bigBytes != 0 {
		t.Errorf("%d and %d are kept, %d bytes; want none", len(r.w.pieces), len(r.w.bigs), r.w.bigBytes)
	}
}
