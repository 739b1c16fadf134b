package redistest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Master returns the node that most of the answering Sentinels name as master;
// without Sentinels, the one node that says it is.
func (g *Group) Master(ctx context.Context) (*Node, error) {
	if len(g.sentinels) == 0 {
		return g.selfDeclared(ctx)
	}
	votes := make(map[topology.Addr]int)
	answers := 0
	named, errs := g.named(ctx)
	for _, addr := range named {
		answers++
		votes[addr]++
	}
	for addr, n := range votes {
		if 2*n <= answers {
			continue
		}
		if node := g.node(addr); node != nil {
			return node, nil
		}
		return nil, fmt.Errorf("redistest: the Sentinels name %s, which is no node of this group", addr)
	}
	return nil, fmt.Errorf("redistest: no master has a majority of the %d Sentinels that answer: %v: %w",
		answers, votes, errors.Join(errs...))
}

// named asks every serving Sentinel for the master's address at once.
func (g *Group) named(ctx context.Context) (map[*Node]topology.Addr, []error) {
	var (
		mu    sync.Mutex // guards the two below
		addrs = make(map[*Node]topology.Addr)
		errs  []error
		wg    sync.WaitGroup
	)
	for _, s := range g.sentinels {
		if !s.serving() {
			continue
		}
		wg.Go(func() {
			addr, err := g.masterAddr(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
				return
			}
			addrs[s] = addr
		})
	}
	wg.Wait()
	return addrs, errs
}

func (g *Group) masterAddr(ctx context.Context, s *Node) (topology.Addr, error) {
	reply, err := s.ask(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.opts.Name)
	if err != nil {
		return "", err
	}
	fields, _ := reply.([]any)
	if len(fields) != 2 {
		return "", fmt.Errorf("unexpected reply %v", reply)
	}
	port, err := strconv.Atoi(fmt.Sprint(fields[1]))
	if err != nil {
		return "", err
	}
	return topology.JoinAddr(fmt.Sprint(fields[0]), port), nil
}

// selfDeclared returns the only serving node whose role is master.
func (g *Group) selfDeclared(ctx context.Context) (*Node, error) {
	var master *Node
	for _, n := range g.nodes {
		if !n.serving() {
			continue
		}
		role, err := n.Role(ctx)
		if err != nil {
			return nil, err
		}
		if role != topology.RoleMaster {
			continue
		}
		if master != nil {
			return nil, fmt.Errorf("redistest: %s and %s both are masters", master.name, n.name)
		}
		master = n
	}
	if master == nil {
		return nil, errors.New("redistest: no node is a master")
	}
	return master, nil
}

// Failover asks the first Sentinel that answers for a failover and returns once
// one is under way; WaitStable waits for its end.
func (g *Group) Failover(ctx context.Context) error {
	var errs []error
	for i, s := range g.sentinels {
		if !s.serving() {
			continue
		}
		err := g.FailoverOn(ctx, i)
		if err == nil || isReply(err) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err) // it does not answer: the next one may
	}
	return fmt.Errorf("redistest: no Sentinel answers: %w", errors.Join(errs...))
}

// FailoverOn is Failover at one Sentinel, given by its index. While that knows
// of no replica fit for promotion, as shortly after a failover, it is asked again
// until ctx ends. That a failover is already under way is no error.
func (g *Group) FailoverOn(ctx context.Context, sentinel int) error {
	ctx, cancel := withDefaultWait(ctx)
	defer cancel()
	s := g.sentinels[sentinel]
	return await(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := s.ask(ctx, "SENTINEL", "FAILOVER", g.opts.Name)
		if err == nil || strings.HasPrefix(err.Error(), "INPROG") {
			return nil
		}
		err = fmt.Errorf("SENTINEL FAILOVER at %s: %w", s.name, err)
		if strings.Contains(err.Error(), "NOGOODSLAVE") {
			return err
		}
		return halt{err}
	})
}

// WaitStable waits until no failover is under way and the next one can't be undone by
// what is left of the last: all Sentinels that run act, name the same master and see it
// up, that node's role is master, all other data nodes that run follow it with their
// links up, and every Sentinel has seen that they do. Dead and paused processes don't
// count.
func (g *Group) WaitStable(ctx context.Context) error {
	ctx, cancel := withDefaultWait(ctx)
	defer cancel()
	err := await(ctx, 50*time.Millisecond, g.stable)
	if err == nil {
		err = g.inform(ctx)
	}
	if err != nil {
		return fmt.Errorf("redistest: group not stable: %w", err)
	}
	return nil
}

func (g *Group) stable(ctx context.Context) error {
	master, err := g.Master(ctx)
	if err != nil {
		return err
	}
	for _, s := range g.sentinels {
		if !s.serving() {
			continue
		}
		reply, err := s.ask(ctx, "SENTINEL", "MASTER", g.opts.Name)
		if err != nil {
			return fmt.Errorf("SENTINEL MASTER of %s: %w", s.name, err)
		}
		if m := pairs(reply); addrOf(m) != master.announced || m["flags"] != "master" {
			return fmt.Errorf("%s names %s with flags %q; want %s", s.name, addrOf(m), m["flags"], master.announced)
		}
		if err := s.acting(ctx); err != nil {
			return err
		}
	}
	return g.followed(ctx, master)
}

// acting checks that a Sentinel is not in TILT: one that was kept from running for two
// seconds only looks on for thirty, and would call off a failover that it leads.
func (n *Node) acting(ctx context.Context) error {
	tilt, err := n.infoField(ctx, "sentinel", "sentinel_tilt")
	if err != nil {
		return fmt.Errorf("INFO of %s: %w", n.name, err)
	}
	if tilt != "0" {
		return fmt.Errorf("%s is in TILT: it was kept from running", n.name)
	}
	return nil
}

// followed checks that master runs as one and that every other serving node is
// its replica and reads what it writes. A link that is "connected" is not enough:
// after the first copy a master may keep the stream back for a second, until the
// replica's next REPLCONF ACK (repl_start_cmd_stream_on_ack in redis/src/replication.c),
// and a failover then loses it.
func (g *Group) followed(ctx context.Context, master *Node) error {
	if !master.serving() {
		return fmt.Errorf("master %s is not serving", master.name)
	}
	if _, err := master.ask(ctx, "PUBLISH", "redistest:stream", "on"); err != nil {
		return fmt.Errorf("PUBLISH at %s: %w", master.name, err)
	}
	written, err := master.replication(ctx)
	if err != nil {
		return err
	}
	if written.role != topology.RoleMaster {
		return fmt.Errorf("%s has role %s; want master", master.name, written.role)
	}
	for _, n := range g.nodes {
		if n == master || !n.serving() {
			continue
		}
		r, err := n.replication(ctx)
		if err != nil {
			return err
		}
		if r.role != topology.RoleReplica || r.master != master.announced || r.link != "connected" {
			return fmt.Errorf("%s is %s of %s, link %q; want a replica of %s",
				n.name, r.role, r.master, r.link, master.announced)
		}
		if r.offset < written.offset {
			return fmt.Errorf("%s has read the stream up to %d; want %d", n.name, r.offset, written.offset)
		}
	}
	return nil
}
