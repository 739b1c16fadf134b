package sentinel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// errUnsteady means that the master's address changed each time between two
// questions of one poll.
var errUnsteady = errors.New("master address changed while asked")

// steadyTries bounds how often one poll asks again because the address changed.
const steadyTries = 3

// scope says how much a poll asks.
type scope uint8

const (
	scopeVote  scope = iota // who is master, and at which epoch
	scopeWhole              // replicas, peers and tilt too
)

// answer is what one poll learned.
type answer struct {
	sentAt time.Duration // taken before the questions were sent
	known  bool          // it knows the group; else only sentAt and identity hold
	runID  string        // "" if this poll did not ask

	master topology.Addr
	info   masterInfo

	scope    scope
	replicas []topology.Replica // scopeWhole only, as the rest
	peers    []peer             // nil if it may not be asked
	tilt     tilt
}

// tilt is what INFO said about tilt mode.
type tilt uint8

const (
	tiltUnknown tilt = iota // INFO was not asked, or is refused
	tiltOff
	tiltOn
)

// poller asks one Sentinel over one connection that it keeps. One goroutine
// owns it.
type poller struct {
	// Fixed at construction.
	dialer dialer
	addr   topology.Addr
	group  string
	clock  boottime.Clock

	conn *redis.Conn // nil while there is none
	link *conn       // beneath conn
}

// ask polls once. A connection that turns out to have ended while idle is
// replaced at once, since a Sentinel that restarted or closed it may well be up.
func (p *poller) ask(ctx context.Context, s scope, timeout time.Duration) (answer, error) {
	reused := p.conn != nil
	a, err := p.askOnce(ctx, s, timeout)
	if err != nil && reused && !isReply(err) && !isTimeout(err) && ctx.Err() == nil {
		a, err = p.askOnce(ctx, s, timeout)
	}
	return a, err
}

// askOnce leaves no connection behind if it fails.
func (p *poller) askOnce(ctx context.Context, s scope, timeout time.Duration) (answer, error) {
	identify := p.conn == nil // a host name may lead to another Sentinel each time
	if identify {
		link, err := p.dialer.open(ctx, p.addr)
		if err != nil {
			return answer{}, err
		}
		p.link, p.conn = link, link.client.Conn()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a, err := p.steady(ctx, s)
	if err == nil && identify {
		a.runID, err = p.identity(ctx)
	}
	if err != nil {
		if _, plain := p.link.raw.(*net.TCPConn); plain && identify && errors.Is(err, syscall.ECONNRESET) {
			err = fmt.Errorf("%w before any reply: if it speaks TLS on this port, sentinel.tls.enabled is needed", err)
		}
		p.close()
		return answer{}, fmt.Errorf("poll sentinel %s: %w", p.addr, err)
	}
	return a, nil
}

// steady asks until the address is the same before and after the epoch was read:
// only then do the two belong together.
func (p *poller) steady(ctx context.Context, s scope) (answer, error) {
	for range steadyTries {
		a, err := p.exchange(ctx, s)
		if !errors.Is(err, errUnsteady) {
			return a, err
		}
	}
	return answer{}, errUnsteady
}

// exchange sends one pipeline and reads its replies.
//
// SENTINEL MASTER has the config epoch, yet a leader that reconfigures shows
// the old master's address beside the new epoch; GET-MASTER-ADDR has the address
// in force, yet no epoch. So the one is asked between two of the other.
func (p *poller) exchange(ctx context.Context, s scope) (answer, error) {
	pipe := p.conn.Pipeline()
	before := pipe.Do(ctx, "sentinel", "get-master-addr-by-name", p.group)
	master := pipe.Do(ctx, "sentinel", "master", p.group)
	after := pipe.Do(ctx, "sentinel", "get-master-addr-by-name", p.group)
	var replicas, peers, info *redis.Cmd
	if s == scopeWhole {
		replicas = pipe.Do(ctx, "sentinel", "replicas", p.group)
		peers = pipe.Do(ctx, "sentinel", "sentinels", p.group)
		info = pipe.Do(ctx, "info", "sentinel")
	}
	a := answer{sentAt: p.clock(), scope: s}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !isReply(err) {
		return answer{}, err
	}
	refused := err != nil      // the login, unless a command has an error of its own
	for _, cmd := range cmds { // the first error may be a reply and a later one the connection's
		if err := cmd.Err(); err != nil {
			if !isReply(err) {
				return answer{}, err
			}
			refused = false
		}
	}
	if refused {
		return answer{}, err
	}

	switch errBefore, errAfter := before.Err(), after.Err(); {
	case errors.Is(errBefore, redis.Nil) && errors.Is(errAfter, redis.Nil):
		return a, nil
	case errors.Is(errBefore, redis.Nil) != errors.Is(errAfter, redis.Nil):
		return answer{}, errUnsteady // it has just learned of the group, or forgotten it
	case errBefore != nil:
		return answer{}, errBefore
	case errAfter != nil:
		return answer{}, errAfter
	}
	first, err := readAddr(before.Val())
	if err != nil {
		return answer{}, err
	}
	if a.master, err = readAddr(after.Val()); err != nil {
		return answer{}, err
	}
	if first != a.master {
		return answer{}, errUnsteady
	}
	if err := master.Err(); err != nil {
		return answer{}, fmt.Errorf("sentinel master: %w", err)
	}
	if a.info, err = readMaster(master.Val()); err != nil {
		return answer{}, err
	}
	if a.info.addr != a.master {
		a.info.role = topology.RoleUnknown // it is the old master's word
	}
	a.known = true
	if s == scopeWhole {
		err = a.readWhole(replicas, peers, info)
	}
	return a, err
}

// readWhole reads what only scopeWhole asks. The replicas are required: a group
// whose replicas we may not see looks like one that has none, and a lease
// would be renewed without their word. The rest may be refused by an ACL.
func (a *answer) readWhole(replicas, peers, info *redis.Cmd) error {
	if err := replicas.Err(); err != nil {
		return fmt.Errorf("sentinel replicas: %w", err)
	}
	var err error
	if a.replicas, err = readReplicas(replicas.Val()); err != nil {
		return err
	}
	if peers.Err() == nil {
		if a.peers, err = readPeers(peers.Val()); err != nil {
			return err
		}
	}
	if text, err := info.Text(); err == nil {
		switch infoField(text, "sentinel_tilt") {
		case "0":
			a.tilt = tiltOff
		case "1":
			a.tilt = tiltOn
		}
	}
	return nil
}

// identity asks who answers on this connection. Sentinels before 6.2, and
// logins that may not ask MYID, leave INFO's run id: of the process, so it
// changes with a restart and is no peer's runid, yet the same at each address.
func (p *poller) identity(ctx context.Context) (string, error) {
	id, err := p.conn.Do(ctx, "sentinel", "myid").Text()
	switch {
	case err == nil:
		return id, nil
	case !isReply(err):
		return "", err
	}
	info, err := p.conn.Do(ctx, "info", "server").Text()
	if err != nil && !isReply(err) {
		return "", err
	}
	if id := infoField(info, "run_id"); id != "" {
		return "process:" + id, nil
	}
	return "", nil
}

func (p *poller) close() {
	if p.conn == nil {
		return
	}
	_ = p.conn.Close() // hands the connection back to link's pool, which closes it
	p.link.close()
	p.conn, p.link = nil, nil
}
