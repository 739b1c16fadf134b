package proxy

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// OutageRule gives one answer to some commands in an outage.
type OutageRule = outage.Rule

// ParseOutageRule reads WHAT[:KEYS]=ANSWER, such as "read:apikey-*=stale".
func ParseOutageRule(s string) (OutageRule, error) { return outage.ParseRule(s) }

// Outage says what commands get when no master has been served for long. While the
// route is down that is so in any case. Its zero value answers each with an error
// once it has waited for Route.HoldTimeout.
type Outage struct {
	// Fixed says that After counts. Without it an outage begins when no master has
	// been served for Route.HoldTimeout, and concerns only what Rules answer other
	// than by an error: the rest waits for as long as each may.
	Fixed bool
	// After is how long no master may have been served; from then on no command waits.
	After time.Duration
	// Rules decide by the first that matches; without one a command gets an error.
	// They concern clients without any state of their own on the backend: no MULTI,
	// WATCH, subscription, blocking call or CLIENT REPLY.
	Rules []OutageRule
}

// outageState is a worker's part in it.
type outageState struct {
	Outage

	since time.Duration // since when nothing has been served, while that is so
	at    timer         // begins the outage
}

// SetOutage changes what commands get in an outage, for those that wait too. It is
// safe for concurrent use.
func (s *Server) SetOutage(o Outage) {
	s.outage.Store(&o)
	for i, l := range s.loops {
		w := s.workers[i]
		_ = l.Post(func() { w.setOutage(o) }) // fails only when the loop has ended
	}
}

// Patience returns how long commands wait for a master at most, whatever hold.timeout
// is; false if nothing else bounds it. It is safe for concurrent use.
func (s *Server) Patience() (limit time.Duration, bounded bool) {
	o := s.outage.Load()
	return o.After, o.Fixed
}

func (w *worker) setOutage(o Outage) {
	w.outage.Outage = o
	if !w.serving {
		w.awaitOutage()
		w.lookAgain()
		w.pump()
	}
}

// outageIn returns how long it is until the outage begins; not more than 0 if it
// has. It is called while nothing is served.
func (w *worker) outageIn() time.Duration {
	after := w.route.HoldTimeout
	if w.outage.Fixed {
		after = w.outage.After
	}
	return w.outage.since + after - w.now()
}

// inOutage reports whether commands are answered by the rules now.
func (w *worker) inOutage() bool {
	return !w.serving && (w.route.State == topology.Down || w.outageIn() <= 0)
}

// awaitOutage sets the timer for the outage, if its beginning changes anything.
func (w *worker) awaitOutage() {
	if !w.outage.Fixed && !outage.Policy(w.outage.Rules).Softens() {
		return
	}
	d := max(0, w.outageIn())
	if w.outage.at == nil {
		w.outage.at = w.host.after(d, w.beginOutage)
	} else {
		w.outage.at.Reset(d)
	}
}

// beginOutage has what waits answered.
func (w *worker) beginOutage() {
	switch {
	case w.serving:
		return
	case w.outageIn() > 0: // the route has come to allow more
		w.awaitOutage()
		return
	}
	w.lookAgain()
	w.failRecorded()
	w.pump()
}

// endOutage goes back to the master.
func (w *worker) endOutage() {
	if w.outage.at != nil {
		w.outage.at.Stop()
	}
	w.retireReplicas()
}

// lookAgain has every held session see whether its command is answered by now. If it
// is not, its wait goes on as before.
func (w *worker) lookAgain() {
	for _, s := range w.held {
		s.listed = false
		if !s.closed && s.wait == waitRoute {
			s.resume()
		}
	}
	clear(w.held)
	w.held = w.held[:0]
	w.armHeld()
}

// withoutMaster answers a command that no master can take, or has it wait for one.
func (s *session) withoutMaster(frame []byte, cmd *command) bool {
	if cmd.read == nil || !s.w.inOutage() {
		return s.hold(cmd)
	}
	if !s.stateless() {
		return s.hold(cmd)
	}
	s.w.args = resp.Args(s.w.args[:0], frame)
	switch outage.Policy(s.w.outage.Rules).For(cmd.name, cmd.read, s.w.args) {
	case outage.Nil:
		if reply, ok := cmd.read.Missing(s.w.args, s.who.proto); ok {
			return s.answerByPolicy(reply)
		}
	case outage.Stale:
		if cmd.mayBeStale() {
			return s.readReplica(frame, cmd)
		}
	case outage.Fail:
	}
	return s.hold(cmd)
}

// stateless reports whether a policy may answer the session's commands: it has no
// state on the backend of which the answers would know nothing.
func (s *session) stateless() bool {
	return (s.own == nil || s.w.opts.Dedicated) && !s.stateful() && !s.replyOff && !s.replySkip
}

// answerByPolicy answers a command in its turn.
func (s *session) answerByPolicy(reply []byte) bool {
	if !s.answer(reply) {
		return false
	}
	s.w.stats.outageReplies[outage.Nil]++
	s.settledByPolicy()
	return true
}

// settledByPolicy accounts for a command that was held and that no master gets.
func (s *session) settledByPolicy() {
	if s.heldLeft > 0 {
		s.heldLeft--
		s.w.stats.heldPolicy++
	}
	s.expired = s.expired && s.heldLeft > 0
}
