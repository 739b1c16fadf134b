package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	readOnly   = "-READONLY You can't write against a read only replica.\r\n"
	noReplicas = "-NOREPLICAS Not enough good replicas to write.\r\n"
)

// warm has the client's shared pipe ready.
func warm(r *rig, c *fakeClient) *backend {
	r.t.Helper()
	c.send("PING")
	b := r.backend()
	b.expect("PING")
	b.reply("+PONG\r\n")
	c.expect("+PONG\r\n")
	return b
}

func TestLostConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		send   []string
		limit  int    // bytes of the commands that the kernel takes; 0: all
		answer string // replies before the loss
		again  []string
		reply  string // replies of the new connection
		want   string // "U": an error -UNCERTAIN
	}{
		"read is sent again":                    {send: []string{"GET a"}, again: []string{"GET a"}, reply: "$1\r\n1\r\n", want: "$1\r\n1\r\n"},
		"write is uncertain":                    {send: []string{"SET a 1"}, want: "U"},
		"reads behind a write":                  {send: []string{"INCR a", "GET a"}, again: []string{"GET a"}, reply: "$1\r\n1\r\n", want: "U$1\r\n1\r\n"},
		"a read before a write keeps its place": {send: []string{"GET a", "INCR a"}, want: "UU"},
		"answered before":                       {send: []string{"INCR a", "GET a"}, answer: ":1\r\n", again: []string{"GET a"}, reply: "$1\r\n1\r\n", want: ":1\r\n$1\r\n1\r\n"},
		"half a write":                          {send: []string{"SET a 1"}, limit: 20, again: []string{"SET a 1"}, reply: "+OK\r\n", want: "+OK\r\n"},
		"whole, then half":                      {send: []string{"INCR a", "INCR b"}, limit: 30, again: []string{"INCR b"}, reply: ":1\r\n", want: "U:1\r\n"},
		"half a reply":                          {send: []string{"GET a"}, answer: "$3\r\na", again: []string{"GET a"}, reply: "$3\r\nabc\r\n", want: "$3\r\nabc\r\n"},
		"half a write's reply":                  {send: []string{"INCR a"}, answer: ":1", want: "U"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
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
			want := tt.want
			for {
				i := strings.IndexByte(want, 'U')
				if i < 0 {
					break
				}
				if got := string(c.wire.got[:min(i, len(c.wire.got))]); got != want[:i] {
					t.Fatalf("client got %q; want %q first", c.wire.got, want[:i])
				}
				c.wire.got = c.wire.got[i:]
				c.expectError("UNCERTAIN", "")
				want = want[i+1:]
			}
			c.expect(want)
			if c.s.inflight != 0 {
				t.Errorf("%d commands still in flight", c.s.inflight)
			}
		})
	}
}

func TestRefusedIsSentAgainOncePerMaster(t *testing.T) {
	for name, refusal := range map[string]string{"role": readOnly, "replicas": noReplicas, "loading": "-LOADING Redis is loading the dataset in memory\r\n"} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			c.send("SET a 1", "GET a", "SET b 2")
			b.expect("SET a 1", "GET a", "SET b 2")
			b.reply(refusal + "$1\r\n0\r\n" + refusal)
			c.expect("")
			r.advance(retryAfter)
			b.expect("SET a 1", "GET a", "SET b 2")
			b.reply(refusal)
			c.expect(refusal)
			b.reply("$1\r\n0\r\n+OK\r\n")
			c.expect("$1\r\n0\r\n+OK\r\n")
		})
	}
}

func TestRefusedGoesToTheNewMaster(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1", "SET b 2")
	b.expect("SET a 1", "SET b 2")
	b.reply(readOnly)
	if r.reported(topology.ReportReadOnly) != 1 {
		t.Error("the control plane was not told")
	}
	r.hold()
	b.reply(readOnly)
	c.send("SET c 3")
	c.expect("")
	r.serve(nodeB, 2)
	b = r.backend()
	if b.addr != nodeB {
		t.Fatalf("dialled %s", b.addr)
	}
	b.expect("SET a 1", "SET b 2", "SET c 3")
	b.reply("+OK\r\n+OK\r\n+OK\r\n")
	c.expect("+OK\r\n+OK\r\n+OK\r\n")
}

func TestLaterExecutedWritePassesRefusalOn(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1", "GET a", "SET b 2")
	b.expect("SET a 1", "GET a", "SET b 2")
	b.reply(noReplicas + "$1\r\n0\r\n" + "+OK\r\n")
	c.expect(noReplicas + "$1\r\n0\r\n" + "+OK\r\n")
	r.advance(2 * retryAfter)
	b.expectNothing()
}

func TestRefusedThenLost(t *testing.T) {
	for name, tt := range map[string]struct {
		later string
		again []string
	}{
		"read behind it":  {"GET a", []string{"SET a 1", "GET a"}},
		"write behind it": {"INCR b", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			c.send("SET a 1", tt.later)
			b.expect("SET a 1", tt.later)
			b.reply(readOnly)
			b.wire.peerReset()
			if tt.again == nil {
				c.expectError("READONLY", "")
				c.expectError("UNCERTAIN", "INCR")
				c.expect("")
				return
			}
			b = r.backend()
			b.expect(tt.again...)
			b.reply("+OK\r\n$1\r\n1\r\n")
			c.expect("+OK\r\n$1\r\n1\r\n")
		})
	}
}

func TestNoCommandOvertakesARefusedOne(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1", "GET a")
	b.expect("SET a 1", "GET a")
	b.reply(noReplicas)
	c.send("SET a 2") // waits: the first may still be sent again
	b.expectNothing()
	b.reply("$-1\r\n")
	r.advance(retryAfter)
	b.expect("SET a 1", "GET a", "SET a 2")
	b.reply("+OK\r\n$1\r\n1\r\n+OK\r\n")
	c.expect("+OK\r\n$1\r\n1\r\n+OK\r\n")
}

func TestLateAcknowledgement(t *testing.T) {
	for name, doubtful := range map[string]func(r *rig){
		"promotion has begun": func(r *rig) { r.hold(doubt) },
		"lease is over":       func(r *rig) { r.advance(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.lease = new(topology.Lease)
			r.lease.Extend(r.at + 30*time.Second)
			r.serve(nodeA, 1)
			c := r.client()
			b := warm(r, c)
			c.send("SET a 1", "GET a", "INCR b")
			b.expect("SET a 1", "GET a", "INCR b")
			doubtful(r)
			b.reply("+OK\r\n$1\r\n1\r\n-ERR value is not an integer or out of range\r\n")
			c.expectError("UNCERTAIN", "SET")
			c.expect("$1\r\n1\r\n-ERR value is not an integer or out of range\r\n")
		})
	}
}

func TestOldMastersWordReachesNobody(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1", "GET a")
	b.expect("SET a 1", "GET a")
	r.serve(nodeB, 2)
	if !b.wire.aborted || !b.wire.reaped {
		t.Error("the old master's connection was not aborted")
	}
	b.wire.h.Data([]byte("+OK\r\n$1\r\n1\r\n")) // read before the close took effect
	n := r.backend()
	n.expect("GET a")
	n.reply("$1\r\n0\r\n")
	c.expectError("UNCERTAIN", "SET")
	c.expect("$1\r\n0\r\n")
}

func TestSuspicionKeepsSuccessesBack(t *testing.T) {
	for name, tt := range map[string]struct {
		then func(r *rig)
		ok   bool
	}{
		"cleared": {func(r *rig) { r.serve(nodeA, 1) }, true},
		"proved":  {func(r *rig) { r.hold(doubt) }, false},
		"switch":  {func(r *rig) { r.serve(nodeB, 2) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			c.send("GET x", "SET a 1", "GET a")
			b.expect("GET x", "SET a 1", "GET a")
			r.hold(suspect)
			b.reply("$-1\r\n+OK\r\n$1\r\n1\r\n")
			c.expect("$-1\r\n")
			c.send("QUIT") // answered here, but not before its turn
			c.expect("")
			tt.then(r)
			if tt.ok {
				c.expect("+OK\r\n$1\r\n1\r\n+OK\r\n")
				return
			}
			c.expectError("UNCERTAIN", "SET")
			c.expect("$1\r\n1\r\n+OK\r\n")
		})
	}
}

func TestReissue(t *testing.T) {
	table := newCommands(DefaultDenied())
	for _, tt := range []struct{ in, want string }{
		{"BLPOP q 5", "BLPOP q 3.500"},
		{"BLPOP q 0", "BLPOP q 0"},
		{"BLPOP q 1", "BLPOP q 0.001"},
		{"BLMOVE a b LEFT LEFT 10", "BLMOVE a b LEFT LEFT 8.500"},
		{"BLMPOP 2.5 1 q LEFT", "BLMPOP 1.000 1 q LEFT"},
		{"XREAD COUNT 1 BLOCK 2000 STREAMS s 0", "XREAD COUNT 1 BLOCK 500 STREAMS s 0"},
		{"XREAD STREAMS s 0", "XREAD STREAMS s 0"},
		{"WAIT 1 2000", "WAIT 1 500"},
		{"KEYS 5", "KEYS 5"},
		{"BLPOP q nonsense", "BLPOP q nonsense"},
	} {
		in := []byte(frames(tt.in))
		if got, want := string(reissue(in, table.find(in), 1500*time.Millisecond)), frames(tt.want); got != want {
			t.Errorf("reissue(%s) = %q; want %q", tt.in, got, want)
		}
	}
}

func TestRefusalOf(t *testing.T) {
	for reply, want := range map[string]refusalKind{
		readOnly:   refusedRole,
		noReplicas: refusedSoft,
		"-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n": refusedRole,
		"-EXECABORT Transaction discarded because of previous errors.\r\n":                                       refusedNot,
		"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n":      refusedRole,
		"-READONLY says a script\r\n":   refusedNot,
		"-NOREPLICAS says a script\r\n": refusedNot,
		"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n": refusedSoft,
		"-OOM command not allowed\r\n": refusedNot,
		"-ERR\r\n":                     refusedNot,
	} {
		if got := refusalOf([]byte(reply)); got != want {
			t.Errorf("refusalOf(%q) = %d; want %d", reply, got, want)
		}
	}
}

func TestBlockedCallGoesOn(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("BLPOP q 10", "SET a 5")
	b := r.backend()
	b.expect("BLPOP q 10", "SET a 5")
	r.advance(4 * time.Second)
	b.reply("-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n" + readOnly)
	c.expect("")
	r.hold(doubt)
	r.serve(nodeB, 2)
	n := r.ownBackend()
	n.expect("BLPOP q 6.000", "SET a 5")
	n.reply("*2\r\n$1\r\nq\r\n$1\r\nx\r\n+OK\r\n")
	c.expect("*2\r\n$1\r\nq\r\n$1\r\nx\r\n+OK\r\n")
}

func TestRefusedWriteBesideBlockedCallKeepsItsValue(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("CLIENT NO-TOUCH ON") // pins
	b := r.backend()
	b.expect("CLIENT NO-TOUCH ON")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	c.send("SET a 50", "BLPOP q 10")
	b.expect("SET a 50", "BLPOP q 10")
	r.advance(time.Second)
	b.reply(readOnly + readOnly)
	r.advance(retryAfter)
	b.expect("SET a 50")
}

func TestStatsOfJudging(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("INCR a", "GET a")
	b.wire.peerReset()
	if s := r.w.stats; s.uncertain != 1 || s.resent != [resendReasons]uint64{resendLost: 1} || s.backendLost != 1 {
		t.Errorf("uncertain %d, resent %v, lost %d; want 1 each", s.uncertain, s.resent, s.backendLost)
	}
}

// Replies that are kept for reads behind a refused write have a bound: past it the
// refusal is passed on.
func TestRepliesBehindARefusalAreBounded(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SET a 1", "GET b", "GET b", "GET b")
	b.expect("SET a 1", "GET b", "GET b", "GET b")
	refusal, large := "-NOREPLICAS Not enough good replicas to write.\r\n", "$400000\r\n"+strings.Repeat("x", 400000)+"\r\n"
	b.reply(refusal + large + large)
	c.expect("")
	b.reply(large)
	c.expect(refusal + large + large + large)
}
