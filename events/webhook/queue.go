package webhook

import (
	"math/rand/v2"
	"time"
)

const (
	// maxQueue bounds what waits for one receiver. When it is full the oldest goes: what
	// happened last says most of how things are.
	maxQueue = 256
	// maxAge is how long an event is worth telling.
	maxAge = 24 * time.Hour
	// turns is after how many answered tries an event goes behind the others: one that
	// the receiver cannot take must not keep them away.
	turns = 3

	restMin = time.Second
	restMax = time.Minute
)

// delivery is one event on its way to one receiver.
type delivery struct {
	kind, id string
	body     []byte
	at       time.Time // when it happened
	answered int       // tries that the receiver answered, badly
}

// queue is what waits for one receiver, and when it is tried again. It is pure: not safe
// for concurrent use, and the time is an argument.
type queue struct {
	waiting []*delivery
	fails   int       // tries in a row that failed, of whatever delivery
	rest    time.Time // nothing is tried before
}

// add appends d and reports how many had to go for it.
func (q *queue) add(d *delivery) (dropped int) {
	if len(q.waiting) >= maxQueue {
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		dropped = 1
	}
	q.waiting = append(q.waiting, d)
	return dropped
}

// expire removes what is too old to be told, and reports how many.
func (q *queue) expire(now time.Time) (expired int) {
	kept := q.waiting[:0]
	for _, d := range q.waiting {
		if now.Sub(d.at) < maxAge {
			kept = append(kept, d)
		}
	}
	expired = len(q.waiting) - len(kept)
	clear(q.waiting[len(kept):])
	q.waiting = kept
	return expired
}

// due returns the delivery to try, or how long to wait for that; both zero: nothing waits.
func (q *queue) due(now time.Time) (d *delivery, wait time.Duration) {
	if len(q.waiting) == 0 {
		return nil, 0
	}
	if wait = q.rest.Sub(now); wait > 0 {
		return nil, wait
	}
	return q.waiting[0], 0
}

// done removes d, which needs no further try, and lets the next follow at once. It reports
// whether d was still there: a full queue may have dropped it meanwhile.
func (q *queue) done(d *delivery) bool {
	q.fails, q.rest = 0, time.Time{}
	return q.remove(d)
}

// failed notes a try of d that failed; answered says that the receiver is there. The next
// try comes after 1 s, doubled up to a minute, less up to a quarter at random.
func (q *queue) failed(now time.Time, d *delivery, answered bool) { //nolint:revive // what happened, not what to do
	q.rest = now.Add(jitter(restMin << min(q.fails, 10)))
	q.fails++
	if !answered {
		return
	}
	if d.answered++; d.answered%turns == 0 && q.remove(d) {
		q.waiting = append(q.waiting, d)
	}
}

func (q *queue) remove(d *delivery) bool {
	for i, one := range q.waiting {
		if one == d {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func jitter(d time.Duration) time.Duration {
	d = min(d, restMax)
	return d - rand.N(d/4+1)
}
