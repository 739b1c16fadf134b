package sentinel

import (
	"math/rand/v2"
	"time"
)

const (
	fastPoll    = 20 * time.Millisecond  // least time between polls while fast; at most a quarter more
	fullPoll    = time.Second            // how often replicas, peers and tilt are asked too
	firstPoll   = 250 * time.Millisecond // while down-after is unknown
	slowestPoll = time.Second

	// A Sentinel may flood us with events: polls of one Sentinel keep this
	// distance whatever wakes us.
	pollGap = 5 * time.Millisecond

	dialTimeout = time.Second

	backoffMin  = 50 * time.Millisecond
	backoffMax  = 2 * time.Second
	backoffFast = 250 * time.Millisecond // its cap while fast: during a failover a restarted Sentinel is news

	refusedRetry = 30 * time.Second // between tries to subscribe where the ACL forbids it: an operator may change it

	subscriptionIdle = time.Second // silence after which a subscription is checked by PING, and then given up
)

// pollEvery returns the slow pace for a group with this down-after: a quarter
// of the lease (0.7 × down-after), so that a lease survives two lost polls.
func pollEvery(downAfter time.Duration) time.Duration {
	if downAfter <= 0 {
		return firstPoll
	}
	return max(fastPoll, min(slowestPoll, downAfter*7/40))
}

// pollTimeout returns how long a Sentinel may take to answer: long enough for
// a busy machine, short enough to be called down before a failover could end.
func pollTimeout(downAfter time.Duration) time.Duration {
	if downAfter <= 0 {
		return time.Second
	}
	return max(500*time.Millisecond, min(time.Second, downAfter/2))
}

// shorten returns d less up to a tenth at random, so that many sidecars don't
// ask in step; never more than d, which is a promise to the lease.
func shorten(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}

// lengthen returns d and up to a quarter more.
func lengthen(d time.Duration) time.Duration {
	return d + rand.N(d/4+1)
}

// backoff is the wait between failures: doubling, with jitter, and a cap. The
// zero value is ready. One goroutine owns it.
type backoff struct{ failures int }

// next counts a failure and returns how long to wait: between half and all of
// backoffMin × 2^failures, at most limit.
func (b *backoff) next(limit time.Duration) time.Duration {
	d := min(limit, backoffMin<<min(b.failures, 10))
	b.failures++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.failures = 0 }
