package drill

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Step is one line of a timeline.
type Step struct {
	Name    string        `json:"name"`
	AfterMS float64       `json:"after_ms"` // since the fault
	AtMS    float64       `json:"at_ms"`    // since the round began
	Addr    topology.Addr `json:"addr,omitempty"`
}

// Failover is what happened from one fault to the next.
type Failover struct {
	Fault string `json:"fault"` // what the drill did
	// Steps are, in order of time: fault, sdown, odown, elected, promoted,
	// majority, route_held, route_switched, last_error, first_success,
	// switch_master (the first) and switch_master_leader (the last), as far as
	// each was seen.
	Steps    []Step `json:"steps"`
	LagBytes int64  `json:"lag_bytes"` // of the promoted node, at its promotion
	Switched bool   `json:"switched"`  // another node was promoted
}

// failovers cuts marks into one Failover for each fault. h is the history of the
// first column, for the last error and the first success.
func failovers(marks []Mark, h History) []Failover {
	var all []Failover
	answers := h.byEnd()
	for i, m := range marks {
		if m.What != MarkFault {
			continue
		}
		rest, end := marks[i:], h.Took
		if j := slices.IndexFunc(rest[1:], func(m Mark) bool { return m.What == MarkFault }); j >= 0 {
			end, rest = rest[j+1].At, rest[:j+1]
		}
		all = append(all, failover(rest, end, answers, h.Disconnects))
	}
	return all
}

// failover tells the marks of one fault, which is the first of them, until end.
func failover(marks []Mark, end time.Duration, answers []Op, disconnects []time.Duration) Failover {
	fault := marks[0]
	f := Failover{Fault: fault.Detail}
	seen := make(map[What]bool)
	add := func(name string, m Mark) {
		f.Steps = append(f.Steps, Step{Name: name, AfterMS: ms(m.At - fault.At), AtMS: ms(m.At), Addr: m.Addr})
	}
	var promoted, leader Mark
	if i := slices.IndexFunc(marks, func(m Mark) bool { return m.What == MarkMaster }); i >= 0 {
		promoted, f.Switched, f.LagBytes = marks[i], true, marks[i].LagBytes
	}
	resumed := promoted.At // or earlier: a sidecar may see the promotion before the observer
	for _, m := range marks {
		if m.What == MarkSwitched {
			leader = m
		}
		if m.What == MarkRoute && m.Addr != promoted.Addr || m.What == MarkReplica || seen[m.What] {
			continue // a route back to the old master is no switch
		}
		if m.What == MarkRoute {
			resumed = min(resumed, m.At)
		}
		seen[m.What] = true
		add(string(m.What), m)
	}
	if leader.At > 0 {
		add("switch_master_leader", leader)
	}
	if !f.Switched {
		return f.sorted()
	}
	if at, ok := lastError(answers, disconnects, fault.At, end); ok {
		add("last_error", Mark{At: at})
	}
	for _, op := range answers {
		if op.Outcome == OK && steady(op.Kind) && op.End >= resumed {
			add("first_success", Mark{At: op.End})
			break
		}
	}
	return f.sorted()
}

// sorted returns f with its steps in order of time.
func (f Failover) sorted() Failover {
	slices.SortStableFunc(f.Steps, func(a, b Step) int { return cmp.Compare(a.AtMS, b.AtMS) })
	return f
}

// lastError returns when the last error or disconnect in [from, to) was.
func lastError(answers []Op, disconnects []time.Duration, from, to time.Duration) (at time.Duration, ok bool) {
	for _, op := range answers {
		if op.Outcome != OK && op.End >= from && op.End < to {
			at, ok = max(at, op.End), true
		}
	}
	for _, d := range disconnects {
		if d >= from && d < to {
			at, ok = max(at, d), true
		}
	}
	return at, ok
}

// leaseShare is how much of down-after a lease lasts; leaseSlack is what the
// drill's own cut takes until it is in force everywhere.
const (
	leaseShare = 0.7
	leaseSlack = 50 * time.Millisecond
)

// switches returns what the checker must know of the changes of the master.
func (p Plan) switches(marks []Mark, downAfter time.Duration) []Switch {
	var all []Switch
	fault := time.Duration(0)
	for _, m := range marks {
		if m.What == MarkFault {
			fault = m.At
		}
		if m.What != MarkMaster {
			continue
		}
		s := Switch{Fault: fault, Promoted: m.At, Lossy: p.Lossy, LagBytes: m.LagBytes}
		if p.side == SideMinority {
			s.Until = fault + time.Duration(leaseShare*float64(downAfter)) + leaseSlack
		}
		all = append(all, s)
	}
	return all
}

// recovery returns how long after the last healing a client had a success; what
// is left of the history if none had.
func recovery(marks []Mark, h History) time.Duration {
	healed := time.Duration(-1)
	for _, m := range marks {
		if m.What == MarkHealed {
			healed = m.At
		}
	}
	if healed < 0 {
		return 0
	}
	for _, op := range h.byEnd() {
		if op.Outcome == OK && steady(op.Kind) && op.End >= healed {
			return op.End - healed
		}
	}
	return h.Took - healed
}

// notes returns what is worth knowing of a round beside its counts.
func (p Plan) notes(marks []Mark, h History) []string {
	if p.Kind != KindHang {
		return []string{}
	}
	unacknowledged := 0
	for _, m := range marks {
		if m.What != MarkFault {
			continue
		}
		for _, ops := range h.Clients {
			for _, op := range ops {
				if op.Kind.write() && op.Outcome.ambiguous() && op.Begin < m.At+p.away && op.End > m.At {
					unacknowledged++
				}
			}
		}
	}
	return []string{fmt.Sprintf("%s may have reached the master and had no answer while it hung: on waking it may run them, for nobody, "+
		"until the Sentinels demote it and that is undone", count(unacknowledged, "write"))}
}
