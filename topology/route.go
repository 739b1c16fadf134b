package topology

import (
	"sync/atomic"
	"time"
)

// State says what happens to a command that arrives.
type State uint8

// The states of a route. The zero value is invalid.
const (
	Discovering State = 1 + iota // no master verified since start: commands wait
	Serving                      // commands go to Route.Master
	Holding                      // the master is lost, demoted or doubted: commands wait
	Down                         // held longer than hold.max: commands fail at once
	Fenced                       // we may be on the losing side of a partition: commands wait, and fail as such
)

// States lists every valid state, in order, for metrics that export all of them.
func States() []State { return []State{Discovering, Serving, Holding, Down, Fenced} }

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Discovering:
		return "discovering"
	case Serving:
		return "serving"
	case Holding:
		return "holding"
	case Down:
		return "down"
	case Fenced:
		return "fenced"
	}
	return "invalid"
}

// Route says where a group's commands go. It is immutable, the Lease it points
// to aside. A Route replaces one with a lower Gen, never the reverse.
type Route struct {
	Group string
	Gen   uint64 // grows with every Route of a group
	State State
	// Master and Epoch are the pair commands go to while Serving, and the last
	// pair that was served in every other state (zero if there was none).
	Master Addr
	Epoch  uint64
	// Doubt says that a success which a write's connection still delivers may
	// already be lost: promotion may have begun. Serving routes never doubt.
	Doubt bool
	// Suspect says that a promotion may have begun, or be about to, but more likely has
	// not: such a
	// success is to be kept back until the next Route, which comes within 100 ms.
	// Where Doubt is set too, Doubt stands.
	Suspect bool
	// Cut says of a Down route that it was Fenced when the circuit opened: its
	// commands are refused by the fence still.
	Cut   bool
	Since time.Duration // when this state began
	Why   string        // one phrase for logs and /readyz
	// HoldTimeout is how long one command may wait for a Serving route; 0 means
	// that none waits. It is learned from the group, so it may differ by Route.
	HoldTimeout time.Duration
	// Replicas are where reads may go while nothing is served, if an outage policy
	// allows stale ones: nodes that said replica lately, the one with most data
	// first. A Serving route has none.
	Replicas []Addr
	// Lease bounds how long commands may go to Master without news from the
	// Sentinels or replicas; nil means unbounded.
	Lease *Lease
}

// Lease is the right to write to one (master, epoch), until a time since boot
// that its owner keeps moving ahead. It is safe for concurrent use.
type Lease struct{ until atomic.Int64 }

// Extend moves the lease's end to t if that is later.
func (l *Lease) Extend(t time.Duration) {
	for {
		old := l.until.Load()
		if int64(t) <= old || l.until.CompareAndSwap(old, int64(t)) {
			return
		}
	}
}

// Until returns the lease's end, as a time since boot.
func (l *Lease) Until() time.Duration { return time.Duration(l.until.Load()) }

// Held reports whether the lease runs at now. A nil lease always does.
func (l *Lease) Held(now time.Duration) bool {
	return l == nil || int64(now) < l.until.Load()
}

// ReportKind is what the data path saw.
type ReportKind uint8

// What event loops report. Each loop reports a kind at most once per Route.Gen,
// Held aside, so that a flood of errors stays a trickle.
const (
	ReportHeld        ReportKind = 1 + iota // the loop sends nothing unsent since the Route of Gen
	ReportVerified                          // a backend handshake at Addr said role master
	ReportNotMaster                         // a backend handshake at Addr said role replica
	ReportReadOnly                          // Addr answered -READONLY or -UNBLOCKED
	ReportRefused                           // Addr answered -NOREPLICAS, -LOADING or -MASTERDOWN
	ReportLost                              // a connection to Addr ended
	ReportUnreachable                       // Addr could not be dialled within 250 ms of a loss, or at all
	ReportLeaseEnded                        // the lease had run out when a command was to be written
)

// String returns the kind's name, such as "not_master".
func (k ReportKind) String() string {
	switch k {
	case ReportHeld:
		return "held"
	case ReportVerified:
		return "verified"
	case ReportNotMaster:
		return "not_master"
	case ReportReadOnly:
		return "read_only"
	case ReportRefused:
		return "refused"
	case ReportLost:
		return "lost"
	case ReportUnreachable:
		return "unreachable"
	case ReportLeaseEnded:
		return "lease_ended"
	}
	return "invalid"
}

// Report is one loop's word to the control plane.
type Report struct {
	Kind  ReportKind
	Group string
	Loop  int
	Gen   uint64 // of the Route it speaks of
	Addr  Addr
	Err   string // for the log; may be empty
	At    time.Duration
}
