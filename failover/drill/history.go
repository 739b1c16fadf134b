package drill

import (
	"cmp"
	"slices"
	"time"
)

// OpKind is what one recorded command did.
type OpKind uint8

// The commands of the workload. What Arg and Got mean depends on the kind.
const (
	OpWrite    OpKind = 1 + iota // SET of a key that is written once; Arg is its number
	OpRead                       // GET of the client's own acknowledged write Arg; Got is the value
	OpCount                      // INCR of the client's counter; Got is the reply
	OpAppend                     // RPUSH of Arg to the client's list
	OpRegWrite                   // SET of the shared register Key to Arg
	OpRegRead                    // GET of the shared register Key; Got is the value
	OpPush                       // RPUSH of Arg to the queue
	OpPop                        // BLPOP from the queue; Got is the item, 0 for none
	OpPublish                    // PUBLISH of Arg
	OpMessage                    // a message that arrived; Got is its number
	OpRenew                      // EXPIRE of a counter, a list or the queue
)

// write reports whether the command changes data.
func (k OpKind) write() bool {
	switch k {
	case OpWrite, OpCount, OpAppend, OpRegWrite, OpPush, OpPop:
		return true
	case OpRead, OpRegRead, OpPublish, OpMessage, OpRenew:
	}
	return false
}

// Outcome is how a command ended, as its client saw it.
type Outcome uint8

// The outcomes. After Uncertain and Unanswered nobody knows whether the command
// was executed.
const (
	OK         Outcome = 1 + iota // answered without an error
	Refused                       // an error reply: it was not executed
	Uncertain                     // -UNCERTAIN
	Unanswered                    // the connection broke, or no answer came in time
)

// ambiguous reports whether the command may or may not have been executed.
func (o Outcome) ambiguous() bool { return o == Uncertain || o == Unanswered }

// Op is one command of one client. Values are never 0, so that 0 is "nothing
// there".
type Op struct {
	Begin, End time.Duration // since the history began
	Arg, Got   int64
	Key        uint32 // the register's number
	Kind       OpKind
	Outcome    Outcome
}

// History is what all clients of one workload saw. Nothing changes it once the
// workload has stopped.
type History struct {
	Began time.Time
	Took  time.Duration
	// Clients are the commands of each client, in the order they were sent.
	Clients [][]Op
	// Disconnects are the times at which a client lost its connection or could
	// not open one, sorted.
	Disconnects []time.Duration
	Fenced      int    // of the refused commands, those answered -NOREPLICAS or -MASTERDOWN
	FirstError  string // the text of the earliest error; "" if there was none
	// Full says that a client's record was at its limit, so the client stopped.
	Full bool
}

// record is one client's log. Its owner alone uses it until the client has ended.
type record struct {
	chunks      [][]Op
	size, limit int
	disconnects []time.Duration
	fenced      int
	errText     string
	errAt       time.Duration
	full        bool
}

// chunkOps is how many commands are allocated at once: growing never copies.
const chunkOps = 4096

// add appends op. A full record drops it and says so in full.
func (r *record) add(op Op) {
	if r.size >= r.limit {
		r.full = true
		return
	}
	if n := len(r.chunks); n == 0 || len(r.chunks[n-1]) == chunkOps {
		r.chunks = append(r.chunks, make([]Op, 0, chunkOps))
	}
	last := &r.chunks[len(r.chunks)-1]
	*last = append(*last, op)
	r.size++
}

// failed keeps the first error's text.
func (r *record) failed(at time.Duration, text string) {
	if r.errText == "" {
		r.errText, r.errAt = text, at
	}
}

// join makes one history of all clients' records.
func join(began time.Time, took time.Duration, records []*record) History {
	h := History{Began: began, Took: took}
	first := time.Duration(-1)
	for _, r := range records {
		h.Clients = append(h.Clients, slices.Concat(r.chunks...))
		h.Disconnects = append(h.Disconnects, r.disconnects...)
		h.Full = h.Full || r.full
		h.Fenced += r.fenced
		if r.errText != "" && (first < 0 || r.errAt < first) {
			first, h.FirstError = r.errAt, r.errText
		}
	}
	slices.Sort(h.Disconnects)
	return h
}

// each calls f for every command of a kind, client by client.
func (h History) each(kind OpKind, f func(client int, op Op)) {
	for c, ops := range h.Clients {
		for _, op := range ops {
			if op.Kind == kind {
				f(c, op)
			}
		}
	}
}

// byEnd returns all answered commands, the earliest answer first.
func (h History) byEnd() []Op {
	var all []Op
	for _, ops := range h.Clients {
		for _, op := range ops {
			if op.Outcome != Unanswered {
				all = append(all, op)
			}
		}
	}
	slices.SortFunc(all, func(a, b Op) int { return cmp.Compare(a.End, b.End) })
	return all
}
