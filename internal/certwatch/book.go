package certwatch

import (
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// Settings say when a certificate is told of.
type Settings struct {
	WarnBefore time.Duration // its end
	CheckEvery time.Duration // one certificate
	EventEvery time.Duration // of one kind, for one certificate in one role
}

// mark is one certificate in one role.
type mark struct {
	role Role
	id   string
}

// cert is what is known of one, wherever it was seen.
type cert struct {
	item

	masters, sources []string // sorted, without repeats
}

// told is an event that was published.
type told struct {
	mark

	kind events.Kind
}

// maxSources is how many places an event names.
const maxSources = 10

// book remembers what was checked and told. It is pure: the time is an argument.
type book struct {
	set     Settings // of the last check
	checked map[mark]time.Time
	told    map[told]time.Time
}

func newBook() book {
	return book{checked: make(map[mark]time.Time), told: make(map[told]time.Time)}
}

// check looks at every certificate whose check is due, and returns what is to be
// published of it, by master.
func (b *book) check(now time.Time, set Settings, certs map[mark]cert) []tell {
	if set != b.set {
		b.set = set
		clear(b.checked)
	}
	for m := range b.checked {
		if _, there := certs[m]; !there {
			delete(b.checked, m)
		}
	}
	for t, at := range b.told {
		if now.Sub(at) >= set.EventEvery {
			delete(b.told, t) // this bounds it: a certificate that comes and goes is not told anew
		}
	}
	marks := make([]mark, 0, len(certs))
	for m := range certs {
		marks = append(marks, m)
	}
	slices.SortFunc(marks, func(x, y mark) int { return certs[x].notAfter.Compare(certs[y].notAfter) })
	var out []tell
	for _, m := range marks {
		c := certs[m]
		if !b.due(now, set, m, c) {
			continue
		}
		b.checked[m] = now
		body := bodyOf(now, set, m, c)
		if body == nil {
			continue
		}
		t := told{m, events.KindOf(body)}
		if _, cooling := b.told[t]; cooling || len(b.told) >= maxTold {
			continue
		}
		b.told[t] = now
		master := ""
		if len(c.masters) == 1 {
			master = c.masters[0]
		}
		out = append(out, tell{master, body})
	}
	return out
}

// tell is an event to be published.
type tell struct {
	master string
	body   events.Body
}

// due reports whether c is to be checked: it is new, its last check is long ago, it has
// passed its threshold or its end since, or the clock was set back.
func (b *book) due(now time.Time, set Settings, m mark, c cert) bool {
	last, ok := b.checked[m]
	if !ok || now.Sub(last) >= set.CheckEvery || now.Before(last) {
		return true
	}
	passed := func(t time.Time) bool { return last.Before(t) && !now.Before(t) }
	return passed(c.notAfter) || passed(c.notAfter.Add(-set.WarnBefore))
}

const day = 24 * time.Hour

// daysLeft counts days: begun ones of what is left, ended ones, as less than 0, of what has passed.
func daysLeft(left time.Duration) int {
	if left <= 0 {
		return int(left / day)
	}
	return int((left + day - 1) / day)
}

// bodyOf returns what there is to say of c; nil for nothing.
func bodyOf(now time.Time, set Settings, m mark, c cert) events.Body {
	e := events.Certificate{
		ID: m.id, Name: c.name, Role: string(m.role), Expires: c.notAfter.UTC(), Leaf: c.leaf,
		Sources: c.sources[:min(len(c.sources), maxSources)],
	}
	left := c.notAfter.Sub(now)
	switch {
	case left <= 0:
		return events.CertificateExpired{Certificate: e, Days: -daysLeft(left)}
	case left <= set.WarnBefore:
		return events.CertificateExpiringSoon{Certificate: e, Days: daysLeft(left)}
	}
	return nil
}
