package proxy

import (
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// A Redis on which a script runs too long answers BUSY, also to the SELECT of a new
// connection. Such a connection is kept, and SELECT repeated. Meanwhile clients that need
// it are told what Redis tells those that have one, and what kills the script goes over
// it: that depends on no database.

// busyFor is how long Redis' BUSY is believed before it is asked again.
const busyFor = redialMin

func isBusy(text string) bool { return strings.HasPrefix(text, "BUSY ") }

// selectDB has Redis put a connection that is being greeted into its database.
func (w *worker) selectDB(p *pipe) {
	p.selecting, p.greetAt = true, w.now()
	p.sendInternal(resp.AppendCommand(nil, "SELECT", strconv.Itoa(p.id.db)), func(r []byte) {
		p.selecting = false
		w.selected(p, r)
	})
}

// busy keeps a connection that is in no database yet, since Redis says text.
func (w *worker) busy(p *pipe, text string) {
	p.busy, p.busyAt = text, w.now()
	p.busyTold++
	w.wakeAll(p) // to be told
	told := p.busyTold
	w.host.after(restAfter(told), func() {
		if p.state == pipeGreeting && p.busyTold == told && !p.selecting {
			w.selectDB(p)
		}
	})
}

// whileBusy answers the command at hand, for which p is in no database yet. It returns
// false if the command must wait until Redis has said whether it still is busy.
func (s *session) whileBusy(p *pipe, cmd *command) bool {
	if s.w.now()-p.busyAt >= busyFor {
		if !p.selecting {
			s.w.selectDB(p)
		}
		s.waitFor(p)
		return false
	}
	if s.unanswered() {
		s.wait = waitDrain
		return false
	}
	text := p.busy
	if s.tx.active {
		s.failQueued(text)
	}
	switch {
	case cmd.class == classMulti && !s.tx.active: // what follows must not be executed at once
		s.tx = transaction{active: true, answered: 1}
		s.tx.record(resp.AppendCommand(nil, "MULTI"))
		s.lostOwn = true // it is sent when there is a connection
		s.reply([]byte("+OK\r\n"))
	case cmd.class == classDiscard && s.tx.active:
		s.endTx()
		s.reply([]byte("+OK\r\n"))
	case cmd.class == classExec && s.tx.active:
		s.endTx()
		s.replyError("EXECABORT Transaction discarded because of: " + text)
	case s.mayHaveRun():
		s.uncertain(cmd, "the master was busy when it was to be repeated")
	default:
		s.tx.refused = s.tx.active
		s.replyError(text)
	}
	if s.own == p && (!s.pinned() || p.id != s.who) {
		s.dropOwn()
	}
	return true
}
