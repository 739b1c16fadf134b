package proxy

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// This file decides what becomes of a command whose reply was lost or that was
// refused unexecuted (DESIGN.md "Judging in-flight commands", FAILOVER.md 4):
//
//	not fully handed to the kernel   sent again: an incomplete command cannot run
//	refused unexecuted               sent again, once per master
//	changes nothing                  sent again
//	anything else                    answered -UNCERTAIN, or sent again if Options.RetryWrites says so
//
// A command is sent again only if every later command of its session under way
// is too, so the order of a pipeline never changes.

var errBackendClosed = errors.New("the master closed the connection")

// lossOf says in words for a client why a reply is missing.
func lossOf(err error) string {
	if err == nil || errors.Is(err, io.EOF) {
		err = errBackendClosed
	}
	return err.Error()
}

// read reports whether a command can be sent again in any case.
func (e *entry) read() bool { return e.meta&metaStreamed == 0 && e.cmd.resend == resendRead }

// judge settles every command in the queue of a pipe that is gone.
func (p *pipe) judge(why string) {
	if p.queue.len() == 0 {
		return
	}
	vs := p.verdicts()
	var sessions []*session
	pos := p.head
	for i := range p.queue.len() {
		e := p.queue.at(i)
		frame := p.out.at(pos, int(e.n))
		pos += int(e.n)
		s := e.s
		if s == nil {
			continue
		}
		s.inflight--
		if s.closed || s.closing {
			continue
		}
		if e.meta&metaCursor != 0 {
			frame = p.mark(frame, e.cmd)
		}
		frame = s.unsettled(e, frame)
		v := vs[s]
		if !v.met {
			v.met = true
			sessions = append(sessions, s)
			s.pullParked(v)
		}
		switch {
		case i == 0 && p.partial:
			s.cutMidReply(e.cmd) // part of the reply is with the client: there is no way back
		case i <= v.stuck:
			s.giveUp(p, e, frame, pos <= p.sent || e.meta&metaAgain != 0, why)
		case e.meta&metaTx != 0:
			s.pullQueued(e, frame)
		case e.isCall() && s.blocking: // the first; those behind it have not begun
			s.blocking = false
			s.pull(e, reissue(frame, e.cmd, s.w.now()-s.blockedAt), pos <= p.sent && e.cmd.write())
		default:
			again := pos <= p.sent && e.cmd.write() && !p.refused
			if again {
				s.w.stats.repeated++
			}
			s.pull(e, frame, again)
		}
	}
	p.queue.truncate(0)
	for _, s := range sessions {
		if s.tx.active && s.tx.answered == 0 {
			s.tx = transaction{} // it begins anew
		}
		if !s.closing {
			s.takeBack(resendLost)
		}
	}
}

// pullParked settles what was refused before the commands that are being judged.
func (s *session) pullParked(v *verdict) {
	for _, k := range s.parked {
		if v.stuck >= 0 || v.ghosts.seenBy(s.w.find(k.frame), k.frame) {
			s.unpark()
			return
		}
	}
	for _, k := range s.parked {
		s.pullFrame(k.frame, k.again, k.came())
	}
	s.parked = nil
}

// pull takes a command back to be sent again; again says that it may have run
// already. If its client wants no reply to it (CLIENT REPLY SKIP), that is said again
// too.
func (s *session) pull(e *entry, frame []byte, again bool) {
	if e.meta&metaSilent != 0 && !s.replyOff {
		s.pullFrame(resp.AppendCommand(nil, "CLIENT", "REPLY", "SKIP"), false, e.came())
	}
	s.pullFrame(frame, again || e.meta&metaAgain != 0, e.came())
}

// pullFrame is pull for a command that came, as session.at, at came.
func (s *session) pullFrame(frame []byte, again bool, came uint64) {
	if len(s.pulled) == 0 {
		s.pulledAt = came
	}
	s.pulled = append(s.pulled, frame...)
	s.pulledRan = append(s.pulledRan, again)
}

// mayHaveRun reports whether the command at hand may have run already: where it is
// not sent again after all, its client must not be told that nothing was sent.
func (s *session) mayHaveRun() bool { return len(s.ran) > 0 && s.ran[0] }

// pullQueued settles a command of a transaction, or MULTI itself, that got no
// reply. Nothing of it has been executed.
func (s *session) pullQueued(e *entry, frame []byte) {
	t := &s.tx
	switch {
	case t.answered == 0:
		s.pull(e, t.asItCame(frame), false)
	case e.meta&metaStreamed != 0 && s.stream == streamOn: // answered when the client has sent the rest of it
		t.aborted = true
	case e.meta&metaStreamed != 0 || t.aborted || !t.complete():
		t.aborted = true
		if e.meta&metaSilent == 0 {
			reply := resp.AppendError(nil, "EXECABORT "+displayName(e.cmd.name)+
				" was not queued: the connection of the transaction was lost (sentinelproxy)")
			s.reply(reply)
			s.w.ended(nil, e, frame, kindOf(reply))
		}
	default: // restoreTx repeats it from the recording
	}
}

// asItCame returns the frame that the client sent for the next command of the transaction
// that is pulled back, where another was sent in its place (CLIENT REPLY).
func (t *transaction) asItCame(sent []byte) []byte {
	at := t.pulled - 1 // the first is MULTI
	t.pulled++
	for _, q := range t.effects {
		if q.at == at && q.cmd.name == "CLIENT|REPLY" {
			return q.frame
		}
	}
	return sent
}

// cutMidReply ends a session that has got a part of a reply whose rest will not
// come, or may not be passed on.
func (s *session) cutMidReply(cmd *command) {
	s.w.stats.cutMidReply++
	s.w.log.Warn("client cut off: its large reply broke off with the master",
		"client", s.conn.RemoteAddr(), "command", cmd.name)
	s.abort()
}

// giveUp answers a command of p that may not be sent again.
func (s *session) giveUp(p *pipe, e *entry, frame []byte, sent bool, why string) { //nolint:revive // a fact, not a choice of what to do
	if e.meta&metaStreamed != 0 && s.stream == streamOn {
		return // answered when the client has sent the rest of it
	}
	if e.cmd.class == classExec || e.cmd.class == classDiscard {
		s.tx = transaction{}
		s.watching, s.watchLost = false, false
	}
	if e.meta&metaSilent != 0 {
		return
	}
	if sent && (e.cmd.write() || e.meta&metaTx != 0) {
		s.w.ended(p, e, frame, kindOf(s.uncertain(e.cmd, why)))
		return
	}
	s.w.stats.uncertain++
	reply := resp.AppendError(nil, "UNCERTAIN the reply to "+displayName(e.cmd.name)+
		" was lost, and a later command of this connection may have been executed: "+why+" (sentinelproxy)")
	s.reply(reply)
	s.w.ended(p, e, frame, kindOf(reply))
}

// uncertain answers a write of which nobody knows whether it lasts, and returns the
// answer.
func (s *session) uncertain(cmd *command, why string) []byte {
	s.w.stats.uncertain++
	reply := uncertainty(cmd, why)
	s.reply(reply)
	return reply
}

func uncertainty(cmd *command, why string) []byte {
	return resp.AppendError(nil, "UNCERTAIN "+displayName(cmd.name)+" may or may not have been executed: "+why+" (sentinelproxy)")
}

const errRefusedAgain = "it was sent a second time, and refused"

// resendReason is why commands were taken back to be sent again.
type resendReason uint8

const (
	resendLost    resendReason = iota // their connection ended, or was given up, before they were answered
	resendRefused                     // the master refused them: it is none, or it loads
	resendUnsent                      // they were not sent yet when another master was to be served
	resendHeldUp                      // another's large reply, script or paused write held up their connection
	resendReasons
)

// String returns the reason as metrics name it.
func (r resendReason) String() string {
	return [...]string{"lost", "refused", "unsent", "held_up"}[r]
}

// takeBack puts commands that were pulled back before everything else that the
// client sent, and has the session go on from there.
func (s *session) takeBack(why resendReason) {
	if s.putBack() {
		s.w.stats.resent[why]++
	}
	s.tx.ending = false
	s.resume()
}

// putBack is takeBack without an effect on what the session waits for. It reports whether
// anything was pulled back.
func (s *session) putBack() bool {
	if s.inflight == 0 && len(s.parked) > 0 { // it was refused before what is taken back now
		pulled, ran := s.pulled, s.pulledRan
		s.pulled, s.pulledRan = nil, nil
		for _, k := range s.parked {
			s.pullFrame(k.frame, k.again, k.came())
		}
		s.parked = nil
		s.pulled, s.pulledRan = append(s.pulled, pulled...), append(s.pulledRan, ran...)
	}
	if len(s.pulled) == 0 {
		return false
	}
	s.arrivedBefore(len(s.pulled), s.pulledAt)
	s.in, s.home = append(s.pulled, s.in...), nil
	s.pulled = nil
	s.recount = s.listed
	if len(s.ran) > 0 || slices.Contains(s.pulledRan, true) {
		s.ran = append(slices.Clip(s.pulledRan), s.ran...)
		s.fast = false
	}
	s.pulledRan = nil
	if s.stream == streamOff {
		s.reqs = resp.Requests{Unauthenticated: s.reqs.Unauthenticated}
	}
	return true
}

// refusalKind says how a reply refuses a command that was not executed.
type refusalKind uint8

const (
	refusedNot  refusalKind = iota // executed, or refused for good
	refusedRole                    // not a master any more
	refusedSoft                    // may be taken in a moment: loading, no replicas
)

// refusalOf reads an error reply. Only Redis' own words count: a script could
// answer the bare codes after it has written something.
func refusalOf(reply []byte) refusalKind {
	if inner, ok := bytes.CutPrefix(reply, []byte("-EXECABORT Transaction discarded because of: ")); ok {
		reply = append([]byte{'-'}, inner...)
	}
	switch {
	case bytes.HasPrefix(reply, []byte("-READONLY You can't write against a read only")),
		bytes.HasPrefix(reply, []byte("-UNBLOCKED force unblock from blocking operation")):
		return refusedRole
	case bytes.HasPrefix(reply, []byte("-LOADING ")),
		bytes.HasPrefix(reply, []byte("-MASTERDOWN Link with MASTER")),
		bytes.HasPrefix(reply, []byte("-NOREPLICAS Not enough good replicas")):
		return refusedSoft
	}
	return refusedNot
}

// parked is a refused command, or a read behind one, that waits to be sent again
// once everything of its session under way is answered.
type parked struct {
	entry // of the command, whose frame may be another by now

	frame, reply []byte
	rests        bool // a master that refused it is given time, or replaced
	again        bool // it may have run before that
}

// retryAfter is how long refused commands rest if no new route comes.
const retryAfter = time.Second

// refused decides whether a command is kept back to be sent again. If so it
// copies what it needs.
func (s *session) refused(p *pipe, e entry, frame, reply []byte) bool {
	if e.meta&metaCursor != 0 {
		frame = p.mark(frame, e.cmd)
	}
	kind := refusedNot
	if reply[0] == '-' {
		if e.meta&(metaTx|metaSilent|metaStreamed) == 0 && noScript(reply) {
			if call, ok := s.w.withBody(frame, e.cmd); ok {
				s.w.stats.scriptReloads++
				s.park(&e, call, reply)
				return true
			}
		}
		kind = refusalOf(reply)
		if s.unblocked && s.own == p && bytes.HasPrefix(reply, []byte("-UNBLOCKED client unblocked via CLIENT UNBLOCK")) {
			s.unblocked, s.blocking = false, false
			s.park(&e, reissue(frame, e.cmd, s.w.now()-s.blockedAt), reply)
			s.rest()
			return true
		}
	}
	if kind == refusedNot {
		if len(s.parked) == 0 {
			return false
		}
		if e.read() && e.meta&(metaOrder|metaSilent) == 0 && s.parkedBytes()+len(reply) <= s.w.sizes.mark {
			s.park(&e, frame, reply)
			return true
		}
		s.unpark()
		return false
	}
	s.w.refusedBy(p, kind, reply)
	if e.meta&(metaSilent|metaStreamed) != 0 || s.retriedOn(p) {
		s.unpark()
		return false
	}
	if e.meta&metaTx != 0 || e.cmd.class == classExec {
		s.restartTx(p, e)
		return true
	}
	if e.isCall() && s.blocking {
		s.callEnded(p)
		s.park(&e, reissue(frame, e.cmd, s.w.now()-s.blockedAt), reply)
		s.rest()
		return true
	}
	if e.cmd.class == classSticky {
		s.stickyCalls-- // until it is sent again
	}
	s.park(&e, s.unsettled(&e, frame), reply)
	s.rest()
	return true
}

func (s *session) park(e *entry, frame, reply []byte) {
	s.parked = append(s.parked, parked{
		entry: *e, frame: bytes.Clone(frame), reply: bytes.Clone(reply), again: e.meta&metaAgain != 0,
	})
	s.fast = false
}

// parkedBytes returns how much is kept of replies to what is parked.
func (s *session) parkedBytes() int {
	n := 0
	for _, k := range s.parked {
		n += len(k.reply)
	}
	return n
}

// rest has what was parked last wait before it is sent again.
func (s *session) rest() { s.parked[len(s.parked)-1].rests = true }

// unpark passes the refusals on: a later command of the session was executed.
func (s *session) unpark() {
	for _, k := range s.parked {
		if k.again {
			s.w.ended(nil, &k.entry, k.frame, kindOf(s.uncertain(s.w.find(k.frame), errRefusedAgain)))
			continue
		}
		s.reply(k.reply)
		s.w.ended(nil, &k.entry, k.frame, kindOf(k.reply))
	}
	s.parked = nil
	s.refast()
}

// settle sends refused commands again once nothing of the session is under way.
func (s *session) settle(p *pipe) {
	if s.inflight > 0 || s.closed || len(s.parked) == 0 {
		return
	}
	rests := false
	for _, k := range s.parked {
		s.pullFrame(k.frame, k.again, k.came())
		rests = rests || k.rests
	}
	s.parked = nil
	if s.own == p && !s.pinned() {
		s.dropOwn()
	}
	if !s.w.serving || !rests {
		s.takeBack(resendRefused) // and is held, or sent
		return
	}
	s.retried = retry{addr: p.addr, epoch: p.epoch, at: s.w.now()}
	s.takeBack(resendRefused)
	s.wait = waitRetry
	s.w.retryLater(s)
}

// unblockAll ends the calls that block on a master which may be replaced, so
// that they end definite: a popped element is either with its client or still in
// Redis. They go on with the time that is left of them. Without the right to
// call CLIENT UNBLOCK they end with their connection.
func (w *worker) unblockAll() {
	for own := range w.owns {
		s := own.owner
		if s == nil || !s.blocking || s.unblocked || own.info.id == 0 || own.queue.len() == 0 {
			continue
		}
		p := w.pipes[s.who]
		if c := own.queue.back().cmd; c == nil || (c.class != classBlock && c.class != classMayBlock) ||
			p == nil || p.state != pipeReady || p.addr != own.addr || p.epoch != own.epoch {
			continue
		}
		s.unblocked, own.aimed = true, true
		id := strconv.FormatInt(own.info.id, 10)
		p.sendInternal(resp.AppendCommand(nil, "CLIENT", "UNBLOCK", id, "ERROR"), func([]byte) {})
	}
}

// retry remembers on which master refused commands were sent again, and when.
type retry struct {
	addr  topology.Addr
	epoch uint64
	at    time.Duration
}

// retriedOn reports whether the session has been refused by this master already:
// then it is told.
func (s *session) retriedOn(p *pipe) bool {
	r := &s.retried
	return r.addr == p.addr && r.epoch == p.epoch && s.w.now()-r.at < 5*retryAfter
}

// restartTx repeats a transaction of which e was refused. Its pipe is given up, so
// that the recording is the only truth.
func (s *session) restartTx(p *pipe, e entry) {
	p.queue.unpop(e)
	p.refused = true
	s.retried = retry{addr: p.addr, epoch: p.epoch, at: s.w.now()}
	s.w.giveUp(p)
	if !s.w.serving {
		return // it is held
	}
	s.wait = waitRetry
	s.w.retryLater(s)
}

// reissue returns a blocking command with the time that is left of its timeout.
// A command without a timeout, or whose timeout cannot be read, stays as it is.
func reissue(frame []byte, cmd *command, elapsed time.Duration) []byte {
	args := resp.Args(nil, frame)
	if cmd.class == classOwn {
		return frame
	}
	i, unit := timeoutArg(args, cmd)
	if i <= 0 || i >= len(args) {
		return frame
	}
	v, err := strconv.ParseFloat(string(args[i]), 64)
	if err != nil || v <= 0 {
		return frame
	}
	left := max(time.Duration(v*float64(unit))-elapsed, time.Millisecond)
	out := make([][]byte, len(args))
	copy(out, args)
	if unit == time.Second {
		out[i] = strconv.AppendFloat(nil, left.Seconds(), 'f', 3, 64)
	} else {
		out[i] = strconv.AppendInt(nil, int64(left/time.Millisecond), 10)
	}
	return resp.AppendCommand(nil, out...)
}

// timeoutArg finds the timeout of a blocking command and its unit.
func timeoutArg(args [][]byte, cmd *command) (int, time.Duration) {
	switch cmd.name {
	case "BLMPOP", "BZMPOP":
		return 1, time.Second
	case "XREAD", "XREADGROUP":
		for i := 1; i < len(args); i++ {
			switch word := string(args[i]); {
			case equalFold(word, "block"):
				return i + 1, time.Millisecond
			case equalFold(word, "group"): // its two names may be any words
				i += 2
			}
		}
		return 0, 0
	case "WAIT", "WAITAOF":
		return len(args) - 1, time.Millisecond
	}
	return len(args) - 1, time.Second
}
