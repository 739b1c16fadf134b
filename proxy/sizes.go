package proxy

import (
	"fmt"
	"time"
)

// The sizes where Options say nothing.
const (
	defaultLargeCommand = 1 << 20
	defaultQueryBuffer  = 256 << 20
	defaultNormalHard   = 256 << 20
	defaultPubSubHard   = 32 << 20 // as Redis' client-output-buffer-limit has it
	defaultPubSubSoft   = 8 << 20
	defaultPubSubFor    = 60 * time.Second
)

// The marks of one session's memory that no setting moves.
const (
	// outputMark is how many bytes of replies a client may leave unread before its
	// commands are no longer forwarded. They are still read, up to QueryBufferLimit.
	outputMark = 1 << 20
	// crowdMark is how many bytes may be left unread before the replies that are still
	// to come are kept away: their commands are taken back or their connection rests.
	crowdMark = 4 << 20
	// queryMark is how much is read ahead while commands wait for anything else.
	queryMark = 64 << 10
)

// OutputLimit bounds the replies that are kept for one client: one that leaves Hard
// bytes unread, or Soft bytes for longer than For, is cut off. Zero is no limit.
type OutputLimit struct {
	Hard, Soft int
	For        time.Duration
}

// OutputLimits has a limit for each class of clients, as Redis'
// client-output-buffer-limit.
type OutputLimits struct {
	// Normal seldom matters: back-pressure keeps such a client's replies in Redis. What
	// it must bound are replies that are not given twice (of writes and scripts) while
	// other clients' writes wait behind them.
	Normal OutputLimit
	// PubSub is for subscribers, whose messages nothing holds back.
	PubSub OutputLimit
}

// DefaultOutputLimits returns the limits that hold where Options name none.
func DefaultOutputLimits() OutputLimits {
	return OutputLimits{
		Normal: OutputLimit{Hard: defaultNormalHard},
		PubSub: OutputLimit{Hard: defaultPubSubHard, Soft: defaultPubSubSoft, For: defaultPubSubFor},
	}
}

// sizes are the limits of a worker's sessions, in bytes. They are fixed.
type sizes struct {
	large int // LargeCommand: past it commands and replies are passed on in pieces
	query int // QueryBufferLimit
	out   OutputLimits
	mark  int // outputMark
	crowd int // crowdMark
	much  int // muchMark
	alarm int // the least of crowd and the limits of out: below it nobody looks
}

func newSizes(o *Options) sizes {
	z := sizes{large: o.LargeCommand, query: o.QueryBufferLimit, mark: outputMark, crowd: crowdMark, much: muchMark}
	if z.large <= 0 {
		z.large = defaultLargeCommand
	}
	if z.query <= 0 {
		z.query = defaultQueryBuffer
	}
	if z.out = DefaultOutputLimits(); o.OutputLimits != nil {
		z.out = *o.OutputLimits
	}
	z.setAlarm()
	return z
}

func (z *sizes) setAlarm() {
	z.alarm = z.crowd
	for _, n := range []int{z.out.Normal.Hard, z.out.Normal.Soft, z.out.PubSub.Hard, z.out.PubSub.Soft} {
		if n > 0 {
			z.alarm = min(z.alarm, n)
		}
	}
}

// cutReason says which limit a client has passed.
type cutReason uint8

const (
	cutNormalHard cutReason = iota
	cutNormalSoft
	cutPubSubHard
	cutPubSubSoft
	cutReasons
)

// labels returns the class of clients and the limit as metrics and logs name them.
func (r cutReason) labels() (class, limit string) {
	switch r {
	case cutNormalHard:
		return "normal", "hard"
	case cutNormalSoft:
		return "normal", "soft"
	case cutPubSubHard:
		return "pubsub", "hard"
	case cutPubSubSoft:
		return "pubsub", "soft"
	case cutReasons:
	}
	panic(fmt.Sprintf("proxy: unknown cut reason %d", r))
}

// outputLimit returns the limit that holds for the session now, and what it is
// cut off for past its hard half; the soft one is next to it.
func (s *session) outputLimit() (OutputLimit, cutReason) {
	if s.subscribed() {
		return s.w.sizes.out.PubSub, cutPubSubHard
	}
	return s.w.sizes.out.Normal, cutNormalHard
}

// alarmed is called when much is left unread: it cuts the client off, or has the
// session see to it that no more comes.
func (s *session) alarmed() {
	l, hard := s.outputLimit()
	n := s.pending()
	switch {
	case l.Hard > 0 && n >= l.Hard:
		s.cut(hard, n)
		return
	case l.Soft == 0 || n < l.Soft:
		s.softSince = 0
	case s.softSince == 0:
		s.softSince = s.w.now()
		s.w.overSoft[s] = struct{}{}
		s.w.armWatch()
	case s.w.now()-s.softSince > l.For:
		s.cut(hard+1, n)
		return
	}
	if n >= s.w.sizes.crowd && s.inflight > 0 && !s.crowded {
		s.crowded = true
		s.w.schedule(s)
	}
}

// checkSoft cuts off who has been past a soft limit for too long, also if nothing
// new is to be kept for it.
func (w *worker) checkSoft() {
	for s := range w.overSoft {
		if !s.closing {
			s.alarmed()
		}
		if s.closing || s.softSince == 0 {
			delete(w.overSoft, s)
		}
	}
}

// cut ends the session of a client that does not read what it is sent.
func (s *session) cut(why cutReason, pending int) {
	class, limit := why.labels()
	s.w.stats.outputCut[why]++
	s.w.log.Warn("client cut off: it does not read its replies",
		"client", s.conn.RemoteAddr(), "class", class, "limit", limit, "pending_bytes", pending)
	s.abort()
}

// stow keeps what the client sends while its commands wait, beyond what session.in
// holds, in pieces that are never copied together.
func (s *session) stow(b []byte) {
	s.stowed += len(b)
	for len(b) > 0 {
		last := len(s.more) - 1
		if last < 0 || len(s.more[last]) == cap(s.more[last]) {
			s.more = append(s.more, s.w.takeBufOf(bigBuf))
			last++
		}
		piece := s.more[last]
		n := min(len(b), cap(piece)-len(piece))
		s.more[last] = append(piece, b[:n]...)
		b = b[n:]
	}
}

// unstow moves the oldest piece to session.in. It reports whether there was one.
func (s *session) unstow() bool {
	if len(s.more) == 0 {
		return false
	}
	piece := s.more[0]
	s.more[0] = nil
	s.stowed -= len(piece)
	if s.more = s.more[1:]; len(s.more) == 0 {
		s.more = nil
	}
	if len(s.in) == 0 {
		s.dropIn()
		s.in = piece
		return true
	}
	s.in = append(s.in, piece...)
	s.w.giveBuf(piece)
	return true
}

// tooLong cuts off a client for whom a message, or a reply that must be seen whole, is
// past the hard limit alone, before n bytes of it were collected.
func (s *session) tooLong(n int) {
	if l, hard := s.outputLimit(); l.Hard > 0 && s.pending()+n >= l.Hard && !s.closing {
		s.cut(hard, s.pending()+n)
	}
}

// sizeText writes a size in the largest unit that divides it.
func sizeText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
