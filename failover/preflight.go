package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// streamWait is how long a replica may take to read what the master has written when
// it is looked at. Sentinel's hellos move an idle master's stream every two seconds.
const streamWait = 2500 * time.Millisecond

// preflight finds out all that speaks against the switchover, and changes nothing. It
// reports whether it may go on. Commands flow meanwhile.
func (s *switchover) preflight(ctx context.Context) bool {
	s.c.stepName(topology.StepPreflight)
	findings, notes := s.inspect(ctx)
	if err := context.Cause(ctx); err != nil {
		findings = []string{"the caller went away"}
		if !errors.Is(err, context.Canceled) {
			findings = []string{err.Error()}
		}
	}
	if len(findings) > 0 {
		why := strings.Join(findings, "\n")
		s.ended(topology.StepPreflight, topology.StepFailed, why)
		s.result.Outcome, s.result.Err = topology.SwitchoverImpossible, why
		return false
	}
	s.hope = s.expected()
	s.result.To = s.hope
	detail := fmt.Sprintf("%s to %s", s.from.addr, s.result.To)
	if s.req.To == "" && len(s.candidates) > 1 {
		detail += ", or whom Sentinel chooses then"
	}
	s.done(topology.StepPreflight, strings.Join(append([]string{detail}, notes...), "; "))
	return true
}

// inspect returns what speaks against the switchover, and what is worth knowing.
func (s *switchover) inspect(ctx context.Context) (findings, notes []string) {
	var replicas, listed []topology.Replica
	var views []topology.View
	s.c.look(func(m *route.Machine) {
		now := s.c.opts.Clock()
		findings = m.Preflight(now, route.SwitchoverBegun{Until: now + s.req.MaxPause, Fast: !s.req.Strict})
		if r := m.Route(); r.State != 0 {
			s.from = pairSeen{r.Master, m.Epoch()}
		}
		replicas = m.SwitchoverReplicas()
		listed, views = s.c.sentinels.Replicas, s.c.sentinels.Views
		notes = m.Degraded()
	})
	if s.req.MaxPause < s.takes() {
		findings = append(findings, fmt.Sprintf("--max-pause is %v, and the promotion alone takes about %v", s.req.MaxPause, s.takes()))
	}
	if s.c.opts.Patience != nil {
		if limit, bounded := s.c.opts.Patience(); bounded && limit < s.req.MaxPause {
			findings = append(findings, fmt.Sprintf(
				"outage.after is %v, so commands would get the outage's answer within a pause of %v: lower --max-pause, or raise outage.after",
				limit, s.req.MaxPause))
		}
	}
	if s.from.addr == "" {
		return findings, notes // there is nobody to be asked about
	}
	more, replicas := s.eligible(listed, replicas)
	findings = append(findings, more...)
	var down []string
	for _, r := range listed {
		if !r.Up {
			down = append(down, fmt.Sprintf("replica %s is down (%s)", r.Addr, r.Flags))
		}
	}
	notes = append(notes, down...)

	s.master = &peer{addr: s.from.addr, by: s.c.errands}
	for _, r := range replicas {
		s.replicas = append(s.replicas, &peer{addr: r.Addr, by: s.c.errands})
	}
	s.candidates = s.replicas
	for _, v := range views {
		if v.Up && v.Master == s.from.addr {
			s.witnesses = append(s.witnesses, &witness{
				peer:  peer{addr: v.Sentinel, by: s.c.sentinelErrands},
				group: s.c.opts.Group, downAfter: v.DownAfter, events: v.Subscribed,
			})
		}
	}
	sentinels := s.askSentinels(ctx)
	nodes := s.askNodes(ctx)
	return append(append(findings, nodes()...), sentinels()...), notes
}

// eligible returns the replicas whose offset matters: the one that was asked for, since
// it will be made to win, or else every one that a Sentinel may choose.
func (s *switchover) eligible(listed, replicas []topology.Replica) (findings []string, _ []topology.Replica) {
	if s.req.To == "" {
		if len(replicas) == 0 {
			findings = append(findings, "no replica may be promoted: one must be up, with replica-priority above 0")
			for _, r := range listed {
				findings = append(findings, fmt.Sprintf("replica %s: priority %d, flags %s", r.Addr, r.Priority, r.Flags))
			}
		}
		return findings, replicas
	}
	if s.req.To == s.from.addr {
		return []string{fmt.Sprintf("%s is the master already", s.req.To)}, nil
	}
	i := slices.IndexFunc(listed, func(r topology.Replica) bool { return r.Addr == s.req.To })
	if i < 0 {
		all := make([]string, 0, len(listed))
		for _, r := range listed {
			all = append(all, string(r.Addr))
		}
		return []string{fmt.Sprintf("%s is no replica of this group; the Sentinels list: %s", s.req.To, strings.Join(all, ", "))}, nil
	}
	switch r := listed[i]; {
	case !r.Up:
		findings = append(findings, fmt.Sprintf("replica %s is down (%s)", r.Addr, r.Flags))
	case r.Priority == 0:
		findings = append(findings, fmt.Sprintf("replica %s has priority 0, so Sentinel never promotes it: set replica-priority", r.Addr))
	}
	return findings, replicas
}

// askNodes asks the data nodes, all at once. The function it returns waits for the
// answers and returns what was found.
func (s *switchover) askNodes(ctx context.Context) func() []string {
	var wg sync.WaitGroup
	var onMaster []string
	perNode := make([][]string, len(s.replicas))
	ctx, cancel := context.WithTimeout(ctx, streamWait+askTimeout)
	offset, err := s.movedOffset(ctx)
	if err != nil {
		onMaster = append(onMaster, fmt.Sprintf("%s: %v", s.master.addr, err))
	}
	if !s.req.Strict {
		wg.Go(func() { onMaster = append(onMaster, s.mayDemote(ctx)...) })
	}
	for i, p := range s.replicas {
		wg.Go(func() { perNode[i] = s.examine(ctx, p, offset) })
	}
	return func() []string {
		wg.Wait()
		cancel()
		return append(onMaster, slices.Concat(perNode...)...)
	}
}

// movedOffset returns an offset of the master's stream that it reached since it was
// first asked. To have read up to there proves that a replica gets the stream now: after
// the first copy a master may keep it back for up to a second, until the replica's next
// acknowledgement, although the link says connected. A stream that does not move at all
// is told as it is.
func (s *switchover) movedOffset(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	first := int64(-1)
	for {
		m, err := s.master.role(ctx)
		switch {
		case err != nil && first >= 0 && (ctx.Err() != nil || isTimeout(err)):
			return first, nil
		case err != nil:
			return 0, err
		case m.Role != topology.RoleMaster:
			return 0, fmt.Errorf("it says %s", m.Role)
		case first >= 0 && m.Offset > first:
			return m.Offset, nil
		case first < 0:
			first = m.Offset
		}
		select {
		case <-ctx.Done():
			return first, nil
		case <-tick.C:
		}
	}
}

// mayDemote finds out whether our account may make the master a replica.
func (s *switchover) mayDemote(ctx context.Context) []string {
	seen := s.c.errands.rights(ctx, route.CheckRights{Addr: s.from.addr})
	switch {
	case seen.Denied:
		return []string{fmt.Sprintf("our account may not demote %s (%s): grant +replicaof +client|kill +multi +exec, or use --strict", s.from.addr, seen.Err)}
	case seen.Err != "":
		return []string{fmt.Sprintf("whether our account may demote %s is not known: %s", s.from.addr, seen.Err)}
	}
	return nil
}

// examine finds out whether a replica may take over.
func (s *switchover) examine(ctx context.Context, p *peer, offset int64) []string {
	named := s.req.To != ""
	bad := func(format string, args ...any) []string {
		line := fmt.Sprintf("replica %s ", p.addr) + fmt.Sprintf(format, args...)
		if !named {
			line += "; Sentinel might promote it: mend it, or name another with --to"
		}
		return []string{line}
	}
	if named && p.addr != s.req.To {
		return s.settable(ctx, p) // it must only stand back
	}
	r, err := p.role(ctx)
	switch {
	case err != nil && isTimeout(err):
		return bad("does not answer")
	case err != nil:
		return bad("can't be asked: %v", err)
	case r.Role != topology.RoleReplica:
		return bad("says %s", r.Role)
	case !r.LinkUp:
		return bad("has no link to its master %s", r.Master)
	}
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	if err := reaches(ctx, p, offset); err != nil {
		return bad("lags: %v", err)
	}
	if named {
		return s.settable(ctx, p)
	}
	return nil
}

// askSentinels asks the Sentinels, all at once. The function it returns waits for the
// answers, puts those first that may be told, and returns what was found.
func (s *switchover) askSentinels(ctx context.Context) func() []string {
	var wg sync.WaitGroup
	for _, w := range s.witnesses {
		wg.Go(func() { w.check(ctx) })
	}
	return func() []string {
		wg.Wait()
		var findings, useless []string
		for _, w := range s.witnesses {
			findings = append(findings, w.findings...)
			findings = append(findings, s.wouldUndo(w)...)
			if w.useless != "" {
				useless = append(useless, w.useless)
			}
		}
		if len(useless) == len(s.witnesses) { // one that can be told is enough
			findings = append(findings, useless...)
		}
		s.rank()
		return findings
	}
}

// wouldUndo returns which candidates a Sentinel would make replicas again once they are
// promoted. It does so at its next INFO of a node that it takes for a master that should
// be a replica, unless the news of the promotion reaches it first; and it takes a node for
// one until its next INFO after somebody else demoted the node, ten seconds at most
// (sentinelRefreshInstanceInfo in redis/src/sentinel.c).
func (s *switchover) wouldUndo(w *witness) (findings []string) {
	for _, a := range w.mistaken {
		if s.req.To == "" || s.req.To == a {
			findings = append(findings, fmt.Sprintf(
				"Sentinel %s still takes replica %s for a master, and would undo its promotion: wait for Sentinel's next look at it, ten seconds at most", w.addr, a))
		}
	}
	return findings
}

// rank leaves the Sentinels that can be told, and puts one first that would promote
// whom we want and whose events reach us.
func (s *switchover) rank() {
	s.witnesses = slices.DeleteFunc(s.witnesses, func(w *witness) bool {
		if w.useless != "" {
			w.close()
		}
		return w.useless != ""
	})
	score := func(w *witness) (n int) {
		if w.elects == s.req.To {
			n += 2
		}
		if w.events {
			n++
		}
		return n
	}
	slices.SortStableFunc(s.witnesses, func(a, b *witness) int { return score(b) - score(a) })
}

// expected returns who will be master.
func (s *switchover) expected() topology.Addr {
	if s.req.To != "" || len(s.witnesses) == 0 {
		return s.req.To
	}
	return s.witnesses[0].elects
}
