package proxy

import (
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// subKind is one of the three kinds of subscription.
type subKind uint8

const (
	subChannel subKind = 1 + iota
	subPattern
	subShard
)

// command returns the command that subscribes.
func (k subKind) command() string {
	switch k {
	case subPattern:
		return "PSUBSCRIBE"
	case subShard:
		return "SSUBSCRIBE"
	case subChannel:
	}
	return "SUBSCRIBE"
}

// subscription is one channel or pattern that a session listens to.
type subscription struct {
	kind    subKind
	channel string
}

// The bounds of what is remembered of one session's subscriptions; Redis has none.
// Past them a session is not re-subscribed after a failover but cut off.
const (
	maxSubs     = 1 << 17
	maxSubBytes = 16 << 20 // of their names
)

// takesFrame looks at what came on the session's own pipe while it subscribes
// or is subscribed, or may be by what follows a refused MULTI: messages and
// confirmations are not replies to commands in the queue's sense. It returns true if it
// has dealt with the frame.
func (s *session) takesFrame(p *pipe, frame []byte) bool {
	if s.subCalls == 0 && len(s.subs) == 0 && s.restoreSub == 0 && !s.tx.void {
		return false
	}
	if s.who.proto == 3 {
		if frame[0] != '>' {
			return false // a reply, whatever it looks like
		}
	} else if frame[0] != '*' || !s.subscribed() && p.answersOther() {
		return false
	}
	kind, channel, what := parsePubSub(frame)
	switch what {
	case pubsubMessage:
		s.reply(frame)
		return true
	case pubsubSubscribed:
		if s.restoreSub > 0 && p.queue.len() > 0 && p.queue.front().s == nil {
			s.restoreSub--
			e := p.queue.pop()
			p.release(&e)
			p.internal = p.internal[1:]
			return true // the client was told before the failover
		}
		s.noteSub(subscription{kind, string(channel)})
	case pubsubUnsubscribed:
		s.dropSub(subscription{kind, string(channel)})
	case pubsubNone:
		return false
	}
	s.reply(frame)
	s.confirmed(p, kind, what, frame)
	return true
}

func (s *session) has(sub subscription) bool {
	_, ok := s.subs[sub]
	return ok
}

// noteSub remembers a subscription, or that there is one more than is remembered.
func (s *session) noteSub(sub subscription) {
	switch {
	case s.has(sub):
	case len(s.subs) == maxSubs || s.subBytes+len(sub.channel) > maxSubBytes:
		s.forgot = true
	default:
		if s.subs == nil {
			s.subs = make(map[subscription]struct{})
		}
		s.subs[sub] = struct{}{}
		s.subBytes += len(sub.channel)
	}
}

func (s *session) dropSub(sub subscription) {
	if s.has(sub) {
		s.subBytes -= len(sub.channel)
		delete(s.subs, sub)
	}
}

// answersOther reports whether the next reply is that of a client's command other
// than SUBSCRIBE and kin.
func (p *pipe) answersOther() bool {
	if p.queue.len() == 0 {
		return false
	}
	e := p.queue.front()
	return e.s != nil && e.cmd.class != classSubscribe
}

// confirmed counts confirmations towards the command that asked for them.
func (s *session) confirmed(p *pipe, kind subKind, what pubsubFrame, reply []byte) {
	if p.queue.len() == 0 {
		return
	}
	e := p.queue.front()
	if e.s == nil || e.cmd.class != classSubscribe {
		return
	}
	e.got++
	if e.meta&metaStreamed != 0 {
		if e.got < 0 {
			return
		}
	} else if args := resp.Count(p.frame(e)) - 1; args > 0 {
		if int(e.got) < args {
			return
		}
	} else if what == pubsubUnsubscribed && s.anyOf(kind) {
		return // UNSUBSCRIBE without arguments confirms each channel
	}
	queued := e.meta&metaTx != 0 // by a MULTI that Redis has refused
	s.w.ended(p, e, p.frame(e), kindOf(reply))
	done := p.queue.pop()
	p.release(&done)
	s.inflight--
	if queued {
		s.tx.answered++
	} else {
		s.subCalls--
	}
	s.after(p)
}

func (s *session) anyOf(kind subKind) bool {
	for sub := range s.subs {
		if sub.kind == kind {
			return true
		}
	}
	return false
}

// pubsubFrame says what a frame of a subscriber's connection is.
type pubsubFrame uint8

const (
	pubsubNone pubsubFrame = iota
	pubsubMessage
	pubsubSubscribed
	pubsubUnsubscribed
)

// parsePubSub reads the first two elements of an array or push.
func parsePubSub(frame []byte) (kind subKind, channel []byte, what pubsubFrame) {
	word, next := resp.Arg(frame, arrayStart(frame))
	switch string(word) {
	case "message", "pmessage", "smessage":
		return 0, nil, pubsubMessage
	case "subscribe":
		kind, what = subChannel, pubsubSubscribed
	case "psubscribe":
		kind, what = subPattern, pubsubSubscribed
	case "ssubscribe":
		kind, what = subShard, pubsubSubscribed
	case "unsubscribe":
		kind, what = subChannel, pubsubUnsubscribed
	case "punsubscribe":
		kind, what = subPattern, pubsubUnsubscribed
	case "sunsubscribe":
		kind, what = subShard, pubsubUnsubscribed
	default:
		return 0, nil, pubsubNone
	}
	channel, _ = resp.Arg(frame, next) // nil where Redis says null: nothing was subscribed
	return kind, channel, what
}

// arrayStart returns the position behind the head line of an aggregate.
func arrayStart(frame []byte) int {
	for i, c := range frame {
		if c == '\n' {
			return i + 1
		}
	}
	return len(frame)
}
