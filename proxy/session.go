package proxy

import (
	"bytes"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// maxShare is how many commands of one session are under way at once: a long
// pipeline must not keep others waiting behind all of it.
const maxShare = 256

// waitKind says why a session's next command is not being handled.
type waitKind uint8

const (
	waitNone   waitKind = iota
	waitRoute           // held: no master to send to
	waitPipe            // its pipe is being dialled, or its window is full
	waitDrain           // what is under way must end first
	waitOutput          // the client does not read its replies
	waitLogin           // AUTH, HELLO, SELECT or RESET is under way
	waitShare           // it has its share of the pipe's window
	waitRetry           // a refused command rests before it is sent again
)

// session is one client: its bytes in, its replies out, and which pipe it uses.
// It is owned by its worker's loop.
type session struct {
	mode // CLIENT REPLY, names, transactions, subscriptions: see mode.go

	w    *worker
	conn wire
	id   int64
	who  identity
	// before is the identity to go back to when Redis refuses a login.
	before identity

	reqs resp.Requests
	in   []byte // received and not handled; begins at a command
	// more is what was received behind in, in pieces, and stowed its size. There is
	// something in in while there is something here.
	more   [][]byte
	stowed int
	out    []byte // replies, of which the first outOff bytes are written
	// outOff is how much of out the kernel has taken.
	outOff int

	pipe     *pipe // the shared pipe it is attached to; nil: none yet
	own      *pipe // the pipe it has for itself; nil: none
	away     *pipe // the replica's pipe its last commands went to; nil: none since the route serves
	inflight int   // commands without a reply, on pipe or own
	wait     waitKind

	born, seen time.Duration // when it connected and, to the second, last sent or took something
	last       *command      // nil: it has sent none
	slot       int           // in worker.sessions
	turn       loginTurn

	fast        bool // nothing unusual: a shared command goes straight to pipe
	closed      bool
	closing     bool // nothing more is handled; it closes when out is written
	eof         bool // the client sends no more
	left        bool // it will send no more, but what it sent is not read yet
	queued      bool // in worker.runnable
	listed      bool // in worker.held
	recount     bool // more waits than when it was listed
	reviveLater bool // in worker.toRevive
	asked       bool // other loops are asked: nothing goes on, whatever is lost
	asks        bool // letIn waits for a route
	mute        bool // what is replied now reaches nobody: CLIENT REPLY, or cut off

	heldSince time.Duration // when it began to wait for the route
	heldLeft  int           // commands counted as held and not yet accounted for
	retried   retry         // a second refusal by the same master is passed on
	pulled    []byte        // commands given back by a pipe, until takeBack
	// ran says of the first commands in in, one by one, which may have run already,
	// and pulledRan of those in pulled.
	ran, pulledRan []bool
	parked         []parked
	kept           []kept        // replies that a suspicion keeps back
	slowPipe       *pipe         // reads again when our client has read
	crowded        bool          // too much is unread: what is to come is kept away, see uncrowd
	queryFull      bool          // reading stopped at QueryBufferLimit
	softSince      time.Duration // since when more is unread than a soft limit allows; 0: it is not
}

// Data takes what the client sent.
func (s *session) Data(b []byte) {
	if s.closed || s.closing {
		return
	}
	s.seen = s.w.second
	if len(s.in) > 0 || s.wait != waitNone {
		if len(s.more) > 0 || s.wait != waitNone && len(s.in) >= queryMark {
			s.stow(b)
		} else {
			if s.in == nil {
				s.in = s.w.takeBufOf(len(b))
			}
			s.in = append(s.in, b...)
		}
		s.run()
		return
	}
	used := s.consume(b)
	if used < len(b) && !s.closing {
		// What is larger is streamed, once it may: no client has us set aside what it only announces.
		s.in = append(s.w.takeBufOf(max(min(s.reqs.Need(), s.w.sizes.large), len(b)-used)), b[used:]...)
	}
	s.throttle()
	if s.lostOwn || s.w.draining {
		s.w.schedule(s)
	}
}

// run handles what was received and can be handled now.
func (s *session) run() {
	if s.closed || s.closing {
		return
	}
	if s.crowded {
		s.crowded = false
		s.uncrowd()
	}
	for len(s.in) > 0 && s.wait == waitNone && !s.closing {
		used := s.consume(s.in)
		switch {
		case used == len(s.in) || s.closing:
			s.w.giveBuf(s.in)
			s.in = nil
		case used > len(s.in)-used:
			s.in = s.in[:copy(s.in, s.in[used:])]
		case used > 0: // a long pipeline is not moved for each piece of it
			s.in = s.in[used:]
		}
		if s.wait != waitNone && len(s.in) > 0 || !s.unstow() {
			break
		}
	}
	s.revive()
	s.throttle()
	s.finish()
}

// throttle reads on or rests, by what is kept already.
func (s *session) throttle() {
	if s.closing || s.closed {
		return
	}
	limit := queryMark
	switch s.wait {
	case waitRoute:
		limit = 0
	case waitOutput:
		limit = s.w.sizes.query
	case waitNone:
		limit = max(s.w.sizes.large, queryMark) + queryMark // a command that is being collected
	case waitPipe, waitDrain, waitLogin, waitShare, waitRetry:
	}
	if s.wait == waitRoute && (!s.listed || s.recount) {
		s.w.addHeld(s)
		if s.eof || s.left {
			s.depart() // as if it had left while held
			return
		}
	}
	full := limit == 0 || len(s.in)+s.stowed > limit
	if full {
		s.conn.Pause()
	} else {
		s.conn.Resume()
	}
	if full = full && s.wait == waitOutput; full && !s.queryFull {
		s.w.stats.queryFull++
	}
	s.queryFull = full
}

// finish closes a session whose client has sent its last command and has its
// last reply.
func (s *session) finish() {
	if s.closing {
		return
	}
	if s.drained() || s.w.draining && s.subscribed() {
		s.end()
		return
	}
	switch {
	case !s.eof:
	case s.blocked(), s.stream != streamOff && len(s.in) == 0: // neither will ever end
		s.depart()
	case s.unanswered() || len(s.parked) > 0 || s.wait == waitLogin:
	case s.wait == waitNone || len(s.in) == 0:
		s.end()
	}
}

// depart closes the session of a client that is gone: what was answered is
// written, what was not will not be.
func (s *session) depart() {
	if s.own != nil {
		s.dropOwn()
	}
	s.end()
}

// blocked reports whether the next reply is that of a call which may take for
// ever.
func (s *session) blocked() bool {
	if s.own == nil {
		return false
	}
	for i := range s.own.queue.len() {
		e := s.own.queue.at(i)
		if e.s == nil {
			continue
		}
		return e.isCall() && e.cmd.class != classOwn
	}
	return false
}

// consume handles complete commands from b until one must wait, and returns how
// many bytes it handled.
func (s *session) consume(b []byte) int {
	off := 0
	for off < len(b) && s.wait == waitNone && !s.closing {
		if s.stream != streamOff {
			n := s.continueStream(b[off:])
			off += n
			if n == 0 {
				break
			}
			continue
		}
		n, inline, err := s.reqs.Next(b[off:])
		if err != nil {
			s.reqs = resp.Requests{Unauthenticated: s.reqs.Unauthenticated}
			if s.unanswered() {
				s.wait = waitDrain
				break
			}
			if resp.LoginLimit(err) && s.letIn() {
				continue
			}
			if s.wait != waitNone {
				break
			}
			s.protocolError(err)
			return len(b)
		}
		if n == 0 {
			if s.reqs.Need() > s.w.sizes.large {
				k := s.startStream(b[off:])
				off += k
				if k > 0 {
					continue
				}
			}
			break
		}
		frame := b[off : off+n]
		if inline {
			var ok bool
			if frame, ok = inlined(frame); !ok {
				if s.unanswered() {
					s.wait = waitDrain
					break
				}
				s.protocolError(errQuotes)
				return len(b)
			}
		}
		if len(frame) > 0 && frame[0] == '*' && frame[1] != '0' && frame[1] != '-' {
			if !s.command(frame) {
				s.reqs = resp.Requests{Unauthenticated: s.reqs.Unauthenticated}
				break
			}
		}
		off += n
	}
	return off
}

// end closes the session once its replies are written.
func (s *session) end() {
	s.closing = true
	s.conn.CloseFlushed()
}

// command handles one complete command. It returns false if the command must
// wait; s.wait then says for what.
func (s *session) command(frame []byte) bool {
	cmd := s.w.cmds.find(frame)
	if cmd == s.w.cmds.unknown {
		cmd = s.w.lookUp(frame)
	}
	s.last = cmd
	if s.fast && cmd.class == classShared {
		p := s.pipe
		if p.state == pipeReady && s.w.serving && !p.full() && len(s.out) < s.w.sizes.mark && s.inflight < maxShare &&
			(s.w.bulk.n == 0 || !s.w.bulk.has(cmd, frame)) {
			s.w.stats.commands++
			var m meta
			if cmd.resend != resendRead {
				m = metaWrite
			}
			p.send(s, frame, cmd, m)
			return true
		}
	}
	held := s.heldLeft
	if !s.route(frame, cmd) {
		return false
	}
	s.w.stats.commands++
	if len(s.ran) > 0 {
		if s.ran = s.ran[1:]; len(s.ran) == 0 {
			s.ran = nil
			s.refast()
		}
	}
	if held > 0 && s.heldLeft == held {
		s.heldLeft--
		s.w.stats.heldSent++
	}
	if held > 0 {
		if s.heldLeft == 0 || s.w.serving { // else those behind it have waited as long
			s.heldSince, s.expired = 0, false
		}
		s.refast()
	}
	return true
}

// reply appends to what the client will get.
func (s *session) reply(b []byte) {
	if s.closed || s.mute {
		return
	}
	if len(s.kept) > 0 {
		s.kept = append(s.kept, kept{reply: bytes.Clone(b)}) // it may not overtake them
		return
	}
	if s.out == nil {
		s.out = s.w.takeBufOf(len(b))
	}
	s.out = append(s.out, b...)
	s.conn.Flush()
	if len(s.out)-s.outOff >= s.w.sizes.alarm {
		s.alarmed()
	}
}

// abort ends the session at once, and what it has to say with it.
func (s *session) abort() {
	s.closing, s.mute = true, true
	s.conn.Abort()
}

func (s *session) replyError(text string) { s.reply(resp.AppendError(nil, text)) }

func (s *session) pending() int { return len(s.out) - s.outOff }

// Output hands over the replies.
func (s *session) Output(bufs [][]byte) [][]byte {
	if s.outOff == len(s.out) {
		return bufs
	}
	return append(bufs, s.out[s.outOff:])
}

// Wrote forgets written replies, and goes on with what waited for that.
func (s *session) Wrote(n int) {
	s.seen = s.w.second
	s.outOff += n
	if s.outOff == len(s.out) {
		s.w.giveBuf(s.out)
		s.out, s.outOff = nil, 0
	} else if s.outOff > s.w.sizes.mark && s.outOff >= len(s.out)-s.outOff {
		s.out = s.out[:copy(s.out, s.out[s.outOff:])]
		s.outOff = 0
	}
	if s.softSince != 0 {
		if l, _ := s.outputLimit(); s.pending() < l.Soft {
			s.softSince = 0
		}
	}
	if s.pending() >= s.w.sizes.mark/2 {
		return
	}
	if p := s.slowPipe; p != nil {
		s.slowPipe = nil
		p.wake()
	}
	if s.wait == waitOutput {
		s.resume()
	}
}

// resume has a waiting session run again, after the event at hand.
func (s *session) resume() {
	s.wait = waitNone
	s.w.schedule(s)
}

// after is called when a reply was delivered on p.
func (s *session) after(p *pipe) {
	if s.inflight > 0 {
		if s.wait == waitShare && s.inflight <= maxShare/2 {
			s.resume()
		} else if s.eof {
			s.w.schedule(s)
		}
		return
	}
	if s.own == p && !s.pinned() {
		s.unpin()
	}
	if s.wait == waitDrain || s.wait == waitShare {
		s.resume()
	} else if s.eof || s.w.draining {
		s.w.schedule(s)
	}
}

// Left means that the client is gone while it is not read. If it is held, nobody
// knows that it still cares: its commands are dropped unsent. Otherwise what it
// sent is still answered.
func (s *session) Left() {
	s.left = true
	if !s.closing && s.wait == waitRoute {
		s.depart()
	}
}

// EOF means that the client sends no more. What it sent is still answered,
// unless it is held: then nobody knows that the client still cares, and it is
// dropped unsent.
func (s *session) EOF() {
	s.eof = true
	if s.closing {
		return
	}
	if s.wait == waitRoute || s.subscribed() || s.stream != streamOff {
		s.depart()
		return
	}
	s.finish()
}

// Closed is the end: nothing of this client goes out any more.
func (s *session) Closed(err error) {
	if s.closed {
		return
	}
	s.closed, s.closing = true, true
	if err != nil {
		s.w.log.Debug("client connection ended", "client_id", s.id, "error", err)
	}
	s.w.stats.heldGone += uint64(s.heldLeft)
	s.heldLeft = 0
	if s.own != nil {
		s.dropOwn()
	}
	if p := s.slowPipe; p != nil {
		s.slowPipe = nil
		p.wake()
	}
	delete(s.w.overSoft, s)
	s.detach()
	s.w.remove(s)
	for _, b := range [][]byte{s.in, s.out} {
		if b != nil {
			s.w.giveBuf(b)
		}
	}
	s.in, s.out, s.parked, s.kept, s.pulled = nil, nil, nil, nil, nil
	s.more, s.stowed = nil, 0
}

func equalFold(a, lower string) bool {
	if len(a) != len(lower) {
		return false
	}
	for i := range len(a) {
		c := a[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
