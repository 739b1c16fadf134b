package health

import (
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// ledger remembers since when checks are as they are, and believes a change that may flap
// only once it has lasted. It holds one entry per check of a group, of which there are a
// handful. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex // guards entries
	entries map[entryName]entry
}

type entryName struct{ group, check string }

// entry is what is believed of one check.
type entry struct {
	shown   topology.Check
	since   time.Time // of shown.OK
	turning time.Time // since when it looks the other way; zero: it does not
}

// judge takes a look at one check at the time now and returns it as it is believed, with
// Since set.
func (l *ledger) judge(now time.Time, group string, c topology.Check) topology.Check {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries = make(map[entryName]entry)
	}
	name := entryName{group, c.Name}
	e, known := l.entries[name]
	e = e.next(now, c, known)
	l.entries[name] = e
	c = e.shown
	if c.Since.IsZero() {
		c.Since = e.since
	}
	return c
}

// next is what is believed after a look at c. Looks of several requests may come out of
// order by as much as they wait for the ledger; a time that goes back counts as none.
func (e entry) next(now time.Time, c topology.Check, known bool) entry {
	switch {
	case !known, c.About != e.shown.About:
		return entry{shown: c, since: now}
	case c.OK == e.shown.OK:
		e.shown, e.turning = c, time.Time{}
		return e
	}
	lasts := c.Sustain.Bad
	if c.OK {
		lasts = c.Sustain.Good
	}
	if e.turning.IsZero() {
		e.turning = now
	}
	if now.Sub(e.turning) < lasts {
		return e
	}
	return entry{shown: c, since: e.turning}
}
