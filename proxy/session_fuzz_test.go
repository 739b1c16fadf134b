package proxy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/captures"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// model is a Redis that answers each command by its words alone, as far as a proxy
// can tell: transactions, subscriptions, logins and databases have their forms.
type model struct {
	*backend

	proto  int
	inTx   bool
	queued [][]string
	subs   []string
}

// answer returns the reply to one command.
func (m *model) answer(w []string) string {
	name := strings.ToUpper(w[0])
	switch {
	case name == "HELLO":
		if len(w) > 1 && w[1] == "3" {
			m.proto = 3
			return strings.Replace(helloMaster, "*14", "%7", 1)
		}
		return helloMaster
	case name == "MULTI" && !m.inTx && len(w) == 1:
		m.inTx, m.queued = true, nil
		return "+OK\r\n"
	case name == "EXEC" && m.inTx:
		m.inTx = false
		all := "*" + strconv.Itoa(len(m.queued)) + "\r\n"
		for _, q := range m.queued { // SUBSCRIBE and kin say more than the array holds
			all += m.answer(q)
		}
		return all
	case name == "DISCARD" && m.inTx:
		m.inTx = false
		return "+OK\r\n"
	case name == "EXEC", name == "DISCARD":
		return "-ERR " + name + " without MULTI\r\n"
	case name == "RESET":
		m.inTx, m.subs = false, nil
		return "+RESET\r\n"
	case m.inTx:
		m.queued = append(m.queued, w)
		return "+QUEUED\r\n"
	case slices.Contains([]string{"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}, name):
		return m.subscribe(strings.ToLower(name), w[1:])
	case name == "SELECT", name == "AUTH", name == "CLIENT":
		return "+OK\r\n"
	case name == "SCAN":
		return "*2\r\n$2\r\n17\r\n*0\r\n"
	case name == "EVALSHA":
		return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
	}
	text := strings.Join(w, " ")
	return "$" + strconv.Itoa(len(text)) + "\r\n" + text + "\r\n"
}

func (m *model) subscribe(name string, channels []string) string {
	if len(channels) == 0 && !strings.Contains(name, "unsub") {
		return "-ERR wrong number of arguments for '" + name + "' command\r\n"
	}
	kind := strings.TrimSuffix(strings.Replace(name, "unsub", "sub", 1), "subscribe")
	head := []byte("*3\r\n")
	if m.proto == 3 {
		head = []byte(">3\r\n")
	}
	if len(channels) == 0 {
		for _, s := range m.subs {
			if k, c, _ := strings.Cut(s, ":"); k == kind {
				channels = append(channels, c)
			}
		}
		if len(channels) == 0 {
			return string(resp.AppendBulk(head, name)) + "$-1\r\n:" + strconv.Itoa(len(m.subs)) + "\r\n"
		}
	}
	var b []byte
	for _, c := range channels {
		s := kind + ":" + c
		m.subs = slices.DeleteFunc(m.subs, func(o string) bool { return o == s })
		if !strings.Contains(name, "unsub") {
			m.subs = append(m.subs, s)
		}
		b = append(b, head...)
		b = resp.AppendBulk(b, name)
		b = resp.AppendBulk(b, c)
		b = resp.AppendInt(b, int64(len(m.subs)))
	}
	return string(b)
}

// played is what became of a client's bytes.
type played struct {
	out      string   // what the client got
	executed []string // what the client's commands were, as the masters got them
	closed   bool
}

// play sends b to a session in pieces of the given sizes, over and over, before
// masters that answer at once.
func play(tb testing.TB, b []byte, dedicated bool, sizes ...int) played {
	tb.Helper()
	r := serving(tb)
	r.w.opts.Dedicated = dedicated
	c := r.client()
	var p played
	var models []*model
	settle := func() {
		for busy := true; busy; {
			busy = false
			r.turn()
			for len(r.dials) > 0 {
				d := r.dials[0]
				if d.p.state != pipeDialing {
					r.dials = r.dials[1:]
					continue
				}
				models = append(models, &model{backend: r.accept()})
				busy = true
			}
			for _, m := range models {
				for words := m.next(); words != nil && !m.wire.closed; words = m.next() {
					busy = true
					if !slices.Contains([]string{"HELLO", "AUTH", "SELECT", "CLIENT", "RESET"}, strings.ToUpper(words[0])) {
						p.executed = append(p.executed, strings.Join(words, " "))
					}
					m.wire.peer(m.answer(words))
				}
			}
		}
	}
	for i := 0; len(b) > 0 && !c.wire.closed; i++ {
		n := min(len(b), max(1, sizes[i%len(sizes)]))
		c.wire.peer(string(b[:n]))
		b = b[n:]
		settle()
	}
	if p.closed = c.wire.closed; !p.closed {
		c.wire.peerEOF()
		settle()
		r.checkHeld(0, 0, 0, 0)
		if !c.wire.closed {
			tb.Errorf("the client is gone, its session is not: wait %d, in flight %d", c.s.wait, c.s.inflight)
		}
	}
	p.out = string(c.wire.got)
	return p
}

// FuzzSession lets a client say anything, once in one piece and once in many: what
// it gets and what reaches the masters is the same, and all that it gets is replies.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"*1\r\n$4\r\nPING\r\nGET a\r\nSET a \"b c\"\r\n", "MULTI\r\nSET a 1\r\nEXEC\r\nDISCARD\r\nMULTI x\r\n",
		"HELLO 3 AUTH u p SETNAME n\r\nSUBSCRIBE a b\r\nGET a\r\nUNSUBSCRIBE\r\nRESET\r\n", "*-1\r\n*0\r\n*1\r\n$-1\r\n", "POST / HTTP/1.1\r\nHost: x\r\n",
		"CLIENT REPLY SKIP\r\nGET a\r\nCLIENT REPLY OFF\r\nGET b\r\nCLIENT REPLY ON\r\n", "SUBSCRIBE a\r\nGET a\r\nPING\r\nUNSUBSCRIBE a\r\nGET a\r\nQUIT\r\nGET b\r\n",
		"EVAL x 0\r\nEVALSHA 0123456789012345678901234567890123456789 0\r\nSCAN 99999999999999999999\r\nBLPOP a 0\r\nWAIT 0 0\r\n",
		"AUTH a\r\nAUTH a b\r\nSELECT 1\r\nSELECT -1\r\nCLIENT KILL ID 1 SKIPME no\r\nCLIENT LIST ID 1 2\r\nCLIENT UNBLOCK 1 ERROR\r\nCLIENT TRACKING ON\r\n",
		"SHUTDOWN\r\nMULTI\r\nDEBUG SLEEP 1\r\nEXEC\r\n", "\x16\x03\x01\x00\x05\x01\r\n", "*2\r\n$3\r\nSET\r\n$2000000\r\nabc",
	} {
		f.Add([]byte(s), uint8(1), uint8(5), false)
		f.Add([]byte(s), uint8(3), uint8(2), true)
	}
	for _, s := range captures.All(f) {
		f.Add(s.Client(), uint8(100), uint8(3), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, x, y uint8, dedicated bool) {
		if len(b) > 16<<10 {
			return
		}
		whole := play(t, b, dedicated, len(b)+1)
		split := play(t, b, dedicated, int(x), int(y))
		if w, s := mask(whole.out), mask(split.out); w != s {
			t.Errorf("%.3000q: whole it gets\n%.3000q, in pieces\n%.3000q", b, w, s)
		}
		if !slices.Equal(whole.executed, split.executed) {
			t.Errorf("%.3000q: whole it has executed\n%.3000q, in pieces\n%.3000q", b, whole.executed, split.executed)
		}
		if whole.closed != split.closed {
			t.Errorf("%q: whole it is closed: %v; in pieces %v", b, whole.closed, split.closed)
		}
		var rp resp.Replies
		for out := []byte(whole.out); len(out) > 0; {
			n, err := rp.Next(out)
			if err != nil || n == 0 {
				t.Fatalf("%q: the client gets %q, which is no reply: %v", b, out, err)
			}
			out = out[n:]
		}
	})
}

// mask hides what CLIENT LIST says of buffers.
func mask(s string) string {
	return regexp.MustCompile(`(qbuf|qbuf-free|omem|tot-mem|argv-mem|multi-mem|oll)=\d+|=\d+\r\ntxt:|\$\d+\r\nid=`).ReplaceAllString(s, "$1")
}

// FuzzPipe lets a master answer anything at all, once in one piece and once in many,
// to commands of all kinds: what their client gets is the same. First says whether
// the bytes stand in place of the answer to the greeting. The master answers nothing
// that it was not asked, pushes aside: who is asked next may depend on the cuts then.
func FuzzPipe(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n$1\r\na\r\n:1\r\n", "-READONLY x\r\n-NOSCRIPT x\r\n-LOADING x\r\n-MOVED x\r\n", "*2\r\n$2\r\n17\r\n*0\r\n", "$2000000\r\nabc",
		"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", ">2\r\n$10\r\ninvalidate\r\n_\r\n+OK\r\n",
		"*-1\r\n*1\r\n+OK\r\n-EXECABORT x\r\n", "HTTP/1.1 400\r\n", "\x15\x03\x01\x00\x02\x02\x46", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
		"%1\r\n+role\r\n+slave\r\n", "*3\r\n$2000000\r\nx", "|1\r\n+a\r\n+b\r\n$1500000\r\nabc",
	} {
		for kind := range uint8(len(pipeScripts)) {
			f.Add([]byte(s), uint8(1), uint8(4), kind, false)
		}
		f.Add([]byte(s), uint8(2), uint8(1), uint8(0), true)
	}
	for i, s := range captures.All(f) {
		f.Add(s.Server(), uint8(90), uint8(3), uint8(i%len(pipeScripts)), false)
		if strings.Contains(s.Name, "resp3") {
			f.Add(s.Server(), uint8(90), uint8(3), uint8(0), true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, x, y, kind uint8, first bool) {
		if len(b) > 16<<10 {
			return
		}
		script := pipeScripts[int(kind)%len(pipeScripts)]
		var turns []int
		whole := answered(t, script, b, first, &turns, len(b)+1)
		split := answered(t, script, b, first, &turns, int(x), int(y))
		if whole != split {
			t.Errorf("%q answered by %.2000q: whole it gets\n%.2000q, in pieces\n%.2000q", script, b, whole, split)
		}
	})
}

// pipeScripts are what a client has asked for when the master's bytes come.
var pipeScripts = [...][]string{
	{"GET a", "SET a 1", "SCAN 0", "EVALSHA 0123456789012345678901234567890123456789 0", "INCR a", "HGETALL h"},
	{"MULTI", "SET a 1", "GET a", "EXEC", "GET b"},
	{"SUBSCRIBE a b", "PSUBSCRIBE c*", "UNSUBSCRIBE", "PING"},
	{"BLPOP a 0", "SET b 1", "XREAD BLOCK 0 STREAMS a $", "GET c"},
	{"HELLO 3", "CLIENT TRACKING ON", "GET a", "SUBSCRIBE x", "GET b"},
	{"WATCH a", "GET a", "MULTI", "INCR a", "EXEC", "WAIT 1 0"},
	{"MONITOR", "FOO bar", "KEYS *", "CLIENT NO-EVICT ON"},
	{"AUTH u p", "SELECT 1", "CLIENT LIST", "CLIENT REPLY SKIP", "GET a", "GET b"},
}

// answered returns what the client of a script gets when its first backend that has
// a command to answer says b, in pieces of the given sizes. The others greet, and
// agree to logins. Turns is how many bytes are said at each turn: as many as answer
// what has arrived, if it is empty, and then it is filled.
func answered(tb testing.TB, script []string, b []byte, first bool, turns *[]int, sizes ...int) string {
	tb.Helper()
	r := serving(tb)
	c := r.client()
	c.send(script...)
	s := speaker{said: *turns}
	var all []*model
	for range 12 {
		r.turn()
		for len(r.dials) > 0 && r.dials[0].p.state != pipeDialing {
			r.dials = r.dials[1:]
		}
		if len(r.dials) > 0 {
			all = append(all, &model{backend: r.accept()})
		}
		for _, m := range all {
			if m != s.model && !m.wire.closed {
				s.listen(m, first)
			}
		}
		if s.model == nil || s.wire.closed {
			continue
		}
		for i, piece := 0, s.next(&b); len(piece) > 0 && !s.wire.closed; i++ {
			n := min(len(piece), max(1, sizes[i%len(sizes)]))
			s.wire.peer(string(piece[:n]))
			piece = piece[n:]
		}
	}
	*turns = s.turns
	return string(c.wire.got)
}

// speaker is the backend that says what the fuzzer wants.
type speaker struct {
	*model // nil: none has been found yet

	owed    int // replies
	replies resp.Replies
	said    []int // bytes to say at each turn; empty: as many as it owes
	turns   []int // bytes said at each turn
}

// listen answers for m as far as it has been asked for nothing but greetings and
// logins; otherwise it is the speaker, if there is none yet.
func (s *speaker) listen(m *model, first bool) {
	for {
		before := m.wire.got
		words := m.next()
		if words == nil || m.wire.closed {
			return
		}
		ours := words[0] == "HELLO" || words[0] == "AUTH" || words[0] == "SELECT" || words[0] == "CLIENT" && len(words) > 1 && words[1] != "TRACKING"
		if s.model == nil && (first || !ours) {
			s.model, m.wire.got = m, before
			return
		}
		m.wire.peer(m.answer(words))
	}
}

// next takes from b what is to be said now.
func (s *speaker) next(b *[]byte) []byte {
	for words := s.model.next(); words != nil; words = s.model.next() {
		switch {
		case words[0] == "HELLO" && len(words) > 1 && words[1] == "3":
			s.proto, s.owed = 3, s.owed+1
		case !strings.HasSuffix(words[0], "SUBSCRIBE"):
			s.owed++
		case s.proto != 3: // else the confirmations are pushes
			s.owed += max(1, len(words)-1)
		}
	}
	n := 0
	if len(s.said) > 0 {
		n, s.said = s.said[0], s.said[1:]
	} else {
		for rest := *b; len(rest) > 0; rest = (*b)[n:] {
			k, err := s.replies.Next(rest)
			if err != nil || k == 0 {
				if s.owed > 0 {
					n = len(*b)
				}
				break
			}
			if rest[0] == '>' && s.proto != 3 {
				*b = (*b)[:n] // Redis says none: whom it would belong to depends on the cuts
				break
			}
			if rest[0] != '>' {
				if s.owed == 0 {
					break
				}
				s.owed--
			}
			n += k
		}
		s.replies = resp.Replies{}
	}
	piece := (*b)[:n]
	*b = (*b)[n:]
	s.turns = append(s.turns, n)
	return piece
}
