package drill

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// leaderLossScript has the Sentinel that leads a failover die in the middle of it.
func leaderLossScript(ctx context.Context, s *scene) error {
	const leader, rest = 0, 2 * time.Second
	sentinel := s.group.sentinels()[leader]
	how := "crash-after-" + string(s.plan.when)
	// Asking for help is what takes a flag back.
	restore := undo{Ask: &errand{string(sentinel.DirectAddr()), s.group.sentinelLogin(), []string{"SENTINEL", "SIMULATE-FAILURE", "help"}}}
	var w *watch
	if s.remote || !diesWithParent { // else it dies with the drill
		var err error
		if w, err = s.deadman.arm(ctx, restore, settleTimeout); err != nil {
			return err
		}
	}
	if err := s.loseLeader(ctx, sentinel, leader, how); err != nil {
		return errors.Join(err, w.fire()) // it is still armed, perhaps
	}
	if err := w.disarm(); err != nil {
		return err
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	if err := sentinel.back(ctx); err != nil {
		return err
	}
	s.healed(sentinel)
	return s.settle(ctx)
}

func (s *scene) loseLeader(ctx context.Context, sentinel member, leader int, how string) error {
	if _, err := sentinel.ask(ctx, "SENTINEL", "SIMULATE-FAILURE", how); err != nil {
		return fmt.Errorf("SENTINEL SIMULATE-FAILURE: %w", err)
	}
	s.fault(sentinel, "SENTINEL FAILOVER, whose leader dies after the "+string(s.plan.when))
	if err := s.group.failover(ctx, leader); err != nil {
		return err
	}
	return sentinel.gone(ctx)
}

func rollingScript(ctx context.Context, s *scene) error {
	old, err := s.group.master(ctx)
	if err != nil {
		return err
	}
	restart := func(m member) error {
		s.fault(m, "restart of "+m.Name())
		if err := m.stop(ctx); err != nil {
			return err
		}
		if err := m.back(ctx); err != nil {
			return err
		}
		s.healed(m)
		return s.settle(ctx)
	}
	for _, m := range s.group.nodes() {
		if m.Addr() == old.Addr() {
			continue
		}
		if err := restart(m); err != nil {
			return err
		}
	}
	if now, err := s.group.master(ctx); err != nil || now.Addr() != old.Addr() {
		return errors.Join(errors.New("the group has failed over by itself: nothing more is restarted"), err)
	}
	if err := failoverScript(ctx, s); err != nil {
		return err
	}
	return restart(old)
}
