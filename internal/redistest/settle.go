package redistest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// periods are Sentinel's settings for how often it asks and publishes, by the
// names of SENTINEL DEBUG, in milliseconds.
type periods map[string]string

// settling makes Sentinels find each other and all replicas at once rather than
// in ten seconds. Sentinel's own timer ticks about as often. It is not fit for a
// failover: a Sentinel that has not heard of one demotes the promoted node after
// four publish periods, and the leader needs a second to confirm a promotion.
func settling() periods { return periods{"INFO-PERIOD": "100", "PUBLISH-PERIOD": "100"} }

// quick is for Options.Quick: four publish periods are well over that second, and
// three INFO periods, after which Sentinel takes no replica for promotion, are
// more than a busy machine is late.
func quick() periods { return periods{"INFO-PERIOD": "1000", "PUBLISH-PERIOD": "600"} }

// settle waits until the group is as it was asked for. Meanwhile the Sentinels
// hurry; after it their periods are Redis' own again, unless Options.Quick says
// otherwise, so that failovers take as long as in production.
func (g *Group) settle(ctx context.Context) error {
	later := make([]periods, len(g.sentinels))
	err := eachOf(ctx, g.sentinels, func(ctx context.Context, i int, s *Node) (err error) {
		later[i], err = s.setPeriods(ctx, settling())
		return err
	})
	if err != nil {
		return err
	}
	if err := await(ctx, 20*time.Millisecond, g.linked); err != nil {
		return err
	}
	return eachOf(ctx, g.sentinels, func(ctx context.Context, i int, s *Node) error {
		err := await(ctx, 20*time.Millisecond, func(ctx context.Context) error { return g.complete(ctx, s) })
		if err != nil {
			return err
		}
		if g.opts.Quick {
			later[i] = quick()
		}
		_, err = s.setPeriods(ctx, later[i])
		return err
	})
}

// inform waits until no Sentinel holds a replica for a master. One whose last INFO was
// from before a node was demoted would make that node a replica again as soon as it is
// promoted: for it the node has been a master all the time, and for longer than it waits
// for news (sentinelRefreshInstanceInfo in redis/src/sentinel.c). Those Sentinels hurry.
func (g *Group) inform(ctx context.Context) error {
	g.informing.Lock()
	defer g.informing.Unlock()
	return eachOf(ctx, g.sentinels, func(ctx context.Context, _ int, s *Node) error {
		if !s.serving() || g.informed(ctx, s) == nil {
			return nil
		}
		before, err := s.setPeriods(ctx, periods{"INFO-PERIOD": "100"})
		if err != nil {
			return err
		}
		err = await(ctx, 20*time.Millisecond, func(ctx context.Context) error { return g.informed(ctx, s) })
		_, restored := s.setPeriods(context.WithoutCancel(ctx), before)
		return errors.Join(err, restored)
	})
}

// informed checks that a Sentinel holds no running replica for a master.
func (g *Group) informed(ctx context.Context, s *Node) error {
	reply, err := s.ask(ctx, "SENTINEL", "REPLICAS", g.opts.Name)
	if err != nil {
		return fmt.Errorf("SENTINEL REPLICAS of %s: %w", s.name, err)
	}
	for _, row := range rows(reply) {
		if n := g.node(addrOf(row)); n != nil && n.serving() && row["role-reported"] == "master" {
			return fmt.Errorf("%s still takes replica %s for a master", s.name, n.name)
		}
	}
	return nil
}

// eachOf calls do for all nodes at once and returns the first error.
func eachOf(ctx context.Context, nodes []*Node, do func(context.Context, int, *Node) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	for i, n := range nodes {
		eg.Go(func() error { return do(ctx, i, n) })
	}
	return eg.Wait()
}

// setPeriods changes a Sentinel's periods and returns what they were. Sentinel
// forgets them when it ends. Before Redis 7 there is nothing to set: it does
// nothing.
func (n *Node) setPeriods(ctx context.Context, to periods) (before periods, err error) {
	if len(to) == 0 {
		return nil, nil
	}
	reply, err := n.ask(ctx, "SENTINEL", "DEBUG")
	if isReply(err) {
		return nil, nil // no such subcommand
	}
	if err != nil {
		return nil, fmt.Errorf("SENTINEL DEBUG of %s: %w", n.name, err)
	}
	all := pairs(reply)
	before = make(periods, len(to))
	command := []any{"SENTINEL", "DEBUG"}
	for name, ms := range to {
		before[name] = all[name]
		command = append(command, name, ms)
	}
	if _, err := n.ask(ctx, command...); err != nil {
		return nil, fmt.Errorf("set the periods of %s: %w", n.name, err)
	}
	return before, nil
}

// linked checks that all replicas follow the first node.
func (g *Group) linked(ctx context.Context) error { return g.followed(ctx, g.nodes[0]) }

// complete checks that a Sentinel sees the whole group, everything up.
func (g *Group) complete(ctx context.Context, s *Node) error {
	reply, err := s.ask(ctx, "SENTINEL", "MASTER", g.opts.Name)
	if err != nil {
		return fmt.Errorf("SENTINEL MASTER of %s: %w", s.name, err)
	}
	m := pairs(reply)
	for field, want := range map[string]string{
		"flags":               "master",
		"num-slaves":          strconv.Itoa(g.opts.Replicas),
		"num-other-sentinels": strconv.Itoa(g.opts.Sentinels - 1),
	} {
		if m[field] != want {
			return fmt.Errorf("%s says %s %q; want %q", s.name, field, m[field], want)
		}
	}
	if got, want := addrOf(m), g.nodes[0].announced; got != want {
		return fmt.Errorf("%s names master %s; want %s", s.name, got, want)
	}
	for _, peers := range []struct{ command, flags string }{{"REPLICAS", "slave"}, {"SENTINELS", "sentinel"}} {
		reply, err := s.ask(ctx, "SENTINEL", peers.command, g.opts.Name)
		if err != nil {
			return fmt.Errorf("SENTINEL %s of %s: %w", peers.command, s.name, err)
		}
		for _, row := range rows(reply) {
			if err := peerUp(row, peers.flags, g.nodes[0].announced); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// peerUp checks one row of SENTINEL REPLICAS or SENTINEL SENTINELS.
func peerUp(row map[string]string, flags string, master topology.Addr) error {
	if row["flags"] != flags {
		return fmt.Errorf("%s has flags %q; want %q", addrOf(row), row["flags"], flags)
	}
	if flags != "slave" {
		return nil
	}
	port, _ := strconv.Atoi(row["master-port"])
	if got := topology.JoinAddr(row["master-host"], port); got != master || row["master-link-status"] != "ok" {
		return fmt.Errorf("replica %s: link to %s is %q", addrOf(row), got, row["master-link-status"])
	}
	return nil
}
