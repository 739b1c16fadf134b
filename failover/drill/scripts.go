package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sentinelproxy/sentinelproxy/internal/faultnet"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// scene is what a script works on.
type scene struct {
	group    *redistest.Group
	observer *Observer
	times    int // failovers in a row
}

// settleTimeout is how long a group may take to be whole again: an old master is
// demoted after some ten seconds, a leader's death costs two failover-timeouts.
const settleTimeout = 90 * time.Second

// settle waits until the group is whole.
func (s *scene) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return s.group.WaitStable(ctx)
}

func (s *scene) fault(n *redistest.Node, what string) { s.observer.Mark(MarkFault, n.Addr(), what) }
func (s *scene) healed(n *redistest.Node)             { s.observer.Mark(MarkHealed, n.Addr(), "") }

// replica returns a node that follows the master.
func (s *scene) replica(ctx context.Context) (*redistest.Node, error) {
	master, err := s.group.Master(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range s.group.Nodes() {
		if n != master {
			return n, nil
		}
	}
	return nil, errors.New("the group has no replica")
}

func failoverScript(ctx context.Context, s *scene) error {
	master, err := s.group.Master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "SENTINEL FAILOVER")
	if err := s.group.Failover(ctx); err != nil {
		return err
	}
	return s.settle(ctx)
}

func flapScript(ctx context.Context, s *scene) error {
	for range s.times {
		if err := failoverScript(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func crashScript(ctx context.Context, s *scene) error {
	const away = 3 * time.Second
	master, err := s.group.Master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "kill -9 of the master")
	if err := master.Kill(); err != nil {
		return err
	}
	if err := pause(ctx, away); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil { // another master first: the old one comes back empty
		return err
	}
	if err := master.Restart(ctx); err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

// away is how long a master hangs or is cut off: longer than a failover takes.
const away = 6 * time.Second

func hangScript(ctx context.Context, s *scene) error {
	master, err := s.group.Master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "SIGSTOP of the master")
	if err := master.Pause(); err != nil {
		return err
	}
	err = pause(ctx, away)
	if err := errors.Join(err, master.Resume()); err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

func partitionScript(ctx context.Context, s *scene) error {
	master, err := s.group.Master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "the master is cut off")
	master.Relay().Stall(faultnet.Both)
	err = pause(ctx, away)
	master.Relay().Heal()
	if err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

// outage is how long Sentinels and replicas are away.
const outage = 4 * time.Second

func replicaLossScript(ctx context.Context, s *scene) error {
	n, err := s.replica(ctx)
	if err != nil {
		return err
	}
	s.fault(n, "kill -9 of a replica")
	if err := n.Kill(); err != nil {
		return err
	}
	if err := pause(ctx, outage); err != nil {
		return err
	}
	if err := n.Restart(ctx); err != nil {
		return err
	}
	s.healed(n)
	return s.settle(ctx)
}

func sentinelLossScript(ctx context.Context, s *scene) error {
	n, err := s.replica(ctx)
	if err != nil {
		return err
	}
	s.fault(n, "kill -9 of a replica")
	if err := n.Kill(); err != nil {
		return err
	}
	if err := s.calledDown(ctx); err != nil {
		return err
	}
	s.fault(n, "kill -9 of every Sentinel")
	for _, v := range s.group.Sentinels() {
		if err := v.Kill(); err != nil {
			return err
		}
	}
	if err := pause(ctx, outage); err != nil {
		return err
	}
	eg, ectx := errgroup.WithContext(ctx)
	for _, v := range append(s.group.Sentinels(), n) {
		eg.Go(func() error { return v.Restart(ectx) })
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	s.healed(n)
	return s.settle(ctx)
}

// calledDown waits until every Sentinel calls a replica down.
func (s *scene) calledDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, v := range s.group.Sentinels() {
		for {
			reply, err := v.Do(ctx, "SENTINEL", "REPLICAS", s.group.Name())
			if err != nil {
				return fmt.Errorf("SENTINEL REPLICAS of %s: %w", v.Name(), err)
			}
			if strings.Contains(fmt.Sprint(reply), "s_down") {
				break
			}
			if err := pause(ctx, 10*observeEvery); err != nil {
				return fmt.Errorf("%s does not call the replica down: %w", v.Name(), err)
			}
		}
	}
	return nil
}

func leaderLossScript(ctx context.Context, s *scene) error {
	const leader, rest = 0, 2 * time.Second
	sentinel := s.group.Sentinels()[leader]
	if _, err := sentinel.Do(ctx, "SENTINEL", "SIMULATE-FAILURE", "crash-after-promotion"); err != nil {
		return fmt.Errorf("SENTINEL SIMULATE-FAILURE: %w", err)
	}
	s.fault(sentinel, "SENTINEL FAILOVER, whose leader dies after the promotion")
	if err := s.group.FailoverOn(ctx, leader); err != nil {
		return err
	}
	if err := s.death(ctx, sentinel); err != nil {
		return err
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	if err := sentinel.Restart(ctx); err != nil {
		return err
	}
	s.healed(sentinel)
	return s.settle(ctx)
}

// death waits until a process has ended by itself.
func (*scene) death(ctx context.Context, n *redistest.Node) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for n.Alive() {
		if err := pause(ctx, observeEvery); err != nil {
			return fmt.Errorf("%s should have ended: %w", n.Name(), err)
		}
	}
	return nil
}

func rollingScript(ctx context.Context, s *scene) error {
	old, err := s.group.Master(ctx)
	if err != nil {
		return err
	}
	restart := func(n *redistest.Node) error {
		s.fault(n, "restart of "+n.Name())
		if err := n.Terminate(); err != nil {
			return err
		}
		if err := n.Restart(ctx); err != nil {
			return err
		}
		s.healed(n)
		return s.settle(ctx)
	}
	for _, n := range s.group.Nodes() {
		if n == old {
			continue
		}
		if err := restart(n); err != nil {
			return err
		}
	}
	if err := failoverScript(ctx, s); err != nil {
		return err
	}
	return restart(old)
}
