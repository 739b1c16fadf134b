package drill

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Registers says whether the registers that all clients shared behaved as one
// copy each (linearizability).
type Registers struct {
	Checked int `json:"checked"`
	// Rewound hold only where each side of a lossy switch is judged for itself: a
	// write that was not replicated was undone by it.
	Rewound int      `json:"rewound"`
	Illegal int      `json:"illegal"` // no order of the commands explains what was read
	Samples []string `json:"-"`
}

// checkRegisters judges each register by itself. No two writes of a register may
// be of one value, and none of 0.
func checkRegisters(h History, switches []Switch) Registers {
	ops := make(map[uint32][]Op)
	for _, all := range h.Clients {
		for _, op := range all {
			if op.Kind == OpRegWrite || op.Kind == OpRegRead && op.Outcome == OK {
				ops[op.Key] = append(ops[op.Key], op)
			}
		}
	}
	var r Registers
	for _, key := range slices.Sorted(maps.Keys(ops)) {
		r.Checked++
		why := nonlinear(ops[key], true)
		switch {
		case why == "":
		case holdsInParts(ops[key], switches):
			r.Rewound++
		default:
			r.Illegal++
			r.Samples = append(r.Samples, fmt.Sprintf("register %d: %s", key, why))
		}
	}
	return r
}

// holdsInParts judges the parts between lossy switches for themselves. What a
// register holds after such a switch is not known until it is read or written.
func holdsInParts(ops []Op, switches []Switch) bool {
	from, known, cuts := time.Duration(math.MinInt64), true, 0
	for _, s := range switches {
		if !s.Lossy {
			continue
		}
		cuts++
		if nonlinear(part(ops, from, s.Promoted), known) != "" {
			return false
		}
		from, known = s.Promoted, false
	}
	return cuts > 0 && nonlinear(part(ops, from, math.MaxInt64), known) == ""
}

// part returns the commands answered after from and begun before to. A write in
// doubt may take effect in any later part.
func part(ops []Op, from, to time.Duration) []Op {
	var some []Op
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

// A zone is when a register must have held a value: from the earliest end of a
// command that wrote or read it to the latest begin of one. Where the end is the
// later of the two, any moment between them will do.
//
// Source: P. B. Gibbons and E. Korach, Testing Shared Memories, SIAM Journal on
// Computing 26(4), 1997, section 4: where each value is written once, zones decide
// linearizability in the time of a sort.
type zone struct {
	value        int64
	written      bool
	began        time.Duration // the write
	firstRead    time.Duration // the earliest end of a read
	from, to     time.Duration // earliest end, latest begin
	fromOp, toOp Op            // the commands of these two
}

func newZone(value int64) *zone {
	return &zone{value: value, firstRead: math.MaxInt64, from: math.MaxInt64, to: math.MinInt64}
}

// forward reports whether there is a time at which the register must hold the value.
func (z *zone) forward() bool { return z.from < z.to }

func (z *zone) add(op Op) {
	end := op.End
	switch {
	case op.Kind == OpRegRead:
		z.firstRead = min(z.firstRead, end)
	case op.Outcome.ambiguous():
		end = math.MaxInt64 // executed at any time since, or never
		fallthrough
	default:
		z.written, z.began = true, op.Begin
	}
	if end < z.from {
		z.from, z.fromOp = end, op
	}
	if op.Begin > z.to {
		z.to, z.toOp = op.Begin, op
	}
}

// nonlinear returns why no order of ops explains what was read, or "" if one does.
// A register holds 0 (nothing) at first, where that is known; else any one value.
func nonlinear(ops []Op, known bool) string {
	zones := make(map[int64]*zone)
	for _, op := range ops {
		value := op.Got
		if op.Kind == OpRegWrite {
			if op.Outcome == Refused {
				continue // not executed: who reads it reads what nobody wrote
			}
			value = op.Arg
		}
		if zones[value] == nil {
			zones[value] = newZone(value)
		}
		zones[value].add(op)
	}
	sorted := slices.SortedFunc(maps.Values(zones), func(a, b *zone) int { return cmp.Compare(a.value, b.value) })
	if why := origins(sorted, known); why != "" {
		return why
	}
	slices.SortStableFunc(sorted, func(a, b *zone) int { return cmp.Compare(a.from, b.from) })
	return overlaps(sorted)
}

// origins returns which value was read before it was written, or though nobody
// wrote it. What the register held at first was written before all else.
func origins(zones []*zone, known bool) string {
	var first *zone
	for _, z := range zones {
		switch {
		case z.written && z.firstRead < z.began:
			return fmt.Sprintf("%d was read at %v and not written before %v", z.value, z.firstRead, z.began)
		case z.written:
		case known && z.value != 0:
			return fmt.Sprintf("%d was read at %v, and nobody wrote it", z.value, z.firstRead)
		case first != nil:
			return fmt.Sprintf("%d and %d were read, and nobody wrote either", first.value, z.value)
		default:
			first = z
		}
	}
	if first != nil {
		first.from = math.MinInt64
	}
	return ""
}

// overlaps returns which two of the zones, sorted by where they begin, exclude each
// other: each of the two values must have been there before the other.
func overlaps(zones []*zone) string {
	var last *zone // the last forward one; those before it end where it begins or earlier
	for _, z := range zones {
		if last != nil && z.from < last.to && last.from < z.to {
			return fmt.Sprintf("it held %d by %s and still by %s; in between it held %d by %s",
				last.value, last.fromText(), regText(last.toOp), z.value, z.fromText())
		}
		if z.forward() {
			last = z
		}
	}
	return ""
}

func (z *zone) fromText() string {
	if z.from == math.MinInt64 {
		return "the beginning"
	}
	return regText(z.fromOp)
}

// regText says what a command on a register was.
func regText(op Op) string {
	switch {
	case op.Kind == OpRegRead:
		return fmt.Sprintf("a read from %v to %v", op.Begin, op.End)
	case op.Outcome.ambiguous():
		return fmt.Sprintf("a write in doubt of %v", op.Begin)
	}
	return fmt.Sprintf("a write from %v to %v", op.Begin, op.End)
}
