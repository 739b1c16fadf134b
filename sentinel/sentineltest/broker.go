package sentineltest

import (
	"slices"
	"sync"

	"github.com/tidwall/match"
)

// broker is one server's publish and subscribe. It is safe for concurrent use,
// and no call waits for a subscriber.
type broker struct {
	mu   sync.Mutex
	subs map[*conn]*subscription
}

// subscription is what one connection listens to, in order of subscribing.
type subscription struct {
	channels, patterns []string
}

func (s *subscription) count() int {
	if s == nil {
		return 0
	}
	return len(s.channels) + len(s.patterns)
}

// subscribing reports whether c listens to anything.
func (b *broker) subscribing(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subs[c].count() > 0
}

// subscribe answers SUBSCRIBE and PSUBSCRIBE. The confirmations are sent before
// any message can be.
func (b *broker) subscribe(c *conn, verb string, names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = map[*conn]*subscription{}
	}
	s := b.subs[c]
	if s == nil {
		s = &subscription{}
		b.subs[c] = s
	}
	list := s.list(verb)
	r := c.reply()
	for _, name := range names {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
		r.push(3)
		r.bulk(verb)
		r.bulk(name)
		r.integer(int64(s.count()))
	}
	c.send(r.b)
}

// unsubscribe answers UNSUBSCRIBE and PUNSUBSCRIBE; no names means all.
func (b *broker) unsubscribe(c *conn, verb string, names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.subs[c]
	if s == nil {
		s = &subscription{}
	}
	list := s.list(verb)
	all := len(names) == 0
	if all {
		names = slices.Clone(*list)
	}
	r := c.reply()
	for _, name := range names {
		*list = slices.DeleteFunc(*list, func(have string) bool { return have == name })
		r.push(3)
		r.bulk(verb)
		r.bulk(name)
		r.integer(int64(s.count()))
	}
	if all && len(names) == 0 {
		r.push(3)
		r.bulk(verb)
		r.nullBulk()
		r.integer(int64(s.count()))
	}
	if s.count() == 0 {
		delete(b.subs, c)
	}
	c.send(r.b)
}

func (s *subscription) list(verb string) *[]string {
	if verb == "psubscribe" || verb == "punsubscribe" {
		return &s.patterns
	}
	return &s.channels
}

// forget ends c's subscriptions without a word.
func (b *broker) forget(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, c)
}

// publish hands payload to all who listen to channel and returns how many
// messages that were.
func (b *broker) publish(channel, payload string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var n int64
	for c, s := range b.subs {
		r := c.reply()
		if slices.Contains(s.channels, channel) {
			r.push(3)
			r.bulk("message")
			r.bulk(channel)
			r.bulk(payload)
			n++
		}
		for _, p := range s.patterns {
			if match.Match(channel, p) {
				r.push(4)
				r.bulk("pmessage")
				r.bulk(p)
				r.bulk(channel)
				r.bulk(payload)
				n++
			}
		}
		c.send(r.b)
	}
	return n
}

// answerPubsub answers PUBSUB CHANNELS, NUMSUB and NUMPAT.
func (b *broker) answerPubsub(r *reply, args []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sub := ""
	if len(args) > 1 {
		sub = upper(args[1])
	}
	switch {
	case sub == "CHANNELS" && len(args) <= 3:
		pattern := "*"
		if len(args) == 3 {
			pattern = args[2]
		}
		var names []string
		for _, s := range b.subs {
			for _, ch := range s.channels {
				if match.Match(ch, pattern) && !slices.Contains(names, ch) {
					names = append(names, ch)
				}
			}
		}
		slices.Sort(names)
		r.array(len(names))
		for _, ch := range names {
			r.bulk(ch)
		}
	case sub == "NUMSUB":
		r.array(2 * (len(args) - 2))
		for _, ch := range args[2:] {
			var n int64
			for _, s := range b.subs {
				if slices.Contains(s.channels, ch) {
					n++
				}
			}
			r.bulk(ch)
			r.integer(n)
		}
	case sub == "NUMPAT" && len(args) == 2:
		var n int64
		for _, s := range b.subs {
			n += int64(len(s.patterns))
		}
		r.integer(n)
	case sub == "":
		r.wrongArity("pubsub")
	default:
		r.unknownSub("PUBSUB", args[1])
	}
}
