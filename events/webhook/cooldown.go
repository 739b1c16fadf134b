package webhook

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// maxSubjects bounds what a cooldown remembers. When it is full the subject that was let
// through longest ago is forgotten: its next event comes early, and none is lost.
const maxSubjects = 1024

// subject is what a cooldown holds for.
type subject struct {
	kind            events.Kind
	master, subject string
}

// cooldown lets one event of a subject through and then none for a while. It is pure: the
// time is an argument.
type cooldown struct {
	length time.Duration
	seen   map[subject]*cooling
}

// cooling is a subject whose event was let through.
type cooling struct {
	at         time.Time
	suppressed uint64 // since then
}

// admit reports whether e passes now, and how many of its subject did not since the last
// that did.
func (c *cooldown) admit(now time.Time, e events.Event) (suppressed uint64, ok bool) {
	if c.length <= 0 {
		return 0, true
	}
	if c.seen == nil {
		c.seen = make(map[subject]*cooling)
	}
	s := subject{e.Kind(), e.Master, e.Subject()}
	if last, known := c.seen[s]; known {
		if now.Sub(last.at) < c.length {
			last.suppressed++
			return 0, false
		}
		suppressed = last.suppressed
	} else if len(c.seen) >= maxSubjects {
		c.forget(now)
	}
	c.seen[s] = &cooling{at: now}
	return suppressed, true
}

// forget drops what has cooled down, or else the oldest.
func (c *cooldown) forget(now time.Time) {
	var oldest subject
	var at time.Time
	for s, one := range c.seen {
		if now.Sub(one.at) >= c.length && one.suppressed == 0 {
			delete(c.seen, s)
			continue
		}
		if at.IsZero() || one.at.Before(at) {
			oldest, at = s, one.at
		}
	}
	if len(c.seen) >= maxSubjects {
		delete(c.seen, oldest)
	}
}
