package drill

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// orderExists asks porcupine, which tries the orders one by one.
func orderExists(ops []Op, initial int64) bool {
	var history []porcupine.Operation
	for i, op := range ops {
		if op.Outcome == Refused {
			continue
		}
		o := porcupine.Operation{ClientId: i, Input: op, Call: int64(op.Begin), Return: int64(op.End)}
		if op.Outcome.ambiguous() {
			o.Return = math.MaxInt64
		}
		history = append(history, o)
	}
	return porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return initial },
		Step: func(state, input, _ any) (bool, any) {
			op, _ := input.(Op)
			if op.Kind == OpRegWrite {
				return true, op.Arg
			}
			return state == op.Got, op.Got
		},
	}, history)
}

// anyOrderExists is orderExists from what nobody knows: any value that none of ops
// writes, for no two writes are alike.
func anyOrderExists(ops []Op) bool {
	written := map[int64]bool{}
	for _, op := range ops {
		if op.Kind == OpRegWrite && op.Outcome != Refused {
			written[op.Arg] = true
		}
	}
	for initial := range int64(12) {
		if !written[initial] && orderExists(ops, initial) {
			return true
		}
	}
	return false
}

// randomRegister makes a few commands on one register. A read returns one of the
// values around it, so that half of the histories have an order.
func randomRegister(rng *rand.Rand) []Op {
	var ops []Op
	writes, length := int64(0), 2+rng.IntN(7)
	for i := range length {
		begin := time.Duration(4*i + rng.IntN(8))
		op := Op{Begin: begin, End: begin + time.Duration(1+rng.IntN(12)), Outcome: OK}
		if rng.IntN(2) == 0 {
			writes++
			op.Kind, op.Arg = OpRegWrite, writes
			switch rng.IntN(6) {
			case 0:
				op.Outcome = Uncertain
			case 1:
				op.Outcome = Refused
			}
		} else {
			op.Kind, op.Got = OpRegRead, max(0, writes+int64(rng.IntN(4))-2)
		}
		ops = append(ops, op)
	}
	return ops
}

// Zones and porcupine agree on any few commands.
func TestRegistersAgreeWithPorcupine(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	var legal, illegal int
	for range 20_000 {
		ops := randomRegister(rng)
		want := orderExists(ops, 0)
		if why := nonlinear(ops, true); (why == "") != want {
			t.Fatalf("says %q; porcupine says %v:\n%+v", why, want, ops)
		}
		if want {
			legal++
		} else {
			illegal++
		}
		want = anyOrderExists(ops)
		if why := nonlinear(ops, false); (why == "") != want {
			t.Fatalf("from the unknown, says %q; porcupine says %v:\n%+v", why, want, ops)
		}
	}
	if legal < 2_000 || illegal < 2_000 {
		t.Errorf("%d have an order and %d have none; want many of both", legal, illegal)
	}
}

// What takes all orders of all commands to search is decided at once: 40 writes in
// doubt, each of them read, and a value that comes back.
func TestRegisterOfManyWritesInDoubt(t *testing.T) {
	var ops []Op
	for i := range 40 {
		began := time.Duration(i) * time.Second
		ops = append(ops,
			Op{Kind: OpRegWrite, Arg: int64(i + 1), Outcome: Unanswered},
			Op{Kind: OpRegRead, Got: int64(i + 1), Begin: began, End: began + time.Millisecond, Outcome: OK})
	}
	if why := nonlinear(ops, true); why != "" {
		t.Errorf("says %q; want an order", why)
	}
	ops = append(ops, Op{Kind: OpRegRead, Got: 1, Begin: time.Minute, End: time.Minute + 1, Outcome: OK})
	const want = "it held 1 by a read from 0s to 1ms and still by a read from 1m0s to 1m0.000000001s; in between it held 2 by a read from 1s to 1.001s"
	if why := nonlinear(ops, true); why != want {
		t.Errorf("says %q; want %q", why, want)
	}
}
