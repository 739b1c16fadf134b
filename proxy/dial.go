package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Redialling rests between attempts, with jitter. A master that was lost is
// reported if no connection is back within lossGrace (DESIGN.md).
const (
	maxRefusals = 1024 // remembered; a client could try any number of passwords

	redialMin = 10 * time.Millisecond
	redialMax = 500 * time.Millisecond
	lossGrace = 250 * time.Millisecond

	// turnedAwayFor is how long after a connection was turned away, or broke off in its
	// greeting, a closed one is not taken for Redis' word on its client.
	turnedAwayFor = time.Second
)

// sharedPipe returns the pipe of an identity, dialling it if there is none; nil if
// there are as many as may be. It is only called while the route serves.
func (w *worker) sharedPipe(who identity) *pipe {
	if p := w.pipes[who]; p != nil {
		return p
	}
	if !w.room() {
		return nil
	}
	p := &pipe{w: w, id: who, idleAt: w.loopNow()}
	w.pipes[who] = p
	w.connect(p)
	return p
}

// ownPipe returns a pipe of an identity for s alone: a clean idle one, or a new
// one that is being dialled.
func (w *worker) ownPipe(s *session, who identity, why pinReason) *pipe {
	w.owned++
	w.stats.pinned[why]++
	list := w.idle[who]
	for len(list) > 0 && s.cutPipe == nil { // else it is a new one that tells why the last was closed
		p := list[len(list)-1]
		list = list[:len(list)-1]
		w.idle[who] = list
		if p.state == pipeReady {
			p.owner = s
			w.owns[p] = struct{}{}
			return p
		}
	}
	p := &pipe{w: w, id: who, owner: s}
	w.owns[p] = struct{}{}
	w.connect(p)
	return p
}

// giveOwn takes an own pipe back. A clean one is kept for the next session.
func (w *worker) giveOwn(p *pipe) {
	w.owned--
	delete(w.owns, p)
	p.owner = nil
	list := w.idle[p.id]
	if p.state != pipeReady || p.queue.len() > 0 || p.aimed || len(list) >= maxIdleOwn {
		p.end()
		w.wakeAll(p) // its session may have waited for an answer to us
		return
	}
	p.idleAt = w.loopNow()
	p.gotBytes, p.gotReplies = 0, 0 // the next session asks for other things
	w.idle[p.id] = append(list, p)
	w.armSweep()
}

// giveUp abandons a pipe, whatever kind it is.
func (*worker) giveUp(p *pipe) {
	s := p.owner
	p.abandon()
	if s != nil && s.own == p {
		s.ownLost(nil)
	}
}

// connect dials p's master, again and again until it is there or the route
// moves on.
func (w *worker) connect(p *pipe) {
	p.addr, p.epoch = w.route.Master, w.route.Epoch
	w.armWatch()
	w.dialFor(p)
}

// dialFor dials p.addr once.
func (w *worker) dialFor(p *pipe) {
	p.state = pipeDialing
	p.dialGen++
	gen := p.dialGen
	w.stats.dials++
	w.host.dial(p.addr, p, func(c wire, err error) {
		if p.dialGen != gen {
			if c != nil {
				c.Abort()
			}
			return
		}
		if err != nil {
			w.stats.dialErrors++
			w.connectFailed(p, err)
		} else {
			p.conn = c
			w.greet(p)
		}
		w.pump()
	})
}

// connectFailed tries again after a rest, and tells the control plane.
func (w *worker) connectFailed(p *pipe, err error) {
	if p.replica || p.lane > 0 {
		p.lost(err)
		return
	}
	p.attempts++
	w.turnedAway = w.now()
	if p.owner != nil {
		p.owner.cutPipe = nil
	}
	w.log.Debug("master cannot be reached", "addr", p.addr, "attempt", p.attempts, "err", err)
	if p.trialOf != nil {
		w.endTrial(p)
		return
	}
	w.failed(err.Error())
	w.reportPipe(topology.ReportUnreachable, p, err.Error())
	if p.attempts > 1 {
		w.wakeAll(p) // to be held
	}
	w.reconnect(p)
}

func (w *worker) reconnect(p *pipe) {
	p.state = pipeDialing
	p.conn = nil
	gen := p.dialGen
	w.host.after(restAfter(p.attempts), func() {
		if p.dialGen == gen && p.state == pipeDialing {
			w.connect(p)
		}
	})
}

// restAfter is how long to rest after so many attempts.
func restAfter(attempts int) time.Duration {
	d := min(redialMax, redialMin<<min(attempts, 6))
	return d/2 + rand.N(d)
}

// greet logs in and checks the role, in one round trip: HELLO's role field costs
// nothing extra, and ordinary users may not call ROLE (FAILOVER.md 6.1).
func (w *worker) greet(p *pipe) {
	p.state = pipeGreeting
	p.greetAt, p.access = w.now(), w.access.Load()
	hello := []string{"HELLO", strconv.Itoa(p.id.proto)}
	if p.id.pass != "" || p.id.user != "" {
		hello = append(hello, "AUTH", userName(p.id.user), p.id.pass)
	}
	p.sendInternal(resp.AppendCommand(nil, hello...), func(r []byte) { w.greeted(p, r) })
	if p.id.db != 0 {
		w.selectDB(p)
	} else {
		p.last = true
	}
}

func userName(u string) string {
	if u == "" {
		return "default"
	}
	return u
}

func (w *worker) greeted(p *pipe, reply []byte) {
	if reply == nil || p.state != pipeGreeting {
		return
	}
	if reply[0] == '-' {
		w.greetRefused(p, trimLine(reply))
		return
	}
	v, _, err := resp.Decode(reply)
	if err != nil {
		p.lost(fmt.Errorf("HELLO: %w", err))
		return
	}
	p.info = serverInfo{
		server:  string(v.Lookup("server").Str),
		version: string(v.Lookup("version").Str),
		mode:    string(v.Lookup("mode").Str),
		id:      v.Lookup("id").Int(),
		modules: modulesOf(reply),
	}
	w.wholeHello = !before72(p.info.version)
	switch string(v.Lookup("role").Str) {
	case "master":
		p.info.role = topology.RoleMaster
	case "replica", "slave":
		p.info.role = topology.RoleReplica
	}
	w.roleKnown(p)
}

// modulesOf returns the value of HELLO's last field as it was written.
func modulesOf(reply []byte) []byte {
	i := bytes.LastIndex(reply, []byte("$7\r\nmodules\r\n"))
	if i < 0 {
		return []byte("*0\r\n")
	}
	return bytes.Clone(reply[i+len("$7\r\nmodules\r\n"):])
}

// greetRefused deals with an error to HELLO.
func (w *worker) greetRefused(p *pipe, text string) {
	switch {
	case strings.HasPrefix(text, "NOAUTH"), strings.HasPrefix(text, "WRONGPASS"), strings.HasPrefix(text, "NOPERM"):
		w.loginRefused(p, text)
	case strings.HasPrefix(text, "ERR unknown command"), strings.HasPrefix(text, "NOPROTO"):
		w.greetOld(p)
	default: // LOADING, MASTERDOWN, max number of clients
		if strings.HasPrefix(text, "LOADING") || strings.HasPrefix(text, "MASTERDOWN") {
			w.reportPipe(topology.ReportRefused, p, text)
		}
		p.lost(errors.New(text))
	}
}

// greetOld greets a server before Redis 6, which has no HELLO: AUTH, then ROLE.
func (w *worker) greetOld(p *pipe) {
	if p.id.proto == 3 {
		w.loginRefused(p, "NOPROTO unsupported protocol version")
		return
	}
	p.info = serverInfo{server: "redis", version: "5", mode: "standalone", modules: []byte("*0\r\n"), old: true}
	if p.id.pass != "" {
		p.sendInternal(resp.AppendCommand(nil, "AUTH", p.id.pass), func(r []byte) {
			if r != nil && r[0] == '-' && p.state == pipeGreeting {
				w.loginRefused(p, trimLine(r))
			}
		})
	}
	p.last = false
	p.sendInternal(resp.AppendCommand(nil, "ROLE"), func(r []byte) {
		if r == nil || p.state != pipeGreeting {
			return
		}
		v, _, err := resp.Decode(r)
		if err == nil && len(v.Elem) > 0 && string(v.Elem[0].Str) == "slave" {
			p.info.role = topology.RoleReplica
		} else {
			p.info.role = topology.RoleMaster // or it may not say: the control plane has checked
		}
		p.last = true
		w.roleKnown(p)
	})
}

func (w *worker) roleKnown(p *pipe) {
	if p.info.role == topology.RoleReplica && !p.replica {
		w.reportPipe(topology.ReportNotMaster, p, "HELLO says replica")
		p.lost(errNotMaster)
		return
	}
	if p.last {
		w.ready(p)
	}
}

var errNotMaster = errors.New("the node is not a master")

func (w *worker) selected(p *pipe, reply []byte) {
	if reply == nil || p.state != pipeGreeting {
		return
	}
	switch text := trimLine(reply); {
	case reply[0] != '-':
	case isBusy(text) && p.trialOf != nil:
		w.trialWaits(p)
		return
	case isBusy(text) && !p.replica:
		w.busy(p, text)
		return
	default:
		w.loginRefused(p, text) // "ERR DB index is out of range", or NOPERM: it would be in another database
		return
	}
	p.last = true
	if p.info.role != topology.RoleUnknown {
		w.ready(p)
	}
}

// ready opens the pipe to commands.
func (w *worker) ready(p *pipe) {
	if p.replica {
		w.replicaReady(p)
		return
	}
	if p.trialOf != nil {
		w.trialGreeted(p)
		return
	}
	p.state = pipeReady
	p.busy = ""
	p.carried = true
	p.openAt = w.now()
	p.attempts = 0
	delete(w.laneless, p.id)
	w.succeeded()
	p.lostAt = 0
	w.reportPipe(topology.ReportVerified, p, "")
	if s := p.owner; s != nil {
		if s.closed {
			w.giveOwn(p)
			return
		}
		s.restore(p)
	}
	w.wakeAll(p)
	if w.serving {
		w.releaseHeld()
	}
	w.armSweep()
}

// loginRefused gives up a pipe whose identity Redis does not let in. Sessions
// that wait for it are told.
func (w *worker) loginRefused(p *pipe, text string) {
	w.log.Debug("login refused by redis", "addr", p.addr, "reply", text)
	if p.replica || p.lane > 0 {
		p.lost(loginError(text))
		return
	}
	if p.trialOf != nil {
		w.endTrial(p)
		return
	}
	if w.opts.Auth == AuthNone {
		w.failed(text)
	}
	if !strings.HasPrefix(text, "ERR ") {
		if len(w.refusals) >= maxRefusals {
			clear(w.refusals) // it only spares dials
		}
		w.refusals[p.id] = refusal{text: text, until: w.now() + refusalTTL, access: p.access}
	}
	waiting := p.waiting
	p.waiting = nil
	s := p.owner
	lost := p.lostAt != 0
	p.end()
	if lost && w.revoked(p.id, text) {
		w.disown(p.id)
	}
	if s != nil && s.own == p && s.lostOwn && s.who == p.id && !s.closing && w.revoked(p.id, text) {
		s.disowned()
	}
	for _, s := range waiting {
		if s.wait == waitPipe && !s.closed {
			s.refusal = text
			s.fast = false
			s.resume()
		}
	}
	if s != nil && s.own == p {
		s.ownLost(nil)
	}
}

// refusedLately returns why an identity was not let in a moment ago.
func (w *worker) refusedLately(who identity) (string, bool) {
	r, ok := w.refusals[who]
	if !ok {
		return "", false
	}
	if w.now() > r.until || w.access.Load() != r.access {
		delete(w.refusals, who)
		return "", false
	}
	return r.text, true
}

// pipeLost goes on after a connection ended that we did not end.
func (w *worker) pipeLost(p *pipe, err error) {
	if p.replica {
		w.replicaLost(p, err)
		return
	}
	if p.lane > 0 && !p.carried {
		w.noLane(p, err)
		return
	}
	w.stats.backendLost++
	if p.carried {
		w.unlearn()
	}
	w.log.Debug("backend connection lost", "addr", p.addr, "err", err)
	if p.trialOf != nil {
		w.endTrial(p)
		return
	}
	if !p.carried {
		w.turnedAway = w.now()
		w.failed(fmt.Sprint(err))
	}
	w.reportPipe(topology.ReportLost, p, fmt.Sprint(err))
	waiting := p.waiting
	p.waiting = nil
	if p.lane > 0 {
		w.laneLost(p, waiting)
		return
	}
	s := p.owner
	switch {
	case s != nil && s.own == p && !p.carried && w.serves(p):
		w.redialOwn(p, waiting)
	case s != nil && s.own == p:
		var cut *pipe
		if errors.Is(err, errBackendClosed) && p.info.id > 0 && w.serves(p) && w.trusts(p) == trusted && s.pinned() {
			cut = p
			p.lostAt = w.now()
		}
		s.ownLost(cut)
		w.recheck(p)
	case p.sessions > 0 || len(waiting) > 0 || !p.carried || w.opts.Dedicated && w.isNamed(p.id), w.laned(p.id):
		w.redial(p, waiting)
	}
}

// serves reports whether p leads to the master that is served.
func (w *worker) serves(p *pipe) bool {
	return w.serving && !p.replica && p.addr == w.route.Master && p.epoch == w.route.Epoch
}

// redialOwn tries again, after a rest, to get the connection for an own pipe that
// was refused in its handshake.
func (w *worker) redialOwn(old *pipe, waiting []*session) {
	p := &pipe{
		w: w, id: old.id, owner: old.owner, addr: old.addr, epoch: old.epoch,
		attempts: old.attempts + 1, waiting: waiting,
	}
	w.owns[p] = struct{}{}
	p.owner.own, p.owner.cutPipe = p, nil
	if p.attempts > 1 {
		w.wakeAll(p) // to be held
	}
	w.reconnect(p)
}

// redial opens a pipe in the place of a lost shared one.
func (w *worker) redial(old *pipe, waiting []*session) {
	if !w.serves(old) || w.pipes[old.id] != nil { // another pipe has taken its place
		for _, s := range waiting {
			if s.wait == waitPipe && !s.closed {
				s.resume()
			}
		}
		return
	}
	p := &pipe{
		w: w, id: old.id, attempts: old.attempts + 1, waiting: waiting, lostAt: old.lostAt, idleAt: w.loopNow(),
	}
	if p.lostAt == 0 {
		p.lostAt = w.now()
		w.host.after(lossGrace, func() {
			if cur := w.pipes[p.id]; cur != nil && cur.lostAt != 0 && cur.state != pipeReady {
				w.reportPipe(topology.ReportUnreachable, cur, "no connection within 250 ms of a loss")
			}
		})
	}
	p.addr, p.epoch = w.route.Master, w.route.Epoch
	w.pipes[p.id] = p
	if p.attempts <= 1 {
		w.connect(p)
		return
	}
	w.wakeAll(p) // to be held
	w.reconnect(p)
}

// forget takes a pipe that takes nothing new out of the tables.
func (w *worker) forget(p *pipe) {
	if p.replica {
		w.replicas.forget(p)
		return
	}
	if w.pipes[p.id] == p {
		delete(w.pipes, p.id)
	}
	if i := slices.Index(w.lanes, p); p.lane > 0 && i >= 0 {
		w.lanes = slices.Delete(w.lanes, i, i+1)
	}
	delete(w.owns, p)
	if p.state == pipeRetired {
		w.retired[p] = struct{}{}
	} else {
		delete(w.retired, p)
	}
}

func (w *worker) armSweep() {
	if w.sweepAt == nil {
		w.sweepAt = w.host.after(sweepEvery, w.sweepTurn)
	}
}

func (w *worker) sweepTurn() {
	w.sweep()
	w.sweepAt.Reset(sweepEvery)
}

// sweep closes pipes that nobody has used for a while, and forgets refusals, which may
// hold large passwords.
func (w *worker) sweep() {
	now := w.loopNow()
	maps.DeleteFunc(w.refusals, func(_ identity, r refusal) bool { return now > r.until })
	for _, p := range w.sharedPipes() {
		if p.sessions == 0 && len(p.waiting) == 0 && p.queue.len() == 0 && now-p.idleAt > idlePipe && (p.lane > 0 || !w.laned(p.id)) {
			p.end()
		}
	}
	for id, list := range w.idle {
		keep := list[:0]
		for _, p := range list {
			switch {
			case p.state != pipeReady:
			case now-p.idleAt > idlePipe:
				p.end()
			default:
				keep = append(keep, p)
			}
		}
		clear(list[len(keep):])
		if len(keep) == 0 {
			delete(w.idle, id)
		} else {
			w.idle[id] = keep
		}
	}
}
