package proxy

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Reads from replicas, while no master is served and an outage policy says so. A
// replica is asked over a pipe of its own kind (pipe.replica): one per identity,
// dialled when the first command wants it, ended when a master serves again.
const (
	maxReplicaPipes = 64                     // per worker; idle ones make room
	replicaPatience = 250 * time.Millisecond // for a connection, and for an answer
	replicaLook     = 50 * time.Millisecond  // how often that is looked at
	// replicaRest is how long a replica that failed is left alone, and an identity
	// that found none; at random up to half as much again. It outlasts a dial.
	replicaRest = time.Second
)

// loginError is a replica's word that an identity may not log in.
type loginError string

// Error returns that word.
func (e loginError) Error() string { return string(e) }

var (
	errReplicaSlow   = errors.New("the replica did not take the connection in time")
	errReplicaSilent = errors.New("the replica did not answer in time")
)

// replicas are a worker's pipes to replicas.
type replicas struct {
	pipes  map[identity]*pipe              // dialling, greeting or ready
	ending map[*pipe]struct{}              // deliver what is under way and take nothing new
	failed map[topology.Addr]time.Duration // until when a node is left alone
	rest   map[identity]time.Duration      // until when an identity does not try again
	look   timer
	looks  bool // the timer is set
}

func newReplicas() replicas {
	return replicas{
		pipes: make(map[identity]*pipe), ending: make(map[*pipe]struct{}),
		failed: make(map[topology.Addr]time.Duration), rest: make(map[identity]time.Duration),
	}
}

// forget takes a pipe that takes nothing new out of the tables.
func (r *replicas) forget(p *pipe) {
	if r.pipes[p.id] == p {
		delete(r.pipes, p.id)
	}
	if p.state == pipeRetired {
		r.ending[p] = struct{}{}
	} else {
		delete(r.ending, p)
	}
}

// all returns every pipe, those that end too.
func (r *replicas) all() []*pipe {
	ps := make([]*pipe, 0, len(r.pipes)+len(r.ending))
	for _, p := range r.pipes {
		ps = append(ps, p)
	}
	for p := range r.ending {
		ps = append(ps, p)
	}
	return ps
}

// readReplica sends a read to a replica, or has it wait until that can be done; if
// it can't, the command gets the error.
func (s *session) readReplica(frame []byte, cmd *command) bool {
	p := s.w.replicaPipe(s.who)
	if p == nil {
		return s.hold(cmd)
	}
	if s.inflight > 0 && s.away != p || len(s.kept) > 0 {
		s.wait = waitDrain // a session talks to one backend connection at a time
		return false
	}
	if p.state != pipeReady || p.full() {
		s.waitFor(p)
		return false
	}
	if s.inflight >= maxShare {
		s.wait = waitShare
		return false
	}
	s.away, s.fast = p, false
	p.answerDue()
	var m meta
	if s.heldLeft > 0 {
		m = metaHeld
	}
	p.send(s, frame, cmd, m)
	s.settledByPolicy()
	return true
}

// moveWithoutMaster is move while no master is served: in an outage a replica checks
// the login, or else clients that connect anew would get no answer by the policy.
func (s *session) moveWithoutMaster(who identity, done func(*pipe)) bool {
	w := s.w
	if !w.inOutage() || !outage.Policy(w.outage.Rules).Softens() || !s.stateless() {
		return s.hold(w.cmds.unknown)
	}
	p := w.replicaPipe(who)
	if p == nil {
		return s.hold(w.cmds.unknown)
	}
	if p.state != pipeReady {
		s.waitFor(p)
		return false
	}
	s.before = s.who
	s.detach()
	s.who = who
	p.answerDue()
	done(p)
	s.settledByPolicy()
	return true
}

// answerDue notes, before a command is sent, from when its answer is waited for.
func (p *pipe) answerDue() {
	if p.queue.len() == 0 {
		p.quiet, p.seen = p.w.now(), p.heard
		p.w.armLook()
	}
}

// comeBack takes the session back to the master once nothing of it is under way on
// a replica.
func (s *session) comeBack() bool {
	if s.inflight > 0 {
		s.wait = waitDrain
		return false
	}
	s.away = nil
	s.refast()
	return true
}

// replicaPipe returns the pipe to a replica for an identity, dialling it if there is
// none. nil means that none can be reached, or that this was found out a moment ago.
func (w *worker) replicaPipe(who identity) *pipe {
	r := &w.replicas
	if p := r.pipes[who]; p != nil {
		return p
	}
	now := w.now()
	if until, ok := r.rest[who]; ok {
		if now < until {
			return nil
		}
		delete(r.rest, who)
	}
	addr := w.readable(now)
	if addr == "" || !w.makeReplicaRoom() {
		return nil
	}
	p := &pipe{w: w, id: who, replica: true, due: now + replicaPatience}
	w.dialReplica(p, addr)
	return p
}

// readable returns the replica to ask; "" if there is none.
func (w *worker) readable(now time.Duration) topology.Addr {
	for _, a := range w.route.Replicas {
		if until, ok := w.replicas.failed[a]; !ok || now >= until {
			return a
		}
	}
	return ""
}

// makeReplicaRoom reports whether one more pipe may be made, ending an idle one if
// that helps.
func (w *worker) makeReplicaRoom() bool {
	r := &w.replicas
	if len(r.pipes)+len(r.ending) < maxReplicaPipes {
		return true
	}
	for _, p := range r.pipes {
		if p.state == pipeReady && p.queue.len() == 0 && len(p.waiting) == 0 {
			p.end()
			return true
		}
	}
	return false
}

func (w *worker) dialReplica(p *pipe, addr topology.Addr) {
	w.replicas.pipes[p.id] = p
	p.addr = addr // and no epoch: it is no master's
	w.armLook()
	w.dialFor(p)
}

// replicaReady opens a pipe to reads. Where the node has become a master meanwhile,
// it answers them all the better; the pipe remains a replica's.
func (w *worker) replicaReady(p *pipe) {
	p.state = pipeReady
	p.carried = true
	if w.serving { // too late
		p.end()
	}
	w.wakeAll(p)
}

// replicaLost goes on after a replica's pipe has ended that we did not end. While
// there is time, those that wait for it wait for the next replica.
func (w *worker) replicaLost(p *pipe, err error) {
	r, now := &w.replicas, w.now()
	w.log.Debug("replica can't be read from", "addr", p.addr, "err", err)
	_, stranger := errors.AsType[loginError](err)
	if !stranger { // else the others are welcome there
		r.failed[p.addr] = now + jitter(replicaRest)
	}
	if !p.carried && !w.serving {
		if addr := w.readable(now); addr != "" && now < p.due && !stranger {
			next := &pipe{w: w, id: p.id, replica: true, due: p.due, waiting: p.waiting}
			p.waiting = nil
			w.dialReplica(next, addr)
			return
		}
		if len(r.rest) >= maxRefusals {
			clear(r.rest) // it only spares dials
		}
		r.rest[p.id] = now + jitter(replicaRest)
	}
	w.wakeAll(p)
}

func jitter(d time.Duration) time.Duration { return d + rand.N(d/2) }

// fromReplica returns what the client gets for a replica's answer: the error where
// the replica would not read. Of a reply that is not whole the rest has its way.
func (p *pipe) fromReplica(reply []byte, whole bool) []byte { //nolint:revive // a fact, not a choice of what to do
	if !whole || reply[0] != '-' || refusalOf(reply) == refusedNot {
		p.w.stats.outageReplies[outage.Stale]++
		return reply
	}
	p.w.replicas.failed[p.addr] = p.w.now() + jitter(replicaRest)
	if p.state == pipeReady {
		p.retire()
	}
	p.w.stats.outageReplies[outage.Fail]++
	return resp.AppendError(nil, p.w.noMaster())
}

// retireReplicas ends the pipes to replicas, each when it has delivered what was
// sent. Nothing of the past is remembered.
func (w *worker) retireReplicas() {
	r := &w.replicas
	for _, p := range r.pipes {
		p.pullBack()
		if p.state == pipeReady && p.queue.len() > 0 {
			p.retire()
			continue
		}
		p.end()
		w.wakeAll(p)
	}
	clear(r.failed)
	clear(r.rest)
}

// armLook has the pipes looked at while there is something to wait for.
func (w *worker) armLook() {
	r := &w.replicas
	switch {
	case r.looks:
		return
	case r.look == nil:
		r.look = w.host.after(replicaLook, w.lookAtReplicas)
	default:
		r.look.Reset(replicaLook)
	}
	r.looks = true
}

// lookAtReplicas gives up pipes on which nothing comes.
func (w *worker) lookAtReplicas() {
	r, now := &w.replicas, w.now()
	r.looks = false
	for _, p := range r.all() {
		switch {
		case p.state == pipeDialing || p.state == pipeGreeting:
			if now >= p.due {
				p.lost(errReplicaSlow)
			}
		case p.queue.len() == 0:
			continue
		case p.heard != p.seen || p.slow:
			p.quiet, p.seen = now, p.heard
		case now-p.quiet >= replicaPatience:
			p.lost(errReplicaSilent)
		}
		if p.state != pipeClosed {
			w.armLook()
		}
	}
	w.pump()
}
