package main

import (
	"slices"
	"sync"
	"time"
)

// tally is what the clients saw, added up. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex // guards the fields below
	counts counts
	served []time.Time   // by client: when it was last answered without an error
	round  time.Duration // longest pause that ended since newRound
}

// counts is the tally at one moment.
type counts struct {
	commands     int // that were answered, errors included
	acknowledged int // writes
	lost         int // acknowledged writes that were undone
	doubled      int // writes that were executed more often than they were sent
	errors       int // error replies, and commands that were never answered
	uncertain    int // of errors: the write may or may not have been executed
	disconnects  int
	messages     int           // that subscribers got
	longest      time.Duration // pause: between two answers that one client got
	firstError   string
}

func newTally(clients int) *tally {
	return &tally{served: slices.Repeat([]time.Time{time.Now()}, clients)}
}

// answer notes that a client's command was answered without an error.
func (t *tally) answer(client int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.commands++
	gap := now.Sub(t.served[client])
	t.served[client] = now
	t.counts.longest = max(t.counts.longest, gap)
	t.round = max(t.round, gap)
}

// add changes the counts under the lock.
func (t *tally) add(f func(c *counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.counts)
}

// newRound forgets the longest pause so far, for pause.
func (t *tally) newRound() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round = 0
}

// pause returns the longest pause since newRound.
func (t *tally) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.round
}

// waiting returns how long ago the client that waits longest was answered.
func (t *tally) waiting() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(slices.MinFunc(t.served, time.Time.Compare))
}

// servedSince reports whether every client was answered after at.
func (t *tally) servedSince(at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.MinFunc(t.served, time.Time.Compare).After(at)
}

// now returns the counts.
func (t *tally) now() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}
