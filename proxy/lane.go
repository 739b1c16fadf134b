package proxy

import (
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

// weigh notes that a command of n bytes has gone out on p, and has the next one look
// for the right lane where that may be another.
func (s *session) weigh(p *pipe, n int) {
	switch {
	case n*s.inflight >= s.w.sizes.much:
		s.bulky = bulkyFor
		if p.lane == 0 && s.w.second >= s.w.laneAt {
			s.fast = false
		}
	case s.bulky > 0:
		if s.bulky--; s.bulky == 0 && p.lane > 0 {
			s.fast = false
		}
	}
}

// changeLane returns the pipe that suits what the session sends: p, which it is attached to
// and which is ready, or another that it is attached to then.
func (s *session) changeLane(p *pipe) *pipe {
	to := p
	if much := s.bulky > 0; much != (p.lane > 0) {
		if s.inflight > 0 || s.reqs.Unauthenticated {
			return p // later
		}
		if much {
			to = s.w.laneFor(s)
		} else {
			to = s.w.sharedPipe(s.who)
		}
	}
	switch {
	case to == nil: // nor soon
		to = p
	case to.state != pipeReady:
		return p
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
	if w.second < w.laneAt || len(w.lanes) >= maxLanes {
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
