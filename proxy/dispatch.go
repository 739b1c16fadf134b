package proxy

import (
	"fmt"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// route handles a command that is not the plain case. It returns false if the
// command must wait.
func (s *session) route(frame []byte, cmd *command) bool {
	if !s.replyOff && !s.replySkip {
		return s.dispatch(frame, cmd)
	}
	// What is answered here reaches nobody either. No reply to an earlier command
	// can come meanwhile: a login has the session wait until it is answered.
	switches := cmd.name == "CLIENT|REPLY" // and says itself who is reached
	skip := s.replySkip
	s.mute = !switches
	handled := s.dispatch(frame, cmd)
	if handled && skip && (!switches || s.mute) { // else it was set anew
		s.replySkip = false
		s.refast()
	}
	if s.wait != waitLogin && !s.closing {
		s.mute = false
	}
	return handled
}

// dispatch finds the pipe for a command, or says what the command must wait for.
func (s *session) dispatch(frame []byte, cmd *command) bool {
	if s.pending() >= s.w.sizes.mark {
		if s.reqs.Unauthenticated { // nothing is kept for who has not logged in, nor by Redis
			s.cut(cutNormalHard, s.pending())
			return true
		}
		s.wait = waitOutput
		return false
	}
	if cmd == s.w.cmds.unknown && speaksHTTP(frame) {
		return s.refuseHTTP()
	}
	if s.inflight > 0 && s.mustDrain(cmd) {
		s.wait = waitDrain
		return false
	}
	if s.tx.void {
		s.tx = transaction{}
	}
	if (cmd.class == classMulti || cmd.class == classDiscard && !s.tx.active) && !alone(frame) {
		cmd = s.w.cmds.shared("CONFIG|HELP") // it only earns an error
	}
	if cmd.class == classDenied {
		if !s.answer(denial(cmd)) {
			return false
		}
		s.tx.refused = s.tx.active
		return true
	}
	if cmd.class == classLocal && s.subCalls > 0 {
		s.wait = waitDrain // whether it is ours to answer depends on what they do
		return false
	}
	if cmd.class == classLocal && s.answersLocally(frame, cmd) {
		if s.unanswered() {
			s.wait = waitDrain
			return false
		}
		return cmd.local(s, frame)
	}
	if !s.w.serving {
		return s.withoutMaster(frame, cmd)
	}
	if s.away != nil && !s.comeBack() {
		return false
	}
	p := s.own
	if p != nil && s.inflight == 0 && (p.id != s.who || // made for a login that was given up
		p.state != pipeReady && !s.pinned() && !s.needsOwn(frame, cmd)) {
		s.dropOwn()
		p = nil
	}
	if p == nil {
		if s.pinned() || s.needsOwn(frame, cmd) {
			if p = s.pin(cmd); p == nil {
				return s.wait == waitNone
			}
		} else if p = s.attach(cmd); p == nil {
			return s.wait == waitNone
		}
	}
	if (p.state != pipeReady || p.full()) && (p.busy == "" || !cmd.whileBusy || s.tx.active) {
		return s.await(p, cmd)
	}
	if s.inflight >= maxShare {
		s.wait = waitShare
		return false
	}
	if cmd.class == classScan && !s.knowsRun(p) {
		s.waitFor(p)
		return false
	}
	if act := s.redirects(frame, cmd); act != nil {
		if s.unanswered() {
			s.wait = waitDrain
			return false
		}
		act(p, frame, cmd)
		return true
	}
	s.transmit(p, frame, cmd)
	return true
}

// alone reports whether a command has no arguments.
func alone(frame []byte) bool { return frame[1] == '1' && frame[2] == '\r' }

// mustDrain reports whether a command may only go out when nothing of its session
// is under way.
func (s *session) mustDrain(cmd *command) bool {
	return len(s.parked) > 0 || // else a later command could overtake refused ones
		s.tx.void || // what comes is not of a transaction
		s.tx.ending || // one recording holds one transaction
		cmd.class == classExec && s.tx.active && s.txBroken() ||
		s.own != nil && s.own.queue.len() > 0 && s.own.queue.back().meta&metaStreamed != 0
}

func denial(cmd *command) []byte {
	return resp.AppendError(nil, "ERR '"+displayName(cmd.name)+
		"' is refused by the proxy: its deny_commands names it (sentinelproxy)")
}

// answer replies with b once every earlier command is answered.
func (s *session) answer(b []byte) bool {
	if s.unanswered() {
		s.wait = waitDrain
		return false
	}
	s.reply(b)
	return true
}

// answersLocally reports whether a command of class local is ours to answer, and
// not part of a transaction or refused by the subscriber mode of RESP2.
func (s *session) answersLocally(frame []byte, cmd *command) bool {
	switch cmd.name {
	case "QUIT":
		return true
	case "RESET":
		return alone(frame)
	case "CLIENT|GETNAME", "CLIENT|SETINFO", "CLIENT|MAINT_NOTIFICATIONS",
		"CLIENT|ID", "CLIENT|INFO", "CLIENT|LIST", "CLIENT|KILL", "CLIENT|UNBLOCK":
		if s.w.opts.Dedicated {
			return false // Redis may know better
		}
	}
	return !s.tx.active && (s.who.proto == 3 || !s.subscribed())
}

// needsOwn reports whether a command can't travel on a shared pipe.
func (s *session) needsOwn(frame []byte, cmd *command) bool {
	switch cmd.class {
	case classSticky, classOwn, classMulti, classWatch, classBlock, classWait, classSubscribe:
		return true
	case classMayBlock:
		return blocks(frame)
	case classShared, classScan, classScript:
		// The first is a guess, which is not worth a hold: the master may have no connection left.
		return s.w.owned < maxOwn && (s.large == cmd && s.w.failure == "" || s.w.bulk.has(cmd, frame))
	case classExec, classDiscard, classUnwatch, classLocal, classDenied, classContainer:
	}
	return false
}

// blocks reports whether XREAD or XREADGROUP has a BLOCK option. The options end
// at STREAMS.
func blocks(frame []byte) bool {
	_, pos := resp.Arg(frame, 0)
	for pos > 0 && pos < len(frame) {
		var a []byte
		a, pos = resp.Arg(frame, pos)
		switch {
		case equalFold(string(a), "block"):
			return true
		case equalFold(string(a), "group"): // its two names may be any words
			if _, pos = resp.Arg(frame, pos); pos > 0 {
				_, pos = resp.Arg(frame, pos)
			}
		case equalFold(string(a), "streams"):
			return false
		}
	}
	return false
}

// attach returns the shared pipe of the session's identity. nil means that the
// command at hand was answered (wait is none) or must wait.
func (s *session) attach(cmd *command) *pipe {
	if s.refusal != "" {
		s.refuse(cmd)
		return nil
	}
	if p := s.pipe; p != nil && p.state == pipeReady {
		return s.changeLane(p)
	}
	if text, ok := s.w.refusedLately(s.who); ok {
		s.refusal = text
		s.refuse(cmd)
		return nil
	}
	p := s.w.sharedPipe(s.who)
	if p == nil {
		s.noRoom()
		return nil
	}
	if s.pipe != nil && s.pipe != p && s.inflight > 0 {
		s.wait = waitDrain // a session talks to one backend connection at a time
		return nil
	}
	if p.state == pipeReady && !s.knock(p) {
		return nil
	}
	s.detach()
	s.pipe = p
	p.sessions++
	s.refast()
	if p.state == pipeReady {
		return p
	}
	s.await(p, cmd)
	return nil
}

// refuse answers a command, nil for none, of an identity that Redis does not let in.
func (s *session) refuse(cmd *command) {
	if s.unanswered() {
		s.wait = waitDrain
		return
	}
	text := s.refusal
	s.refusal = ""
	switch {
	case s.w.opts.Auth == AuthNone:
		s.replyError("NOAUTH Redis refuses the proxy's own login: " + text + " (sentinelproxy)")
	case s.who.user == "" && s.who.pass == "":
		s.reqs.Unauthenticated = true
		why := errNoAuth
		if cmd != nil && cmd.class == classExec {
			why = "EXECABORT Transaction discarded because of: " + why
		}
		s.replyError(why)
	default:
		// It was let in before: its password was changed or it was deleted.
		s.replyError(text)
		s.end()
	}
}

func (s *session) detach() {
	if s.pipe != nil {
		s.pipe.sessions--
		if s.pipe.sessions == 0 {
			s.pipe.idleAt = s.w.loopNow()
		}
		s.pipe = nil
		s.fast = false
	}
}

// await has the command at hand wait for p. Once the master has turned a
// connection away, that counts as a hold: it ends at hold.timeout.
func (s *session) await(p *pipe, cmd *command) bool {
	switch {
	case p.busy != "":
		return s.whileBusy(p, cmd)
	case p.state == pipeReady || p.attempts <= 1:
		s.waitFor(p)
		return false
	}
	return s.hold(cmd)
}

// waitFor has the session wait until p is ready, has room, or is lost.
func (s *session) waitFor(p *pipe) {
	s.wait = waitPipe
	p.waiting = append(p.waiting, s)
}

// hold has the command wait for a master, or fails it if it has waited enough.
func (s *session) hold(cmd *command) bool {
	if s.w.mayHold() && !s.expired {
		s.wait = waitRoute
		return false
	}
	if s.unanswered() {
		s.wait = waitDrain
		return false
	}
	if s.heldLeft > 0 {
		s.heldLeft--
		s.expired = s.heldLeft > 0
		s.w.stats.heldFailed++
	} else {
		s.expired = false
		s.w.stats.rejected++
	}
	if s.tx.active {
		s.failQueued(s.w.noMaster())
		s.tx.aborted = true
		if cmd.class == classExec {
			s.endTx()
			if s.own != nil { // it is in MULTI: not fit for what comes
				s.dropOwn()
				s.lostOwn = s.pinned()
			}
		}
	}
	if !s.w.serving {
		s.w.stats.outageReplies[outage.Fail]++
	}
	if s.mayHaveRun() {
		s.uncertain(cmd, "no master was there to repeat it")
	} else {
		s.replyError(s.w.noMaster())
	}
	return true
}

// failQueued answers with an error what was recorded of a transaction and never
// answered: it is not repeated any more, and what is answered next came behind it.
// Nothing of the session is under way. The caller has EXEC fail.
func (s *session) failQueued(text string) {
	t := &s.tx
	for ; t.answered < t.len() && !t.aborted; t.answered++ { // else pullQueued has answered them
		reply := resp.AppendError(nil, text)
		s.reply(reply)
		frame, cmd := t.frame(t.answered), s.w.cmds.unknown
		if frame != nil {
			cmd = s.w.find(frame)
		}
		e := s.entryOf(cmd)
		s.w.ended(nil, &e, frame, kindOf(reply))
	}
}

// endTx forgets a transaction that no connection knows of.
func (s *session) endTx() {
	s.tx = transaction{}
	s.watching, s.watchLost = false, false
}

// noMaster is the error for a command that no master could take. Its prefix is the
// one Redis uses for "no master" or "refused by the fence".
func (w *worker) noMaster() string {
	r := &w.route
	since := (w.now() - r.Since).Round(1e8)
	if r.State == topology.Fenced || r.Cut {
		return fmt.Sprintf("NOREPLICAS fenced for %s: %s; nothing was sent (sentinelproxy)", since, r.Why)
	}
	why := r.Why
	switch {
	case r.State == topology.Serving && !w.serving:
		return "NOREPLICAS fenced: the lease has ended; nothing was sent (sentinelproxy)"
	case r.State == topology.Serving:
		since, why = (w.now() - w.failedAt).Round(1e8), "it can't be connected to"
		if w.failure != "" { // else it was held meanwhile
			why += ": " + w.failure
		}
	case why == "":
		why = "no master is known yet"
	}
	return fmt.Sprintf("MASTERDOWN no master to serve %s for %s: %s; nothing was sent (sentinelproxy)", r.Group, since, why)
}

// displayName is a command as people write it.
func displayName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '|' {
			b[i] = ' '
		}
	}
	return string(b)
}
