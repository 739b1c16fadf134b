package proxy

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// mode is the part of a session that a plain client never touches: what makes it
// need a pipe of its own, and what must be set up again when that pipe is lost.
type mode struct {
	replyOff, replySkip bool   // CLIENT REPLY OFF, SKIP
	name                string // CLIENT SETNAME
	libName, libVer     string // CLIENT SETINFO

	sticky bool     // keeps its own pipe until RESET
	setup  [][]byte // commands that a new own pipe must repeat, such as CLIENT TRACKING ON

	tx        transaction
	watching  bool // WATCH is in force
	watchLost bool // and its connection was lost: EXEC answers nil
	blocking  bool // a call that needs a pipe for itself is under way
	blockedAt time.Duration

	subs       map[subscription]struct{}
	subCalls   int // SUBSCRIBE and kin under way
	restoreSub int // confirmations of our own SUBSCRIBEs to swallow

	stream    streamState
	streamErr string // what to answer when a broken stream has been read to its end

	lostOwn bool   // the own pipe was lost: the next one must be restored
	expired bool   // what was held has waited long enough
	refusal string // Redis' words, when the login of a pipe we waited for failed
}

// transaction records what follows MULTI, so that it can be repeated on a new
// master before EXEC was handed over (DESIGN.md, "MULTI pins and records").
type transaction struct {
	active   bool
	log      []byte // MULTI and what was queued, as it was sent
	frames   []int  // the length of each command in log
	answered int    // of frames; their replies have reached the client
	aborted  bool   // EXEC must fail: the recording no longer matches what the client was told
}

// txLogLimit bounds a recording; a longer transaction is aborted if its
// connection is lost.
const txLogLimit = 1 << 20

// record keeps a command. One that does not fit is noted with length 0.
func (t *transaction) record(frame []byte) {
	if len(t.log)+len(frame) > txLogLimit {
		t.frames = append(t.frames, 0)
		return
	}
	t.log = append(t.log, frame...)
	t.frames = append(t.frames, len(frame))
}

// complete reports whether every command was kept.
func (t *transaction) complete() bool {
	for _, n := range t.frames {
		if n == 0 {
			return false
		}
	}
	return true
}

// pinned reports whether the session must keep its own pipe.
func (s *session) pinned() bool {
	return s.sticky || s.tx.active || s.watching || s.blocking || s.subCalls > 0 || len(s.subs) > 0 ||
		s.stream != streamOff
}

func (s *session) subscribed() bool { return len(s.subs) > 0 }

// refast works out whether the short way is open: nothing about the session is
// unusual and its shared pipe is known.
func (s *session) refast() {
	s.fast = s.own == nil && s.pipe != nil && !s.replyOff && !s.replySkip && s.heldLeft == 0 &&
		s.refusal == "" && !s.pinned() && len(s.parked) == 0
}

// transmit sends a command that may go out now on p, with what its class needs.
func (s *session) transmit(p *pipe, frame []byte, cmd *command) {
	var m meta
	if cmd.write() {
		m = metaWrite
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
	case classMulti:
		s.tx = transaction{active: true}
		s.tx.record(frame)
		m |= metaOrder | metaTx
	case classWatch:
		s.watching = true
		m |= metaOrder
	case classUnwatch, classExec, classDiscard:
		m |= metaOrder
	case classWait:
		p.sendInternal(pingFrame(), func([]byte) {})
		s.startCall(&m)
	case classBlock, classMayBlock, classOwn:
		if p == s.own {
			s.startCall(&m)
		}
	case classSubscribe:
		s.subCalls++
		m |= metaOrder
	case classSticky:
		s.sticky = true
		s.remember(frame, cmd)
	case classShared, classLocal, classDenied, classContainer:
	}
	p.send(s, frame, cmd, m)
}

func (s *session) startCall(m *meta) {
	s.blocking = true
	s.blockedAt = s.w.now()
	*m |= metaOrder
}

// transmitQueued sends a command between MULTI and EXEC.
func (s *session) transmitQueued(p *pipe, frame []byte, cmd *command, m meta) {
	m |= metaOrder
	switch cmd.class {
	case classExec:
		if s.watchLost || s.tx.aborted {
			s.refuseExec(p, frame, cmd)
			return
		}
	case classDiscard:
	default:
		s.tx.record(frame)
		m = m&^metaWrite | metaTx
		if cmd.class == classLocal || cmd.class == classSticky {
			s.sticky = true // what it does to the connection takes effect at EXEC
		}
	}
	p.send(s, frame, cmd, m)
}

// refuseExec ends a transaction that may not run: on the backend by DISCARD, to
// the client as a touched WATCH key or as EXECABORT.
func (s *session) refuseExec(p *pipe, _ []byte, cmd *command) {
	answer := resp.AppendError(nil, "EXECABORT Transaction discarded because its connection was lost. (sentinelproxy)")
	if s.watchLost && !s.tx.aborted {
		answer = nullReply(s.who.proto)
	}
	e := entry{s: s, cmd: cmd}
	s.inflight++
	p.sendInternal(resp.AppendCommand(nil, "DISCARD"), func(reply []byte) {
		s.inflight--
		if s.closed {
			return
		}
		s.reply(answer)
		s.replied(p, e, answer)
		if reply != nil {
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

// remember keeps what must be repeated on a new connection.
func (s *session) remember(frame []byte, cmd *command) {
	switch cmd.name {
	case "CLIENT|TRACKING", "CLIENT|NO-TOUCH", "CLIENT|NO-EVICT", "MONITOR":
		if len(s.setup) < maxSetup {
			s.setup = append(s.setup, append([]byte(nil), frame...))
		}
	}
}

// maxSetup bounds the commands repeated for one session; later ones are dropped.
const maxSetup = 64

// replied takes note of a reply that changes the session's mode.
func (s *session) replied(_ *pipe, e entry, reply []byte) {
	if e.meta&metaTx != 0 {
		s.tx.answered++
		if e.cmd.class == classMulti && reply[0] == '-' && len(s.tx.frames) == 1 {
			s.tx = transaction{}
		}
		return
	}
	switch e.cmd.class {
	case classExec, classDiscard:
		s.tx = transaction{}
		s.watching, s.watchLost = false, false
	case classUnwatch:
		s.watching, s.watchLost = false, false
	case classBlock, classMayBlock, classOwn, classWait:
		s.blocking = false
	case classShared, classLocal, classMulti, classWatch, classSubscribe, classSticky, classDenied, classContainer:
	}
}
