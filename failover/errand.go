package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// errandTimeout bounds each errand as a whole: dials, logins, questions and orders.
const errandTimeout = time.Second

// errForbidden says that our account may not do what an errand is for.
var errForbidden = errors.New("not allowed")

// errands are what the machine orders done on data nodes beside watching them. Each
// goes over connections of its own, since a demotion ends all others.
type errands struct {
	login *atomic.Pointer[login] // shared with the probers
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
}

// call is one connection of an errand. Not safe for concurrent use.
type call struct {
	conn net.Conn
	buf  []byte // read and not parsed yet
}

// open dials a node and logs in. The caller closes what it gets.
func (e *errands) open(ctx context.Context, a topology.Addr) (*call, error) {
	conn, err := e.dial(ctx, "tcp", string(a))
	if err != nil {
		return nil, err
	}
	c := &call{conn: conn}
	if t, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(t)
	}
	if as := e.login.Load(); err == nil && as.password != "" {
		args := []string{"AUTH", as.password}
		if as.user != "" {
			args = []string{"AUTH", as.user, as.password}
		}
		_, err = c.ask(args) // a refusal is no error: the next reply tells what it means
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *call) close() { _ = c.conn.Close() } // nothing is left to be delivered

// ask sends commands in one write, so that a connection lost before them has sent
// none, and reads a reply to each.
func (c *call) ask(commands ...[]string) ([]reply, error) {
	var b []byte
	for _, args := range commands {
		b = appendCommand(b, args...)
	}
	if _, err := c.conn.Write(b); err != nil {
		return nil, err
	}
	rs := make([]reply, 0, len(commands))
	for chunk := make([]byte, 4096); len(rs) < len(commands); {
		r, used, err := parseReply(c.buf)
		switch {
		case err == nil:
			c.buf = c.buf[used:]
			rs = append(rs, r)
			continue
		case !errors.Is(err, errShort):
			return nil, err
		case len(c.buf) > replyMax:
			return nil, errReply
		}
		n, err := c.conn.Read(chunk)
		c.buf = append(c.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return nil, err
		}
	}
	return rs, nil
}

// isMaster asks for the role; any other answer than master is an error.
func (c *call) isMaster() error {
	rs, err := c.ask([]string{"ROLE"})
	if err != nil {
		return err
	}
	var seen route.NodeSeen
	if rs[0].kind == '-' {
		if rs[0].refusesAccount() {
			return fmt.Errorf("%w: ROLE: %s", errForbidden, rs[0].text)
		}
		return errors.New(rs[0].text)
	}
	if err := parseRole(rs[0], &seen); err != nil {
		return err
	}
	if seen.Role != topology.RoleMaster {
		return fmt.Errorf("role is %s", seen.Role)
	}
	return nil
}

// demote makes target a replica of master, if both say at this moment that they are
// masters. In the same transaction target ends its clients' connections, so that none
// goes on reading from it as if it were the master. A target that hangs is sent
// nothing: it would do it whenever it wakes.
func (e *errands) demote(ctx context.Context, o route.Demote) route.Demoted {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	d := route.Demoted{Target: o.Target, Master: o.Master}
	skipped := func(node topology.Addr, err error) route.Demoted {
		d.Outcome, d.Err = route.DemotionSkipped, fmt.Sprintf("%s: %v", node, err)
		if errors.Is(err, errForbidden) {
			d.Outcome = route.DemotionForbidden
		}
		return d
	}
	for _, node := range []topology.Addr{o.Master, o.Target} {
		c, err := e.open(ctx, node)
		if err != nil {
			return skipped(node, err)
		}
		defer c.close()
		if err := c.isMaster(); err != nil {
			return skipped(node, err)
		}
		if node == o.Target {
			d.Outcome, err = c.follow(o.Master)
			if err != nil {
				d.Err = fmt.Sprintf("%s: %v", node, err)
			}
		}
	}
	return d
}

// follow sends the transaction that makes the node a replica of master.
func (c *call) follow(master topology.Addr) (route.Demotion, error) {
	host, port := master.Split()
	rs, err := c.transaction([]string{"REPLICAOF", host, strconv.Itoa(port)}, []string{"CLIENT", "KILL", "TYPE", "normal"})
	switch {
	case errors.Is(err, errForbidden):
		return route.DemotionForbidden, err
	case err != nil:
		return route.DemotionFailed, err
	}
	exec := rs[len(rs)-1]
	if exec.kind != '*' || len(exec.elems) == 0 || exec.elems[0].kind != '+' {
		return route.DemotionFailed, fmt.Errorf("EXEC: %s", exec.describe())
	}
	// As Sentinel does at a promotion: a restart must not bring it back as a master.
	// A server without a configuration file, or an account without the right, refuses.
	_, _ = c.ask([]string{"CONFIG", "REWRITE"})
	return route.DemotionDone, nil
}

// transaction has commands executed between MULTI and EXEC and returns the replies to
// them and to EXEC. They go out when MULTI has been taken, for where an account lacks
// the right to it they would be executed at once.
func (c *call) transaction(commands ...[]string) ([]reply, error) {
	rs, err := c.ask([]string{"MULTI"})
	if err != nil {
		return nil, err
	}
	if err := refused(rs); err != nil {
		return nil, err
	}
	if rs[0].kind != '+' {
		return nil, fmt.Errorf("MULTI: %s", rs[0].describe())
	}
	rs, err = c.ask(append(commands, []string{"EXEC"})...)
	if err != nil {
		return nil, err
	}
	return rs, refused(rs)
}

// describe returns an unexpected reply's text.
func (r reply) describe() string {
	if r.kind == '*' && len(r.elems) > 0 {
		return r.elems[0].describe()
	}
	if r.text == "" {
		return errReply.Error()
	}
	return r.text
}

// refused returns the first of rs by which our account lacks a right.
func refused(rs []reply) error {
	for _, r := range rs {
		if r.refusesAccount() || r.kind == '-' && strings.HasPrefix(r.text, "ERR unknown command") {
			return fmt.Errorf("%w: %s", errForbidden, r.text)
		}
	}
	return nil
}

// rights asks whether our account may demote a node. It queues the commands of a
// demotion in a transaction that a command without arguments, which Redis refuses,
// then aborts: rights are checked when a command is queued, and nothing is done.
func (e *errands) rights(ctx context.Context, o route.CheckRights) route.RightsSeen {
	ctx, cancel := context.WithTimeout(ctx, errandTimeout)
	defer cancel()
	seen := route.RightsSeen{Addr: o.Addr}
	err := func() error {
		c, err := e.open(ctx, o.Addr)
		if err != nil {
			return err
		}
		defer c.close()
		if err := c.isMaster(); err != nil {
			return err
		}
		rs, err := c.transaction([]string{"REPLICAOF", "rights-check", "no-port"},
			[]string{"CLIENT", "KILL", "TYPE", "normal"}, []string{"REPLICAOF"})
		if err != nil {
			return err
		}
		if exec := rs[len(rs)-1]; !strings.HasPrefix(exec.text, "EXECABORT") {
			return fmt.Errorf("EXEC: %s", exec.describe())
		}
		return nil
	}()
	if err != nil {
		seen.Err, seen.Denied = err.Error(), errors.Is(err, errForbidden)
	}
	return seen
}
