package route

import (
	"log/slog"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Outcome says how a hold ended.
type Outcome uint8

// The outcomes. The zero value says that the hold goes on.
const (
	OutcomeFollowed Outcome = 1 + iota // another (master, epoch) is served
	OutcomeCleared                     // it was no failover: the same pair is served again
	OutcomeDown                        // the circuit had opened before anything was served again
)

// Outcomes lists every outcome that an ended hold can have.
func Outcomes() []Outcome { return []Outcome{OutcomeFollowed, OutcomeCleared, OutcomeDown} }

// String returns "followed", "cleared", "down", or "ongoing".
func (o Outcome) String() string {
	switch o {
	case OutcomeFollowed:
		return "followed"
	case OutcomeCleared:
		return "cleared"
	case OutcomeDown:
		return "down"
	}
	return "ongoing"
}

// The phases of a failover, in their usual order. A phase that nobody saw is left out.
const (
	PhaseSelected = "selected" // a Sentinel chose the node to promote
	PhaseHeld     = "held"     // an event loop said that nothing unsent goes out
	PhasePromoted = "promoted" // the new master said that it is one
	PhaseDemoted  = "demoted"  // the old master said that it is a replica, or we had made it one
	PhaseMajority = "majority" // a majority named the new pair
	PhaseDown     = "down"     // hold.max passed
	PhaseServing  = "serving"  // commands flow again
)

// Phases lists every phase.
func Phases() []string {
	return []string{PhaseSelected, PhaseHeld, PhasePromoted, PhaseDemoted, PhaseMajority, PhaseDown, PhaseServing}
}

// Phase is one step of a failover.
type Phase struct {
	Name  string        // one of the Phase constants
	After time.Duration // since the hold began
}

// Failover tells one hold from its first sign to the route that served again.
type Failover struct {
	Cause     Cause  // what began it
	Why       string // the same as a phrase
	Outcome   Outcome
	From, To  topology.Addr // To is zero while it goes on
	FromEpoch uint64
	Epoch     uint64        // of To
	Started   time.Duration // since boot
	Took      time.Duration // zero while it goes on
	Phases    []Phase       // in the order they came

	renounced bool // warned of a switch behind the Sentinels' back
}

// Reached reports whether a phase was seen.
func (f *Failover) Reached(name string) bool {
	return slices.ContainsFunc(f.Phases, func(p Phase) bool { return p.Name == name })
}

// After returns when a phase was seen, since the hold began; 0 if it was not.
func (f *Failover) After(name string) time.Duration {
	for _, p := range f.Phases {
		if p.Name == name {
			return p.After
		}
	}
	return 0
}

// mark notes a phase once, and reports whether it is new.
func (f *Failover) mark(now time.Duration, name string) bool {
	if f == nil || f.Reached(name) {
		return false
	}
	f.Phases = append(f.Phases, Phase{Name: name, After: now - f.Started})
	return true
}

// reach notes a phase of the hold under way, and tells it.
func (m *Machine) reach(now time.Duration, name string, node topology.Addr) {
	if m.failover.mark(now, name) {
		m.info("failover goes on", slog.String("phase", name), attrNode(node),
			slog.Duration("after", now-m.failover.Started))
	}
}

// attrs returns the phases as one group of a log line.
func (f *Failover) attrs() slog.Attr {
	as := make([]any, 0, len(f.Phases))
	for _, p := range f.Phases {
		as = append(as, slog.Duration(p.Name, p.After))
	}
	return slog.Group("phases", as...)
}
