package drill

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Registers says whether the registers that all clients shared behaved as one
// copy each (linearizability).
type Registers struct {
	Checked int `json:"checked"`
	// Rewound hold only where each side of a lossy switch is judged for itself: a
	// write that was not replicated was undone by it.
	Rewound   int      `json:"rewound"`
	Illegal   int      `json:"illegal"`   // no order of the commands explains what was read
	Undecided int      `json:"undecided"` // not decided in time: counted as bad
	Samples   []string `json:"-"`
}

// Bad returns how many are not known to be right.
func (r Registers) Bad() int { return r.Illegal + r.Undecided }

// registerPatience bounds each search for one register.
const registerPatience = 10 * time.Second

// checkRegisters judges each register by itself.
func checkRegisters(h History, switches []Switch, patience time.Duration) Registers {
	ops := make(map[uint32][]clientOp)
	for client, all := range h.Clients {
		for _, op := range all {
			if op.Kind == OpRegWrite || op.Kind == OpRegRead {
				ops[op.Key] = append(ops[op.Key], clientOp{op, client})
			}
		}
	}
	var r Registers
	for _, key := range slices.Sorted(maps.Keys(ops)) {
		r.Checked++
		usable := usableOps(ops[key])
		verdict := linear(usable, registerState{known: true}, patience)
		// Where an undone write is excused it does not matter whether the whole is
		// illegal or not decided: finding that it is takes all orders of all commands
		// that were held at the same time.
		if verdict != porcupine.Ok && holdsInParts(usable, switches, patience) {
			r.Rewound++
			continue
		}
		switch verdict {
		case porcupine.Ok:
		case porcupine.Illegal:
			r.Illegal++
			r.Samples = append(r.Samples, fmt.Sprintf("register %d: no order of its %d commands explains what was read", key, len(usable)))
		case porcupine.Unknown:
			r.Undecided++
			r.Samples = append(r.Samples, fmt.Sprintf("register %d: not decided within %v", key, patience))
		}
	}
	return r
}

// clientOp is a command and who sent it.
type clientOp struct {
	Op

	client int
}

// usableOps leaves out what says nothing: refused commands, reads without an
// answer, and writes in doubt whose value nobody ever read. Such a write can be
// put at the very end of any order, so it never excuses or accuses another; left
// in, each doubles the search.
func usableOps(all []clientOp) []clientOp {
	read := make(map[int64]bool)
	for _, op := range all {
		if op.Kind == OpRegRead && op.Outcome == OK {
			read[op.Got] = true
		}
	}
	var usable []clientOp
	for _, op := range all {
		if op.Outcome == OK || op.Kind == OpRegWrite && op.Outcome.ambiguous() && read[op.Arg] {
			usable = append(usable, op)
		}
	}
	return usable
}

// holdsInParts judges the parts between lossy switches for themselves. What a
// register holds after such a switch is not known until it is read or written.
func holdsInParts(ops []clientOp, switches []Switch, patience time.Duration) bool {
	from, state, cuts := time.Duration(math.MinInt64), registerState{known: true}, 0
	for _, s := range switches {
		if !s.Lossy {
			continue
		}
		cuts++
		if linear(part(ops, from, s.Promoted), state, patience) != porcupine.Ok {
			return false
		}
		from, state = s.Promoted, registerState{}
	}
	return cuts > 0 && linear(part(ops, from, math.MaxInt64), state, patience) == porcupine.Ok
}

// part returns the commands answered after from and begun before to. A write in
// doubt may take effect in any later part.
func part(ops []clientOp, from, to time.Duration) []clientOp {
	var some []clientOp
	for _, op := range ops {
		if op.Begin < to && (op.End > from || op.Outcome.ambiguous()) && (op.End <= to || op.Outcome != OK) {
			some = append(some, op)
			continue
		}
		if op.Outcome == OK && op.Begin >= from && op.Begin < to && op.End > to && op.Kind == OpRegWrite {
			op.Outcome = Uncertain // under way at the switch: it may count on either side
			some = append(some, op)
		}
	}
	return some
}

// registerState is what a register holds; 0 is nothing.
type registerState struct {
	known bool
	value int64
}

// linear looks for an order that explains ops, starting from state.
func linear(ops []clientOp, state registerState, patience time.Duration) porcupine.CheckResult {
	history := make([]porcupine.Operation, 0, len(ops))
	for _, op := range ops {
		o := porcupine.Operation{ClientId: op.client, Input: op.Op, Call: int64(op.Begin), Output: op.Got, Return: int64(op.End)}
		if op.Outcome.ambiguous() {
			o.Return = math.MaxInt64
		}
		history = append(history, o)
	}
	model := porcupine.Model{
		Init: func() any { return state },
		Step: func(state, input, output any) (bool, any) {
			s, _ := state.(registerState)
			op, _ := input.(Op)
			got, _ := output.(int64)
			if op.Kind == OpRegWrite {
				return true, registerState{true, op.Arg}
			}
			return !s.known || s.value == got, registerState{true, got}
		},
	}
	return porcupine.CheckOperationsTimeout(model, history, patience)
}
