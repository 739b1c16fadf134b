package proxy

import (
	"bytes"
	"slices"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// A queued command takes effect at EXEC. What it does to the connection is known when
// EXEC's reply is there, which has one element per command. Only SUBSCRIBE and kin
// answer more than once: then the array is full before all is said, and the rest of
// what EXEC answers follows it like replies that nobody asked for.

// queuedEffect is a command between MULTI and EXEC that changes its connection.
type queuedEffect struct {
	at    int // its place among the queued commands
	cmd   *command
	frame []byte
}

// noteQueued remembers a command, the last one recorded, that changes its connection at
// EXEC. Of one that does not fit the recording only that there was one is remembered.
func (t *transaction) noteQueued(frame []byte, cmd *command) {
	if !t.complete() {
		t.lostEffect = true
		return
	}
	t.effects = append(t.effects, queuedEffect{t.len() - 2, cmd, bytes.Clone(frame)})
}

// executed takes note of what a transaction has changed, by EXEC's reply.
func (s *session) executed(p *pipe, e *entry, reply []byte) {
	t := &s.tx
	if !t.changes() && !s.subscribed() {
		return
	}
	v, _, err := resp.Decode(reply)
	if err != nil || v.Null || v.Type != '*' {
		return
	}
	s.forgot = s.forgot || t.lostEffect
	said := slices.DeleteFunc(slices.Clone(v.Elem), message) // what commands have answered
	who := s.who
	total := len(v.Elem) // of what they answer
	for _, q := range t.effects {
		before, unqueued := slices.BinarySearch(t.unqueued, q.at)
		at := q.at + total - len(v.Elem) - before
		if unqueued || at < len(said) && said[at].Type == '-' {
			if !unqueued && q.cmd.name == "HELLO" && !s.w.wholeHello && resp.Count(q.frame) > 2 {
				s.forgot = true // its first options may have taken effect
			}
			continue
		}
		total += s.takeEffect(p, &q, &who) - 1
	}
	s.due, s.dueMuted = max(0, total-len(said)), e.meta&metaSilent != 0
	if s.dueMuted {
		s.passPushes(v.Elem)
	}
	s.become(p, who)
}

// message reports whether a value is a message of a channel, or another push that no
// command asked for: before Redis 7.2 a client that publishes to itself in a transaction
// gets it among EXEC's elements.
func message(v resp.Value) bool {
	if len(v.Elem) == 0 || v.Type != '>' && v.Type != '*' {
		return false
	}
	switch string(v.Elem[0].Str) {
	case "message", "smessage":
		return len(v.Elem) == 3
	case "pmessage":
		return len(v.Elem) == 4
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
		return false
	}
	return v.Type == '>'
}

// answering returns a CLIENT REPLY as Redis is to get it between MULTI and EXEC: it always
// answers us, and we keep back what the client is not to get.
func answering(frame []byte, cmd *command) []byte {
	if cmd.name == "CLIENT|REPLY" && replyOption(frame) != "" {
		return resp.AppendCommand(nil, "CLIENT", "REPLY", "ON")
	}
	return frame
}

// replyOption returns what a CLIENT REPLY asks for, "on", "off" or "skip"; "" if it is not
// well formed.
func replyOption(frame []byte) string {
	if args := resp.Args(nil, frame); len(args) == 3 {
		for _, o := range []string{"on", "off", "skip"} {
			if equalFold(string(args[2]), o) {
				return o
			}
		}
	}
	return ""
}

// replyInParts passes on of EXEC's reply what Redis would send where CLIENT REPLY is among
// the commands: from an OFF to the next ON nothing, though the array was announced with all
// its elements. It returns false if the reply is another one, or cannot be told apart.
func (s *session) replyInParts(e *entry, reply []byte) bool {
	t := &s.tx
	if e.cmd.class != classExec || reply[0] != '*' {
		return false
	}
	options := make(map[int]string) // by the place of their answers
	for _, q := range t.effects {
		before, unqueued := slices.BinarySearch(t.unqueued, q.at)
		switch {
		case q.cmd.class == classSubscribe:
			return false // it answers more than once
		case q.cmd.name == "CLIENT|REPLY" && !unqueued:
			options[q.at-before] = replyOption(q.frame)
		}
	}
	silent := e.meta&metaSilent != 0
	pos := arrayStart(reply)
	parts := []byte(nil)
	if !silent {
		parts = append(parts, reply[:pos]...)
	}
	for i := 0; pos < len(reply); {
		v, n, err := resp.Decode(reply[pos:])
		if err != nil {
			return false
		}
		answer := true
		if !message(v) {
			switch options[i] {
			case "on":
				silent = false
			case "off":
				silent = true
			case "skip":
				answer = false
			}
			i++
		}
		if answer && !silent {
			parts = append(parts, reply[pos:pos+n]...)
		}
		pos += n
	}
	s.reply(parts)
	return true
}

// executedAtOnce takes note of a command behind a MULTI that Redis has refused.
func (s *session) executedAtOnce(p *pipe, e *entry) {
	switch e.cmd.class { //nolint:exhaustive // the others change nothing, or are effects
	case classWatch:
		s.watching = true
	case classMulti: // of which there is no recording
		s.forgot = true
	}
	who := s.who
	for _, q := range s.tx.effects {
		if q.at == s.tx.answered-2 {
			s.due, s.dueMuted = s.takeEffect(p, &q, &who)-1, e.meta&metaSilent != 0
		}
	}
	s.become(p, who)
}

// become changes the session's identity to what its own pipe, which stays, has become.
func (s *session) become(p *pipe, who identity) {
	if who != s.who {
		s.detach()
		s.who, p.id = who, who
	}
}

// takeEffect takes note of one command that was executed, and returns how often it
// has answered.
func (s *session) takeEffect(p *pipe, q *queuedEffect, who *identity) int {
	args := resp.Args(nil, q.frame)
	if q.cmd.class == classLocal && len(args) < 2 || q.cmd.name == "CLIENT|SETNAME" && len(args) < 3 {
		return 1 // no Redis takes it
	}
	switch q.cmd.name {
	case "SELECT":
		if db, ok := resp.ParseInt(args[1]); ok && db >= 0 {
			who.db = int(db)
		}
	case "CLIENT|SETNAME":
		s.name, p.name = string(args[2]), string(args[2])
	case "CLIENT|REPLY":
		switch replyOption(q.frame) {
		case "on":
			s.replyOff = false
		case "off":
			s.replyOff = true
		case "skip":
			s.replySkip = !s.replyOff
		}
	case "AUTH":
		s.queuedLogin(args[1:], who)
	case "HELLO":
		if len(args) > 1 {
			proto, _ := resp.ParseInt(args[1])
			who.proto = int(proto)
			args = args[2:]
		}
		for len(args) > 1 {
			switch opt := string(args[0]); {
			case equalFold(opt, "auth") && len(args) > 2:
				s.queuedLogin(args[1:3], who)
				args = args[1:]
			case equalFold(opt, "setname"):
				s.name, p.name = string(args[1]), string(args[1])
			}
			args = args[2:]
		}
	default:
		if q.cmd.class == classSubscribe {
			return s.queuedSubscribe(q.cmd.name, args[1:])
		}
		s.remember(q.frame, q.cmd, 0)
		s.broken = s.broken && q.cmd.name != "CLIENT|TRACKING"
	}
	return 1
}

func (s *session) queuedLogin(words [][]byte, who *identity) {
	if s.w.opts.Auth == AuthNone {
		return // its identity is the sidecar's
	}
	who.user, who.pass = "default", string(words[len(words)-1])
	if len(words) > 1 {
		who.user = string(words[0])
	}
}

// queuedSubscribe is takeEffect for SUBSCRIBE and kin.
func (s *session) queuedSubscribe(name string, channels [][]byte) int {
	prefix := strings.TrimSuffix(name, "SUBSCRIBE") // "", "P", "S", "UN", "PUN" or "SUN"
	kind := subChannel
	switch {
	case strings.HasPrefix(prefix, "P"):
		kind = subPattern
	case strings.HasPrefix(prefix, "S"):
		kind = subShard
	}
	if !strings.HasSuffix(prefix, "UN") {
		for _, c := range channels {
			s.noteSub(subscription{kind, string(c)})
		}
		return len(channels)
	}
	if len(channels) == 0 { // all, or a null where there are none
		n := len(s.subs)
		for sub := range s.subs {
			if sub.kind == kind {
				s.dropSub(sub)
			}
		}
		return max(1, n-len(s.subs))
	}
	for _, c := range channels {
		s.dropSub(subscription{kind, string(c)})
	}
	return len(channels)
}

// passPushes sends those of EXEC's elements that no CLIENT REPLY OFF keeps back: in
// RESP3 confirmations are pushes.
func (s *session) passPushes(elems []resp.Value) {
	for _, e := range elems {
		if e.Type != '>' {
			continue
		}
		b := resp.AppendPush(nil, len(e.Elem))
		for _, f := range e.Elem {
			switch {
			case f.Null:
				b = append(b, "_\r\n"...)
			case f.Type == ':':
				b = resp.AppendInt(b, f.Int())
			default:
				b = resp.AppendBulk(b, f.Str)
			}
		}
		s.reply(b)
	}
}

// takesMore passes on what follows EXEC's reply. It returns false if nothing more is
// due.
func (s *session) takesMore(p *pipe, frame []byte) bool {
	if s.due == 0 {
		return false
	}
	if v, _, err := resp.Decode(frame); err == nil && message(v) {
		s.reply(s.redirectBroken(frame))
		return true
	}
	if !s.dueMuted || frame[0] == '>' {
		s.reply(frame)
	}
	if s.due--; s.due == 0 {
		s.after(p)
	}
	return true
}

// changes reports whether EXEC changes the connection.
func (t *transaction) changes() bool { return len(t.effects) > 0 || t.lostEffect }
