package proxy

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// wire is what a session or pipe can do with its connection; *evloop.Conn is one.
type wire interface {
	Flush()
	Pause()
	Resume()
	Blocked() bool
	Close()
	CloseFlushed()
	Abort()
	RemoteAddr() string
	LocalAddr() string
}

// timer is a timer of the loop.
type timer interface {
	Reset(d time.Duration)
	Stop()
}

// host is what a worker needs of the world: time, timers, dialling and somebody
// to report to. The server gives it the event loop's; tests give it a fake.
type host interface {
	now() time.Duration // since boot
	after(d time.Duration, f func()) timer
	// dial connects to addr in the background and then calls done on the loop,
	// with nil and an error if it failed. p handles the connection.
	dial(addr topology.Addr, p *pipe, done func(c wire, err error))
	// failing publishes why connections to the master fail; "" when they do not.
	failing(why string)
	// everywhere has look called on every loop; when each has called done, then is
	// called on this one with the sum.
	everywhere(look func(w *worker, done func(found)), then func(found))
	// learn has a master asked for its commands; the answer comes by setLearnt, if any.
	// It never blocks.
	learn(want wanted)
	// report tells the control plane; it never blocks.
	report(r topology.Report)
}

// worker is the part of the data path on one event loop: it owns sessions and
// pipes and the route they obey. Only the loop's goroutine uses it.
type worker struct {
	host  host
	loop  int
	opts  *Options
	sizes sizes
	log   *slog.Logger
	cmds  *commands

	account account // the sidecar's own
	route   topology.Route
	serving bool // the route serves, and the lease has not been seen to end
	outage  outageState

	sessions []*session // in no order; each knows its place
	pipes    map[identity]*pipe
	lanes    []*pipe              // further shared ones, see lane.go
	laneAt   time.Duration        // before this none is dialled
	laneless map[identity]bool    // whom Redis did not let in there
	owns     map[*pipe]struct{}   // own pipes in use
	idle     map[identity][]*pipe // clean own pipes for the next session
	owned    int
	retired  map[*pipe]struct{} // finishing what is under way on them
	refusals map[identity]refusal
	replicas replicas

	runnable  []*session // to run when the event at hand is handled
	held      []*session // in the order they began to wait
	toRevive  []*session // pinned, and without the own pipe they need
	heldAt    timer
	heldArmed bool
	retrying  []*session
	retryAt   timer
	failure   string // why the last connection to the master was turned away; "": it was not
	failedAt  time.Duration
	// turnedAway is when the master last took no new connection, or broke one off in its greeting; 0: never.
	turnedAway time.Duration
	watchAt    timer
	kept       []*session            // with replies that a suspicion keeps back
	overSoft   map[*session]struct{} // past a soft limit when last looked at
	bulk       bulk
	leaseAt    timer // looks for the lease's return
	sweepAt    timer
	idleAt     timer // looks for idle clients
	idleArmed  bool
	idleNext   int // in sessions: where the next look begins

	reported map[topology.ReportKind]uint64 // the Gen each kind was last reported for
	second   time.Duration                  // the time, to the second
	args     [][]byte                       // of the command at hand, for outage policies
	bufs     [][]byte                       // spare, of less than bigBuf
	pieces   [][]byte                       // spare, of bigBuf
	bigBytes int                            // in bigs
	lent     []byte                         // holds the reply that is being delivered; who keeps it sets nil
	bigs     [][]byte                       // spare, of more, those unused for longest first
	unused   struct{ pieces, bigs int }     // how many of them were spare all the time since the last look
	whole    []byte                         // is the command that is being handled and nothing else; who keeps it sets nil
	nextID   int64
	scripts  scripts
	// learnt is what the master that is served has told of its commands; nil: nothing yet.
	learnt     *learnt
	learntLost time.Duration // when a connection to a master was lost last
	wantAt     time.Duration // before this no table is asked for
	// distrusted are names of commands that were learnt and blocked: at most maxLearnt per master.
	distrusted map[string]bool
	// wholeHello says that HELLO has no effect unless all of it is in order: since Redis 7.2.
	wholeHello bool
	pumping    bool
	// longCursors says that a node has cursors which leave no room for a mark.
	longCursors bool
	draining    bool
	tlsWarning  sometimes // of clients that speak TLS to a port without it
	httpWarning sometimes // of those that speak HTTP
	cutWarning  sometimes // of those that were cut off for their state
	guessers    *guessers // of all loops
	// access goes up when a command that may change whom Redis lets in was answered, on
	// whatever loop: what Redis said of a login before is worth nothing then.
	access *atomic.Uint64

	stats stats
	// tick is when the turn of the loop began, in microseconds since some moment before
	// the worker was made: the clock of what commands take, read once a turn.
	tick    uint64
	tallies []*tally         // by command.id; nil: none of that command has ended
	slow    chan slowCommand // of all loops; full, what comes is counted and dropped
	slowAt  uint64           // microseconds that make a command slow
}

// refusal is Redis' word that an identity may not log in, believed for a moment
// so that its clients do not make us dial for each command.
type refusal struct {
	text   string
	until  time.Duration
	access uint64 // worker.access when it was asked
}

const (
	refusalTTL = time.Second
	idlePipe   = 60 * time.Second // an unused pipe is closed after this
	sweepEvery = 5 * time.Second
	leaseCheck = 10 * time.Millisecond
)

func newWorker(h host, loop int, o *Options, cmds *commands) *worker {
	w := &worker{
		host: h, loop: loop, opts: o, log: o.Log, cmds: cmds,
		account:  account{o.Username, o.Password},
		pipes:    make(map[identity]*pipe),
		owns:     make(map[*pipe]struct{}),
		laneless: make(map[identity]bool),
		retired:  make(map[*pipe]struct{}),
		idle:     make(map[identity][]*pipe),
		refusals: make(map[identity]refusal),
		reported: make(map[topology.ReportKind]uint64),
		route:    topology.Route{Group: o.Group, State: topology.Discovering, HoldTimeout: discoverWait},
		nextID:   int64(loop) + 1,
		replicas: newReplicas(),
		sizes:    newSizes(o),
		overSoft: make(map[*session]struct{}),
		guessers: newGuessers(),
		access:   new(atomic.Uint64),
		tallies:  make([]*tally, len(cmds.all)+maxNamed),
		tick:     1,
		slowAt:   slowMicros(o.SlowCommand),
	}
	w.second = h.now()
	w.route.Since = w.second
	w.outage = outageState{Outage: o.Outage, since: w.route.Since}
	return w
}

// discoverWait is how long a command waits before the first Route has come.
const discoverWait = 35 * time.Second

func (w *worker) now() time.Duration { return w.host.now() }

// loopNow is now, for what need not be exact.
func (w *worker) loopNow() time.Duration { return w.host.now() }

// anonymous is the identity of a client that has not logged in.
func (w *worker) anonymous() identity {
	if w.opts.Auth == AuthNone {
		return identity{user: w.account.user, pass: w.account.pass, proto: 2}
	}
	return identity{proto: 2}
}

// accept makes the session of a new client.
func (w *worker) accept(c wire) *session {
	s := &session{w: w, conn: c, id: w.nextID, who: w.anonymous(), born: w.now(), seen: w.now()}
	s.reqs.Unauthenticated = w.opts.Auth == AuthPassthrough // until it is known better: see letIn
	w.nextID += int64(w.opts.Loops)
	s.slot = len(w.sessions)
	w.sessions = append(w.sessions, s)
	w.stats.accepted++
	w.armIdle()
	return s
}

// remove takes a session out of the table. The last one gets its place.
func (w *worker) remove(s *session) {
	n := len(w.sessions) - 1
	last := w.sessions[n]
	w.sessions[s.slot], last.slot = last, s.slot
	w.sessions[n] = nil
	w.sessions = w.sessions[:n]
}

// schedule has s run when the event at hand is handled.
func (w *worker) schedule(s *session) {
	if !s.queued {
		s.queued = true
		w.runnable = append(w.runnable, s)
	}
}

// pump runs what was scheduled, also by what it runs. Entry points call it last.
func (w *worker) pump() {
	if w.pumping {
		return
	}
	w.pumping = true
	for i := 0; i < len(w.runnable); i++ {
		s := w.runnable[i]
		s.queued = false
		s.run()
	}
	clear(w.runnable)
	w.runnable = w.runnable[:0]
	w.pumping = false
}

// setRoute obeys a new route. Older ones are ignored.
func (w *worker) setRoute(r topology.Route) {
	if r.Gen <= w.route.Gen {
		return
	}
	old := w.route
	w.route = r
	w.settleKept()
	if w.leaseAt != nil {
		w.leaseAt.Stop()
	}
	was := w.serving
	w.serving = r.State == topology.Serving
	if was && !w.serving {
		w.outage.since = w.now()
	}
	if r.Master != old.Master || r.Epoch != old.Epoch {
		w.learnt = nil
	}
	if r.Master != old.Master || r.Epoch != old.Epoch || !w.serving {
		w.succeeded() // the control plane says what is wrong now
	}
	if w.serving {
		if r.Master != old.Master || r.Epoch != old.Epoch {
			w.abandonOthers()
		}
		for _, p := range w.allPipes() {
			if p.conn != nil {
				p.conn.Flush() // what was held back
				p.unhalt()
			}
		}
		w.endOutage()
		w.releaseHeld()
		w.reviveAll()
		if w.opts.Auth == AuthNone {
			w.sharedPipe(w.anonymous()) // shows at once whether our own account is let in
		}
	} else {
		for _, p := range w.allPipes() {
			p.pullBack()
			p.unhalt()
			w.wakeAll(p) // its sessions wait for the route now: no reply may be left to come that would wake them
		}
		if len(w.held) > 0 {
			w.armHeld() // this route may allow another wait than the last
		}
		w.unblockAll()
		w.awaitOutage()
		if w.inOutage() && !slices.Equal(r.Replicas, old.Replicas) {
			w.lookAgain() // there may be somebody to ask now
		}
		if r.State == topology.Down {
			w.abandonOthers()
			w.releaseHeld() // to be told
			w.failRecorded()
		}
		w.report(topology.Report{Kind: topology.ReportHeld, Gen: r.Gen})
	}
	for _, s := range w.retrying {
		if s.wait == waitRetry {
			s.resume()
		}
	}
	w.retrying = w.retrying[:0]
	w.pump()
}

// abandonOthers gives up every pipe that does not lead to the route's master, or
// all if there is none. Nothing their old master still says reaches a client.
func (w *worker) abandonOthers() {
	for _, p := range w.allPipes() {
		if w.route.State == topology.Down || p.addr != w.route.Master || p.epoch != w.route.Epoch {
			w.giveUp(p)
		}
	}
	clear(w.refusals)
}

// sharedPipes returns those that take what sessions without a pipe of their own send.
func (w *worker) sharedPipes() []*pipe {
	ps := make([]*pipe, 0, len(w.pipes)+len(w.lanes)+len(w.owns))
	for _, p := range w.pipes {
		ps = append(ps, p)
	}
	return append(ps, w.lanes...)
}

// allPipes returns every pipe to a master but trials, also those that only finish.
func (w *worker) allPipes() []*pipe {
	ps := w.sharedPipes()
	for p := range w.owns {
		ps = append(ps, p)
	}
	for _, list := range w.idle {
		ps = append(ps, list...)
	}
	for p := range w.retired {
		ps = append(ps, p)
	}
	return ps
}

// mayWrite reports whether bytes may go to p's master now.
func (w *worker) mayWrite(p *pipe) bool {
	if !w.serving || p.replica || p.addr != w.route.Master || p.epoch != w.route.Epoch {
		return false
	}
	if w.route.Lease.Held(w.now()) {
		return true
	}
	w.leaseEnded()
	return false
}

// trust says what a write's success is worth that a pipe delivers now.
type trust uint8

const (
	trusted   trust = iota
	suspected       // it may be lost already; the next route will tell
	doubted         // a promotion has begun, the lease is over, or another master serves
)

// trusts judges a pipe's answers: it is asked after the bytes were read.
func (w *worker) trusts(p *pipe) trust {
	r := &w.route
	switch {
	case r.Doubt || p.addr != r.Master || p.epoch != r.Epoch || !r.Lease.Held(w.now()):
		return doubted
	case r.Suspect:
		return suspected
	}
	return trusted
}

// leaseEnded stops sending until the lease is renewed or a route comes.
func (w *worker) leaseEnded() {
	if !w.serving {
		return
	}
	w.serving = false
	w.outage.since = w.now()
	w.awaitOutage()
	w.stats.leaseEnded++
	w.report(topology.Report{Kind: topology.ReportLeaseEnded, Gen: w.route.Gen, Addr: w.route.Master})
	if w.leaseAt == nil {
		w.leaseAt = w.host.after(leaseCheck, w.checkLease)
	} else {
		w.leaseAt.Reset(leaseCheck)
	}
}

func (w *worker) checkLease() {
	if w.serving || w.route.State != topology.Serving {
		return
	}
	if !w.route.Lease.Held(w.now()) {
		w.leaseAt.Reset(leaseCheck)
		return
	}
	w.serving = true
	w.endOutage()
	for _, p := range w.allPipes() {
		if p.conn != nil {
			p.conn.Flush()
			p.unhalt()
		}
	}
	w.releaseHeld()
	w.reviveAll()
	w.pump()
}

// addHeld notes that s waits for the route, counts what it holds, and sets the
// timer that ends its wait.
func (w *worker) addHeld(s *session) {
	if !s.listed {
		s.listed = true
		w.held = append(w.held, s)
	}
	s.fast, s.recount = false, false
	if s.heldSince == 0 {
		s.heldSince = w.now()
	}
	n := countCommands(s.in)
	w.stats.held += uint64(max(0, n-s.heldLeft))
	s.heldLeft = n
	if !w.heldArmed {
		w.armHeld()
	}
}

// canExpire reports whether a held session has something that hold.timeout fails:
// a subscriber that waits for a connection has not.
func (s *session) canExpire() bool {
	return !s.closed && s.wait == waitRoute && (s.heldLeft > 0 || s.asks || s.reqs.Need() > s.w.sizes.large)
}

// armHeld sets the timer for the session that has waited longest.
func (w *worker) armHeld() {
	w.heldArmed = false
	var first time.Duration
	for _, s := range w.held {
		if s.canExpire() && (!w.heldArmed || s.heldSince < first) {
			w.heldArmed, first = true, s.heldSince
		}
	}
	if !w.heldArmed {
		return
	}
	d := max(0, first+w.route.HoldTimeout-w.now())
	if w.heldAt == nil {
		w.heldAt = w.host.after(d, w.expireHeld)
	} else {
		w.heldAt.Reset(d)
	}
}

// expireHeld fails the commands that have waited for hold.timeout.
func (w *worker) expireHeld() {
	now := w.now()
	keep := w.held[:0]
	for _, s := range w.held {
		if s.closed || s.wait != waitRoute {
			s.listed = false
			continue
		}
		if !s.canExpire() || s.heldSince+w.route.HoldTimeout > now {
			keep = append(keep, s)
			continue
		}
		s.listed = false
		s.waited = now - s.heldSince
		s.expired, s.heldSince = true, 0
		s.resume()
	}
	clear(w.held[len(keep):])
	w.held = keep
	w.armHeld()
	w.pump()
}

// releaseHeld has every held session go on. One that is held again before its command
// went anywhere has waited all the while: a route may come and go several times while no
// connection can be made.
func (w *worker) releaseHeld() {
	for _, s := range w.held {
		s.listed = false
		if !s.closed && s.wait == waitRoute {
			s.resume()
		}
	}
	clear(w.held)
	w.held = w.held[:0]
	if w.heldAt != nil {
		w.heldAt.Stop()
	}
	w.heldArmed = false
}

// mayHold reports whether a command may wait for a master at all.
func (w *worker) mayHold() bool {
	return w.route.State != topology.Down && w.route.HoldTimeout > 0 && (!w.outage.Fixed || !w.inOutage())
}

// retryLater has a refused command sent again with the next route, or after
// retryAfter.
func (w *worker) retryLater(s *session) {
	w.retrying = append(w.retrying, s)
	if len(w.retrying) > 1 {
		return
	}
	f := func() {
		for _, s := range w.retrying {
			if s.wait == waitRetry {
				s.resume()
			}
		}
		w.retrying = w.retrying[:0]
		w.pump()
	}
	if w.retryAt == nil {
		w.retryAt = w.host.after(retryAfter, f)
	} else {
		w.retryAt.Reset(retryAfter)
	}
}

// refusedBy tells the control plane what a master's refusal means.
func (w *worker) refusedBy(p *pipe, kind refusalKind, reply []byte) {
	k := topology.ReportReadOnly
	if kind == refusedSoft {
		k = topology.ReportRefused
	}
	w.stats.refused++
	w.reportPipe(k, p, trimLine(reply))
}

func (w *worker) reportPipe(k topology.ReportKind, p *pipe, text string) {
	if p.addr != w.route.Master || p.epoch != w.route.Epoch {
		return // of a master that is gone
	}
	w.report(topology.Report{Kind: k, Gen: w.route.Gen, Addr: p.addr, Err: text})
}

// report sends a report, each kind once per route.
func (w *worker) report(r topology.Report) {
	if r.Kind != topology.ReportHeld && w.reported[r.Kind] == w.route.Gen {
		return
	}
	w.reported[r.Kind] = w.route.Gen
	r.Group, r.Loop, r.At = w.route.Group, w.loop, w.now()
	w.host.report(r)
}

// wakeAll has the sessions that wait for p look again.
func (*worker) wakeAll(p *pipe) {
	for _, s := range p.waiting {
		if s.wait == waitPipe && !s.closed {
			s.resume()
		}
	}
	clear(p.waiting)
	p.waiting = p.waiting[:0]
}
