package drill

import (
	"context"
	"errors"
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
	KindSwitchover     Kind = "switchover"
	KindCrash          Kind = "crash"
	KindHang           Kind = "hang"
	KindOutage         Kind = "outage"
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
	Steps []string // what happens, in order, to a group of the drill's own
	// Remote is the same for a group that others run; nil is Steps.
	Remote []string
	Worst  string // what may go wrong there
	Needs  Needs
	Times  int // how often by default: rounds, or failovers in a row for a flap
	// Lossy says that the old master cannot hand over: Redis itself may lose what
	// it acknowledged and had not replicated.
	Lossy bool

	side   Side          // of a partition
	away   time.Duration // how long nodes hang or are cut off; 0 for other kinds
	when   When          // of a leader's loss
	strict Strict        // of a switchover
	relays bool          // the nodes must be cut off from everyone
	// costs is the longest pause expected beside the time to detect the fault.
	costs  time.Duration
	script func(ctx context.Context, s *scene) error // nil for a soak
}

// Needs is what a kind asks of a group that others run, and of the sidecar.
type Needs struct {
	Supervisor bool // something that restarts what ends
	Cutter     bool // commands that cut and heal
	Debug      bool // DEBUG, on the master
	Disk       bool // the master reloads its data when it restarts
	Own        bool // only a group of the drill's own will do
	Switchover bool // the sidecar can hand the master over
	Automatic  bool // the Sentinels must start a failover by themselves
}

// When is where in a failover its leader is lost.
type When string

// The moments that Sentinel can be asked to die at.
const (
	WhenElection  When = "election"
	WhenPromotion When = "promotion"
)

// Strict says whether a switchover waits until a majority names the new master.
type Strict bool

// Variant says which variant of a kind is meant. The zero Variant is the usual one.
type Variant struct {
	Side   Side   // of a partition; default SideMajority
	When   When   // of leader-loss; default WhenPromotion
	Strict Strict // of switchover
	// Away is how long nodes hang or are cut off; default is the kind's own.
	Away time.Duration
}

// variant names what is not usual, or "".
func (p Plan) variant() string {
	switch {
	case p.side == SideMinority:
		return string(p.side)
	case p.when == WhenElection:
		return string(p.when)
	case bool(p.strict):
		return "strict"
	}
	return ""
}

// PlanOf returns the plan of that kind and variant. The error says every mistake.
func PlanOf(name string, v Variant) (Plan, error) {
	var names []string
	for _, p := range drafts() {
		if string(p.Kind) == name {
			return p.as(v)
		}
		names = append(names, string(p.Kind))
	}
	return Plan{}, fmt.Errorf("%q: no such drill; want one of %s", name, strings.Join(names, ", "))
}

// as returns that variant of p.
func (p Plan) as(v Variant) (Plan, error) {
	var errs []error
	refuse := func(flag, value string, want Kind, values ...string) {
		if p.Kind != want {
			errs = append(errs, fmt.Errorf("--%s is for %s; this is %s", flag, want, p.Kind))
		} else if !slices.Contains(values, value) {
			errs = append(errs, fmt.Errorf("--%s: found %q; want %s", flag, value, strings.Join(values, " or ")))
		}
	}
	if v.Side != "" {
		refuse("side", string(v.Side), KindPartition, string(SideMajority), string(SideMinority))
		p.side = v.Side
	}
	if v.When != "" {
		refuse("when", string(v.When), KindLeaderLoss, string(WhenElection), string(WhenPromotion))
		p.when = v.When
	}
	if v.Strict {
		refuse("strict", "", KindSwitchover, "")
		p.strict, p.costs = v.Strict, strictPause
	}
	if p.side == SideMinority {
		minority(&p)
	}
	if v.Away != 0 {
		switch {
		case p.away == 0:
			errs = append(errs, fmt.Errorf("--away is for %s, %s and %s; this is %s", KindHang, KindPartition, KindOutage, p.Kind))
		case v.Away < leastAway || v.Away > mostAway:
			errs = append(errs, fmt.Errorf("--away: found %v; want %v to %v", v.Away, leastAway, mostAway))
		}
		p.away = v.Away
	}
	if p.when == WhenElection {
		p.Short, p.Lossy, p.costs = "the leading Sentinel dies after its election, and nobody is promoted", false, 2*time.Second
		p.Steps = []string{
			"SENTINEL SIMULATE-FAILURE crash-after-election, and SENTINEL FAILOVER, at one Sentinel",
			"start that Sentinel again 2s after its death", "wait until the group is whole",
		}
		p.Remote = []string{
			"SENTINEL SIMULATE-FAILURE crash-after-election, and SENTINEL FAILOVER, at {sentinel}, which dies",
			"wait until its supervisor has restarted it and the group is whole",
		}
	}
	return p.filled(), errors.Join(errs...)
}

// filled returns p with the time that nodes are away in its texts.
func (p Plan) filled() Plan {
	fill := func(s string) string { return strings.ReplaceAll(s, "{away}", spell(p.away)) }
	p.Short = fill(p.Short)
	for _, some := range []*[]string{&p.Steps, &p.Remote} {
		all := slices.Clone(*some)
		for i := range all {
			all[i] = fill(all[i])
		}
		*some = all
	}
	return p
}

// spell prints a duration as people do: 6s, 1m30s, 2m.
func spell(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}

// minority makes a partition one in which the clients are on the losing side.
func minority(p *Plan) {
	p.away = awayMinority
	p.Short = "the master, the sidecar and its clients are cut off from all others for {away}"
	p.Steps = []string{
		"hold back every byte between master, sidecar and clients here, replicas and Sentinels there",
		"let them pass after {away}", "wait until the group is whole",
	}
	p.Remote = []string{
		"run --cut-cmd with DRILL_SIDE=minority: it separates {master} and the sidecar from all others",
		"run --heal-cmd after {away}", "wait until the group is whole",
	}
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
	case KindFailover, KindSwitchover, KindCrash, KindHang, KindOutage, KindPartition, KindSentinelLoss, KindReplicaLoss, KindLeaderLoss, KindRollingRestart:
	}
	return slices.Repeat([]Plan{p}, times)
}

// switchPause and strictPause are what a switchover may cost, the machine's
// unpunctuality included.
const (
	switchPause = 500 * time.Millisecond
	strictPause = 1500 * time.Millisecond
)

// demotedWithin is how soon Sentinels put right a replica that is master for nobody: one
// that they told to be while it hung hears that when it wakes up. Until then the sidecar
// holds.
const demotedWithin = 15 * time.Second

// recoverWithin is how soon after a partition has healed clients are served.
const recoverWithin = time.Second

// Expected returns the objectives that a round is held to by default. downAfter
// is how long a node must be silent to be called down.
func (p Plan) Expected(clients int, downAfter time.Duration) SLO {
	s := SLO{}
	for _, o := range objectives() {
		s[o.name] = 0
	}
	delete(s, maxPause)
	delete(s, maxRecovery)
	delete(s, maxAnswerGap)
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
	if p.side == SideMinority {
		delete(s, maxFenced) // that they are told is the point
		s[maxRecovery] = ms(recoverWithin)
		s[maxPause] = ms(p.away + recoverWithin)
		delete(s, maxBadAnswers)
	}
	if p.Kind == KindOutage { // what clients are told then is theirs to choose
		for _, name := range []string{maxErrors, maxFenced, maxUncertain, maxDisconnects, maxPause, maxBadAnswers} {
			delete(s, name)
		}
		s[maxRecovery] = ms(demotedWithin + downAfter)
	}
	return s
}
