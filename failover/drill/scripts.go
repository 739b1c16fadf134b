package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// scene is what a script works on.
type scene struct {
	group    group
	observer *Observer
	times    int // failovers in a row
	plan     Plan
	remote   bool // the group is others': a supervisor restarts what ends
	deadman  Deadman
	// switchover hands the master over through the sidecar; nil where that cannot.
	switchover func(context.Context) error
}

// settle waits until the group is whole.
func (s *scene) settle(ctx context.Context) error { return s.group.settle(ctx) }

func (s *scene) fault(m member, what string) { s.observer.Mark(MarkFault, m.Addr(), what) }
func (s *scene) healed(m member)             { s.observer.Mark(MarkHealed, m.Addr(), "") }

// replica returns a node that follows the master.
func (s *scene) replica(ctx context.Context) (member, error) {
	master, err := s.group.master(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range s.group.nodes() {
		if m.Addr() != master.Addr() {
			return m, nil
		}
	}
	return nil, errors.New("the group has no replica")
}

// failoverScript asks the Sentinels for a failover.
func failoverScript(ctx context.Context, s *scene) error {
	master, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "SENTINEL FAILOVER")
	if err := s.group.failover(ctx, anySentinel); err != nil {
		return err
	}
	if err := s.moved(ctx, master.Addr()); err != nil {
		return err
	}
	return s.settle(ctx)
}

// moved waits until another node than old is named. A group may look whole for a
// moment after a failover was asked for.
func (s *scene) moved(ctx context.Context, old topology.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		m, err := s.group.master(ctx)
		if err == nil && m.Addr() != old {
			return nil
		}
		if perr := pause(ctx, 10*observeEvery); perr != nil {
			return fmt.Errorf("no other master than %s is named: %w", old, errors.Join(perr, err))
		}
	}
}

// switchoverScript has the sidecar hand the master over.
func switchoverScript(ctx context.Context, s *scene) error {
	master, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "switchover")
	if err := s.switchover(ctx); err != nil {
		return fmt.Errorf("switchover: %w", err)
	}
	if err := s.moved(ctx, master.Addr()); err != nil {
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
	master, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "the master crashes")
	if err := master.kill(ctx); err != nil {
		return err
	}
	if err := pause(ctx, away); err != nil {
		return err
	}
	if err := s.group.settle(ctx, master); err != nil { // another master first: the old one may come back empty
		return err
	}
	if err := master.back(ctx); err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

// away is how long a master hangs or is cut off: longer than a failover takes.
const away = 6 * time.Second

// leastAway and mostAway bound what can be asked for.
const (
	leastAway = time.Second
	mostAway  = 10 * time.Minute
)

// awayAll is how long every node hangs: longer than a command is held by default.
const awayAll = 15 * time.Second

// awayMinority is how long clients are cut off with the old master: longer than a
// command is held by default, so that they are told.
const awayMinority = 10 * time.Second

func hangScript(ctx context.Context, s *scene) error {
	master, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "the master hangs")
	if err := master.hang(ctx, s.plan.away); err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

// outageScript has every node hang, so that there is nobody to promote.
func outageScript(ctx context.Context, s *scene) error {
	master, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	s.fault(master, "every node hangs")
	eg, ectx := errgroup.WithContext(ctx)
	for _, m := range s.group.nodes() {
		eg.Go(func() error { return m.hang(ectx, s.plan.away) })
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

func partitionScript(ctx context.Context, s *scene) error {
	master, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	what := "the master is cut off"
	if s.plan.side == SideMinority {
		what = "the master and its clients are cut off"
	}
	s.fault(master, what)
	err = s.group.cut(ctx, master, s.plan.side, s.plan.away)
	if err == nil {
		err = pause(ctx, s.plan.away)
	}
	// Also when ctx has ended, or the cut failed halfway.
	if err := errors.Join(err, s.group.heal(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	s.healed(master)
	return s.settle(ctx)
}

// outage is how long Sentinels and replicas are away.
const outage = 4 * time.Second

func replicaLossScript(ctx context.Context, s *scene) error {
	m, err := s.replica(ctx)
	if err != nil {
		return err
	}
	s.fault(m, "a replica crashes")
	return s.returned(ctx, m, m.kill)
}

// returned ends m, waits for a while, and lets it return.
func (s *scene) returned(ctx context.Context, m member, end func(context.Context) error) error {
	if err := end(ctx); err != nil {
		return err
	}
	if err := pause(ctx, outage); err != nil {
		return err
	}
	if err := m.back(ctx); err != nil {
		return err
	}
	s.healed(m)
	return s.settle(ctx)
}

// sentinelLossScript ends every Sentinel. In a group of the drill's own a replica
// is down before: one that a supervisor restarts is back too soon.
func sentinelLossScript(ctx context.Context, s *scene) error {
	m, err := s.replica(ctx)
	if err != nil {
		return err
	}
	ended := s.group.sentinels()
	if !s.remote {
		s.fault(m, "kill -9 of a replica")
		if err := m.kill(ctx); err != nil {
			return err
		}
		if err := s.calledDown(ctx); err != nil {
			return err
		}
		ended = append(ended, m)
	}
	s.fault(m, "every Sentinel ends")
	for _, v := range s.group.sentinels() {
		if err := v.kill(ctx); err != nil {
			return err
		}
	}
	if err := pause(ctx, outage); err != nil {
		return err
	}
	eg, ectx := errgroup.WithContext(ctx)
	for _, v := range ended {
		eg.Go(func() error { return v.back(ectx) })
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	s.healed(m)
	return s.settle(ctx)
}

// calledDown waits until every Sentinel calls a replica down.
func (s *scene) calledDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, v := range s.group.sentinels() {
		for {
			reply, err := v.ask(ctx, "SENTINEL", "REPLICAS", s.group.Name())
			if err != nil {
				return fmt.Errorf("SENTINEL REPLICAS of %s: %w", v.Name(), err)
			}
			down := false
			for _, row := range reply.Elem {
				down = down || strings.Contains(pairs(row)["flags"], "s_down")
			}
			if down {
				break
			}
			if err := pause(ctx, 10*observeEvery); err != nil {
				return fmt.Errorf("%s does not call the replica down: %w", v.Name(), err)
			}
		}
	}
	return nil
}
