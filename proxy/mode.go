package proxy

import (
	"bytes"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// mode is the part of a session that a plain client never touches: what makes it
// need a pipe of its own, and what must be set up again when that pipe is lost.
type mode struct {
	replyOff, replySkip bool   // CLIENT REPLY OFF, SKIP
	name                string // CLIENT SETNAME
	libName, libVer     string // CLIENT SETINFO

	sticky bool // keeps its own pipe until RESET
	target bool // others have redirected their CLIENT TRACKING to its own pipe
	broken bool // Redis has told that its own CLIENT TRACKING goes to a client that is gone
	// stickyCalls counts commands under way that make it so unless they fail: one
	// that Redis does not know has changed nothing.
	stickyCalls int
	// doubts are the heads of commands that nobody knows, which keep the own pipe until
	// the master has told what they are: see learn.go.
	doubts []string
	setup  [][]byte // commands that a new own pipe must repeat, such as CLIENT TRACKING ON
	// unsure is how many of them, the last ones, Redis has not answered yet.
	unsure int

	tx        transaction
	watching  bool // WATCH is in force
	watchLost bool // and its connection was lost: EXEC answers nil
	blocking  bool // a call that needs a pipe for itself is under way
	blockedAt time.Duration
	unblocked bool // we have asked Redis to end the call

	due      int  // what EXEC still answers, behind its reply: see queued.go
	dueMuted bool // and nobody wants it

	subs       map[subscription]struct{}
	subCalls   int // SUBSCRIBE and kin under way
	subBytes   int // in the names of subs
	restoreSub int // confirmations of our own SUBSCRIBEs to swallow
	// forgot says that there is more state than setup and subs hold. A connection that
	// has it is kept, and one that was lost cannot be had again: the client is cut off.
	forgot bool

	stream    streamState
	streamErr string // what to answer when a broken stream has been read to its end

	lostOwn bool   // the own pipe was lost: the next one must be restored
	cutPipe *pipe  // it, if Redis closed it; nil as soon as that may have had to do with a failover
	expired bool   // what was held has waited long enough
	refusal string // Redis' words, when the login of a pipe we waited for failed
}

// transaction records what follows MULTI, so that it can be repeated on a new
// master before EXEC was handed over (DESIGN.md, "MULTI pins and records").
type transaction struct {
	active   bool
	log      []byte // MULTI and what was queued, as it was sent
	frames   []int  // the length of each command in log
	unkept   int    // commands behind those, which are not in log
	answered int    // of all of them; their replies have reached the client
	pulled   int    // of all of them, where none is answered: those that were pulled back
	aborted  bool   // EXEC must fail: the recording no longer matches what the client was told
	refused  bool   // EXEC must fail: one of its commands was refused here
	ending   bool   // EXEC or DISCARD is under way
	flushes  bool   // SCRIPT FLUSH is among them
	admits   bool   // what may change whom Redis lets in is among them
	replies  bool   // CLIENT REPLY is among them
	void     bool   // MULTI was refused: what is under way behind it is not queued
	effects  []queuedEffect
	// lostEffect says that a command behind those in effects changes its connection too.
	lostEffect bool
	unqueued   []int // places of commands that were refused, such as another MULTI
	notQueued  int   // how many they are, also past maxUnqueued
}

// txLogLimit bounds a recording; a longer transaction is aborted if its
// connection is lost.
const txLogLimit = 1 << 20

// maxUnqueued bounds what is remembered of refused commands: any but MULTI has EXEC
// fail, so that more do not matter.
const maxUnqueued = 1024

// record keeps a command. One that does not fit is only counted, and so are those
// behind it.
func (t *transaction) record(frame []byte) {
	if t.unkept > 0 || len(t.log)+len(frame) > txLogLimit {
		t.unkept++
		return
	}
	t.log = append(t.log, frame...)
	t.frames = append(t.frames, len(frame))
}

// complete reports whether every command was kept.
func (t *transaction) complete() bool { return t.unkept == 0 }

// frame returns the i-th command; nil if it was not kept.
func (t *transaction) frame(i int) []byte {
	if i >= len(t.frames) {
		return nil
	}
	pos := len(t.log)
	for _, n := range t.frames[i:] { // who asks wants one of the last
		pos -= n
	}
	return t.log[pos : pos+t.frames[i]]
}

// len returns how many commands there are, MULTI included.
func (t *transaction) len() int { return len(t.frames) + t.unkept }

// pinned reports whether the session must keep its own pipe.
func (s *session) pinned() bool { return s.w.opts.Dedicated || s.stateful() }

// stateful reports whether the session has state on its own pipe that no other
// connection has.
func (s *session) stateful() bool {
	return s.sticky || s.forgot || s.stickyCalls > 0 || len(s.doubts) > 0 || s.tx.active || s.watching || s.blocking || s.subCalls > 0 || len(s.subs) > 0 ||
		s.stream != streamOff
}

// cutForgotten ends a session whose state cannot be set up on a new connection.
func (s *session) cutForgotten() {
	s.cutState("client cut off: its connection to the master was lost, and it has more subscriptions or tracked prefixes than are remembered")
}

// cutRefused ends a session if reply says that a new connection does not take its state:
// it would wait for messages or invalidations that never come.
func (s *session) cutRefused(reply []byte) {
	if reply != nil && reply[0] == '-' && !s.closing {
		s.cutState("client cut off: its connection to the master was lost, and a new one is refused its subscriptions or tracking")
	}
}

func (s *session) cutState(text string) {
	s.w.stats.stateCut++
	if more, ok := s.w.cutWarning.now(); ok {
		s.w.log.Warn(text, "client", s.conn.RemoteAddr(), "unlogged_before", more) //nolint:sloglint // one of the phrases above
	}
	s.mute = true // what was answered before it still gets
	s.end()
}

func (s *session) subscribed() bool { return len(s.subs) > 0 }

// refast works out whether the short way is open: nothing about the session is
// unusual and its shared pipe is known.
func (s *session) refast() { s.fast = s.mayBeFast() }

// mayBeFast reports whether shared commands may go straight to s.pipe, if that is the
// right one.
func (s *session) mayBeFast() bool {
	return s.own == nil && s.pipe != nil && s.away == nil && len(s.ran) == 0 && !s.replyOff && !s.replySkip && s.heldLeft == 0 &&
		s.refusal == "" && s.large == nil && !s.pinned() && len(s.parked) == 0 && !s.reqs.Unauthenticated
}

// transmit sends a command that may go out now on p, with what its class needs.
func (s *session) transmit(p *pipe, frame []byte, cmd *command) {
	if s.reqs.Unauthenticated { // it is let in
		s.reqs.Unauthenticated = false
		s.refast()
	}
	var m meta
	if cmd.write() {
		m = metaWrite
	}
	if s.mayHaveRun() {
		m |= metaAgain
	}
	if s.heldLeft > 0 {
		m |= metaHeld
	}
	if p == s.own && (s.large == cmd || s.w.bulk.has(cmd, frame)) {
		m |= metaBulk
	}
	if s.replyOff || s.replySkip {
		m |= metaSilent
		s.replySkip = false
		s.refast()
	}
	if s.tx.active {
		s.transmitQueued(p, frame, cmd, m)
		return
	}
	switch cmd.class {
	case classScript:
		s.w.noteScript(frame, cmd)
		if cmd.name == "SCRIPT|FLUSH" {
			m |= metaOrder
		}
	case classScan:
		frame = p.unmark(frame, cmd)
		m |= metaCursor
	case classMulti:
		s.tx = transaction{active: true}
		s.tx.record(frame)
		m |= metaOrder | metaTx
	case classWatch:
		s.watching = true
		m |= metaOrder
	case classExec, classDiscard: // without MULTI; one behind it must not be taken for its own
		s.tx.ending = true
		m |= metaOrder
	case classUnwatch:
		m |= metaOrder
	case classWait:
		p.sendInternal(pingFrame(), func([]byte) {})
		s.startCall(&m)
	case classBlock, classMayBlock:
		if p == s.own {
			s.startCall(&m)
			s.w.sharedPipe(s.who) // to end the call by, should the master be replaced
		}
	case classOwn:
		if p == s.own {
			s.startCall(&m)
		}
	case classSubscribe:
		s.subCalls++
		m |= metaOrder
	case classSticky:
		s.stickyCalls++
		m |= metaOrder
		s.remember(frame, cmd, 1)
	case classLocal:
		if cmd.repeated() {
			m |= metaOrder
			s.remember(frame, cmd, 1)
		}
	case classShared, classDenied, classContainer:
	}
	p.send(s, frame, cmd, m)
}

// startCall notes that a call which needs the own pipe begins, unless an earlier
// one is still under way: then it begins when that ends.
func (s *session) startCall(m *meta) {
	*m |= metaOrder
	if s.blocking {
		return
	}
	s.blocking, s.unblocked = true, false
	s.blockedAt = s.w.now()
}

// callEnded notes that the call under way is over, and that the next one of the
// same pipe begins.
func (s *session) callEnded(p *pipe) {
	s.blocking, s.unblocked = false, false
	for i := range p.queue.len() {
		if e := p.queue.at(i); e.s == s && e.isCall() {
			s.blocking, s.blockedAt = true, s.w.now()
			return
		}
	}
}

// isCall reports whether startCall was called for e.
func (e *entry) isCall() bool {
	if e.meta&metaOrder == 0 || e.meta&metaTx != 0 {
		return false
	}
	c := e.cmd.class
	return c == classBlock || c == classMayBlock || c == classOwn || c == classWait
}

// transmitQueued sends a command between MULTI and EXEC.
func (s *session) transmitQueued(p *pipe, frame []byte, cmd *command, m meta) {
	m |= metaOrder
	if cmd.class == classExec || cmd.class == classDiscard {
		s.tx.ending = true
		if cmd.class == classExec && s.txBroken() {
			s.refuseExec(p, cmd, m)
			return
		}
	} else {
		if cmd.class == classScan {
			s.tx.record(changeCursor(frame, cmd, func(uint64) uint64 { return 0 })) // for another node
			frame = p.unmark(frame, cmd)
			m |= metaCursor
		} else {
			s.tx.record(answering(frame, cmd))
		}
		m = m&^metaWrite | metaTx
		switch c := cmd.class; {
		case cmd.name == "SCRIPT|FLUSH":
			s.tx.flushes = true
		case cmd.admits:
			s.tx.admits = true
		case cmd == s.w.cmds.unknown:
			s.doubt(frame)
		case c == classSticky, c == classLocal, c == classSubscribe: // what it does to the connection takes effect at EXEC
			s.sticky = true
			s.tx.noteQueued(frame, cmd)
			s.tx.replies = s.tx.replies || cmd.name == "CLIENT|REPLY"
			frame = answering(frame, cmd)
		}
	}
	p.send(s, frame, cmd, m)
}

// txBroken reports whether EXEC must fail.
func (s *session) txBroken() bool { return s.watchLost || s.tx.aborted || s.tx.refused }

// refuseExec ends a transaction that may not run: on the backend by DISCARD, to
// the client as a touched WATCH key or as EXECABORT. Nothing of the session is
// under way.
func (s *session) refuseExec(p *pipe, cmd *command, m meta) {
	answer := resp.AppendError(nil, "EXECABORT Transaction discarded because its connection was lost. (sentinelproxy)")
	switch {
	case s.tx.aborted:
	case s.tx.refused:
		answer = resp.AppendError(nil, "EXECABORT Transaction discarded because of previous errors.")
	default:
		answer = nullReply(s.who.proto)
	}
	e := s.entryOf(cmd)
	s.inflight++
	p.sendInternal(resp.AppendCommand(nil, "DISCARD"), func(reply []byte) {
		s.inflight--
		if s.closed {
			return
		}
		if m&metaSilent == 0 {
			s.reply(answer)
		}
		s.w.ended(p, &e, nil, kindOf(answer))
		s.replied(p, e, answer)
		switch {
		case reply == nil:
		case reply[0] == '-': // the user may not call DISCARD
			if s.own == p {
				s.dropOwn()
				s.lostOwn = s.stateful()
			}
			s.resume()
		default:
			s.after(p)
		}
	})
}

// nullReply is how a null array is written in the protocol version.
func nullReply(proto int) []byte {
	if proto == 3 {
		return []byte("_\r\n")
	}
	return []byte("*-1\r\n")
}

func pingFrame() []byte { return resp.AppendCommand(nil, "PING") }

// repeated reports whether a command must be repeated on a new connection.
func (c *command) repeated() bool {
	switch c.name {
	case "CLIENT|TRACKING", "CLIENT|NO-TOUCH", "CLIENT|NO-EVICT", "CLIENT|SETINFO", "MONITOR":
		return true
	}
	return false
}

// remember keeps what must be repeated on a new connection. unsure is 1 if it was not
// answered yet: then settleSetup must be told what becomes of it.
func (s *session) remember(frame []byte, cmd *command, unsure int) {
	if !cmd.repeated() {
		return
	}
	n := len(frame)
	for _, f := range s.setup {
		n += len(f)
	}
	if len(s.setup) == maxSetup || n > maxSetupBytes {
		s.forgot = true
		return
	}
	s.setup = append(s.setup, bytes.Clone(frame))
	s.unsure += unsure
}

// settleSetup takes note of whether the oldest unsure command of setup is in force now.
// It returns that command as its client sent it; nil if there is none.
func (s *session) settleSetup(cmd *command, inForce bool) []byte { //nolint:revive // a fact, not a choice of what to do
	if s.unsure == 0 || s.forgot || !cmd.repeated() {
		return nil // past its bounds setup is of no use
	}
	i := len(s.setup) - s.unsure
	s.unsure--
	frame := s.setup[i]
	if !inForce {
		s.setup = slices.Delete(s.setup, i, i+1)
	}
	return frame
}

// unsettled returns what stands for a command that is taken back, and may never be sent
// again: the one that its client sent. No new connection repeats it.
func (s *session) unsettled(e *entry, frame []byte) []byte {
	if e.meta&(metaOrder|metaTx) == metaOrder {
		if f := s.settleSetup(e.cmd, false); f != nil {
			return f
		}
	}
	return frame
}

// inForce drops commands of a setup whose effect later ones have ended: a client may
// turn its tracking on and off for ever.
func (c *commands) inForce(setup [][]byte) [][]byte {
	ended := make(map[string]bool)
	var keep [][]byte
	for _, f := range slices.Backward(setup) {
		name := c.find(f).name
		if ended[name] {
			continue
		}
		switch name {
		case "CLIENT|NO-TOUCH", "CLIENT|NO-EVICT", "MONITOR":
			ended[name] = true
		case "CLIENT|TRACKING":
			args := resp.Args(nil, f)
			ended[name] = len(args) > 2 && equalFold(string(args[2]), "off")
		}
		keep = append(keep, f)
	}
	slices.Reverse(keep)
	return keep
}

// The bounds of the commands repeated for one session; past them it is cut off
// instead.
const (
	maxSetup      = 64
	maxSetupBytes = 256 << 10
)

// replied takes note of a reply that changes the session's mode.
func (s *session) replied(p *pipe, e entry, reply []byte) {
	if e.meta&metaTx != 0 {
		s.tx.answered++
		if reply[0] == '-' && s.tx.answered > 1 {
			s.tx.notQueued++
			if len(s.tx.unqueued) < maxUnqueued {
				s.tx.unqueued = append(s.tx.unqueued, s.tx.answered-2)
			}
		}
		if e.cmd.class == classMulti && reply[0] == '-' && s.tx.answered == 1 {
			if s.tx.void = s.tx.len() > 1; !s.tx.void {
				s.tx = transaction{}
			}
		}
		switch {
		case reply[0] == '-' || s.tx.answered == 1:
		case s.tx.void:
			s.executedAtOnce(p, &e)
		case string(reply) != "+QUEUED\r\n": // it has ended, by an EXEC or DISCARD that was renamed: it must not be repeated
			s.forgot = true
		}
		return
	}
	switch e.cmd.class {
	case classExec, classDiscard:
		if reply[0] == '-' && s.tx.active && (e.cmd.class == classDiscard || !endsTx(reply)) {
			s.tx.ending, s.tx.refused = false, true // not allowed, or not known: it goes on, and EXEC will fail
			return
		}
		if e.cmd.class == classExec && reply[0] == '*' {
			s.executed(p, &e, reply)
			if s.tx.flushes {
				s.w.forgetScripts()
			}
			if s.tx.admits {
				s.w.access.Add(1)
			}
		}
		s.tx = transaction{}
		if reply[0] != '-' || !bytes.HasSuffix(reply, []byte(" without MULTI\r\n")) { // which goes on watching
			s.watching, s.watchLost = false, false
		}
	case classUnwatch:
		if reply[0] != '-' {
			s.watching, s.watchLost = false, false
		}
	case classBlock, classMayBlock, classOwn, classWait:
		s.callEnded(p)
	case classSubscribe:
		s.subCalls-- // it was refused: confirmations do not come this way
	case classWatch:
		s.watching = s.watching || reply[0] != '-' // an UNWATCH before it was answered meanwhile
	case classScript:
		if reply[0] == '+' { // SCRIPT FLUSH
			s.w.forgetScripts()
		}
	case classLocal:
		s.settleSetup(e.cmd, reply[0] != '-')
	case classShared, classScan, classMulti, classDenied, classContainer:
	case classSticky:
		s.stickyCalls--
		s.sticky = s.sticky || reply[0] != '-' && e.cmd != s.w.cmds.unknown // which is a doubt
		s.settleSetup(e.cmd, reply[0] != '-')
		s.broken = s.broken && (reply[0] == '-' || e.cmd.name != "CLIENT|TRACKING")
		if reply[0] != '-' && s.unsure == 0 {
			s.setup = s.w.cmds.inForce(s.setup)
		}
	}
}

// endsTx reports whether an error to EXEC leaves no transaction behind. One that Redis does
// not know by this name (rename-command) is only one more command that was refused.
func endsTx(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-EXECABORT ")) || bytes.HasPrefix(reply, []byte("-ERR Transaction ")) ||
		bytes.HasSuffix(reply, []byte(" without MULTI\r\n"))
}

// plain reports whether what waits in the session's own pipe, if it has one, can
// be taken back: nothing there changes the session's mode by having been sent.
func (s *session) plain() bool {
	return !s.tx.active && !s.watching && !s.blocking && s.subCalls == 0 && len(s.subs) == 0 &&
		s.restoreSub == 0 && s.stream == streamOff
}
