package proxy

import (
	"math"
	"math/bits"
	"slices"
)

// What is counted of commands, each when its client is told: how many, how many of
// them got an error, and how long they took, from the turn of the loop that read the
// end of the command to the turn that wrote the reply into what the client will get.
// The clock is that of the turns: no command costs a reading of its own, and what a
// command takes is right to the length of a turn.

// The scale of durations: every bucket of the classic histogram and of the native one is
// a run of whole cells, so that neither guesses.
const (
	// nativeSchema says that native buckets grow by a factor of 2^(1/4).
	nativeSchema = 2
	// Upper bounds of native buckets are 2^(i/4) seconds, for i from nativeFirst (31 µs) to
	// nativeLast (68 minutes). What is not longer than the first is in the zero bucket,
	// what is longer than the last in the one behind it.
	nativeFirst, nativeLast = -60, 48
	cellCount               = 126 // a test counts them
)

// classicBounds are the upper bounds of the classic histogram, in microseconds.
var classicBounds = [...]uint64{
	50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
	1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
}

// nativeBound returns the largest number of whole microseconds in native bucket i.
func nativeBound(i int) uint64 { return uint64(math.Exp2(float64(i)/4) * 1e6) }

// durations is the scale. It is immutable.
var durations = newScale()

// scale divides durations, in microseconds, into cells.
type scale struct {
	bounds []uint64       // the upper bound of each cell but the last, which has none
	first  [64 + 1]uint8  // the cell of the least number of so many bits
	native [cellCount]int // the native bucket of each cell
}

func newScale() scale {
	var c scale
	c.bounds = slices.Clone(classicBounds[:])
	for i := nativeFirst; i <= nativeLast; i++ {
		c.bounds = append(c.bounds, nativeBound(i))
	}
	slices.Sort(c.bounds)
	c.bounds = slices.Compact(c.bounds)
	for n := 1; n < len(c.first); n++ {
		i, _ := slices.BinarySearch(c.bounds, 1<<(n-1))
		c.first[n] = uint8(i)
	}
	i := nativeFirst
	for cell := range c.native {
		c.native[cell] = i
		if cell < len(c.bounds) && c.bounds[cell] == nativeBound(i) {
			i++
		}
	}
	return c
}

// cell returns the cell of a duration: an octave has six at most.
func (c *scale) cell(us uint64) int {
	i := int(c.first[bits.Len64(us)])
	for i < len(c.bounds) && us > c.bounds[i] {
		i++
	}
	return i
}

// tally is what one loop has counted of one command.
type tally struct {
	cmd    *command
	cells  [cellCount]uint64 // by duration
	micros uint64            // the sum of the durations
	errors uint64
}

func (t *tally) add(o *tally) {
	t.cmd = o.cmd
	for i, n := range o.cells {
		t.cells[i] += n
	}
	t.micros += o.micros
	t.errors += o.errors
}

// count returns how many commands were counted.
func (t *tally) count() uint64 {
	n := uint64(0)
	for _, c := range t.cells {
		n += c
	}
	return n
}

// maxNamed is how many commands that were learnt from masters are counted by their
// names; the others are counted together. It bounds the series of a group.
const maxNamed = 512

// ended counts a command that p, or nobody, has answered to its client in the turn at
// hand, and tells of it if it was slow. frame is the command, nil if it is not kept.
func (w *worker) ended(p *pipe, e *entry, frame []byte, said replyKind) {
	t := w.tallies[e.cmd.id]
	if t == nil {
		t = w.newTally(e.cmd)
	}
	took := w.tick - e.came()
	t.cells[durations.cell(took)]++
	t.micros += took
	if said >= replyError {
		t.errors++
		w.stats.errors[said]++
	}
	if took >= w.slowAt {
		w.tellSlow(p, e, frame, said, took)
	}
}

func (w *worker) newTally(cmd *command) *tally {
	t := &tally{cmd: cmd}
	if cmd.id == 0 {
		t.cmd = w.cmds.unknown
	}
	w.tallies[cmd.id] = t
	return t
}

// entryOf is what ended needs to know of the session's command at hand.
func (s *session) entryOf(cmd *command) entry {
	e := entry{s: s, cmd: cmd}
	if s.heldLeft > 0 {
		e.meta = metaHeld
	}
	e.setCame(s.at)
	return e
}

// replyKind is what a client was told, as far as it is counted.
type replyKind uint8

// The kinds. Errors are told apart by the word that they begin with, as far as Redis or
// the sidecar use it.
const (
	replyNone replyKind = iota
	replyFine
	replyError // any other word
	replyErr
	replyWrongType
	replyNoAuth
	replyWrongPass
	replyNoPerm
	replyNoScript
	replyExecAbort
	replyOOM
	replyBusy
	replyLoading
	replyReadOnly
	replyMisconf
	replyMasterDown
	replyNoReplicas
	replyUncertain
	replyKinds
)

// errorWords are the words of the kinds from replyError on; "other" stands for those
// without one.
var errorWords = [replyKinds - replyError]string{
	"other", "ERR", "WRONGTYPE", "NOAUTH", "WRONGPASS", "NOPERM", "NOSCRIPT", "EXECABORT", "OOM", "BUSY", "LOADING",
	"READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS", "UNCERTAIN",
}

// kindOf says what a reply, of which at least the beginning is there, is.
func kindOf(reply []byte) replyKind {
	if reply[0] != '-' {
		return replyFine
	}
	return kindOfError(reply[1:])
}

func kindOfError(text []byte) replyKind {
	n := 0
	for n < len(text) && text[n] >= 'A' && text[n] <= 'Z' {
		n++
	}
	for i, word := range errorWords {
		if string(text[:n]) == word {
			return replyError + replyKind(i)
		}
	}
	return replyError
}
