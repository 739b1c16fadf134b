package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// askTimeout bounds one question to a peer, with a dial where one is needed.
const askTimeout = time.Second

// errRefused is what a server answers that will not do what it was asked.
var errRefused = errors.New("refused")

// peer is a node or a Sentinel that a switchover talks to, over one connection that it
// keeps. One goroutine owns it at a time.
type peer struct {
	addr topology.Addr
	by   *errands
	conn *call // nil: it is dialled when something is asked
}

func (p *peer) close() {
	if p.conn != nil {
		p.conn.close()
		p.conn = nil
	}
}

// ask sends commands and returns a reply to each, within askTimeout or ctx. A kept
// connection that turns out to have ended is replaced once: what is asked this way may
// be asked twice.
func (p *peer) ask(ctx context.Context, commands ...[]string) ([]reply, error) {
	kept := p.conn != nil
	rs, err := p.once(ctx, commands...)
	if err != nil && kept && ctx.Err() == nil && !errors.Is(err, errReply) && !isTimeout(err) {
		rs, err = p.once(ctx, commands...)
	}
	return rs, err
}

// once is ask, and sends nothing twice.
func (p *peer) once(ctx context.Context, commands ...[]string) ([]reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if p.conn == nil {
		c, err := p.by.open(ctx, p.addr)
		if err != nil {
			return nil, err
		}
		p.conn = c
	}
	conn := p.conn.conn
	t, _ := ctx.Deadline()
	err := conn.SetDeadline(t)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var rs []reply
	if err == nil {
		rs, err = p.conn.ask(commands...)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return rs, nil
}

// isTimeout reports whether nobody answered in time.
func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// do asks one thing. An error reply is an error: errForbidden if our account may not,
// else errRefused.
func (p *peer) do(ctx context.Context, args ...string) (reply, error) {
	rs, err := p.ask(ctx, args)
	if err != nil {
		return reply{}, err
	}
	return rs[0], rs[0].err()
}

// err returns what an error reply says, nil for any other.
func (r reply) err() error {
	switch {
	case r.kind != '-':
		return nil
	case r.refusesAccount():
		return fmt.Errorf("%w: %s", errForbidden, r.text)
	}
	return fmt.Errorf("%w: %s", errRefused, r.text)
}

// role asks for the node's role and offset.
func (p *peer) role(ctx context.Context) (route.NodeSeen, error) {
	r, err := p.do(ctx, "ROLE")
	if err != nil {
		return route.NodeSeen{}, err
	}
	seen := route.NodeSeen{Addr: p.addr}
	return seen, parseRole(r, &seen)
}
