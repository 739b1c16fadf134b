package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The times of a probe.
const (
	dialTimeout  = 500 * time.Millisecond
	probeTimeout = 500 * time.Millisecond
	// hungTimeouts is after how many unanswered periods a connection is given up: it
	// may hang in the network although the node lives.
	hungTimeouts = 4
	retryMin     = 10 * time.Millisecond
	retryMax     = time.Second
	// askedRetry is how often a node that can't be reached is dialled at most while
	// somebody keeps asking for it.
	askedRetry = 50 * time.Millisecond
	// unreachableAfter is how many dials in a row must fail before it is said.
	unreachableAfter = 3
)

// login is the sidecar's own account. It must not be logged.
type login struct{ user, password string }

// prober keeps one warm connection to one data node, asks it for its role, and tells
// the machine at once when the node closes the connection.
type prober struct {
	// Fixed at construction.
	addr  topology.Addr
	login *atomic.Pointer[login] // shared by all probers; read at each connection
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	clock boottime.Clock
	log   *slog.Logger
	tell  func(route.Event) // never blocks
	name  func(ctx context.Context, node topology.Addr, remote net.Addr, master topology.Addr) topology.Addr

	// every is the time between two probes at most; the monitor sets it.
	every atomic.Int64
	// ask holds one request to probe now. Full means that the next probe is sent
	// after the request anyway.
	ask chan struct{}

	// Owned by run.
	fails    int    // connections in a row that brought no role
	useRole  bool   // of this connection: false once ROLE was refused, then HELLO is asked
	busy     string // of this question: what Redis said instead of its role while a script runs too long; HELLO is asked then
	loginErr string // of this connection: Redis' words if it refused our login
	answered bool   // of this connection: it has told its role
	client   int64  // of this connection: its id at the node; 0: not known
	asked    bool   // of this connection: for that id
	offset   int64  // that the node last told
}

// run probes until ctx is done.
func (p *prober) run(ctx context.Context) {
	for ctx.Err() == nil {
		sent := p.clock()
		l, err := p.connect(ctx)
		if err != nil {
			if ctx.Err() == nil {
				p.failed(ctx, sent, err)
			}
			continue
		}
		p.useRole, p.answered, p.client, p.asked, p.busy = true, false, 0, false, ""
		reading, stop := context.WithCancel(ctx)
		go l.read(reading)
		err = p.serve(ctx, l)
		stop()
		l.close()
		if err == nil || ctx.Err() != nil {
			continue
		}
		p.log.Debug("control connection ended", "node", p.addr, "err", err)
		switch {
		case errors.Is(err, errHung): // told already, once per period
		case !p.answered || gaveUp(err):
			p.failed(ctx, sent, l.whyUnanswered(err)) // such as at its maxclients: dial again later
		default:
			p.tell(route.NodeClosed{Addr: p.addr}) // dialled again at once: its role matters now
		}
	}
}

// connect dials the node.
func (p *prober) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", string(p.addr))
	if err != nil {
		return nil, err
	}
	return newLink(conn), nil
}

// failed tells of a connection that could not be made or used, and waits before the next.
func (p *prober) failed(ctx context.Context, sent time.Duration, err error) {
	refused := errors.Is(err, syscall.ECONNREFUSED)
	p.tell(route.NodeSeen{Addr: p.addr, Err: err.Error(), Refused: refused, SentAt: sent, At: p.clock()})
	p.fails++
	if p.fails == unreachableAfter {
		p.log.Warn("data node can't be reached or asked: is its announced address right from here?", "node", p.addr, "err", err)
	}
	pause := min(retryMin<<min(p.fails-1, 10), retryMax)
	p.pause(ctx, jitter(pause), jitter(askedRetry))
}

// pause waits for longest; a request to probe ends it, but not before shortest.
func (p *prober) pause(ctx context.Context, longest, shortest time.Duration) {
	wait := func(d time.Duration, ask <-chan struct{}) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-ask:
		}
	}
	wait(min(shortest, longest), nil)
	if longest > shortest {
		wait(longest-shortest, p.ask)
	}
}

// serve probes over l until the connection is over or given up, and returns why.
func (p *prober) serve(ctx context.Context, l *link) error {
	if as := p.login.Load(); as.password != "" {
		if err := p.auth(ctx, l, as); err != nil {
			return err
		}
	}
	for {
		sent := p.clock()
		if err := p.question(l); err != nil {
			return err
		}
		r, err := p.answer(ctx, l, sent)
		if err != nil {
			return err
		}
		again := p.judge(ctx, l, r, sent)
		if again {
			continue // ROLE was refused: ask by HELLO
		}
		if err := p.identify(ctx, l); err != nil {
			return err
		}
		t := time.NewTimer(jitter(time.Duration(p.every.Load())))
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-p.ask:
		case _, open := <-l.replies:
			t.Stop()
			if open {
				return fmt.Errorf("%w: nothing was asked", errReply)
			}
			return l.err
		}
		t.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// auth logs in. A refusal is no error: ROLE's answer tells what it means.
func (p *prober) auth(ctx context.Context, l *link, as *login) error {
	args := []string{"AUTH"}
	if as.user != "" {
		args = append(args, as.user)
	}
	sent := p.clock()
	if err := l.send(append(args, as.password)...); err != nil {
		return err
	}
	r, err := p.answer(ctx, l, sent)
	p.loginErr = ""
	if err == nil && r.kind == '-' {
		p.loginErr = r.text
	}
	return err
}

func (p *prober) question(l *link) error {
	if p.useRole && p.busy == "" {
		return l.send("ROLE")
	}
	return l.send("HELLO", "2")
}

// identify asks once per connection, after its first answer about the role, which is more
// urgent, for the id that the node gave it. A node that can't tell is none the worse.
func (p *prober) identify(ctx context.Context, l *link) error {
	if p.asked || !p.answered || !p.useRole {
		return nil // else every answer to HELLO tells it
	}
	p.asked = true
	sent := p.clock()
	if err := l.send("HELLO", "2"); err != nil {
		return err
	}
	r, err := p.answer(ctx, l, sent)
	if err == nil {
		p.client = clientID(r)
	}
	return err
}

// errHung ends a connection that we give up: the server did not close it.
var errHung = errors.New("no answer")

// answer waits for the reply to what was sent. A node that hangs is reported once
// per period, and keeps its one unanswered question, so that a hung node does not
// fill with ours.
func (p *prober) answer(ctx context.Context, l *link, sent time.Duration) (reply, error) {
	for range hungTimeouts {
		t := time.NewTimer(probeTimeout)
		select {
		case <-ctx.Done():
			t.Stop()
			return reply{}, ctx.Err()
		case r, open := <-l.replies:
			t.Stop()
			if !open {
				return reply{}, l.err
			}
			return r, nil
		case <-t.C:
			p.tell(route.NodeSeen{Addr: p.addr, Err: "no answer within " + probeTimeout.String(), SentAt: sent, At: p.clock()})
		}
	}
	return reply{}, errHung
}

// gaveUp reports whether we ended the connection over what the server did, not it.
func gaveUp(err error) bool {
	return errors.Is(err, errReply) || errors.Is(err, os.ErrDeadlineExceeded)
}

// judge tells what a reply to question says. It reports whether the question must be
// asked in another way.
func (p *prober) judge(ctx context.Context, l *link, r reply, sent time.Duration) (again bool) {
	ev := route.NodeSeen{Addr: p.addr, SentAt: sent, At: p.clock(), NoAuth: !p.useRole}
	switch {
	case r.kind == '-' && r.refusesAccount() && p.useRole:
		p.useRole = false
		return true
	case r.kind == '-' && strings.HasPrefix(r.text, "BUSY ") && p.busy == "":
		p.busy = r.text // HELLO is answered all the same, and says more than nothing
		return true
	case p.busy != "":
		p.whileBusy(r, &ev)
	case r.kind == '-':
		ev.Err = r.text
		ev.NoAuth = r.refusesAccount() || ev.NoAuth
	case p.useRole:
		if err := parseRole(r, &ev); err != nil {
			ev.Err = err.Error()
		}
		if ev.Master != "" {
			ev.Master = p.name(ctx, p.addr, l.conn.RemoteAddr(), ev.Master)
		}
	default:
		ev.Err = "ROLE is refused to our account"
		p.client = clientID(r)
		if err := parseHello(r, &ev); err != nil {
			ev.Err = err.Error()
		}
	}
	ev.Client = p.client
	p.remember(&ev)
	if ev.NoAuth && p.loginErr != "" {
		ev.Err = "our login is refused: " + p.loginErr
	}
	if ev.Role != topology.RoleUnknown {
		if p.fails >= unreachableAfter {
			p.log.Info("data node reached again", "node", p.addr)
		}
		p.fails, p.answered = 0, true
	}
	p.tell(ev)
	return false
}

// whileBusy reads the answer to HELLO of a node on which a script runs too long. A master
// is one that answers: what it says to commands is its own. A replica can't say so whom it
// follows.
func (p *prober) whileBusy(r reply, ev *route.NodeSeen) {
	if err := parseHello(r, ev); err != nil || ev.Role != topology.RoleMaster {
		ev.Role = topology.RoleUnknown
	}
	ev.Err, ev.Offset = p.busy, p.offset
	p.busy = ""
}

// remember fills in the offset of a replica that is cut off from its master: ROLE has -1
// for it then, although it has what it had read.
func (p *prober) remember(ev *route.NodeSeen) {
	switch {
	case ev.Role == topology.RoleReplica && !ev.LinkUp && ev.Offset < 0:
		ev.Offset = p.offset
	case ev.Role != topology.RoleUnknown && !ev.NoAuth: // HELLO tells none
		p.offset = ev.Offset
	}
}

// jitter returns a random time from 0.8 to 1.0 of d, never more: d is a limit.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d/5+1)
}
