package proxy

import (
	"errors"
	"slices"
	"time"
)

// One connection is best for short commands: those of many clients travel in one
// packet. Long ones gain nothing from company. Redis reads 16 or 32 KiB of a connection in
// one turn of its loop, answers them, and has its replicas written to: with all long
// commands on one connection it takes a turn for every one or two of them, where many
// connections would give it one turn for dozens. So sessions that send much have lanes:
// up to laneCount further shared pipes of their identity. What is short does not wait
// behind what is long then, either. The numbers are in docs/adr/0010-lanes.md.
//
// A lane is a convenience: a session changes to one that is ready, while nothing of its
// own is under way, and goes on as before where there is none.
const (
	// laneCount is how many lanes an identity has on a loop.
	laneCount = 4
	// maxLanes is how many there are on a loop. Who comes late has none.
	maxLanes = 64
	// muchMark is how much a session must have under way to count as one that sends much.
	muchMark = 4 << 10
	// bulkyFor is for how many commands it then does. It is most of maxShare: the first ones
	// of a long pipeline are no sign that it sends little.
	bulkyFor = 255
	// laneRest is how long no lane is dialled after one could not be had.
	laneRest = 5 * time.Second
)

// weigh notes that a command of n bytes has gone out on p, and has the session look for
// another lane, if that is the wrong one, once nothing is under way.
func (s *session) weigh(p *pipe, n int) {
	switch {
	case n*s.inflight >= s.w.sizes.much:
		s.bulky = bulkyFor
	case s.bulky > 0:
		s.bulky--
	case p.lane == 0:
		return
	}
	if (s.bulky > 0) != (p.lane > 0) && s.w.second >= s.w.laneAt {
		s.moves = true
	}
}

// changeLane returns the pipe that suits what the session sends: p, which it is attached to
// and which is ready, or another that it is attached to then.
func (s *session) changeLane(p *pipe) *pipe {
	to := p
	switch much := s.bulky > 0; {
	case much == (p.lane > 0) || s.inflight > 0 || s.reqs.Unauthenticated:
	case much:
		to = s.w.laneFor(s)
	default:
		if _, refused := s.w.refusedLately(s.who); !refused {
			to = s.w.sharedPipe(s.who)
		}
	}
	switch {
	case to == nil:
		to = p
	case to.state != pipeReady:
		s.moves, to = true, p // later
	case to != p:
		s.detach()
		s.pipe = to
		to.sessions++
	}
	s.refast()
	return to
}

// laneFor returns the lane of a session, dialling it if there is none; nil if it
// cannot have one.
func (w *worker) laneFor(s *session) *pipe {
	n := 1 + uint8(int(s.id/int64(w.opts.Loops))%laneCount)
	for _, p := range w.lanes {
		if p.lane == n && p.id == s.who {
			return p
		}
	}
	if w.second < w.laneAt || len(w.lanes) >= maxLanes || w.laneless[s.who] {
		return nil
	}
	p := &pipe{w: w, id: s.who, lane: n, idleAt: w.loopNow()}
	w.lanes = append(w.lanes, p)
	w.connect(p)
	return p
}

// laned reports whether an identity has lanes. Its first shared pipe stays for as long:
// through it calls are unblocked, and its loss shows that a login is taken no more.
func (w *worker) laned(who identity) bool {
	return slices.ContainsFunc(w.lanes, func(p *pipe) bool { return p.id == who })
}

// lanesUsed reports whether somebody uses an identity's lanes.
func (w *worker) lanesUsed(who identity) bool {
	return slices.ContainsFunc(w.lanes, func(p *pipe) bool { return p.id == who && (p.sessions > 0 || p.queue.len() > 0) })
}

// noLane notes that a lane could not be had. The first pipe will tell why, if that does not
// concern one connection too many or a password which has been changed since.
func (w *worker) noLane(p *pipe, err error) {
	w.log.Debug("no further connection to the master", "addr", p.addr, "err", err)
	if _, refused := errors.AsType[loginError](err); !refused {
		w.laneAt = w.now() + laneRest
		return
	}
	if len(w.laneless) >= maxRefusals {
		clear(w.laneless) // it only spares logins
	}
	w.laneless[p.id] = true // until it is let in again
}

// laneLost has the sessions of a lane that ended go on where the others are.
func (w *worker) laneLost(p *pipe, waiting []*session) {
	if p.sessions > 0 || len(waiting) > 0 {
		w.redial(p, waiting)
	}
	q := w.pipes[p.id]
	if p.sessions == 0 || q == nil {
		return
	}
	for _, s := range w.sessions {
		if s.pipe == p {
			s.pipe = q
			q.sessions++
		}
	}
	p.sessions = 0
}
