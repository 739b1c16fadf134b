package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// errOpen means that Redis was not asked: it has answered nobody for a while.
var errOpen = errors.New("it has not answered for a while, and is asked by one request at a time")

const (
	tripAfter    = 10          // requests in a row that Redis failed
	trialTimeout = time.Second // of the one that asks meanwhile
)

// breaker keeps requests from piling up behind a Redis that is away: when each would
// wait for its whole timeout, they would soon be thousands, and the gateway would be
// the next to fail. It is safe for concurrent use.
type breaker struct {
	failures atomic.Int64  // in a row
	trial    chan struct{} // one slot: whoever has it asks Redis while the breaker is open
}

func newBreaker() *breaker { return &breaker{trial: make(chan struct{}, 1)} }

// enter returns how long a request may wait for Redis, and what to call with how that
// ended; false where it must not ask at all.
func (b *breaker) enter(timeout time.Duration) (limit time.Duration, leave func(failure error), ok bool) {
	if b.failures.Load() < tripAfter {
		return timeout, b.note, true
	}
	select {
	case b.trial <- struct{}{}:
		return min(timeout, trialTimeout), func(failure error) { b.note(failure); <-b.trial }, true
	default:
		return 0, nil, false
	}
}

// note counts how a request ended. Any that Redis answers closes the breaker; one whose
// client has left says nothing of Redis.
func (b *breaker) note(failure error) {
	switch {
	case failure == nil:
		b.failures.Store(0)
	case !errors.Is(failure, context.Canceled):
		b.failures.Add(1)
	}
}
