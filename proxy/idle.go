package proxy

import "time"

// Idle clients are looked for as Redis does for its timeout
// (clientsCronHandleTimeout in redis/src/timeout.c): some at each tick, so that no
// tick takes long, all within a round. A client costs nothing in between: when it was
// last active is noted as events of it are handled, from a clock that is read once a
// second.
const (
	idleTick     = 100 * time.Millisecond
	idleRoundMin = time.Second
	idleRoundMax = 10 * time.Second
	// maxIdleEnds is how many connections one tick ends at most: those of a whole fleet
	// that fell silent at once must not hold up the others.
	maxIdleEnds = 64
)

// idleRound is how long it takes to look at every client once: an idle one is ended
// so much too late at most. With a long timeout there is no hurry.
func idleRound(timeout time.Duration) time.Duration {
	return min(max(timeout/16, idleRoundMin), idleRoundMax)
}

// armIdle begins the looking, if there is anything to look for.
func (w *worker) armIdle() {
	switch {
	case w.opts.IdleTimeout <= 0 || w.idleArmed:
		return
	case w.idleAt == nil:
		w.idleAt = w.host.after(idleTick, w.lookForIdle)
	default:
		w.idleAt.Reset(idleTick)
	}
	w.idleArmed = true
}

// lookForIdle looks at the next clients in the table. When the table is empty it
// rests until the next client comes.
func (w *worker) lookForIdle() {
	w.idleArmed = false
	w.second = w.now()
	n := len(w.sessions)
	if n == 0 {
		return
	}
	looks := min(n, max(5, int(int64(n)*int64(idleTick)/int64(idleRound(w.opts.IdleTimeout)))+1))
	for ended := 0; looks > 0 && ended < maxIdleEnds; looks-- {
		if w.idleNext >= n {
			w.idleNext = 0
		}
		s := w.sessions[w.idleNext]
		w.idleNext++
		if s.idle() {
			ended++
			w.stats.idleEnded++
			w.log.Debug("idle client ended", "client", s.conn.RemoteAddr(), "client_id", s.id)
			s.closing, s.mute = true, true
			s.conn.Close()
		}
	}
	w.armIdle()
	w.pump()
}

// idle reports whether the client has neither said nor taken anything for
// idle_timeout, and is none of those that may: subscribers, clients of a blocking call
// and of MONITOR, as on Redis; and those whom we, not they, keep waiting. One that
// leaves its replies unread, or a command half sent, is idle. One with CLIENT TRACKING
// or an open transaction is too, as on Redis.
func (s *session) idle() bool {
	if s.closed || s.w.second-s.seen <= s.w.opts.IdleTimeout+idleTick {
		return false
	}
	if s.closing { // it does not take its last replies
		return true
	}
	switch s.wait {
	case waitNone, waitOutput:
	case waitRoute, waitPipe, waitDrain, waitLogin, waitShare, waitRetry:
		return false
	}
	if s.subscribed() || s.subCalls > 0 || s.blocking || s.monitors() {
		return false
	}
	return s.pending() > 0 || s.stream != streamOff || !s.unanswered() && len(s.parked) == 0
}
