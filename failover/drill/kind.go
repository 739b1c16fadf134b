package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what a drill breaks.
type Kind string

// The kinds of drills.
const (
	KindFailover       Kind = "failover"
	KindCrash          Kind = "crash"
	KindHang           Kind = "hang"
	KindPartition      Kind = "partition"
	KindSentinelLoss   Kind = "sentinel-loss"
	KindReplicaLoss    Kind = "replica-loss"
	KindLeaderLoss     Kind = "leader-loss"
	KindFlap           Kind = "flap"
	KindRollingRestart Kind = "rolling-restart"
	KindSoak           Kind = "soak"
)

// Plan is what a kind does and what it may cost.
type Plan struct {
	Kind  Kind
	Short string   // one line
	Steps []string // what happens, in order
	Times int      // how often by default: rounds, or failovers in a row for a flap
	// Lossy says that the old master cannot hand over: Redis itself may lose what
	// it acknowledged and had not replicated.
	Lossy bool

	relays bool // the nodes must be cut off from everyone
	// costs is the longest pause expected beside the time to detect the fault.
	costs  time.Duration
	script func(ctx context.Context, s *scene) error // nil for a soak
}

// Plans returns all kinds.
func Plans() []Plan {
	const planned, unplanned = 2 * time.Second, 3500 * time.Millisecond
	return []Plan{
		{
			Kind: KindFailover, Short: "a planned failover", Times: 1, costs: planned, script: failoverScript,
			Steps: []string{"SENTINEL FAILOVER", "wait until the group is whole"},
		},
		{
			Kind: KindCrash, Short: "the master crashes", Times: 1, Lossy: true, costs: unplanned, script: crashScript,
			Steps: []string{"kill -9 the master", "start it again after 3s, once another master is named", "wait until the group is whole"},
		},
		{
			Kind: KindHang, Short: "the master stops answering for 6s, and wakes up", Times: 1, Lossy: true, costs: unplanned, script: hangScript,
			Steps: []string{"SIGSTOP the master", "SIGCONT after 6s", "wait until the group is whole"},
		},
		{
			Kind: KindPartition, Short: "the master is cut off from everyone for 6s", Times: 1, Lossy: true, relays: true, costs: unplanned, script: partitionScript,
			Steps: []string{"hold back every byte from and to the master", "let them pass after 6s", "wait until the group is whole"},
		},
		{
			Kind: KindSentinelLoss, Short: "every Sentinel dies, after a replica", Times: 1, costs: planned, script: sentinelLossScript,
			Steps: []string{"kill -9 one replica", "kill -9 every Sentinel, once they call it down", "start all again after 4s", "wait until the group is whole"},
		},
		{
			Kind: KindReplicaLoss, Short: "a replica dies", Times: 1, costs: planned, script: replicaLossScript,
			Steps: []string{"kill -9 one replica", "start it again after 4s", "wait until the group is whole"},
		},
		{
			Kind: KindLeaderLoss, Short: "the leading Sentinel dies after the promotion", Times: 1, Lossy: true, script: leaderLossScript,
			Steps: []string{
				"SENTINEL SIMULATE-FAILURE crash-after-promotion, and SENTINEL FAILOVER, at one Sentinel",
				"start that Sentinel again 2s after its death", "wait until the group is whole",
			},
		},
		{
			Kind: KindFlap, Short: "planned failovers in a row", Times: 10, costs: planned, script: flapScript,
			Steps: []string{"SENTINEL FAILOVER, again and again, as soon as the group is whole"},
		},
		{
			Kind: KindRollingRestart, Short: "every node restarts, the master after a failover", Times: 1, costs: planned, script: rollingScript,
			Steps: []string{"restart each replica in turn", "SENTINEL FAILOVER", "restart the old master", "wait until the group is whole"},
		},
		{
			Kind: KindSoak, Short: "failovers, crashes and hangs, one after the other", Times: 200, Lossy: true, costs: unplanned,
			Steps: []string{"failover, crash, failover, hang, and again", "look for growth of goroutines, descriptors and memory"},
		},
	}
}

// PlanOf returns the plan of that kind, or an error that names all.
func PlanOf(name string) (Plan, error) {
	var names []string
	for _, p := range Plans() {
		if string(p.Kind) == name {
			return p, nil
		}
		names = append(names, string(p.Kind))
	}
	return Plan{}, fmt.Errorf("%q: no such drill; want one of %s", name, strings.Join(names, ", "))
}

// rounds returns what to do in each round, given how often.
func (p Plan) rounds(times int) []Plan {
	switch p.Kind {
	case KindFlap:
		return []Plan{p}
	case KindSoak:
		mix := []Kind{KindFailover, KindCrash, KindFailover, KindHang}
		all := make([]Plan, times)
		for i := range all {
			n := slices.IndexFunc(Plans(), func(p Plan) bool { return p.Kind == mix[i%len(mix)] })
			all[i] = Plans()[n]
		}
		return all
	case KindFailover, KindCrash, KindHang, KindPartition, KindSentinelLoss, KindReplicaLoss, KindLeaderLoss, KindRollingRestart:
	}
	return slices.Repeat([]Plan{p}, times)
}

// Expected returns the objectives that a round is held to by default. downAfter
// is how long a node must be silent to be called down.
func (p Plan) Expected(clients int, downAfter time.Duration) SLO {
	s := SLO{}
	for _, o := range objectives() {
		s[o.name] = 0
	}
	delete(s, maxPause)
	if p.costs > 0 {
		s[maxPause] = ms(p.costs)
	}
	if p.Lossy {
		delete(s, maxLost) // of those, what lag does not explain is judged
		s[maxUncertain] = float64(clients + extras)
		if p.costs > 0 {
			s[maxPause] = ms(p.costs + downAfter)
		}
	}
	return s
}
