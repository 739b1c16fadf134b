package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// TestLostConnectionRetrying is TestLostConnection for the modes that send writes
// again.
func TestLostConnectionRetrying(t *testing.T) {
	for name, tt := range map[string]struct {
		mode   RetryMode
		send   []string
		limit  int      // bytes of the commands that the kernel takes; 0: all
		answer string   // replies before the loss
		again  []string // that the new connection gets
		reply  string   // and its replies
		want   string   // what the client gets; "U": an error -UNCERTAIN
	}{
		"one":                               {mode: RetryIdempotent, send: []string{"SET a 1"}, again: []string{"SET a 1"}, reply: "+OK\r\n", want: "+OK\r\n"},
		"options that ask":                  {mode: RetryIdempotent, send: []string{"SET a 1 NX"}, want: "U"},
		"other reply":                       {mode: RetryIdempotent, send: []string{"DEL a"}, want: "U"},
		"more":                              {mode: RetryIdempotent, send: []string{"INCR a"}, want: "U"},
		"behind one that may not":           {mode: RetryIdempotent, send: []string{"INCR n", "SET a 1"}, again: []string{"SET a 1"}, reply: "+OK\r\n", want: "U+OK\r\n"},
		"before one that may not":           {mode: RetryIdempotent, send: []string{"SET a 1", "INCR n"}, want: "UU"},
		"a pipeline on one key":             {mode: RetryIdempotent, send: []string{"SET a 1", "SET a 2"}, again: []string{"SET a 1", "SET a 2"}, reply: "+OK\r\n+OK\r\n", want: "+OK\r\n+OK\r\n"},
		"a read sees no later write":        {mode: RetryIdempotent, send: []string{"GET a", "SET a 2"}, again: []string{"SET a 2"}, reply: "+OK\r\n", want: "U+OK\r\n"},
		"a read of another key":             {mode: RetryIdempotent, send: []string{"GET b", "SET a 2"}, again: []string{"GET b", "SET a 2"}, reply: "$-1\r\n+OK\r\n", want: "$-1\r\n+OK\r\n"},
		"a read of everything":              {mode: RetryIdempotent, send: []string{"DBSIZE", "SET a 2"}, again: []string{"SET a 2"}, reply: "+OK\r\n", want: "U+OK\r\n"},
		"a write that reads what is later":  {mode: RetryIdempotent, send: []string{"SUNIONSTORE d s", "SUNIONSTORE s t"}, again: []string{"SUNIONSTORE s t"}, reply: ":1\r\n", want: "U:1\r\n"},
		"a write that reads what is before": {mode: RetryIdempotent, send: []string{"SET s 1", "BITOP NOT d s"}, again: []string{"SET s 1", "BITOP NOT d s"}, reply: "+OK\r\n:1\r\n", want: "+OK\r\n:1\r\n"},
		"later writes not sent":             {mode: RetryIdempotent, send: []string{"GET a", "SET a 2"}, limit: 25, again: []string{"GET a", "SET a 2"}, reply: "$1\r\n1\r\n+OK\r\n", want: "$1\r\n1\r\n+OK\r\n"},
		"refused before, and sees it":       {mode: RetryIdempotent, send: []string{"INCR a", "SET a 2"}, answer: readOnly, again: []string{"SET a 2"}, reply: "+OK\r\n", want: readOnly + "+OK\r\n"},
		"refused before, on another key":    {mode: RetryIdempotent, send: []string{"INCR n", "SET a 2"}, answer: readOnly, again: []string{"INCR n", "SET a 2"}, reply: ":1\r\n+OK\r\n", want: ":1\r\n+OK\r\n"},
		"at least once":                     {mode: RetryAlways, send: []string{"INCR n", "GET n", "DEL a"}, again: []string{"INCR n", "GET n", "DEL a"}, reply: ":2\r\n$1\r\n2\r\n:0\r\n", want: ":2\r\n$1\r\n2\r\n:0\r\n"},
		"never on any terms":                {mode: RetryAlways, send: []string{"INCR n", "FLUSHALL", "INCR m"}, again: []string{"INCR m"}, reply: ":1\r\n", want: "UU:1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			r.w.opts.RetryWrites = tt.mode
			c := r.client()
			b := warm(r, c)
			if tt.limit > 0 {
				b.wire.limit = tt.limit + 1
			}
			c.send(tt.send...)
			if tt.answer != "" {
				b.reply(tt.answer)
			}
			b.wire.peerReset()
			if len(tt.again) > 0 {
				b = r.backend()
				b.expect(tt.again...)
				b.expectNothing()
				b.reply(tt.reply)
			}
			for want := tt.want; want != ""; {
				plain, rest, uncertain := strings.Cut(want, "U")
				if strings.HasPrefix(want, readOnly) {
					plain, rest, uncertain = want, "", false
				}
				if got := string(c.wire.got[:min(len(plain), len(c.wire.got))]); got != plain {
					t.Fatalf("client got %q; want %q first", c.wire.got, plain)
				}
				c.wire.got = c.wire.got[len(plain):]
				if uncertain {
					c.expectError("UNCERTAIN", "")
				}
				want = rest
			}
			c.expect("")
			if c.s.inflight != 0 {
				t.Errorf("%d commands still in flight", c.s.inflight)
			}
		})
	}
}

func TestRepeatedWritesGoToTheNewMaster(t *testing.T) {
	r := serving(t)
	r.w.opts.RetryWrites = RetryIdempotent
	c, other := r.client(), r.client()
	b := warm(r, c)
	c.send("SET a 1")
	other.send("INCR n", "SET b 2")
	c.send("SET a 2")
	b.expect("SET a 1", "INCR n", "SET b 2", "SET a 2")
	r.hold(doubt)
	r.serve(nodeB, 2)
	b = r.backend()
	b.expect("SET a 1", "SET a 2", "SET b 2")
	b.expectNothing()
	other.expectError("UNCERTAIN", "INCR")
	b.reply("+OK\r\n+OK\r\n+OK\r\n")
	c.expect("+OK\r\n+OK\r\n")
	other.expect("+OK\r\n")
	if got := r.w.stats.repeated; got != 3 {
		t.Errorf("%d writes counted as repeated; want 3", got)
	}
}

func TestExecRepeated(t *testing.T) {
	for name, tt := range map[string]struct {
		mode   RetryMode
		before []string // MULTI
		queue  string
		again  bool
	}{
		"at least once":    {mode: RetryAlways, queue: "INCR a", again: true},
		"idempotent":       {mode: RetryIdempotent, queue: "SET a 1"},
		"watched":          {mode: RetryAlways, before: []string{"WATCH a"}, queue: "INCR a"},
		"holds a FLUSHALL": {mode: RetryAlways, queue: "FLUSHALL"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			r.w.opts.RetryWrites = tt.mode
			c := r.client()
			warm(r, c)
			c.send(append(tt.before, "MULTI", tt.queue)...)
			own := r.ownBackend()
			own.expect(append(tt.before, "MULTI", tt.queue)...)
			for range tt.before {
				own.reply("+OK\r\n")
			}
			own.reply("+OK\r\n+QUEUED\r\n")
			c.wire.got = nil
			c.send("EXEC")
			own.expect("EXEC")
			own.wire.peerReset()
			if !tt.again {
				c.expectError("UNCERTAIN", "EXEC")
				return
			}
			c.expect("")
			own = r.ownBackend()
			own.expect("MULTI", tt.queue, "EXEC")
			own.reply("+OK\r\n+QUEUED\r\n*1\r\n:2\r\n")
			c.expect("*1\r\n:2\r\n")
		})
	}
}

// A command to which its client wants no reply gets none when it is sent again.
func TestSkippedReplyStaysSkipped(t *testing.T) {
	r := serving(t)
	r.w.opts.RetryWrites = RetryIdempotent
	c := r.client()
	b := warm(r, c)
	c.send("CLIENT REPLY SKIP", "SET a 1", "GET b")
	b.mayReply()
	b.expect("SET a 1", "GET b")
	b.wire.peerReset()
	b = r.backend()
	b.mayReply()
	b.expect("SET a 1", "GET b")
	b.reply("+OK\r\n$1\r\nx\r\n")
	c.expect("$1\r\nx\r\n")
}

// TestRetryOnRedis hangs a master with writes under way and moves on to another.
func TestRetryOnRedis(t *testing.T) {
	const writers = 8
	for name, tt := range map[string]struct {
		mode   RetryMode
		wanted int // replies that are OK
	}{
		"never":      {RetryNever, 0},
		"idempotent": {RetryIdempotent, writers},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := []*redistest.Node{redistest.Single(t, redistest.Options{}), redistest.Single(t, redistest.Options{})}
			r := startServer(t, nodes[0], func(o *Options) { o.Loops, o.RetryWrites = 1, tt.mode })
			var clients [writers]*raw
			for i := range clients {
				clients[i] = r.raw()
				clients[i].send(frames("PING"))
				clients[i].expect("+PONG\r\n")
			}
			if err := nodes[0].Pause(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = nodes[0].Resume() })
			for i, c := range clients {
				c.send(frames("SET key:" + strconv.Itoa(i) + " 1"))
			}
			eventually(t, "the writes under way", func() (bool, string) {
				st := r.status()
				return st.CommandsInFlight >= writers, fmt.Sprintf("%+v", st)
			})
			r.setRoute(topology.Route{State: topology.Serving, Master: nodes[1].Addr(), Epoch: 2})
			done := 0
			for _, c := range clients {
				switch reply := c.line(); {
				case reply == "+OK":
					done++
				case !strings.HasPrefix(reply, "-UNCERTAIN "):
					t.Error(reply)
				}
			}
			if done != tt.wanted {
				t.Errorf("%d writes succeeded; want %d", done, tt.wanted)
			}
			if n := r.client().DBSize(t.Context()).Val(); int(n) != tt.wanted {
				t.Errorf("the new master holds %d keys; want %d", n, tt.wanted)
			}
		})
	}
}

// A write that is to run once more, for which no master comes, or that is refused the
// second time, may have run the first time: nobody is told that it did not.
func TestRepeatThatFailsIsUncertain(t *testing.T) {
	for name, fail := range map[string]func(r *rig){
		"no master": func(r *rig) { r.hold(down) },
		"refused": func(r *rig) {
			for range 2 {
				b := r.backend()
				b.expect("SET a 1")
				b.reply(readOnly)
				r.advance(retryAfter)
				r.serve(nodeA, r.w.route.Epoch+1)
			}
			b := r.backend()
			b.expect("SET a 1")
			b.reply(readOnly)
			r.advance(retryAfter)
			b.expect("SET a 1")
			b.reply(readOnly)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			r.w.opts.RetryWrites = RetryIdempotent
			c := r.client()
			b := warm(r, c)
			c.send("SET a 1")
			b.expect("SET a 1")
			b.wire.peerReset()
			fail(r)
			c.expectError("UNCERTAIN", "SET may or may not have been executed")
			c.expect("")
			r.serve(nodeB, 9)
			c.send("GET a") // and all is as before
			b = r.backend()
			b.expect("GET a")
			b.reply("$-1\r\n")
			c.expect("$-1\r\n")
			c.send("GET b")
			if b.expect("GET b"); !c.s.fast {
				t.Error("the short way stays closed")
			}
		})
	}
}

// What was refused goes before what was taken back from behind it.
func TestRefusedKeepsItsPlaceInAHold(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	b.wire.limit = len(frames("SET a 1")) + 1
	c.send("SET a 1")
	b.wire.blocked = true
	c.send("SET a 2")
	b.expect("SET a 1")
	b.reply(readOnly)
	r.hold()
	r.serve(nodeB, 2)
	n := r.backend()
	n.expect("SET a 1", "SET a 2")
}
