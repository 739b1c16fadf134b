package failover

import (
	"sync"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// inboxCap bounds the events that wait for the machine. It is reached only if the
// machine's goroutine does not run for seconds.
const inboxCap = 1024

// inbox is the machine's queue: many senders, one reader, in order, bounded. When
// it is full events are dropped, and one [route.Missed] in their place holds the
// route: nothing that should hold is ever lost. Observations never queue up, the
// latest replaces one that waits.
type inbox struct {
	wake chan struct{} // capacity 1: full means that the reader will look anyway

	mu     sync.Mutex // guards the fields below; held for an append only
	events []route.Event
	missed bool
	seen   *topology.Observation
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put queues ev. It never blocks.
func (b *inbox) put(ev route.Event) {
	b.mu.Lock()
	if o, ok := ev.(route.Observed); ok {
		b.seen = &o.Observation
	} else if len(b.events) < inboxCap {
		b.events = append(b.events, ev)
	} else {
		b.missed = true
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits, signs before the observation that may explain them,
// reusing into's memory.
func (b *inbox) take(into []route.Event) []route.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(into)
	out := b.events
	b.events = into[:0]
	if b.missed {
		out = append(out, route.Missed{})
	}
	if b.seen != nil {
		out = append(out, route.Observed{Observation: *b.seen})
	}
	b.missed, b.seen = false, nil
	return out
}
