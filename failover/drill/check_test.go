package drill

import (
	"testing"
	"time"
)

// at makes a command that took a millisecond, begun at a number of milliseconds.
func at(begin int, op Op) Op {
	op.Begin = time.Duration(begin) * time.Millisecond
	op.End = op.Begin + time.Millisecond
	if op.Outcome == 0 {
		op.Outcome = OK
	}
	return op
}

// crashAt1000 is a lossy switch: the fault at 1 s, the promotion at 2.5 s.
func crashAt1000() []Switch {
	return []Switch{{Fault: time.Second, Promoted: 2500 * time.Millisecond, Lossy: true}}
}

// plannedAt1000 is a planned one: the promotion 200 ms after the command.
func plannedAt1000() []Switch {
	return []Switch{{Fault: time.Second, Promoted: 1200 * time.Millisecond}}
}

func TestCheck(t *testing.T) {
	write := func(begin int, n int64, o Outcome) Op { return at(begin, Op{Kind: OpWrite, Arg: n, Outcome: o}) }
	read := func(begin int, n, got int64) Op { return at(begin, Op{Kind: OpRead, Arg: n, Got: got}) }
	incr := func(begin int, got int64, o Outcome) Op {
		return at(begin, Op{Kind: OpCount, Got: got, Outcome: o})
	}
	add := func(begin int, n int64, o Outcome) Op { return at(begin, Op{Kind: OpAppend, Arg: n, Outcome: o}) }
	push := func(begin int, n int64) Op { return at(begin, Op{Kind: OpPush, Arg: n}) }
	pop := func(begin int, got int64, o Outcome) Op { return at(begin, Op{Kind: OpPop, Got: got, Outcome: o}) }

	type state struct {
		present []int64
		counter int64
		list    []int64
		queue   []int64
	}
	for name, tt := range map[string]struct {
		ops      []Op // of the one client
		extra    []Op // of another that does the rest
		state    state
		switches []Switch
		want     Findings // Commands, Acknowledged and Samples aside
	}{
		"nothing happened": {},
		"all is there": {
			ops:   []Op{write(0, 1, OK), read(2, 1, 1), incr(4, 1, OK), incr(6, 2, OK), add(8, 1, OK), add(10, 2, OK)},
			state: state{present: []int64{1}, counter: 2, list: []int64{1, 2}},
		},
		"an acknowledged write is gone": {
			ops:  []Op{write(0, 1, OK), write(2, 2, OK)},
			want: Findings{Lost: Loss{Total: 2}},
		},
		"not replicated when the master died": {
			ops:      []Op{write(998, 1, OK), write(3000, 2, OK)},
			state:    state{present: []int64{2}},
			switches: crashAt1000(),
			want:     Findings{Lost: Loss{Total: 1, Lag: 1}},
		},
		"too old for replication lag": {
			ops:      []Op{write(0, 1, OK), write(3000, 2, OK)},
			state:    state{present: []int64{2}},
			switches: []Switch{{Fault: 2 * time.Second, Promoted: 2500 * time.Millisecond, Lossy: true}},
			want:     Findings{Lost: Loss{Total: 1}},
		},
		"lag is no excuse for a planned failover": {
			ops:      []Op{write(998, 1, OK)},
			switches: plannedAt1000(),
			want:     Findings{Lost: Loss{Total: 1}},
		},
		"but that the promoted replica was behind": {
			ops:      []Op{write(100, 1, OK), write(1190, 2, OK), write(1300, 3, OK)},
			switches: []Switch{{Fault: time.Second, Promoted: 1200 * time.Millisecond, LagBytes: 70}},
			want:     Findings{Lost: Loss{Total: 3, Lag: 1, Stale: 1}},
		},
		"acknowledged by a stale master": {
			ops:      []Op{write(1300, 1, OK), write(1310, 2, OK)},
			state:    state{present: []int64{2}},
			switches: plannedAt1000(),
			want:     Findings{Lost: Loss{Total: 1, Stale: 1}},
		},
		"in doubt, and either is fine": {
			ops: []Op{
				write(0, 1, Uncertain), write(2, 2, Unanswered), incr(4, 0, Uncertain), incr(6, 2, OK),
				incr(8, 0, Unanswered), add(10, 1, Uncertain), add(12, 2, Unanswered),
			},
			state: state{present: []int64{2}, counter: 2, list: []int64{2}},
			want:  Findings{Uncertain: 3, Unanswered: 3},
		},
		"refused, and executed all the same": {
			ops:   []Op{write(0, 1, Refused), add(2, 1, Refused)},
			state: state{present: []int64{1}, list: []int64{1}},
			want:  Findings{Errors: 2, RefusedExecuted: 2},
		},
		"a read missed what is there": {
			ops:   []Op{write(0, 1, OK), read(2, 1, 0)},
			state: state{present: []int64{1}},
			want:  Findings{StaleReads: 1},
		},
		"increments run twice": {
			ops:   []Op{incr(0, 1, OK), incr(2, 3, OK)},
			state: state{counter: 4},
			want:  Findings{Duplicated: 2},
		},
		"a doubt is spent once": {
			ops:   []Op{incr(0, 0, Uncertain), incr(2, 2, OK), incr(4, 4, OK)},
			state: state{counter: 4},
			want:  Findings{Uncertain: 1, Duplicated: 1},
		},
		"increments are gone": {
			ops:   []Op{incr(0, 1, OK), incr(2, 2, OK), incr(4, 1, OK)},
			state: state{counter: 1},
			want:  Findings{Lost: Loss{Total: 2}},
		},
		"an item twice, one lost, two out of order, one from nowhere": {
			ops:   []Op{add(0, 1, OK), add(2, 2, OK), add(4, 3, OK), add(6, 4, OK)},
			state: state{list: []int64{1, 1, 3, 2, 9}},
			want:  Findings{Duplicated: 1, Lost: Loss{Total: 1}, Disorder: 1, RefusedExecuted: 1},
		},
		"the queue is emptied in order": {
			extra: []Op{push(0, 1), push(2, 2), push(4, 3), pop(6, 1, OK), pop(8, 2, OK), pop(10, 0, OK)},
			state: state{queue: []int64{3}},
		},
		"an unanswered pop may have taken an item, but only one": {
			extra: []Op{push(0, 1), push(2, 2), pop(4, 0, Uncertain)},
			want:  Findings{Uncertain: 1, Lost: Loss{Total: 1}},
		},
		"popped twice, and out of order": {
			extra: []Op{push(0, 1), push(2, 2), pop(4, 2, OK), pop(6, 1, OK), pop(8, 1, OK)},
			want:  Findings{Duplicated: 1, Disorder: 1},
		},
		"a pop that was not replicated": {
			extra:    []Op{push(0, 1), pop(999, 1, OK), pop(3000, 1, OK)},
			switches: crashAt1000(),
		},
		"a message twice": {
			extra: []Op{
				at(0, Op{Kind: OpPublish, Arg: 1}), at(1, Op{Kind: OpMessage, Got: 1}), at(2, Op{Kind: OpMessage, Got: 1}),
			},
			want: Findings{Published: 1, Received: 1, Duplicated: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := Final{
				Present: []map[int64]bool{{}}, Counters: []int64{tt.state.counter},
				Lists: [][]int64{tt.state.list}, Queue: tt.state.queue,
			}
			for _, n := range tt.state.present {
				f.Present[0][n] = true
			}
			got := Check(History{Clients: [][]Op{tt.ops, tt.extra}}, f, tt.switches)
			if sum := len(got.Losses); (sum > 0) != (got.Lost.Total > 0) {
				t.Errorf("%d losses are told of %d", sum, got.Lost.Total)
			}
			got.Losses = nil // their text is not compared
			if bad := got.Lost.Total + got.Duplicated + got.StaleReads + got.Disorder + got.RefusedExecuted; bad > 0 && len(got.Samples) == 0 {
				t.Error("no sample says what is wrong")
			}
			samples := got.Samples
			got.Commands, got.Acknowledged, got.Samples = 0, 0, nil
			if gotText, want := textOf(t, got), textOf(t, tt.want); gotText != want {
				t.Errorf("found\n%s\nwant\n%s\nsamples %q", gotText, want, samples)
			}
		})
	}
}

func TestRegisters(t *testing.T) {
	set := func(begin int, value int64, o Outcome) Op {
		return at(begin, Op{Kind: OpRegWrite, Arg: value, Outcome: o})
	}
	get := func(begin int, got int64) Op { return at(begin, Op{Kind: OpRegRead, Got: got}) }
	for name, tt := range map[string]struct {
		a, b     []Op
		switches []Switch
		want     Registers
	}{
		"one after the other": {
			a: []Op{get(0, 0), set(2, 1, OK), get(4, 1)}, b: []Op{get(6, 1), set(8, 2, OK)},
			want: Registers{Checked: 1},
		},
		"an old value comes back": {
			a: []Op{set(0, 1, OK), set(2, 2, OK)}, b: []Op{get(4, 2), get(6, 1)},
			want: Registers{Checked: 1, Illegal: 1},
		},
		"a write in doubt may come late": {
			a: []Op{set(0, 1, Uncertain)}, b: []Op{set(2, 2, OK), get(4, 2), get(6, 1)},
			want: Registers{Checked: 1},
		},
		"a refused write is seen": {
			a: []Op{set(0, 1, Refused)}, b: []Op{get(4, 1)},
			want: Registers{Checked: 1, Illegal: 1},
		},
		"undone by a crash": {
			a: []Op{set(0, 1, OK), set(998, 2, OK)}, b: []Op{get(3000, 1), set(3002, 3, OK), get(3004, 3)}, switches: crashAt1000(),
			want: Registers{Checked: 1, Rewound: 1},
		},
		"undone after a crash": {
			a: []Op{set(0, 1, OK), set(3000, 2, OK)}, b: []Op{get(3002, 2), get(3004, 1)}, switches: crashAt1000(),
			want: Registers{Checked: 1, Illegal: 1},
		},
		"undone by a planned failover": {
			a: []Op{set(0, 1, OK), set(998, 2, OK)}, b: []Op{get(3000, 1)}, switches: plannedAt1000(),
			want: Registers{Checked: 1, Illegal: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := checkRegisters(History{Clients: [][]Op{tt.a, tt.b}}, tt.switches)
			got.Samples = nil
			if got, want := textOf(t, got), textOf(t, tt.want); got != want {
				t.Errorf("found %s; want %s", got, want)
			}
		})
	}
}
