package proxy

import (
	"bytes"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// streamState says whether a command too large to collect is passing through.
type streamState uint8

const (
	streamOff     streamState = iota
	streamOn                  // its bytes go to the own pipe as they come
	streamDiscard             // its connection is lost: the rest is read and thrown away
)

// The bytes of a streamed command that may wait in its pipe: past the first
// mark its client is not read, until less than the second is left.
const (
	streamMark   = 1 << 20
	streamResume = 256 << 10
)

// errBrokeOff answers a command that was lost with its connection before the client had
// sent the end of it: nobody can have executed it.
const errBrokeOff = "MASTERDOWN the connection to the master was lost in the middle of the command: it was not executed (sentinelproxy)"

// startStream begins to pass on the command at b, of which more than
// sizes.large bytes are known to come. It returns how many bytes it took; 0 if
// the session must wait.
func (s *session) startStream(b []byte) int {
	cmd := s.w.find(b)
	s.last = cmd
	// Local ones have no use for such an argument, and what a queued SUBSCRIBE does is
	// known only if it is kept.
	queued := cmd.class == classSubscribe && s.tx.active && !s.tx.void
	if cmd.class == classDenied || cmd.class == classLocal || queued {
		if s.unanswered() {
			s.wait = waitDrain
			return 0
		}
		s.tx.refused = s.tx.refused || s.tx.active
		if cmd.class != classDenied {
			return s.discard(b, "ERR '"+displayName(cmd.name)+"' with more than "+sizeText(s.w.sizes.large)+" of arguments is refused by the proxy (sentinelproxy)")
		}
		return s.discard(b, string(bytes.TrimSpace(denial(cmd)[1:])))
	}
	if !s.w.serving {
		if s.w.mayHold() && !s.expired {
			s.wait = waitRoute
			return 0
		}
		if s.unanswered() { // its error would overtake them, and what is taken back would end up inside it
			s.wait = waitDrain
			return 0
		}
		if s.expired = s.heldLeft > 0; !s.expired {
			s.endHold()
		}
		s.w.stats.rejected++
		if s.tx.active {
			s.failQueued(s.w.noMaster())
			s.tx.aborted = true
		}
		return s.discard(b, s.w.noMaster())
	}
	s.expired = false
	if s.inflight > 0 {
		s.wait = waitDrain
		return 0
	}
	if s.tx.void {
		s.tx = transaction{}
	}
	s.away = nil
	p := s.own
	if p != nil && p.id != s.who {
		s.dropOwn()
		p = nil
	}
	if p == nil {
		if p = s.pin(cmd); p == nil {
			if s.wait == waitNone && !s.closing { // refused, and answered: the rest is thrown away
				return s.discard(b, "")
			}
			return 0
		}
	}
	if p.state != pipeReady {
		s.waitFor(p)
		return 0
	}
	if s.inflight > 0 {
		s.wait = waitDrain
		return 0
	}
	s.stream, s.streamErr = streamOn, ""
	m := metaStreamed
	if cmd.write() {
		m |= metaWrite
	}
	if s.tx.active {
		s.tx.unkept++ // the transaction cannot be repeated
		m = metaStreamed | metaOrder | metaTx
	}
	switch cmd.class {
	case classShared, classScan, classScript, classOwn, classBlock, classMayBlock, classExec, classDiscard:
	case classWatch:
		s.watching = true
	case classSubscribe:
		s.subCalls++
		m |= metaOrder
	case classSticky, classMulti, classUnwatch, classWait, classLocal, classDenied, classContainer:
		s.sticky = true
		if cmd.name == "CLIENT|TRACKING" {
			s.forgot = true
		}
	}
	if s.replyOff || s.replySkip {
		m |= metaSilent
		s.replySkip = false
	}
	p.send(s, nil, cmd, m)
	p.queue.back().got = -int32(resp.Count(b) - 1) // as many confirmations, if it is SUBSCRIBE
	s.w.stats.largeCommands++
	return s.continueStream(b)
}

// discard has the rest of the command at b thrown away, and then text answered;
// nothing if it is empty.
func (s *session) discard(b []byte, text string) int {
	s.stream, s.streamErr = streamDiscard, text
	return s.continueStream(b)
}

// continueStream passes on, or throws away, more of a streamed command.
func (s *session) continueStream(b []byte) int {
	n, _, err := s.reqs.Next(b)
	if err != nil {
		s.protocolError(err)
		return len(b)
	}
	done := n > 0
	if !done {
		n = s.reqs.Streamable(len(b))
		s.reqs.Skip(n)
	}
	if s.stream == streamOn {
		p := s.own
		p.out.add(p.w, b[:n], false)
		if p.queue.len() == 0 { // it is answered already
			p.head = p.out.end
		}
		p.conn.Flush()
		if !done && p.out.end-p.sent > streamMark {
			s.wait = waitPipe
		}
	}
	if done {
		switch {
		case s.stream == streamDiscard:
			reply := resp.AppendError(nil, s.streamErr)
			if s.streamErr != "" {
				s.reply(reply)
			}
			s.at = s.w.tick
			e := s.entryOf(s.last)
			s.w.ended(nil, &e, nil, kindOf(reply))
		case s.own.queue.len() > 0 && s.own.queue.back().meta&metaStreamed != 0:
			s.own.queue.back().setCame(s.w.tick) // it is complete only now
		}
		s.stream, s.streamErr = streamOff, ""
		if s.own != nil && s.inflight == 0 && !s.pinned() {
			s.unpin()
		}
	}
	return n
}

// streamDrained lets the client be read again when the backend has caught up.
func (s *session) streamDrained(p *pipe) {
	if s.stream == streamOn && s.wait == waitPipe && p.out.end-p.sent < streamResume {
		s.resume()
	}
}
