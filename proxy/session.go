package proxy

import (
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
	home []byte // the buffer that in is the end of; nil: in is all of its own
	// more is what was received behind in, in pieces, and stowed its size. There is
	// something in in while there is something here.
	more   [][]byte
	stowed int
	// out is what the client has not been sent, behind the full pieces in older. The
	// kernel has taken outOff bytes of the oldest of them; unsent is how many are left.
	out    []byte
	older  [][]byte
	outOff int
	unsent int

	// at is when the command at hand had come, in worker.tick's microseconds: when the
	// bytes that ended it were read. Where more came while it waits, the first batch
	// bytes are of then, and the rest is of nextAt, 0 for no rest. What comes a third time,
	// or is handled in one go with the batch, is taken to be older than it is: by no more
	// than the batch has waited.
	at, nextAt uint64
	batch      int

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
	closing     bool  // nothing more is handled; it closes when out is written
	eof         bool  // the client sends no more
	left        bool  // it will send no more, but what it sent is not read yet
	queued      bool  // in worker.runnable
	listed      bool  // in worker.held
	recount     bool  // more waits than when it was listed
	reviveLater bool  // in worker.toRevive
	asked       bool  // other loops are asked: nothing goes on, whatever is lost
	asks        bool  // letIn waits for a route
	bulky       uint8 // for how many commands it still counts as one that sends much, see lane.go
	moves       bool  // it is on the wrong lane
	mute        bool  // what is replied now reaches nobody: CLIENT REPLY, or cut off

	heldSince time.Duration // when what waits now began to wait for the route; 0: it has not
	heldLeft  int           // commands counted as held and not yet accounted for
	waited    time.Duration // how long it was held the last time
	here      entry         // the command whose answer here waits for Redis' word; no cmd: none
	said      replyKind     // what it was told last
	retried   retry         // a second refusal by the same master is passed on
	pulled    []byte        // commands given back by a pipe, until takeBack
	pulledAt  uint64        // when the first of them had come, as at
	// ran says of the first commands in in, one by one, which may have run already,
	// and pulledRan of those in pulled.
	ran, pulledRan []bool
	parked         []parked
	kept           []kept        // replies that a suspicion keeps back
	slowPipe       *pipe         // reads again when our client has read
	large          *command      // its replies are expected to be large; nil: none's are
	largeLeft      int           // small ones in a row until that ends
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
	s.w.stats.clientIn += uint64(len(b))
	if len(s.in) > 0 && s.wait == waitNone && len(s.more) == 0 {
		b = s.complete(b)
	}
	if len(s.in) > 0 || s.wait != waitNone {
		s.arrived()
		if len(s.more) > 0 || s.wait != waitNone && len(s.in) >= queryMark {
			s.stow(b)
		} else {
			if s.in == nil {
				s.in = s.w.takeBufOf(len(b))
			}
			s.in = joined(s.in, b)
		}
		s.run()
		return
	}
	if s.closing {
		return
	}
	s.at, s.nextAt = s.w.tick, 0
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

// Room has the rest of a long command read to where the beginning is. Where much comes
// and the pipe is full it is left to the kernel: what is read now would be set aside.
func (s *session) Room() []byte {
	if s.wait != waitNone || len(s.more) > 0 {
		return nil
	}
	if s.bulky > 0 && s.mayBeFast() && s.pipe.state == pipeReady && s.pipe.full() {
		s.waitFor(s.pipe)
		s.conn.Pause()
		return nil
	}
	return roomBehind(s.in, s.reqs.Need())
}

// complete adds to the command in s.in what it lacks of b, handles it, and returns
// what is left of b. What comes behind it is then handled where it is.
func (s *session) complete(b []byte) []byte {
	old := len(s.in)
	n := max(s.reqs.Need()-old, bufSize)
	if n >= len(b) {
		return b
	}
	s.arrived()
	s.in = append(s.in, b[:n]...)
	used := s.consumeIn()
	if used < old {
		s.in = s.in[:copy(s.in, s.in[used:])]
		return b[n:]
	}
	s.dropIn()
	return b[used-old:]
}

// consumeIn is consume for what is in s.in. Where a pipe has made the buffer its own, s.in
// is nil afterwards: all of it was handled.
func (s *session) consumeIn() int {
	s.w.whole = s.in
	used := s.consume(s.in)
	if s.w.whole == nil {
		s.in, s.home = nil, nil
	}
	s.w.whole = nil
	return used
}

// dropIn gives up the buffer of s.in.
func (s *session) dropIn() {
	b := s.in
	if s.home != nil {
		b = s.home
	}
	if b != nil {
		s.w.giveBuf(b)
	}
	s.in, s.home = nil, nil
}

// arrived notes when more comes behind something that was not handled.
func (s *session) arrived() {
	switch n := len(s.in) + s.stowed; {
	case s.wait == waitNone || n == 0: // it may end the command at hand
		s.at, s.nextAt = s.w.tick, 0
	case s.nextAt == 0:
		s.nextAt, s.batch = s.w.tick, n
	}
}

// arrivedBefore notes that n bytes which had come at a time are put before the others.
func (s *session) arrivedBefore(n int, at uint64) {
	s.nextAt = 0
	if len(s.in)+s.stowed > 0 {
		s.nextAt, s.batch = s.at, n
	}
	s.at = at
}

// handled notes that so many bytes of what was received are handled.
func (s *session) handled(n int) {
	if s.nextAt == 0 {
		return
	}
	if s.batch -= n; s.batch <= 0 {
		s.at, s.nextAt = s.nextAt, 0
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
		used := s.consumeIn()
		s.handled(used)
		switch {
		case used >= len(s.in) || s.closing:
			s.dropIn()
		case used > len(s.in)-used:
			s.in = s.in[:copy(s.in, s.in[used:])]
		case used > 0: // a long pipeline is not moved for each piece of it
			if s.home == nil {
				s.home = s.in
			}
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
		s.endHold()
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

// endHold notes that what was held has gone on, or has failed where no master is served.
// A hold is one however often the route came and went meanwhile.
func (s *session) endHold() {
	if s.heldSince > 0 && s.w.serving {
		s.w.stats.observeHold(s.waited)
	}
	s.heldSince = 0
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
		if p.state == pipeReady && s.w.serving && !p.full() && s.unsent < s.w.sizes.mark && s.inflight < maxShare &&
			(s.w.bulk.n == 0 || !s.w.bulk.has(cmd, frame)) {
			var m meta
			if cmd.resend != resendRead {
				m = metaWrite
			}
			p.send(s, frame, cmd, m)
			return true
		}
	}
	held, under, here := s.heldLeft, s.inflight, s.entryOf(cmd)
	s.said = replyNone
	if !s.route(frame, cmd) {
		return false
	}
	switch {
	case s.wait == waitLogin:
		s.here = here
	case s.inflight == under && (s.said != replyNone || !s.closing):
		s.w.ended(nil, &here, frame, s.said)
	}
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
			s.endHold()
			s.expired = false
		}
		s.refast()
	}
	return true
}

// abort ends the session at once, and what it has to say with it.
func (s *session) abort() {
	s.closing, s.mute = true, true
	s.conn.Abort()
}

// resume has a waiting session run again, after the event at hand.
func (s *session) resume() {
	if s.wait == waitRoute && s.heldSince > 0 {
		s.waited = s.w.now() - s.heldSince
	}
	s.wait = waitNone
	if s.here.cmd != nil {
		here := s.here
		s.here = entry{}
		s.w.ended(nil, &here, nil, s.said)
	}
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
	if s.moves { // the next command looks for its lane
		s.moves, s.fast = false, false
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
		s.w.log.Debug("client connection ended", "client_id", s.id, "err", err)
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
	s.dropIn()
	for _, b := range append(s.older, s.out) {
		if b != nil {
			s.w.giveBuf(b)
		}
	}
	s.out, s.older, s.parked, s.kept, s.pulled = nil, nil, nil, nil, nil
	s.more, s.stowed = nil, 0
}

// equalFold reports whether Redis takes a for the word lower: in any case, and what is
// behind a null byte does not count (strcasecmp).
func equalFold(a, lower string) bool {
	if len(a) < len(lower) || len(a) > len(lower) && a[len(lower)] != 0 {
		return false
	}
	for i := range len(lower) {
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
