package proxy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// TestSimulation plays random traffic against model masters, with connections
// that break, bytes that come in pieces, and routes that change. It checks that
// every client gets exactly one reply for each command, in order and its own;
// that a write runs twice on one timeline only if the retry mode allows it, and
// that nobody can tell then; that an acknowledged write is on the timeline of the
// master; that nobody gets a connection on which another client tracks; that held
// commands are accounted for; and that each reply is counted once, as its command's. With outage policies also that
// nothing but reads ever reaches a replica, which is dialled by one at a time, that no
// answer is made up while a master serves, and that nobody waits once the route is
// down.
func TestSimulation(t *testing.T) {
	runs := 1500
	if testing.Short() {
		runs = 50
	}
	first := uint64(1)
	if s := os.Getenv("SIM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, runs = n, 1
	}
	for seed := first; seed < first+uint64(runs); seed++ {
		if !t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { simulate(t, seed) }) {
			t.Fatalf("SIM_SEED=%d repeats it", seed)
		}
	}
}

// sim is one simulation.
type sim struct {
	t        *testing.T
	r        *rig
	rnd      *rand.Rand
	clients  []*simClient
	links    []*simLink
	timeline map[topology.Addr]*timeline
	master   topology.Addr
	epoch    uint64

	bulky   bool              // replies and commands may be large, and clients slow to read
	soft    bool              // some reads are answered stale or as missing
	told    map[string]*tally // by command: replies, and errors among them
	tracked map[string]bool   // what CLIENT TRACKING was accepted, by tag
	served  bool              // a master was served at the last check
	madeUp  uint64            // answers made up until then
}

// timeline is the history of one master: which writes it has executed. A node
// that is promoted begins a new one with what its predecessor had.
type timeline struct {
	done     map[string]int
	values   map[string]string
	readOnly bool
}

// simClient is a client and what it waits for.
type simClient struct {
	*fakeClient

	id      int
	n       int
	asked   []asked
	inTx    bool
	noTx    bool // MULTI was answered with an error, so EXEC may be too
	replies resp.Replies
	// holds has what each key of this client may hold, as far as it can know. Nobody
	// else writes to them.
	holds map[string]map[string]bool
}

// asked is a command that waits for its reply: arg is its tag, key and from the
// keys it names.
type asked struct{ name, arg, key, from string }

// simLink is one backend connection and the model server's end of it.
type simLink struct {
	*backend

	out    []byte // replies that are not delivered yet
	tx     []string
	inTx   bool
	bad    bool // a queued command was refused
	closed bool

	replica bool // the proxy takes it for one
	hung    bool // it answers no more

	tracks string // the id of the client that has CLIENT TRACKING on there; "": none
}

func simulate(t *testing.T, seed uint64) {
	t.Helper()
	s := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), r: newRig(t), timeline: map[topology.Addr]*timeline{},
		master: nodeA, epoch: 1, told: map[string]*tally{}, tracked: map[string]bool{},
	}
	s.timeline[nodeA] = &timeline{done: map[string]int{}, values: map[string]string{}}
	s.r.w.opts.RetryWrites = RetryMode(seed % 3)
	s.timeline[nodeC] = &timeline{done: map[string]int{}, values: map[string]string{}}
	if n := seed / 3 % 4; n > 0 {
		after := [...]string{"", "0s", "40ms", "2s"}[s.rnd.IntN(4)]
		rules := [...][]string{nil, {"GET:*-k0=nil", "read:*-k1=stale"}, {"read=stale"}, {"GET=nil"}}[n]
		s.soft = true
		s.r.w.setOutage(outagePolicy(t, after, rules...))
	}
	if s.bulky = seed%4 == 0; s.bulky {
		s.r.w.sizes = sizes{large: 60 + s.rnd.IntN(100), query: 4000, mark: 200, crowd: 500}
		s.r.w.sizes.setAlarm()
	}
	s.r.w.sizes.much = [...]int{muchMark, 1, 100}[seed%3]
	s.r.serve(nodeA, 1)
	for i := range 1 + s.rnd.IntN(5) {
		s.clients = append(s.clients, &simClient{fakeClient: s.r.client(), id: i, holds: map[string]map[string]bool{}})
	}
	for range 200 {
		s.step()
		s.check()
	}
	s.settle()
}

// step does one random thing.
func (s *sim) step() {
	switch n := s.rnd.IntN(100); {
	case n < 35:
		s.send(s.clients[s.rnd.IntN(len(s.clients))])
	case n < 60:
		s.serve(1 + s.rnd.IntN(40))
	case n < 70:
		if len(s.r.dials) > 0 {
			s.connect()
		}
	case n < 74:
		if l := s.anyLink(); l != nil {
			s.r.turn()
			l.closed = true
			l.wire.peerReset()
		}
	case n < 80:
		if l := s.anyLink(); l != nil {
			l.wire.limit, l.wire.blocked = 1+s.rnd.IntN(60), false
		}
	case n < 82 && s.bulky:
		c := s.clients[s.rnd.IntN(len(s.clients))].wire
		c.limit, c.blocked = 1+s.rnd.IntN(600), false
	case n < 85:
		for _, c := range s.clients {
			if !c.wire.closed {
				c.wire.unblock(0)
			}
		}
		for _, l := range s.links {
			if !l.wire.closed {
				l.wire.unblock(0)
			}
		}
	case n < 88:
		s.r.hold(func(rt *topology.Route) {
			rt.Doubt, rt.Suspect = s.rnd.IntN(2) == 0, s.rnd.IntN(4) == 0
			if s.soft {
				s.outage(rt)
			}
		})
	case n < 93:
		s.r.serve(s.master, s.epoch)
	case n < 95:
		s.failover()
	case n < 97:
		s.timeline[s.master].readOnly = true // somebody demoted it, or its replicas are gone
	default:
		s.r.advance(time.Duration(s.rnd.IntN(1500)) * time.Millisecond)
	}
	s.r.turn()
}

// outage has a route name replicas, and sometimes the circuit open.
func (s *sim) outage(rt *topology.Route) {
	for _, a := range []topology.Addr{nodeA, nodeB, nodeC} {
		if a != s.master && s.rnd.IntN(3) > 0 {
			rt.Replicas = append(rt.Replicas, a)
		}
	}
	if s.rnd.IntN(3) == 0 {
		rt.State = topology.Down
	}
}

func (s *sim) anyLink() *simLink {
	var open []*simLink
	for _, l := range s.links {
		if !l.wire.closed {
			open = append(open, l)
		}
	}
	s.links = open
	if len(open) == 0 {
		return nil
	}
	return open[s.rnd.IntN(len(open))]
}

// failover has the other node take over, with all that the old one has done.
func (s *sim) failover() {
	old := s.timeline[s.master]
	old.readOnly = true
	s.master, s.epoch = map[topology.Addr]topology.Addr{nodeA: nodeB, nodeB: nodeA}[s.master], s.epoch+1
	next := &timeline{done: maps.Clone(old.done), values: maps.Clone(old.values)}
	s.timeline[s.master] = next
	s.r.serve(s.master, s.epoch)
}

func (s *sim) connect() {
	for len(s.r.dials) > 0 && s.r.dials[0].p.state != pipeDialing {
		s.r.dials = s.r.dials[1:]
	}
	if len(s.r.dials) == 0 {
		return
	}
	if s.rnd.IntN(5) == 0 {
		d := s.r.dials[0]
		s.r.dials = s.r.dials[1:]
		d.done(nil, errReset)
		return
	}
	l := &simLink{backend: s.r.accept()}
	l.replica = l.wire.h.(*pipe).replica
	s.links = append(s.links, l)
}

// send has a client send a few commands, in pieces.
func (s *sim) send(c *simClient) {
	var b []byte
	for range 1 + s.rnd.IntN(6) {
		c.n++
		tag := fmt.Sprintf("%d-%d", c.id, c.n)
		if s.bulky && s.rnd.IntN(10) == 0 {
			tag += strings.Repeat("z", 200)
		}
		name := [...]string{
			"GET", "GET", "INCR", "INCR", "INCR", "ECHO", "BLPOP", "KEYS", "WAIT", "MULTI", "EXEC", "CLIENT",
			"SET", "SET", "SET", "READ", "READ", "COPY", "TRACK", "RESET",
		}[s.rnd.IntN(20)]
		switch {
		case name == "MULTI" && c.inTx, name == "EXEC" && !c.inTx, c.inTx && name != "GET" && name != "INCR" && name != "EXEC":
			name = "GET"
		}
		c.inTx = name == "MULTI" || c.inTx && name != "EXEC"
		words := []string{name, tag}
		key, from := fmt.Sprintf("%d-k%d", c.id, s.rnd.IntN(3)), fmt.Sprintf("%d-k%d", c.id, 3+s.rnd.IntN(2))
		switch name {
		case "SET":
			words = []string{name, key, tag}
		case "READ":
			words = []string{"GET", key}
		case "COPY": // BITOP AND copies a key onto another
			key, from = from, key
			words = []string{"BITOP", "AND", key, from}
		case "MULTI", "EXEC", "RESET":
			words = words[:1]
		case "TRACK":
			tag = strings.TrimRight(tag, "z")
			words = []string{"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", tag}
		case "BLPOP":
			words = append(words, "1")
		case "WAIT":
			words = []string{name, "0", "100"}
		case "CLIENT":
			tag = strings.TrimRight(tag, "z") // such a name would be refused
			words = []string{name, "SETNAME", tag}
		}
		b = resp.AppendCommand(b, words...)
		c.asked = append(c.asked, asked{name, tag, key, from})
	}
	for len(b) > 0 && !c.wire.closed {
		n := len(b)
		if s.rnd.IntN(2) == 0 {
			n = 1 + s.rnd.IntN(n)
		}
		c.wire.peer(string(b[:n]))
		b = b[n:]
	}
}

// serve has the model servers execute what has arrived, and deliver up to n bytes.
func (s *sim) serve(n int) {
	l := s.anyLink()
	if l == nil {
		return
	}
	for words := l.next(); words != nil; words = l.next() {
		l.out = append(l.out, s.execute(l, words)...)
	}
	n = min(n, len(l.out))
	if n > 0 && !l.wire.paused {
		piece := string(l.out[:n])
		l.out = l.out[n:]
		l.wire.peer(piece)
	}
}

// read answers as a replica, which gets nothing but reads whatever else happens.
func (s *sim) read(l *simLink, w []string) string {
	switch w[0] {
	case "HELLO":
		switch s.rnd.IntN(6) {
		case 0:
			return "-LOADING Redis is loading the dataset in memory\r\n"
		case 1:
			return helloMaster // it was promoted
		}
		return helloReplica
	case "GET":
		switch s.rnd.IntN(8) {
		case 0:
			return "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"
		case 1:
			l.hung = true
		}
		if l.hung {
			return ""
		}
		if strings.Contains(w[1], "k") {
			return "$5\r\nstale\r\n"
		}
		return "$" + strconv.Itoa(len(w[1])) + "\r\n" + w[1] + "\r\n"
	}
	s.t.Errorf("%v reached a replica, %s", w, l.addr)
	return "-ERR\r\n"
}

func (s *sim) execute(l *simLink, w []string) string {
	if os.Getenv("SIM_SEED") != "" && l.replica {
		s.t.Logf("%v %s (replica): %v", s.r.at, l.addr, w)
	}
	if l.replica {
		return s.read(l, w)
	}
	tl := s.timeline[l.addr]
	run := func(w []string) string {
		switch w[0] {
		case "INCR":
			tl.done[w[1]]++
			if tl.done[w[1]] > 1 && s.r.w.opts.RetryWrites != RetryAlways {
				s.t.Errorf("%s was executed twice by %s", w[1], l.addr)
			}
			return "$" + strconv.Itoa(len(w[1])) + "\r\n" + w[1] + "\r\n"
		case "SET":
			tl.done[w[2]]++
			if tl.done[w[2]] > 1 && s.r.w.opts.RetryWrites == RetryNever {
				s.t.Errorf("SET %s was executed twice by %s", w[2], l.addr)
			}
			tl.values[w[1]] = w[2]
			return "+OK\r\n"
		case "BITOP":
			tl.values[w[2]] = tl.values[w[3]]
			return ":" + strconv.Itoa(len(tl.values[w[3]])) + "\r\n"
		case "GET", "ECHO":
			if strings.Contains(w[1], "k") {
				return "$" + strconv.Itoa(len(tl.values[w[1]])) + "\r\n" + tl.values[w[1]] + "\r\n"
			}
			v := w[1]
			if s.bulky && s.rnd.IntN(4) == 0 {
				v += strings.Repeat("y", 400)
			}
			return "$" + strconv.Itoa(len(v)) + "\r\n" + v + "\r\n"
		case "BLPOP", "KEYS":
			return "*1\r\n$" + strconv.Itoa(len(w[1])) + "\r\n" + w[1] + "\r\n"
		case "WAIT":
			return ":0\r\n"
		case "PING":
			return "+PONG\r\n"
		}
		return "+OK\r\n"
	}
	switch w[0] {
	case "GET", "INCR", "ECHO", "BLPOP", "KEYS", "SET":
		if id, _, _ := strings.Cut(w[1], "-"); l.tracks != "" && id != l.tracks {
			s.t.Errorf("client %s has the connection on which client %s tracks", id, l.tracks)
		}
	}
	write := w[0] == "INCR" || w[0] == "BLPOP" || w[0] == "SET" || w[0] == "BITOP"
	if os.Getenv("SIM_SEED") != "" {
		s.t.Logf("%v %s (read only %v): %v", s.r.at, l.addr, tl.readOnly, w)
	}
	switch {
	case w[0] == "HELLO":
		if s.rnd.IntN(8) == 0 {
			return "-LOADING Redis is loading the dataset in memory\r\n"
		}
		return helloMaster
	case w[0] == "RESET":
		l.tracks, l.inTx = "", false
		return "+RESET\r\n"
	case w[0] == "CLIENT" && w[1] == "TRACKING":
		switch n := s.rnd.IntN(5); {
		case s.tracked[w[5]]: // who is refused what it had is cut off: another test
		case n == 0:
			return "-ERR not now\r\n"
		case n == 1:
			return "-LOADING Redis is loading the dataset in memory\r\n"
		}
		s.tracked[w[5]] = true
		l.tracks, _, _ = strings.Cut(w[5], "-")
		return "+OK\r\n"
	case w[0] == "MULTI":
		l.inTx, l.tx, l.bad = true, nil, false
		return "+OK\r\n"
	case w[0] == "DISCARD":
		l.inTx = false
		return "+OK\r\n"
	case w[0] == "EXEC" && !l.inTx:
		return "-ERR EXEC without MULTI\r\n"
	case w[0] == "EXEC":
		l.inTx = false
		if l.bad {
			return "-EXECABORT Transaction discarded because of previous errors.\r\n"
		}
		if tl.readOnly && len(l.tx) > 0 {
			return "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n"
		}
		out := "*" + strconv.Itoa(len(l.tx)) + "\r\n"
		for _, q := range l.tx {
			out += run(strings.Fields(q))
		}
		return out
	case write && tl.readOnly:
		l.bad = l.inTx
		if s.rnd.IntN(3) == 0 {
			tl.readOnly = false
		}
		return readOnly
	case l.inTx:
		l.tx = append(l.tx, strings.Join(w, " "))
		return "+QUEUED\r\n"
	}
	return run(w)
}

// check reads what the clients got: each reply must be one that its command can
// have.
func (s *sim) check() {
	s.t.Helper()
	for _, c := range s.clients {
		for len(c.wire.got) > 0 {
			n, err := c.replies.Next(c.wire.got)
			if err != nil {
				s.t.Fatalf("client %d got %q: %v", c.id, c.wire.got, err)
			}
			if n == 0 {
				break
			}
			reply := string(c.wire.got[:n])
			c.wire.got = c.wire.got[n:]
			if len(c.asked) == 0 {
				s.t.Fatalf("client %d got %q and has asked for nothing", c.id, reply)
			}
			a := c.asked[0]
			if os.Getenv("SIM_SEED") != "" {
				s.t.Logf("%v client %d: %s %s -> %q", s.r.at, c.id, a.name, a.arg, reply)
			}
			c.asked = c.asked[1:]
			s.count(a.name, reply)
			if a.name == "MULTI" {
				c.noTx = reply[0] == '-'
			}
			soft := s.soft && a.mayBeSoft(reply)
			if !a.fits(reply) && !soft && (a.name != "EXEC" || !c.noTx || reply != "-ERR EXEC without MULTI\r\n") {
				s.t.Fatalf("client %d got %q for %s %s", c.id, reply, a.name, a.arg)
			}
			if !soft {
				c.learn(s.t, a, reply, s.r.w.opts.RetryWrites)
			}
			if a.name == "INCR" && reply[0] == '$' && s.timeline[s.master].done[a.arg] == 0 {
				s.t.Fatalf("client %d: %s was acknowledged and is lost", c.id, a.arg)
			}
		}
	}
	w := &s.r.w.stats
	if made := w.outageReplies[outage.Nil]; made != s.madeUp && s.served && s.r.w.serving {
		s.t.Fatalf("%d answers were made up while a master served", made-s.madeUp)
	}
	s.served, s.madeUp = s.r.w.serving, w.outageReplies[outage.Nil]
	dialling := map[identity]int{}
	for _, d := range s.r.dials {
		if d.p.replica && d.p.state == pipeDialing {
			if dialling[d.p.id]++; dialling[d.p.id] > 1 {
				s.t.Fatalf("%d dials to replicas at once for one login", dialling[d.p.id])
			}
		}
	}
	for _, c := range s.clients {
		if len(c.asked) > 0 && s.r.w.route.State == topology.Down && !c.wire.closed && c.s.inflight == 0 && c.s.wait != waitPipe && c.s.pending() == 0 {
			s.t.Fatalf("client %d waits for %v though the route is down; wait %d", c.id, c.asked, c.s.wait)
		}
	}
	left := uint64(0)
	for _, sess := range s.r.w.sessions {
		left += uint64(sess.heldLeft)
	}
	if w.held != w.heldSent+w.heldFailed+w.heldPolicy+w.heldGone+left {
		s.t.Fatalf("held %d != sent %d + failed %d + policy %d + gone %d + waiting %d", w.held, w.heldSent, w.heldFailed, w.heldPolicy, w.heldGone, left)
	}
}

// count counts a reply as its client does.
func (s *sim) count(name, reply string) {
	switch name {
	case "READ":
		name = "GET"
	case "COPY":
		name = "BITOP"
	case "CLIENT":
		name = "CLIENT|SETNAME"
	case "TRACK":
		name = "CLIENT|TRACKING"
	}
	if s.told[name] == nil {
		s.told[name] = &tally{}
	}
	s.told[name].cells[0]++
	if reply[0] == '-' {
		s.told[name].errors++
	}
}

// checkCounted wants each reply to have been counted as its command's, once.
func (s *sim) checkCounted() {
	for _, c := range s.clients {
		if c.wire.closed {
			return // what it was told may not have reached it
		}
	}
	var errors uint64
	for _, n := range s.r.w.stats.errors {
		errors += n
	}
	for _, t := range s.r.w.tallies {
		if t == nil {
			continue
		}
		told := s.told[t.cmd.name]
		if told == nil {
			told = &tally{}
		}
		delete(s.told, t.cmd.name)
		if t.count() != told.count() || t.errors != told.errors {
			s.t.Errorf("%s: counted %d, of them %d errors; clients got %d, %d", t.cmd.name, t.count(), t.errors, told.count(), told.errors)
		}
		errors -= t.errors
	}
	for name, told := range s.told {
		s.t.Errorf("%s: nothing counted; clients got %d", name, told.count())
	}
	if errors != 0 {
		s.t.Errorf("errors by word and by command differ by %d", int64(errors))
	}
}

// learn keeps up with what the client's keys may hold. A value that it wrote only
// later, or that an acknowledged write has replaced, must not show.
func (c *simClient) learn(t *testing.T, a asked, reply string, mode RetryMode) {
	t.Helper()
	may := func(key string) map[string]bool {
		if c.holds[key] == nil {
			c.holds[key] = map[string]bool{"": true}
		}
		return c.holds[key]
	}
	executed := reply[0] != '-'
	perhaps := strings.HasPrefix(reply, "-UNCERTAIN")
	switch {
	case reply == "+QUEUED\r\n", !executed && !perhaps:
	case a.name == "SET" && executed:
		c.holds[a.key] = map[string]bool{a.arg: true}
	case a.name == "SET":
		may(a.key)[a.arg] = true
	case a.name == "COPY" && executed:
		c.holds[a.key] = maps.Clone(may(a.from))
	case a.name == "COPY":
		maps.Copy(may(a.key), may(a.from))
	case a.name == "READ" && executed:
		_, value, _ := strings.Cut(strings.TrimSuffix(reply, "\r\n"), "\r\n")
		if !may(a.key)[value] && mode != RetryAlways {
			t.Fatalf("client %d read %q from %s; it can hold %v", c.id, value, a.key, c.holds[a.key])
		}
		c.holds[a.key] = map[string]bool{value: true}
	}
}

// mayBeSoft reports whether an outage policy can have given this reply.
func (a asked) mayBeSoft(reply string) bool {
	return (a.name == "GET" || a.name == "READ") && (reply == "$-1\r\n" || reply == "$5\r\nstale\r\n")
}

func (a asked) fits(reply string) bool {
	if reply[0] == '-' {
		switch code, _, _ := strings.Cut(reply[1:], " "); code {
		case "UNCERTAIN", "MASTERDOWN":
			return true
		case "READONLY":
			return a.name == "INCR" || a.name == "BLPOP" || a.name == "SET" || a.name == "COPY"
		case "EXECABORT":
			return a.name == "EXEC" || a.name == "INCR" || a.name == "GET"
		case "ERR", "LOADING":
			return a.name == "TRACK"
		}
		return false
	}
	switch a.name {
	case "GET", "ECHO":
		_, body, _ := strings.Cut(reply, "\r\n")
		return strings.TrimRight(strings.TrimSuffix(body, "\r\n"), "y") == a.arg || reply == "+QUEUED\r\n"
	case "INCR":
		return reply == "$"+strconv.Itoa(len(a.arg))+"\r\n"+a.arg+"\r\n" || reply == "+QUEUED\r\n"
	case "BLPOP", "KEYS":
		return strings.HasSuffix(reply, "\r\n"+a.arg+"\r\n")
	case "WAIT", "COPY":
		return reply[0] == ':'
	case "READ":
		return reply[0] == '$'
	case "EXEC":
		return reply[0] == '*'
	case "RESET":
		return reply == "+RESET\r\n"
	}
	return reply == "+OK\r\n"
}

// settle lets everything come to an end and wants every command answered.
func (s *sim) settle() {
	s.timeline[s.master].readOnly = false
	s.r.serve(s.master, s.epoch)
	for range 500 {
		for _, c := range s.clients {
			if !c.wire.closed {
				c.wire.unblock(0)
			}
		}
		s.timeline[s.master].readOnly = false
		s.connect()
		for _, l := range s.links {
			if !l.wire.closed && (l.wire.blocked || l.wire.limit > 0) {
				l.wire.unblock(0)
			}
		}
		s.serve(1 << 20)
		s.r.advance(20 * time.Millisecond)
		s.check()
	}
	for _, c := range s.clients {
		if len(c.asked) > 0 && !c.wire.closed {
			s.t.Errorf("client %d never got replies for %v; wait %d, in flight %d, %q to do",
				c.id, c.asked, c.s.wait, c.s.inflight, c.s.in)
		}
		if c.s.inflight != 0 {
			s.t.Errorf("client %d: %d commands in flight", c.id, c.s.inflight)
		}
	}
	s.checkCounted()
}
