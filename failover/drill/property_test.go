package drill

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// store is one correct copy of all that a workload writes.
type store struct {
	present   []map[int64]bool
	counters  []int64
	lists     [][]int64
	queue     []int64
	registers map[uint32]int64
}

func newStore(clients int) *store {
	s := &store{counters: make([]int64, clients), lists: make([][]int64, clients), registers: map[uint32]int64{}}
	for range clients {
		s.present = append(s.present, map[int64]bool{})
	}
	return s
}

func (s *store) clone() *store {
	c := &store{counters: slices.Clone(s.counters), queue: slices.Clone(s.queue), registers: maps.Clone(s.registers)}
	for i := range s.present {
		c.present = append(c.present, maps.Clone(s.present[i]))
		c.lists = append(c.lists, slices.Clone(s.lists[i]))
	}
	return c
}

// apply executes a command and returns what it answers.
func (s *store) apply(client int, op Op) int64 {
	switch op.Kind {
	case OpWrite:
		s.present[client][op.Arg] = true
	case OpRead:
		if s.present[client][op.Arg] {
			return op.Arg
		}
	case OpCount:
		s.counters[client]++
		return s.counters[client]
	case OpAppend:
		s.lists[client] = append(s.lists[client], op.Arg)
	case OpRegWrite:
		s.registers[op.Key] = op.Arg
	case OpRegRead:
		return s.registers[op.Key]
	case OpPush:
		s.queue = append(s.queue, op.Arg)
	case OpPop:
		if len(s.queue) > 0 {
			n := s.queue[0]
			s.queue = s.queue[1:]
			return n
		}
	case OpPublish, OpMessage, OpRenew:
	}
	return 0
}

func (s *store) final() Final {
	return Final{Present: s.present, Counters: s.counters, Lists: s.lists, Queue: s.queue}
}

// planned is a command and when the store executes it.
type planned struct {
	client, index int
	at            time.Duration
}

const (
	simClients = 4
	simLength  = 4 * time.Second
)

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// schedule makes commands for each client, whose outcome is decided and whose
// reply is not known yet. The last two clients push and pop.
func schedule(rng *rand.Rand) [][]Op {
	all := make([][]Op, simClients+2)
	for client := range all {
		var numbers [OpMessage + 1]int64 // the last of each kind
		acknowledged := int64(0)
		for now := time.Duration(0); now < simLength; {
			kind := OpKind(1 + rng.IntN(int(OpRegRead)))
			switch client {
			case simClients:
				kind = OpPush
			case simClients + 1:
				kind = OpPop
			}
			numbers[kind]++
			op := Op{Kind: kind, Arg: numbers[kind], Outcome: OK}
			if kind == OpRegWrite || kind == OpRegRead {
				op.Key = uint32(rng.IntN(2))
			}
			if kind == OpRegWrite {
				op.Arg += int64(client+1) << 32
			}
			if kind == OpRead {
				op.Arg = acknowledged
			}
			switch rng.IntN(40) {
			case 0:
				op.Outcome = Refused
			case 1:
				op.Outcome = Uncertain
			}
			op.Begin = now + upTo(rng, 10*time.Millisecond)
			op.End = op.Begin + time.Microsecond + upTo(rng, 10*time.Millisecond)
			now = op.End
			if kind == OpRead && op.Arg == 0 {
				continue
			}
			if kind == OpWrite && op.Outcome == OK {
				acknowledged = op.Arg
			}
			all[client] = append(all[client], op)
		}
	}
	return all
}

// simulate runs the schedule on a correct store, and fills in the replies. With
// a crash the store falls back to what it was 100 ms before, and executes nothing
// until the promotion. twice says which command is executed twice, by its number
// of counting ones; -1 for none.
func simulate(rng *rand.Rand, ops [][]Op, crash []Switch, twice int) Final {
	var order []planned
	for client := range ops {
		for i, op := range ops[client] {
			order = append(order, planned{client, i, op.Begin + upTo(rng, op.End-op.Begin)})
		}
	}
	slices.SortFunc(order, func(a, b planned) int { return cmp.Compare(a.at, b.at) })
	s := newStore(simClients + 2)
	var replicated *store
	counted := 0
	for _, p := range order {
		op := &ops[p.client][p.index]
		for _, c := range crash {
			if replicated == nil && p.at >= c.Fault-100*time.Millisecond {
				replicated = s.clone()
			}
			if p.at >= c.Fault && replicated != nil && p.at < c.Promoted {
				if op.Outcome == OK {
					op.Outcome = Uncertain // nobody answers
				}
				s = replicated.clone()
			}
		}
		dead := slices.ContainsFunc(crash, func(c Switch) bool { return p.at >= c.Fault && p.at < c.Promoted })
		if dead || op.Outcome == Refused || op.Outcome == Uncertain && rng.IntN(2) == 0 {
			continue
		}
		op.Got = s.apply(p.client, *op)
		if op.Kind == OpCount || op.Kind == OpAppend {
			if counted == twice {
				s.apply(p.client, *op)
			}
			counted++
		}
	}
	return s.final()
}

// The checker accuses no correct store, whatever is refused or in doubt, and
// puts what a crash undid down to replication lag.
func TestCheckAcceptsCorrectStores(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var crash []Switch
		if seed%2 == 1 {
			crash = []Switch{{Fault: 2 * time.Second, Promoted: 2500 * time.Millisecond, Lossy: true}}
		}
		ops := schedule(rng)
		f := simulate(rng, ops, crash, -1)
		got := Check(History{Clients: ops, Took: simLength}, cut(f), crash)
		bad := got.Lost.Unexplained() + got.Duplicated + got.RefusedExecuted + got.StaleReads + got.Disorder + got.Registers.Illegal
		if bad > 0 {
			t.Fatalf("seed %d: %+v", seed, got)
		}
		if len(crash) == 0 && got.Lost.Total+got.Registers.Rewound > 0 {
			t.Fatalf("seed %d: losses without a crash: %+v", seed, got)
		}
	}
}

// The checker finds one command that is executed twice, unless a command in
// doubt explains it.
func TestCheckFindsOneDouble(t *testing.T) {
	found := 0
	const runs = 40
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 2))
		ops := schedule(rng)
		f := simulate(rng, ops, nil, 30)
		if Check(History{Clients: ops, Took: simLength}, cut(f), nil).Duplicated > 0 {
			found++
		}
	}
	if found < runs/2 {
		t.Errorf("found %d doubles of %d", found, runs)
	}
}

// cut leaves out the clients that push and pop, as a final state does.
func cut(f Final) Final {
	f.Present, f.Counters, f.Lists = f.Present[:simClients], f.Counters[:simClients], f.Lists[:simClients]
	return f
}
