package proxy

import (
	"cmp"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// Failed logins are counted by the address they come from. An address that has failed
// loginBurst times at once has its further logins wait their turn, one each loginEvery,
// before Redis is asked; where loginWait would not do they are refused. Others notice
// nothing of it, and neither does a login that is in use already: it is no guess.
const (
	loginBurst = 50
	loginEvery = 100 * time.Millisecond
	loginWait  = 5 * time.Second
	// maxGuessers bounds the addresses remembered. When the table is full, one of those
	// with the fewest failures left to forget makes room: an attack from more addresses
	// than that is slowed less, and nobody is hurt.
	maxGuessers = 4096
	guessSample = 32 // of the table, for who makes room
)

// guessers are the addresses from which logins have failed, of all event loops. It is
// safe for concurrent use; only logins that no connection to the master has yet take
// its lock.
type guessers struct {
	warning sometimes

	mu sync.Mutex // guards until
	// until is when the last failure from an address will be forgotten, since boot.
	until map[netip.Addr]time.Duration
}

func newGuessers() *guessers { return &guessers{until: make(map[netip.Addr]time.Duration)} }

// guesser is what an address is counted by: an IPv6 host has a whole /64 to choose
// from. Unix sockets are one.
func guesser(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a
}

// turn returns how long a login from an address must wait before it is tried; ok is
// false if that is too long. A wait that is returned is taken: the next one is longer.
func (g *guessers) turn(from netip.Addr, now time.Duration) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, known := g.until[from]
	wait = until - now - loginBurst*loginEvery
	switch {
	case !known || wait <= 0:
		return 0, true
	case wait > loginWait:
		return 0, false
	}
	g.until[from] = until + loginEvery
	return wait, true
}

// failed counts one failure. However many there are, an address is let in again
// within loginWait and the time that loginBurst takes.
func (g *guessers) failed(from netip.Addr, now time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, known := g.until[from]
	if !known && len(g.until) >= maxGuessers {
		g.makeRoomLocked(now)
	}
	g.until[from] = min(max(until, now)+loginEvery, now+(loginBurst+1)*loginEvery+loginWait)
}

// makeRoomLocked forgets at least one address. Maps are walked from a random place.
func (g *guessers) makeRoomLocked(now time.Duration) {
	var first netip.Addr
	looked, least := 0, time.Duration(0)
	for a, until := range g.until {
		if until <= now {
			delete(g.until, a)
			continue
		}
		if looked == 0 || until < least {
			first, least = a, until
		}
		if looked++; looked == guessSample {
			break
		}
	}
	if len(g.until) >= maxGuessers {
		delete(g.until, first)
	}
}

// loginTurn is where a session stands with its login.
type loginTurn uint8

const (
	turnNone loginTurn = iota
	turnWait           // it waits, whatever becomes of its connection meanwhile
	turnFree           // it may try
	turnPaid           // it has waited, and a failure counts no more
)

const errGuesses = "ERR too many failed logins from this address, try again in some seconds (sentinelproxy)"

// mayTry reports whether Redis may be asked about a login of the session's. If not,
// the session waits, or was answered and handled is true.
func (s *session) mayTry(who identity) (may, handled bool) {
	if s.turn == turnWait {
		s.wait = waitLogin
		return false, false
	}
	if s.turn != turnNone || s.refusal != "" || s.w.pipes[who] != nil || s.own != nil && s.own.id == who {
		return true, false
	}
	wait, ok := s.w.guessers.turn(guesser(s.conn.RemoteAddr()), s.w.now())
	switch {
	case !ok:
		s.w.stats.loginsRefused++
		s.replyError(errGuesses)
		return false, true
	case wait == 0:
		s.turn = turnFree
		return true, false
	}
	s.w.stats.loginsDelayed++
	s.turn = turnWait
	s.wait = waitLogin
	s.w.host.after(wait, func() {
		s.turn = turnPaid
		if !s.closed && s.wait == waitLogin {
			s.mute = false
			s.resume()
			s.w.pump()
		}
	})
	return false, false
}

// loginJudged takes note of what Redis said to a login; text is its reply without the
// first byte, or "" where there was none.
func (s *session) loginJudged(text string) {
	paid := s.turn == turnPaid
	s.turn = turnNone
	if !strings.HasPrefix(text, "WRONGPASS") && !strings.HasPrefix(text, "ERR invalid password") {
		return
	}
	s.w.stats.loginsFailed++
	if !paid {
		s.w.guessers.failed(guesser(s.conn.RemoteAddr()), s.w.now())
	}
	if more, ok := s.w.guessers.warning.now(); ok { // no user's name: it may be a password in the wrong place
		s.w.log.Warn("redis refused a client's login", "client", s.conn.RemoteAddr(), "unlogged_before", more)
	}
}

// disown ends the clients of a login that Redis no longer takes and whose connection
// it has ended: of a user that was deleted, as Redis does (ACL DELUSER), or whose
// connection was lost after its password had changed, for it cannot be had again. A
// client that has a connection of its own still keeps it.
func (w *worker) disown(who identity) {
	n := 0
	for _, s := range w.sessions {
		if s.who == who && s.own == nil && !s.closing && !s.reqs.Unauthenticated && (s.pipe == nil || s.pipe.state != pipeReady) {
			n++
			s.disowned()
		}
	}
	if n > 0 {
		w.log.Warn("redis has ended a user's connections and takes its login no more: its clients are disconnected",
			"user", userName(who.user), "clients", n)
	}
}

// disowned ends one such client, after what was answered already.
func (s *session) disowned() {
	s.w.stats.disowned++
	s.end()
}

// isNamed reports whether an identity is that of a client which has logged in.
func (w *worker) isNamed(who identity) bool {
	return w.opts.Auth == AuthPassthrough && (who.user != "" || who.pass != "")
}

// revoked reports whether Redis' word on a login means that it takes it no more.
func (w *worker) revoked(who identity, text string) bool {
	return w.isNamed(who) && (strings.HasPrefix(text, "WRONGPASS") || strings.HasPrefix(text, "NOPERM"))
}

// recheck has Redis say whether it still takes the login of a client whose own
// connection it has ended. Where every client has one, an idle client would not ask
// before its next command. One connection asks for all clients of that login.
func (w *worker) recheck(p *pipe) {
	if !w.opts.Dedicated || !w.isNamed(p.id) || !w.serves(p) {
		return
	}
	if q := w.sharedPipe(p.id); q != nil && q.state != pipeReady && q.lostAt == 0 {
		q.lostAt = w.now()
	}
}

const errManyUsers = "ERR max number of users' backend connections reached (sentinelproxy)"

// noRoom answers a command whose user cannot have a connection. It returns false if
// the session must wait to be told.
func (s *session) noRoom() bool {
	if s.unanswered() {
		s.wait = waitDrain
		return false
	}
	s.w.stats.usersRefused++
	s.reply(resp.AppendError(nil, errManyUsers))
	return true
}

// room reports whether another shared pipe may be opened. At the limit the one that
// nobody uses, and has not for the longest time, makes room.
func (w *worker) room() bool {
	if len(w.pipes) < cmp.Or(w.opts.MaxUserPipes, defaultUserPipes) {
		return true
	}
	var first *pipe
	for _, p := range w.pipes {
		if p.unused() && (first == nil || p.idleAt < first.idleAt) {
			first = p
		}
	}
	if first == nil {
		return false
	}
	first.end()
	return true
}

// unused reports whether nobody has a use for a shared pipe at the moment.
func (p *pipe) unused() bool {
	if p.sessions > 0 || p.queue.len() > 0 || p.state == pipeGreeting || p.lane == 0 && p.w.lanesUsed(p.id) {
		return false
	}
	for _, s := range p.waiting {
		if s.wait == waitPipe && !s.closed {
			return false
		}
	}
	return true
}
