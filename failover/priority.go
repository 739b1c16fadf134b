package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Sentinel chooses by priority, then by offset and run id. So that it chooses the
// replica that was asked for, that one's replica-priority is set below the others',
// before commands wait: Sentinel learns of it with its next INFO, within ten seconds.

const (
	priorityKey = "replica-priority"
	// seenWait is how long a Sentinel may take to see a priority: INFO goes out every
	// ten seconds.
	seenWait = 13 * time.Second
	seenPoll = 100 * time.Millisecond
)

// setting is a node's priority before we changed it.
type setting struct {
	node   *peer
	before int
}

// prioritise makes the replica that was asked for the one that Sentinel chooses. It
// reports whether it may go on.
func (s *switchover) prioritise(ctx context.Context) bool {
	if s.req.To == "" {
		s.ended(topology.StepPriority, topology.StepSkipped, "Sentinel chooses; every replica that it may choose is waited for")
		return true
	}
	s.c.stepName(topology.StepPriority)
	detail, err := s.prefer(ctx)
	if err != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) {
			err = errors.New("the caller went away")
		}
		s.ended(topology.StepPriority, topology.StepFailed, err.Error())
		s.result.Outcome, s.result.Err = topology.SwitchoverAborted, "priority: "+err.Error()
		s.result.To = s.from.addr
		return false
	}
	// The others need not catch up: they are not chosen.
	s.candidates = slices.DeleteFunc(slices.Clone(s.replicas), func(p *peer) bool { return p.addr != s.req.To })
	s.done(topology.StepPriority, detail)
	return true
}

// prefer sets the priorities and waits until a Sentinel has seen them.
func (s *switchover) prefer(ctx context.Context) (string, error) {
	now := make(map[topology.Addr]int)
	for _, p := range s.replicas {
		n, err := p.priority(ctx)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.addr, err)
		}
		now[p.addr] = n
	}
	changes := route.Prefer(s.req.To, now)
	detail := []string{fmt.Sprintf("Sentinel chooses %s", s.req.To)}
	for _, a := range slices.Sorted(maps.Keys(changes)) {
		i := slices.IndexFunc(s.replicas, func(p *peer) bool { return p.addr == a })
		p := s.replicas[i]
		s.restore = append(s.restore, setting{p, now[a]})
		s.c.log.Info("replica priority changed for a switchover", "node", a, "before", now[a], "now", changes[a])
		if _, err := p.do(ctx, "CONFIG", "SET", priorityKey, strconv.Itoa(changes[a])); err != nil {
			return "", fmt.Errorf("%s: %w", a, err)
		}
		detail = append(detail, fmt.Sprintf("priority of %s is %d, was %d", a, changes[a], now[a]))
	}
	return strings.Join(detail, "; "), s.seen(ctx)
}

// seen waits until a Sentinel would promote the replica that was asked for. Only those
// that would are told, one whose events reach us first.
func (s *switchover) seen(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, seenWait,
		fmt.Errorf("no Sentinel would choose %s after %v", s.req.To, seenWait))
	defer cancel()
	tick := time.NewTicker(seenPoll)
	defer tick.Stop()
	for {
		for i, w := range s.witnesses {
			if w.elect(ctx); w.elects == s.req.To {
				s.witnesses[0], s.witnesses[i] = s.witnesses[i], s.witnesses[0]
				for _, other := range s.witnesses[1:] {
					other.close()
				}
				s.witnesses = s.witnesses[:1]
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// putBack restores the priorities, whatever has happened. After a promotion Sentinel has
// had every node write its configuration file, so that is done again.
func (s *switchover) putBack(ctx context.Context) {
	if len(s.restore) == 0 {
		return
	}
	whole := context.WithoutCancel(ctx)
	s.last = s.c.opts.Clock()
	var wrong, right []string
	for _, c := range s.restore {
		ctx, cancel := context.WithTimeout(whole, tidyWait) // each its own: one that hangs takes no time from others
		defer cancel()
		if _, err := c.node.do(ctx, "CONFIG", "SET", priorityKey, strconv.Itoa(c.before)); err != nil {
			wrong = append(wrong, fmt.Sprintf("set %s of %s back to %d by hand: %v", priorityKey, c.node.addr, c.before, err))
			continue
		}
		right = append(right, fmt.Sprintf("priority of %s is %d again", c.node.addr, c.before))
		if s.told {
			_, _ = c.node.do(ctx, "CONFIG", "REWRITE") // refused where there is no file
		}
	}
	if len(wrong) == 0 {
		s.done(topology.StepRestore, strings.Join(right, "; "))
		return
	}
	why := strings.Join(wrong, "\n")
	s.ended(topology.StepRestore, topology.StepFailed, why)
	s.result.Err = strings.TrimPrefix(s.result.Err+"\n"+why, "\n")
	if s.result.Outcome == topology.SwitchoverDone {
		s.result.Outcome = topology.SwitchoverFailed
	}
}

// priority asks for the node's replica-priority.
func (p *peer) priority(ctx context.Context) (int, error) {
	r, err := p.do(ctx, "CONFIG", "GET", priorityKey)
	if err != nil {
		return 0, err
	}
	if len(r.elems) != 2 {
		return 0, fmt.Errorf("CONFIG GET %s: %w", priorityKey, errReply)
	}
	return strconv.Atoi(r.elems[1].text)
}

// settable finds out, without any effect, whether our account may change the node's
// priority: the commands are queued in a transaction that one without arguments aborts.
func (*switchover) settable(ctx context.Context, p *peer) []string {
	rs, err := p.ask(ctx, []string{"CONFIG", "GET", priorityKey},
		[]string{"MULTI"}, []string{"CONFIG", "SET", priorityKey, "100"}, []string{"CONFIG"}, []string{"EXEC"})
	if err != nil {
		return []string{fmt.Sprintf("replica %s can't be asked: %v", p.addr, err)}
	}
	for _, r := range rs {
		if r.refusesAccount() {
			return []string{fmt.Sprintf("our account may not change the priority of %s (%s): grant +config|get +config|set +multi +exec, or leave --to out", p.addr, r.text)}
		}
	}
	return nil
}
