package proxy

import (
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// Limits of own pipes per worker, unless every client has one. At the limit a
// command is refused, never queued: a producer could wait for its own consumers.
const (
	maxOwn     = 8192
	maxIdleOwn = 128 // kept for the next session, per identity
)

// pin gives the session a pipe of its own. nil means that the command was
// answered (wait is none) or must wait.
func (s *session) pin(cmd *command) *pipe {
	if s.inflight > 0 {
		s.wait = waitDrain
		return nil
	}
	if s.forgot && s.lostOwn {
		s.cutForgotten()
		return nil
	}
	if s.refusal != "" {
		s.refuse(cmd)
		return nil
	}
	if text, ok := s.w.refusedLately(s.who); ok {
		s.refusal = text
		s.refuse(cmd)
		return nil
	}
	if s.noMoreOwn(cmd) {
		return nil
	}
	s.own = s.w.ownPipe(s, s.who, s.pinnedFor(cmd))
	s.fast = false
	if s.own.state != pipeReady {
		s.await(s.own, cmd)
		return nil
	}
	if !s.knock(s.own) {
		return nil
	}
	s.restore(s.own)
	if s.closing {
		return nil
	}
	return s.own
}

// noMoreOwn answers a command at the limit of own pipes. Dedicated, the limit is
// that of clients.
func (s *session) noMoreOwn(cmd *command) bool {
	if s.w.opts.Dedicated || s.w.owned < maxOwn {
		return false
	}
	s.w.stats.pinRefused++
	what := "the client's state" // cmd is nil for revive
	if cmd != nil {
		what = displayName(cmd.name)
	}
	s.replyError("ERR max number of dedicated backend connections reached, " + what + " refused (sentinelproxy)")
	return true
}

// restore brings a new own pipe into the state that the session had on the last
// one: its name, what setup holds, its subscriptions, and its transaction up to
// where the client has seen answers.
func (s *session) restore(p *pipe) {
	if s.endedByRedis(p) {
		return
	}
	if p.name != s.name {
		p.name = s.name
		p.sendInternal(resp.AppendCommand(nil, "CLIENT", "SETNAME", s.name), func([]byte) {})
	}
	for _, f := range s.setup {
		done := func([]byte) {}
		if name := s.w.cmds.find(f).name; name == "CLIENT|TRACKING" || name == "MONITOR" {
			done = s.cutRefused // clients go on well without the others
		}
		p.sendInternal(f, done)
	}
	on, redirect := s.tracking()
	if s.lostOwn && on && redirect > 0 {
		// Those that it told of changes have other connections now, or soon.
		s.w.log.Info("client ended: its invalidations were redirected on a connection that is lost", "client", s.conn.RemoteAddr())
		s.abort()
		return
	}
	if s.lostOwn && on && s.who.proto == 3 {
		// Whatever the client has cached may be stale (CLIENT TRACKING).
		s.reply([]byte(">2\r\n$10\r\ninvalidate\r\n_\r\n"))
	}
	for sub := range s.subs {
		s.restoreSub++
		p.sendInternal(resp.AppendCommand(nil, sub.kind.command(), sub.channel), s.cutRefused)
	}
	s.restoreTx(p)
	s.lostOwn = false
}

func (s *session) restoreTx(p *pipe) {
	t := &s.tx
	if !t.active || !s.lostOwn {
		return
	}
	if !t.complete() || t.redirects() {
		t.aborted = true
	}
	if t.aborted { // pullQueued has answered what was under way
		p.sendInternal(resp.AppendCommand(nil, "MULTI"), func([]byte) {})
		return
	}
	pos := 0
	for i, n := range t.frames {
		frame := t.log[pos : pos+n]
		pos += n
		if i >= t.answered {
			m := metaOrder | metaTx
			if s.replyOff {
				m |= metaSilent
			}
			p.send(s, frame, s.w.find(frame), m)
			continue
		}
		p.sendInternal(frame, func(reply []byte) {
			if reply != nil && reply[0] != '+' {
				s.tx.aborted = true
			}
		})
	}
}

// endedByRedis ends the session if Redis has closed its last connection and went on as
// before, and reports whether it did. It was CLIENT KILL then, or an output buffer limit, or
// the timeout: what Redis meant to end is ended, as it would be without us. A subscriber
// that is set up again unasked does not know that it missed messages, and a transaction that
// was killed must not run. p is the first attempt at another connection, made at once, and
// no other was turned away for a while: of a Redis that was stopped or has died nobody
// listens any more when its connections end, and after a restart it counts its clients anew.
func (s *session) endedByRedis(p *pipe) bool {
	cut := s.cutPipe
	s.cutPipe = nil
	if cut == nil || cut.addr != p.addr || cut.epoch != p.epoch || p.info.id <= cut.info.id ||
		s.w.turnedAway > 0 && s.w.turnedAway > cut.lostAt-turnedAwayFor {
		return false
	}
	s.w.stats.endedByRedis++
	if more, ok := s.w.cutWarning.now(); ok {
		s.w.log.Info("client ended: Redis closed its connection, and serves on", "client", s.conn.RemoteAddr(), "unlogged_before", more)
	}
	s.mute = true // what was answered before it still gets
	s.end()
	return true
}

// unpin gives the own pipe back; the session goes on with the shared one.
func (s *session) unpin() {
	p := s.own
	s.own = nil
	if s.slowPipe == p { // for the next session
		s.slowPipe = nil
		p.wake()
	}
	s.w.giveOwn(p)
	s.refast()
}

// dropOwn ends the own pipe: its state is not fit for anyone else.
func (s *session) dropOwn() {
	p := s.own
	s.own = nil
	p.owner = nil
	p.end()
	for i := range p.queue.len() {
		if p.queue.at(i).s == s { // nobody will answer it
			s.inflight--
		}
	}
	s.w.owned--
}

// ownLost is called when the own pipe's connection is gone and what was under
// way on it has been judged. cut is that pipe if Redis has closed it, and otherwise nil.
func (s *session) ownLost(cut *pipe) {
	s.own, s.cutPipe = nil, cut
	s.w.owned--
	if s.closed {
		return
	}
	s.endTrackers()
	s.lostOwn = true
	s.blocking = false
	s.subCalls, s.stickyCalls = 0, 0 // what is sent again counts again
	s.restoreSub, s.due = 0, 0
	if s.watching {
		s.watchLost = true
	}
	if s.stream == streamOn {
		s.stream = streamDiscard
		if s.streamErr == "" {
			s.streamErr = errBrokeOff
		}
	}
	if !s.asked {
		s.resume()
	}
}

// revive gets a pinned session a pipe of its own again, without waiting for its
// client to say something: a subscriber may never speak. While no master is served
// it is done later; what the client says meanwhile is held or fails like anything.
func (s *session) revive() {
	switch {
	case s.own != nil, s.closing:
		return
	case s.wait != waitNone, s.stream != streamOff, s.cutPipe != nil && !s.w.opts.Dedicated && !s.stateful():
		s.cutPipe = nil // what comes later may be another master, or nothing
		return
	case s.cutPipe == nil && !s.stateful():
		return
	}
	if !s.w.serving {
		s.cutPipe = nil
		if s.tx.active && !s.tx.aborted && s.tx.answered < s.tx.len() && !s.w.mayHold() && !s.unanswered() {
			s.failQueued(s.w.noMaster())
			s.tx.aborted = true
		}
		if !s.reviveLater {
			s.reviveLater = true
			s.w.toRevive = append(s.w.toRevive, s)
		}
		return
	}
	if s.pin(nil) == nil && s.wait == waitNone {
		s.end() // it was answered with an error that nobody asked for
	}
}

// failRecorded has sessions answer what was queued by MULTI and waits for a master,
// where that may not wait any longer.
func (w *worker) failRecorded() {
	for _, s := range w.toRevive {
		if !s.closed && s.tx.active {
			w.schedule(s)
		}
	}
}

// reviveAll gives pinned sessions their own pipes again, now that a master serves.
func (w *worker) reviveAll() {
	for _, s := range w.toRevive {
		s.reviveLater = false
		if !s.closed {
			w.schedule(s)
		}
	}
	clear(w.toRevive)
	w.toRevive = w.toRevive[:0]
}
