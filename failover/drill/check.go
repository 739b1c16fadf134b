package drill

import (
	"fmt"
	"time"
)

// Switch is one change of the master during a history.
type Switch struct {
	Fault    time.Duration // since the history began
	Promoted time.Duration // when the new master first said that it is one
	// Lossy says that the old master could not hand over: it crashed, hung or was
	// cut off. Then Redis may lose what it acknowledged and had not replicated.
	Lossy bool
	// Until is when losses end to be excused, if that is before the promotion:
	// clients that were cut off with the old master may write to it for as long as
	// a lease lasts, and no longer. Zero is Promoted.
	Until time.Duration
	// LagBytes is how far the promoted node was behind the old master, by the last
	// replication offsets that both told.
	LagBytes int64
}

// lagExcused is how long before a fault a write may have been acknowledged for
// its loss to be put down to replication lag. A replica that is further behind
// is not fit for a drill.
const lagExcused = time.Second

// Findings are what the checker found in one history.
type Findings struct {
	Commands     int `json:"commands"`     // answered
	Acknowledged int `json:"acknowledged"` // of them, writes answered without an error
	Errors       int `json:"errors"`       // error replies, those below aside
	Fenced       int `json:"fenced"`       // -NOREPLICAS and -MASTERDOWN: nobody vouches for a master
	Uncertain    int `json:"uncertain"`    // -UNCERTAIN
	Unanswered   int `json:"unanswered"`   // sent, and the connection broke or the time ran out
	Disconnects  int `json:"disconnects"`

	Lost   Loss        `json:"lost"`
	Losses []LostWrite `json:"losses"` // each of them, the first thousand

	Duplicated int `json:"duplicated"` // effects that happened more often than they were sent
	// RefusedExecuted are writes that were refused and took effect all the same.
	RefusedExecuted int `json:"refused_executed"`
	StaleReads      int `json:"stale_reads"` // own acknowledged writes that a read missed and that are there
	Disorder        int `json:"disorder"`    // neighbours in a list or queue that were written the other way round

	Registers Registers `json:"registers"`

	Published int `json:"published"` // messages acknowledged
	Received  int `json:"received"`  // messages that arrived: Redis promises none of them

	Samples []string `json:"samples"` // the first of what is wrong, for people
}

// Check compares what clients saw with what is there, given the changes of the
// master in between. It is pure, and takes some seconds where registers are hard
// to judge.
func Check(h History, f Final, switches []Switch) Findings {
	c := checker{h: h, f: f, switches: switches, out: Findings{Losses: []LostWrite{}}}
	c.count()
	for client, ops := range h.Clients {
		if client >= len(f.Present) {
			break // the rest are the extras
		}
		c.writes(client, ops)
		c.counter(client, ops)
		c.list(fmt.Sprintf("list %d", client), acks(ops, OpAppend), f.Lists[client])
	}
	c.queue()
	c.messages()
	c.out.Registers = checkRegisters(h, switches)
	for _, s := range c.out.Registers.Samples {
		c.sample("%s", s)
	}
	return c.out
}

// checker is one Check under way.
type checker struct {
	h        History
	f        Final
	switches []Switch
	out      Findings
}

// maxSamples bounds Findings.Samples.
const maxSamples = 10

func (c *checker) sample(format string, args ...any) {
	if len(c.out.Samples) < maxSamples {
		c.out.Samples = append(c.out.Samples, fmt.Sprintf(format, args...))
	}
}

// count adds up how commands ended.
func (c *checker) count() {
	c.out.Disconnects = len(c.h.Disconnects)
	c.out.Fenced = c.h.Fenced
	c.out.Errors = -c.h.Fenced // they are told apart
	for _, ops := range c.h.Clients {
		for _, op := range ops {
			if op.Kind == OpMessage {
				continue
			}
			switch op.Outcome {
			case OK:
				c.out.Commands++
				if op.Kind.write() && (op.Kind != OpPop || op.Got != 0) {
					c.out.Acknowledged++
				}
			case Refused:
				c.out.Commands++
				c.out.Errors++
			case Uncertain:
				c.out.Commands++
				c.out.Uncertain++
			case Unanswered:
				c.out.Unanswered++
			}
		}
	}
}

// writes checks a client's keys that were written once, and its reads of them.
func (c *checker) writes(client int, ops []Op) {
	there := c.f.Present[client]
	for _, op := range ops {
		switch {
		case op.Kind == OpWrite && op.Outcome == OK && !there[op.Arg]:
			c.lose(fmt.Sprintf("write %d of client %d", op.Arg, client), op, 1)
		case op.Kind == OpWrite && op.Outcome == Refused && there[op.Arg]:
			c.out.RefusedExecuted++
			c.sample("write %d of client %d was refused and is there", op.Arg, client)
		case op.Kind == OpRead && op.Outcome == OK && op.Got != op.Arg && there[op.Arg]:
			c.out.StaleReads++
			c.sample("client %d read its write %d at %v and did not find it: it is there at the end",
				client, op.Arg, op.End.Round(time.Millisecond))
		}
	}
}

// counter checks a client's counter: it alone increments it, so each reply says
// whether all that was acknowledged before is still there.
func (c *checker) counter(client int, ops []Op) {
	var last Op // the last one acknowledged
	// How many may have been executed, or be executed yet, without an answer.
	doubts := int64(0)
	judge := func(now int64) {
		diff := now - last.Got
		switch {
		case diff < 0:
			c.lose(fmt.Sprintf("%d increments of client %d", -diff, client), last, int(-diff))
			doubts -= diff // a client that gets back to the master it wrote to finds them again
		case diff > doubts:
			c.out.Duplicated += int(diff - doubts)
			c.sample("the counter of client %d is %d too high", client, diff-doubts)
			doubts = 0
		default:
			doubts -= diff
		}
	}
	for _, op := range ops {
		if op.Kind != OpCount {
			continue
		}
		switch op.Outcome {
		case OK:
			judge(op.Got - 1) // what it was before
			last = op
		case Uncertain, Unanswered:
			doubts++
		case Refused:
		}
	}
	judge(c.f.Counters[client])
}

// acks returns a client's commands of a kind by their argument.
func acks(ops []Op, kind OpKind) map[int64]Op {
	m := make(map[int64]Op)
	for _, op := range ops {
		if op.Kind == kind {
			m[op.Arg] = op
		}
	}
	return m
}

// list checks a list that one client appended to: what was acknowledged is there
// once, in the order it was written.
func (c *checker) list(name string, sent map[int64]Op, got []int64) {
	seen := make(map[int64]bool, len(got))
	highest := int64(0)
	for _, n := range got {
		op, known := sent[n]
		switch {
		case !known:
			c.out.RefusedExecuted++
			c.sample("%s holds %d, which nobody wrote", name, n)
		case op.Outcome == Refused:
			c.out.RefusedExecuted++
			c.sample("%s holds %d, which was refused", name, n)
		case seen[n]:
			c.out.Duplicated++
			c.sample("%s holds %d twice", name, n)
			continue // it is out of order for the same reason
		}
		if n < highest {
			c.out.Disorder++
			c.sample("%s holds %d after %d", name, n, highest)
		}
		seen[n], highest = true, max(highest, n)
	}
	for n, op := range sent {
		if op.Outcome == OK && !seen[n] {
			c.lose(fmt.Sprintf("item %d of %s", n, name), op, 1)
		}
	}
}

// queue checks that each item was popped once, or is still there. A pop without
// an answer may have taken one.
func (c *checker) queue() {
	popped := make(map[int64]Op)
	doubts := 0
	var order []Op
	c.h.each(OpPop, func(_ int, op Op) {
		if op.Outcome.ambiguous() {
			doubts++
			return
		}
		if op.Outcome != OK || op.Got == 0 {
			return
		}
		if first, again := popped[op.Got]; again {
			if !c.lagged(first) { // else the first pop itself was not replicated
				c.out.Duplicated++
				c.sample("item %d of the queue was popped twice", op.Got)
			}
			return
		}
		popped[op.Got] = op
		order = append(order, op)
	})
	left := make(map[int64]bool)
	for _, n := range c.f.Queue {
		if left[n] {
			c.out.Duplicated++
			c.sample("item %d is in the queue twice", n)
		}
		left[n] = true
		if op, was := popped[n]; was && !c.lagged(op) {
			c.lose(fmt.Sprintf("the pop of item %d", n), op, 1)
		}
	}
	for i := 1; i < len(order); i++ {
		// A pop that was not replicated brings back what was before it, too.
		if before := order[i-1]; order[i].Got < before.Got && !c.lagged(before) {
			c.out.Disorder++
			c.sample("item %d of the queue was popped after %d", order[i].Got, before.Got)
		}
	}
	c.h.each(OpPush, func(_ int, op Op) {
		if _, taken := popped[op.Arg]; op.Outcome != OK || taken || left[op.Arg] {
			return
		}
		if doubts > 0 {
			doubts-- // that pop took it, and its answer was lost
			return
		}
		c.lose(fmt.Sprintf("item %d of the queue", op.Arg), op, 1)
	})
}

// messages counts what was published and what arrived.
func (c *checker) messages() {
	seen := make(map[int64]bool)
	c.h.each(OpPublish, func(_ int, op Op) {
		if op.Outcome == OK {
			c.out.Published++
		}
	})
	c.h.each(OpMessage, func(_ int, op Op) {
		if seen[op.Got] {
			c.out.Duplicated++
			c.sample("message %d arrived twice", op.Got)
			return
		}
		seen[op.Got] = true
		c.out.Received++
	})
}
