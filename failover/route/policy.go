package route

import (
	"errors"
	"fmt"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The fixed times of the rules. FAILOVER.md has the measurement behind each.
const (
	// settle is how far apart two polls must be that clear a sign: promotion
	// follows +selected-slave by 58 to 105 ms, so a candidate that is a replica at
	// once and again after this was not promoted by it.
	settle = 300 * time.Millisecond
	// selectedFresh is how long after +selected-slave a success of a write is kept back:
	// we may have heard of it late, so that the promotion is about to come and what the
	// old master has just acknowledged never reaches the candidate. A promotion that
	// comes later than this leaves replication the rest of those 58 ms.
	selectedFresh = 40 * time.Millisecond
	// suspicionMax is how long a replica's closing of its connection may hold
	// the route once the master has answered.
	suspicionMax = 100 * time.Millisecond
	// refusalMax is how long -NOREPLICAS or -LOADING holds before it is passed on.
	refusalMax = time.Second
	// suspicionGap is the least time between two holds on mere suspicion.
	suspicionGap = time.Second
	// insist is how long an unusual agreement must last before it is believed:
	// more than two hello periods (2 s each).
	insist = 5 * time.Second
	// recent is how old an answer or an agreement may be to act upon.
	recent = 3 * time.Second
	// lostFor is how long after a lost connection a probe's failure is its consequence.
	lostFor = 2 * time.Second
	// goneFor is how old a refused connection may be to prove that a process is gone.
	goneFor = 500 * time.Millisecond
	// demoteGap is the least time between two attempts to demote a master.
	demoteGap = 100 * time.Millisecond
	// rightsGap is the time between two questions for a right that we lack.
	rightsGap = time.Minute
	// unheard is how long no Sentinel may answer before the state file is used.
	unheard = 2 * time.Second

	askFast  = 20 * time.Millisecond  // between probes while not serving
	askSlow  = 100 * time.Millisecond // the same after fastFor
	fastFor  = 30 * time.Second       // how long a state other than serving polls fast
	watchDef = 250 * time.Millisecond // between probes while down-after is unknown
	watchMax = 400 * time.Millisecond // and at most: with the time for its answer, a master that hangs is told within a second

	holdExtra        = 5 * time.Second  // hold "auto" is down-after and this
	holdCap          = 40 * time.Second // and no more than this
	defaultDownAfter = 30 * time.Second // Sentinel's own default
	// failoverCost is what a failover takes beyond down-after (measured: 1.2 to 1.3 s).
	failoverCost  = 1300 * time.Millisecond
	clientTimeout = 3 * time.Second // the shortest of the usual client timeouts

	watchCap = 64 // nodes probed at most: a lying Sentinel can name many
)

// Limit is a duration setting that may also be automatic or switched off. The
// zero value is automatic.
type Limit struct {
	set bool
	d   time.Duration
}

// Auto returns the Limit that is derived from the group's down-after.
func Auto() Limit { return Limit{} }

// Off returns the Limit that disables what it limits.
func Off() Limit { return Limit{set: true} }

// After returns the Limit of d; 0 is the same as [Off].
func After(d time.Duration) Limit { return Limit{set: true, d: d} }

// IsAuto reports whether l is derived from the group.
func (l Limit) IsAuto() bool { return !l.set }

// IsOff reports whether l disables what it limits.
func (l Limit) IsOff() bool { return l.set && l.d == 0 }

// String returns "auto", "off" or the duration.
func (l Limit) String() string {
	switch {
	case l.IsAuto():
		return "auto"
	case l.IsOff():
		return "off"
	}
	return l.d.String()
}

// in returns the limit for a group with this down-after; 0 if it is off.
func (l Limit) in(downAfter time.Duration) time.Duration {
	if l.set {
		return l.d
	}
	return min(downAfter+holdExtra, holdCap)
}

// FenceMode says what keeps a deposed master from being written to.
type FenceMode uint8

// The fence modes. The zero value is FenceLease.
const (
	FenceLease  FenceMode = iota // early signs hold, and so does an ended lease
	FenceEvents                  // early signs hold; there is no lease
	FenceOff                     // only a lost master or a majority elsewhere holds
)

// String returns the mode as it is written in a configuration.
func (f FenceMode) String() string {
	switch f {
	case FenceLease:
		return "lease"
	case FenceEvents:
		return "events"
	case FenceOff:
		return "off"
	}
	return "invalid"
}

// ParseFenceMode reads "lease", "events" or "off".
func ParseFenceMode(s string) (FenceMode, error) {
	for _, f := range []FenceMode{FenceLease, FenceEvents, FenceOff} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("fence mode %q: want lease, events or off", s)
}

// Policy is what an operator may choose. Its zero value is the default.
type Policy struct {
	Fence FenceMode
	// Follow says when a new master is served, Demote whether the old one is made a
	// replica after that. FollowFast needs the early signs, so not FenceOff.
	Follow FollowMode
	Demote DemoteMode
	// HoldTimeout is how long one command may wait; off: none waits.
	HoldTimeout Limit
	// HoldMax is how long the route holds before it goes down; off: forever.
	HoldMax Limit
	// Lease is the lease's length; 0 is 0.7 of the group's down-after.
	Lease time.Duration
	// OfferReplicas has routes that don't serve name the replicas that could answer
	// reads, and come anew when those change.
	OfferReplicas bool
}

// Validate returns every problem, joined, each naming its setting.
func (p Policy) Validate() error {
	var errs []error
	if p.Fence > FenceOff {
		errs = append(errs, fmt.Errorf("fence.mode: invalid value %d", p.Fence))
	}
	if p.Follow > FollowFast {
		errs = append(errs, fmt.Errorf("follow: invalid value %d", p.Follow))
	}
	if p.Demote > DemoteAuto {
		errs = append(errs, fmt.Errorf("fence.demote: invalid value %d", p.Demote))
	}
	if p.Follow == FollowFast && p.Fence == FenceOff {
		errs = append(errs, errors.New("follow: fast needs the signs that fence.mode off ignores"))
	}
	if p.HoldTimeout.d < 0 {
		errs = append(errs, fmt.Errorf("hold.timeout: want 0 or more, got %v", p.HoldTimeout.d))
	}
	if p.HoldMax.d < 0 {
		errs = append(errs, fmt.Errorf("hold.max: want 0 or more, got %v", p.HoldMax.d))
	}
	if p.Lease < 0 {
		errs = append(errs, fmt.Errorf("lease: want 0 or more, got %v", p.Lease))
	}
	return errors.Join(errs...)
}

// Saved is what is worth remembering across a restart: the last pair that a
// majority named and whose role was verified. The zero value is "nothing".
type Saved struct {
	Group     string          `json:"group"`
	Master    topology.Addr   `json:"master"`
	Epoch     uint64          `json:"epoch"`
	Replicas  []topology.Addr `json:"replicas"`
	DownAfter time.Duration   `json:"down_after_ns"`
}
