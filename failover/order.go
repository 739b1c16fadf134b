package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// catchUp waits until every replica that may be promoted has read all that the master
// had written when nothing was under way any more.
func (s *switchover) catchUp(ctx context.Context) (string, error) {
	m, err := s.master.role(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.master.addr, err)
	}
	if m.Role != topology.RoleMaster {
		return "", fmt.Errorf("%s says %s", s.master.addr, m.Role)
	}
	for _, p := range s.candidates {
		if err := reaches(ctx, p, m.Offset); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s read the stream up to %d", list(s.candidates), m.Offset), nil
}

// reaches waits until a replica's offset is at least the given one.
func reaches(ctx context.Context, p *peer, offset int64) error {
	tick := time.NewTicker(catchUpPoll)
	defer tick.Stop()
	behind := fmt.Errorf("%s does not answer", p.addr)
	for {
		r, err := p.role(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !isTimeout(err):
			return fmt.Errorf("%s: %w", p.addr, err)
		case err != nil: // it hangs: for as long as there is time
		case r.Role != topology.RoleReplica || r.Master == "":
			return fmt.Errorf("%s says %s", p.addr, r.Role)
		case r.Offset >= offset:
			return nil
		default:
			behind = fmt.Errorf("%s has read the stream up to %d; want %d", p.addr, r.Offset, offset)
		}
		select {
		case <-ctx.Done():
			return behind
		case <-tick.C:
		}
	}
}

// order tells one Sentinel to fail over. One that refuses because it knows of no fit
// replica did nothing, so another may be told. None is told while a failover is under
// way: two at once may promote two replicas.
func (s *switchover) order(ctx context.Context) (string, error) {
	var errs []error
	for _, w := range s.witnesses {
		if err := s.trusts(ctx, w); err != nil {
			errs = append(errs, fmt.Errorf("sentinel %s: %w", w.addr, err))
			continue
		}
		if err := s.commit(ctx, w); err != nil {
			return "", err
		}
		// From here on a failover may come, whatever becomes of us.
		s.told = true
		started, err := w.tell(context.WithoutCancel(ctx))
		if started && err != nil {
			return fmt.Sprintf("Sentinel %s has not answered and may have begun: %v", w.addr, err), nil
		}
		if started {
			return fmt.Sprintf("Sentinel %s was told: it can't be called off any more", w.addr), nil
		}
		s.told = false
		if err := s.uncommit(ctx); err != nil {
			return "", err
		}
		if inProgress(err) {
			return "", fmt.Errorf("sentinel %s: another failover is under way: %w", w.addr, err)
		}
		errs = append(errs, fmt.Errorf("sentinel %s: %w", w.addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return "", errors.Join(errs...)
}

// trusts checks that w would promote a replica that has caught up: one may have come
// back since preflight.
func (s *switchover) trusts(ctx context.Context, w *witness) error {
	if w.elect(ctx); w.electErr != nil {
		return w.electErr
	}
	if !slices.ContainsFunc(s.candidates, func(p *peer) bool { return p.addr == w.elects }) {
		return fmt.Errorf("it would promote %s, which was not waited for", w.elects)
	}
	return nil
}

// commit asks the machine for the right to tell w. What ends ctx takes it back.
func (s *switchover) commit(ctx context.Context, w *witness) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	if err := s.step(tidy, route.SwitchoverCommitted{Sentinel: w.addr}); err != nil {
		return err
	}
	var committed bool
	var open []string
	s.c.look(func(m *route.Machine) {
		_, committed = m.Switchover()
		for _, c := range m.Open() {
			open = append(open, c.String())
		}
	})
	switch {
	case committed && ctx.Err() != nil:
		return errors.Join(ctx.Err(), s.uncommit(ctx))
	case committed:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("something else holds the route: %s", strings.Join(open, ", "))
}

// uncommit tells the machine that no failover comes of the last commit.
func (s *switchover) uncommit(ctx context.Context) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	return s.step(tidy, route.SwitchoverRefused{})
}
