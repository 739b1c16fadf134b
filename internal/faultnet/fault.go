package faultnet

import (
	"math/rand/v2"
	"time"
)

// faults is what is wrong with one direction at present. It is a value: a
// change makes a new one.
type faults struct {
	stalled bool
	late    lateness
	cut     budget
}

// lateness delays bytes without changing their order or rate.
type lateness struct{ base, jitter time.Duration }

// due returns when bytes that arrived at t may go on: base later, give or take
// jitter, and never before those that went ahead of them.
func (l lateness) due(t, ahead time.Time) time.Time {
	if l.base == 0 && l.jitter == 0 {
		return t
	}
	d := l.base
	if l.jitter > 0 {
		d += rand.N(2*l.jitter+1) - l.jitter
	}
	if at := t.Add(max(d, 0)); at.After(ahead) {
		return at
	}
	return ahead
}

// budget ends each connection after a number of bytes. Each CutAfter has its
// own serial, so that a connection knows when to count anew.
type budget struct {
	serial uint64 // 0: no limit
	bytes  int64
}

// meter counts one direction of one connection against the budget in force.
type meter struct {
	of   uint64
	left int64
}

// allow returns how many of n bytes may pass, and whether the connection ends
// after them.
func (m *meter) allow(b budget, n int) (pass int, cut bool) {
	if b.serial == 0 {
		return n, false
	}
	if m.of != b.serial {
		m.of, m.left = b.serial, b.bytes
	}
	if int64(n) < m.left {
		m.left -= int64(n)
		return n, false
	}
	pass = int(m.left)
	m.left = 0
	return pass, true
}
