package proxy

import (
	"bytes"
	"errors"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The window of one pipe: commands beyond it wait in their sessions.
const (
	windowBytes    = 1 << 20
	windowCommands = 16384
	// windowReplies is how many bytes of replies are asked for at once, by the size of the
	// last ones. Redis answers all that it has read before it sends the first byte: what it
	// has to set aside for one connection should fit its processor's cache.
	windowReplies = 1 << 20
	// leastWindow are the commands that a pipe takes whatever their replies.
	leastWindow = 8
	// repliesSeen is how many replies the size of the last ones is made of, about.
	repliesSeen = 256
)

// pipeState is where a pipe is in its life.
type pipeState uint8

const (
	pipeDialing  pipeState = 1 + iota // no connection yet
	pipeGreeting                      // HELLO and SELECT are under way
	pipeReady                         // carries commands
	pipeRetired                       // finishes what is under way and takes nothing new
	pipeClosed                        // gone; nothing is under way
)

// meta says what an entry of a pipe's queue needs when its reply comes.
type meta uint16

const (
	metaWrite    meta = 1 << iota // a success may be lost with this master
	metaSilent                    // the client asked for no reply (CLIENT REPLY)
	metaInternal                  // ours: the reply goes to a callback, not to a client
	metaStreamed                  // its bytes went out as they came and are not kept
	metaOrder                     // its reply changes the session's mode: session.replied is told
	metaCursor                    // of the SCAN family: its reply has a cursor
	metaTx                        // queued by MULTI, or MULTI itself: repeated from the recording
	metaAgain                     // another connection was lost with it: it may have run already
	metaDropped                   // nobody's any more: its reply is thrown away, see isolate.go
	metaBulk                      // its last reply was large: this one tells whether to expect the next so
	metaHeld                      // it waited for a master
	metaBegun                     // streamed: some of it has gone out
)

// entry is one command that waits for its reply.
type entry struct {
	s    *session // nil: ours, or dropped
	cmd  *command
	n    int32 // bytes in the pipe's buffer
	got  int32 // confirmations seen, of SUBSCRIBE and kin; of a streamed one less those to come
	meta meta
	// When it came, as session.at: 48 bits, so that an entry has no more than 32 bytes.
	cameHigh uint16
	cameLow  uint32
}

// came returns when the command had come, as session.at.
func (e *entry) came() uint64 { return uint64(e.cameHigh)<<32 | uint64(e.cameLow) }

func (e *entry) setCame(at uint64) { e.cameHigh, e.cameLow = uint16(at>>32), uint32(at) }

// pipe is one backend connection: a queue of who waits for which reply, and the
// bytes of every command not yet answered, so that a lost connection can be
// judged command by command. A shared pipe serves all sessions of one identity;
// an own pipe (owner set) serves one session.
//
// It is owned by its worker's loop.
type pipe struct {
	w     *worker
	id    identity
	conn  wire // nil while dialling
	state pipeState
	owner *session // nil: shared
	lane  uint8    // shared: which lane of its identity, see lane.go; 0: none
	// replica says that it leads to a node which is no master of the route, for reads
	// while none is served. Whatever that node becomes, nothing else goes there.
	replica bool

	// The master it belongs to. A pipe never outlives that pair's route.
	addr  topology.Addr
	epoch uint64

	// out holds commands from the oldest unanswered one on: what lies before head is
	// answered, what lies before sent was handed to the kernel.
	out        outbox
	head, sent int

	queue   queue
	replies resp.Replies
	in      []byte  // an incomplete reply
	partial bool    // part of the oldest reply has been passed on, or thrown away, already
	begins  [2]byte // what that reply began with
	refused bool    // own pipes: the transaction on it was refused, so its EXEC cannot run

	waiting  []*session // want to send, but cannot yet
	internal []func(reply []byte)
	sessions int           // that are attached
	idleAt   time.Duration // when its last session left; since boot
	lostAt   time.Duration // when the connection it replaces was lost; 0: it replaces none
	last     bool          // no further greeting is to come
	attempts int
	// busy is what Redis has said to the SELECT of the greeting while a script ran too
	// long, and busyAt when; "" once it is ready: see busy.go.
	busy      string
	busyAt    time.Duration
	busyTold  int  // how often
	selecting bool // the answer to SELECT is due
	info      serverInfo
	name      string // own pipes: the CLIENT SETNAME in force
	dialGen   uint64 // tells a dial that was given up
	run       uint64 // marks the cursors of this connection; 0: not known yet
	asked     bool   // for what run is made of
	slow      bool   // reading rests until the client has taken its replies
	halted    bool   // reading rests until it is known whether the oldest reply may be passed on
	// aimed says that CLIENT UNBLOCK was sent for its call: it may come to be executed when
	// that has ended, and must not end the call of another session.
	aimed bool

	carried     bool          // it was ready once
	openAt      time.Duration // when Redis last let in its identity
	access      uint64        // worker.access when it was asked
	greetAt     time.Duration // when the greeting was sent
	heard, seen uint64        // bytes read in all; as of the watchdog's last look
	gotBytes    int           // of the last replies
	gotReplies  int           // how many they were
	stale       int           // looks in a row at which something was due and nothing came
	trial       *pipe         // looks whether the master answers on a new connection
	trialOf     *pipe         // this pipe is such a trial
	asking      bool          // trials: greeted, and the answer to the question is due

	due   time.Duration // replica: when it must be ready
	quiet time.Duration // replica: since when an answer is due and nothing has come
}

// serverInfo is what HELLO told of the backend.
type serverInfo struct {
	server, version, mode string
	id                    int64
	role                  topology.Role
	modules               []byte // as Redis wrote them
	old                   bool   // before Redis 6: no HELLO, no users
}

// full reports whether a command must wait: the window is used up, or others wait
// for it already, whom nobody that comes now may overtake. With many clients and large
// commands some would otherwise wait for seconds. It is the replies to what is under way
// that let them go on, so a pipe with nothing under way is never full.
func (p *pipe) full() bool {
	return len(p.waiting) > 0 && p.queue.len() > 0 || p.out.end-p.head >= windowBytes || p.queue.len() >= p.window()
}

// window returns how many commands may be under way.
func (p *pipe) window() int {
	if p.gotBytes <= p.gotReplies*(windowReplies/windowCommands) {
		return windowCommands
	}
	return max(leastWindow, p.gotReplies*windowReplies/p.gotBytes)
}

// measure keeps count of the sizes of replies.
func (p *pipe) measure(bytes, replies int) {
	p.gotBytes += bytes
	if p.gotReplies += replies; p.gotReplies > repliesSeen {
		p.gotBytes, p.gotReplies = p.gotBytes/2, p.gotReplies/2
	}
}

// send queues a complete command. The frame is copied, unless it is long and has its
// buffer for itself: then that becomes the pipe's (worker.whole).
func (p *pipe) send(s *session, frame []byte, cmd *command, m meta) {
	if p.replica && s != nil && !cmd.mayBeStale() {
		panic("proxy: " + cmd.name + " on its way to a replica") // see withoutMaster: only reads come here
	}
	if b := p.w.whole; len(frame) > bigBuf/2 && len(frame) == len(b) && &frame[0] == &b[0] {
		p.w.whole = nil
		p.out.adopt(frame)
	} else {
		p.out.add(p.w, frame, p.owner != nil)
	}
	e := entry{s: s, cmd: cmd, n: int32(len(frame)), meta: m}
	if s != nil {
		s.inflight++
		s.weigh(p, len(frame))
		e.setCame(s.at)
	}
	p.queue.push(e)
	p.conn.Flush()
}

// sendInternal queues a command of ours; done gets the reply, or nil if the
// connection ends first. The reply is done's for the call only.
func (p *pipe) sendInternal(frame []byte, done func(reply []byte)) {
	p.internal = append(p.internal, done)
	p.send(nil, frame, nil, metaInternal)
}

// Output hands over what is not sent yet, if the lease still runs.
func (p *pipe) Output(bufs [][]byte) [][]byte {
	if p.sent == p.out.end {
		return bufs
	}
	end := p.out.end
	if p.state != pipeGreeting && !p.replica && !p.w.mayWrite(p) {
		if end = p.begun(); end <= p.sent {
			return bufs
		}
	}
	return p.out.between(bufs, p.sent, end)
}

// begun returns the end of what may be sent while nothing new may: the rest of a
// command of which the kernel has a part, and commands of ours behind it. What remains of
// a large one may be much: it goes out only where its success would be worth something.
func (p *pipe) begun() int {
	pos := p.head
	for i := range p.queue.len() {
		e := p.queue.at(i)
		goesOn := e.meta&metaBegun != 0 && p.w.trusts(p) == trusted
		if pos >= p.sent && !goesOn && (e.s != nil || e.meta&metaDropped != 0) {
			break
		}
		if e.meta&metaStreamed != 0 {
			return p.out.end
		}
		pos += int(e.n)
	}
	return pos
}

// Wrote moves the sent mark, and forgets what need not be kept.
func (p *pipe) Wrote(n int) {
	p.sent += n
	p.w.stats.backendOut += uint64(n)
	streamed := p.queue.len() == 1 && p.queue.front().meta&metaStreamed != 0
	if streamed {
		p.queue.front().meta |= metaBegun
	}
	if streamed || p.queue.len() == 0 {
		p.head = max(p.head, p.sent)
	}
	p.out.forget(p.w, min(p.head, p.sent))
	if streamed && p.owner != nil {
		p.owner.streamDrained(p)
		p.w.pump()
	}
}

// Data takes replies. Each goes to the session that waits for it.
func (p *pipe) Data(b []byte) {
	if p.state == pipeClosed {
		return
	}
	p.heard += uint64(len(b))
	due := p.queue.len()
	p.w.stats.backendIn += uint64(len(b))
	p.receive(b)
	p.measure(len(b), max(0, due-p.queue.len()))
	p.w.pump()
}

func (p *pipe) receive(b []byte) {
	trust := p.w.trusts(p)
	if len(p.in) > 0 {
		if b = p.complete(b, trust); len(p.in) > 0 { // b is in there
			if p.replies.Need() > p.w.sizes.large {
				k := p.passPart(p.in, trust)
				p.keep(p.in[:copy(p.in, p.in[k:])])
			}
			p.makeRoom()
			return
		}
	}
	off := 0
	for p.state != pipeClosed && off < len(b) {
		n, err := p.replies.Next(b[off:])
		if err != nil {
			p.garbled(err)
			return
		}
		if n == 0 {
			break
		}
		p.deliver(b[off:off+n], trust)
		off += n
	}
	if p.state == pipeClosed {
		return
	}
	rest := b[off:]
	if len(rest) > 0 && p.replies.Need() > p.w.sizes.large {
		rest = rest[p.passPart(rest, trust):]
	}
	if len(rest) > 0 {
		p.in = append(p.w.takeBufOf(max(min(p.replies.Need(), p.w.sizes.large), len(rest))+bufSize), rest...)
	}
	p.makeRoom()
}

// Room has the rest of a long reply read to where the beginning is.
func (p *pipe) Room() []byte { return roomBehind(p.in, p.replies.Need()) }

// complete adds to the reply in p.in what it lacks of b, delivers it, and returns what is
// left of b: what comes behind it is then delivered from where it is. While the reply is
// not complete all of b goes to p.in.
func (p *pipe) complete(b []byte, t trust) []byte {
	old := len(p.in)
	for took := 0; took < len(b); {
		k := min(len(b)-took, max(p.replies.Need()-len(p.in), bufSize))
		p.in = joined(p.in, b[took:took+k])
		took += k
		n, err := p.replies.Next(p.in)
		switch {
		case err != nil:
			p.garbled(err)
			return nil
		case n > 0:
			in := p.in
			p.in, p.w.lent = nil, in
			p.deliver(in[:n], t)
			if p.w.lent != nil {
				p.w.giveBuf(in)
				p.w.lent = nil
			}
			return b[n-old:]
		}
	}
	return nil
}

// keep says that in is what is left of the reply under way.
func (p *pipe) keep(in []byte) {
	if p.in = in; len(in) == 0 {
		p.w.giveBuf(in)
		p.in = nil
	}
}

// garbled ends a pipe whose backend does not speak the protocol.
func (p *pipe) garbled(err error) {
	p.w.log.Error("backend does not speak the protocol", "addr", p.addr, "err", err)
	p.lost(err)
}

// makeRoom lets sessions go on that wait for the window, and closes a retired
// pipe that has delivered its last reply.
func (p *pipe) makeRoom() {
	switch {
	case p.state == pipeRetired && p.queue.len() == 0 && !p.partial:
		p.end()
	case len(p.waiting) > 0 && p.state == pipeReady &&
		p.queue.len() <= p.window()/2 && p.out.end-p.head < windowBytes/2:
		p.w.wakeAll(p)
	}
}

// deliver gives one complete reply to whom it belongs.
func (p *pipe) deliver(reply []byte, t trust) {
	whole := !p.partial // else it is the end of a reply and may begin with anything
	if whole && p.owner != nil && (p.owner.takesMore(p, reply) || p.owner.takesFrame(p, reply)) {
		return
	}
	if p.queue.len() == 0 || whole && reply[0] == '>' {
		p.unasked(reply)
		return
	}
	e := p.queue.pop()
	s := e.s
	if e.meta&metaDropped != 0 {
		p.partial = false
		p.release(&e)
		return
	}
	if e.meta&metaBulk != 0 && whole {
		p.w.bulk.remove(e.cmd, p.frame(&e))
		s.foundSmall(e.cmd)
	}
	if e.meta&metaCursor != 0 && whole {
		if head, n := p.markReply(reply); n > 0 {
			reply = append(head, reply[n:]...)
		}
	}
	if p.replica {
		if s != nil {
			reply = p.fromReplica(reply, whole)
		}
	} else if s != nil && (reply[0] == '-' || len(s.parked) > 0) && !s.closed && whole {
		if s.refused(p, e, p.frame(&e), reply) {
			if p.state == pipeClosed {
				return // given up, and e judged with the rest
			}
			s.inflight--
			p.release(&e)
			s.settle(p)
			return
		}
		if e.meta&metaAgain != 0 && refusalOf(reply) != refusedNot {
			s.w.stats.uncertain++
			reply = uncertainty(e.cmd, errRefusedAgain)
		}
	}
	if s != nil && e.cmd == p.w.cmds.unknown && (!whole || reply[0] != '-') && e.meta&metaTx == 0 && !s.closed {
		s.doubt(p.frame(&e))
	}
	switch {
	case s == nil, s.closed:
	case !whole:
		p.w.ended(p, &e, p.frame(&e), kindOf(p.begins[:]))
	case t == trusted || !s.withholds(&e, reply, t):
		p.w.ended(p, &e, p.frame(&e), kindOf(reply))
	}
	p.release(&e)
	if s == nil {
		done := p.internal[0]
		p.internal = p.internal[1:]
		done(reply)
		return
	}
	if e.cmd.admits {
		p.w.access.Add(1)
	}
	s.inflight--
	p.partial = false
	if s.closed {
		return
	}
	if !whole {
		if e.cmd == s.large {
			s.largeLeft = largeFor
		}
		switch {
		case e.meta&metaSilent != 0:
		case t == doubted && e.meta&metaWrite != 0:
			s.cutMidReply(e.cmd)
		default:
			s.reply(reply)
		}
		if e.meta&metaOrder != 0 {
			s.replied(p, e, p.begins[:])
		}
		s.after(p)
		return
	}
	switch {
	case e.meta&metaOrder != 0 && s.tx.replies && t == trusted && s.replyInParts(&e, reply):
	case e.meta&metaSilent != 0:
	case t != trusted && s.withholds(&e, reply, t):
		s.withhold(p, &e, reply, t)
	default:
		s.reply(reply)
	}
	if e.meta&metaOrder != 0 {
		s.replied(p, e, reply)
	}
	if e.meta&metaStreamed != 0 && s.stream == streamOn {
		s.end() // refused before its end was there: Redis closes such a connection
		return
	}
	if s.due > 0 && t != trusted { // it may not be told apart from what is withheld
		s.cutMidReply(e.cmd)
		return
	}
	if p.owner == s {
		p.rest(s)
	}
	s.after(p)
}

// frame returns the bytes of e, which is the oldest command.
func (p *pipe) frame(e *entry) []byte { return p.out.at(p.head, int(e.n)) }

// release forgets the bytes of e, which was the oldest command and is answered, as far as
// they were sent: a node may answer what it was never asked.
func (p *pipe) release(e *entry) {
	p.head += int(e.n)
	if e.meta&metaStreamed != 0 && p.queue.len() == 0 {
		p.head = p.out.end
	}
	p.out.forget(p.w, min(p.head, p.sent))
}

var errUnasked = errors.New("a reply came that nobody had asked for")

// unasked takes what no command asked for: pushes for an owner, and the error
// with which Redis greets one client too many. Anything else on a shared connection, or
// one that waits for its next owner, means that replies and commands are out of step: it
// must serve nobody any more.
func (p *pipe) unasked(reply []byte) {
	if p.owner != nil && !p.owner.closed {
		p.owner.reply(p.owner.redirectBroken(reply))
		p.rest(p.owner)
		return
	}
	if reply[0] == '-' {
		p.w.log.Warn("backend closes a connection", "addr", p.addr, "reply", trimLine(reply))
	}
	if reply[0] != '>' && p.owner == nil {
		p.lost(errUnasked)
	}
}

// EOF means that Redis closed the connection.
func (p *pipe) EOF() {
	p.lost(errBackendClosed)
	p.w.pump()
}

// Closed is the end of the connection, however it came.
func (p *pipe) Closed(err error) {
	p.lost(err)
	p.w.pump()
}

// retire has the pipe take nothing new. Sessions with nothing under way on it
// find another pipe; it closes when its last reply is delivered.
func (p *pipe) retire() {
	p.state = pipeRetired
	p.w.forget(p)
	p.w.wakeAll(p)
	if p.lane == 0 && p.w.serves(p) && p.w.laned(p.id) {
		p.w.sharedPipe(p.id)
	}
}

// lost ends the pipe after its connection broke, and judges what was under way.
func (p *pipe) lost(err error) {
	if p.state == pipeClosed {
		return
	}
	p.end()
	p.judge(lossOf(err))
	p.w.pipeLost(p, err)
}

// abandon ends a pipe whose master is no longer the route's. Nothing more of
// ours reaches that master, and nothing of what it still says reaches a client.
func (p *pipe) abandon() {
	if p.state == pipeClosed {
		return
	}
	p.end()
	p.judge("the master was replaced before it answered")
	p.w.wakeAll(p)
}

func (p *pipe) end() {
	p.state = pipeClosed
	p.dialGen++
	if p.conn != nil {
		p.conn.Abort()
	}
	p.w.forget(p)
	if p.trial != nil {
		p.w.endTrial(p.trial)
	}
	if p.in != nil {
		p.w.giveBuf(p.in)
		p.in = nil
	}
	internal := p.internal
	p.internal = nil // done may end the pipe again
	for _, done := range internal {
		done(nil)
	}
}

// pullBack takes complete unsent commands out of a pipe and gives them
// back to their sessions, in order. A command of which a part is sent stays: its
// rest must follow. An own pipe whose session is in some mode keeps its commands:
// Output holds them back.
func (p *pipe) pullBack() {
	if p.sent == p.out.end || p.state == pipeGreeting || p.owner != nil && !p.owner.plain() {
		return
	}
	pos, keep := p.head, 0
	for keep < p.queue.len() && pos < p.sent {
		pos += int(p.queue.at(keep).n)
		keep++
	}
	var backs []*session
	var ours [][]byte
	end, kept := pos, keep
	for i := keep; i < p.queue.len(); i++ {
		e := *p.queue.at(i)
		frame := p.out.at(pos, int(e.n))
		pos += int(e.n)
		if e.s == nil { // ours, such as a login check: it stays, held back by Output
			ours = append(ours, bytes.Clone(frame))
			*p.queue.at(kept) = e
			kept++
			continue
		}
		e.s.inflight--
		if e.s.closed {
			continue
		}
		if e.cmd.class == classSticky {
			e.s.stickyCalls--
		}
		frame = e.s.unsettled(&e, frame)
		if len(e.s.pulled) == 0 {
			backs = append(backs, e.s)
		}
		if e.meta&metaCursor != 0 {
			frame = p.mark(frame, e.cmd)
		}
		e.s.pull(&e, frame, false)
	}
	p.queue.truncate(kept)
	p.out.cut(p.w, end)
	for _, frame := range ours {
		p.out.add(p.w, frame, p.owner != nil)
	}
	for _, s := range backs {
		s.takeBack(resendUnsent)
	}
}

// trimLine returns the text of a one-line reply.
func trimLine(b []byte) string {
	for i, c := range b {
		if c == '\r' {
			return string(b[1:i])
		}
	}
	return string(b)
}
