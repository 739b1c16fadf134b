package proxy

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// hello is HELLO [protover [AUTH user pass] [SETNAME name]] (helloCommand in
// redis/src/networking.c). Before Redis 7.2 each option takes effect when it is read,
// whatever is wrong with those behind it; the protocol is changed last.
func (s *session) hello(frame []byte) bool {
	args := resp.Args(nil, frame)[1:]
	proto := s.who.proto
	if len(args) > 0 {
		v, ok := resp.ParseInt(args[0])
		if !ok {
			s.replyError("ERR Protocol version is not an integer or out of range")
			return true
		}
		if v < 2 || v > 3 {
			s.replyError("NOPROTO unsupported protocol version")
			return true
		}
		proto = int(v)
		args = args[1:]
	}
	h := s.helloStep(proto, args)
	if h.fails != "" && (h.login == nil || s.w.wholeHello) {
		s.replyError(h.fails)
		return true
	}
	who := s.who
	who.proto = h.proto
	if h.login == nil {
		if s.w.opts.Auth == AuthPassthrough && s.who.user == "" && strings.HasPrefix(s.refusal, "NOAUTH") {
			s.replyError(s.refusal) // it was HELLO by which we came to know, too
			s.refusal = ""
			return true
		}
		if s.movesOwn() {
			return s.moveOwn(frame, who, h.words(), func(p *pipe, reply []byte) []byte { return s.saidHello(&h, p, reply) })
		}
		return s.move(who, func(p *pipe) { s.reply(s.saidHello(&h, p, nil)) })
	}
	user, pass := h.login[0], h.login[1]
	who.user, who.pass = user, pass
	if may, handled := s.mayTry(who); !may {
		return handled
	}
	if s.mayNotSelect() && !s.pinForLogin() {
		return s.wait == waitNone
	}
	if s.movesOwn() {
		return s.moveOwn(frame, who, h.words(), func(p *pipe, reply []byte) []byte { return s.saidHello(&h, p, reply) })
	}
	return s.login(frame, [][]byte{[]byte(user), []byte(pass)}, user, pass, h.proto, func(p *pipe) { s.reply(s.saidHello(&h, p, nil)) })
}

// helloStep is what of a HELLO takes effect in one go: one login, what follows it, and
// the protocol if there is nothing left.
type helloStep struct {
	proto int
	login []string // user and password; nil for none
	name  *string  // nil for none, or if it has taken effect
	fails string   // the error of what comes next; "" for none
	rest  []byte   // a HELLO with what is left; nil for nothing
}

// helloStep reads HELLO's options up to the second login, or what is wrong with them. A
// name takes effect at once if it does for Redis.
func (s *session) helloStep(proto int, args [][]byte) helloStep {
	h := helloStep{proto: proto}
	open, whole := s.w.opts.Auth == AuthNone, s.w.wholeHello
	refused := ""
	for len(args) > 0 && h.fails == "" && h.rest == nil {
		switch opt := string(args[0]); {
		case equalFold(opt, "auth") && len(args) >= 3:
			switch refused = ""; {
			case open && string(args[1]) != "default":
				if refused = errWrongPass; !whole {
					h.fails = refused
				}
			case open:
			case h.login != nil && !whole: // the first counts, whatever becomes of this one
				words := [][]byte{[]byte("HELLO"), strconv.AppendInt(nil, int64(proto), 10)}
				h.rest = resp.AppendCommand(nil, append(words, args...)...)
			default:
				h.login = []string{string(args[1]), string(args[2])}
			}
			args = args[3:]
		case equalFold(opt, "setname") && len(args) >= 2:
			switch name := string(args[1]); {
			case !validName(args[1]):
				h.fails = errClientName
			case h.login == nil && !whole:
				s.named(name)
			default:
				h.name = &name
			}
			args = args[2:]
		default:
			h.fails = "ERR Syntax error in HELLO option '" + opt + "'"
		}
	}
	h.fails = cmp.Or(h.fails, refused)
	if h.fails != "" || h.rest != nil {
		h.proto = s.who.proto
	}
	return h
}

// words is a HELLO that does what the step does, and says everything once: with two
// logins, of which the second is refused, a Redis before 7.2 keeps the first.
func (h *helloStep) words() []byte {
	words := []string{"HELLO", strconv.Itoa(h.proto)}
	if h.login != nil {
		words = append(words, "AUTH", h.login[0], h.login[1])
	}
	if h.name != nil {
		words = append(words, "SETNAME", *h.name)
	}
	return resp.AppendCommand(nil, words...)
}

// saidHello returns the answer to a HELLO of which a step has taken effect on p; reply is
// what Redis has answered to its words, nil where it was not asked. What is left comes next.
func (s *session) saidHello(h *helloStep, p *pipe, reply []byte) []byte {
	if h.name != nil {
		if p == s.own {
			p.name = *h.name // it was in the words
		}
		s.named(*h.name)
	}
	switch {
	case h.fails != "":
		return resp.AppendError(nil, h.fails)
	case h.rest != nil:
		s.pullAsked(h.rest)
		s.putBack()
		return nil
	case s.w.opts.Dedicated && reply != nil:
		return reply
	}
	return s.helloReply(p)
}

// named gives the session a name, and the connection that it has for itself.
func (s *session) named(name string) {
	s.name = name
	if p := s.own; p != nil && p.state == pipeReady && p.name != name {
		p.name = name
		p.sendInternal(resp.AppendCommand(nil, "HELLO", strconv.Itoa(s.who.proto), "SETNAME", name), func([]byte) {})
	}
}

// helloReply says what Redis would say, with our id for the client.
func (s *session) helloReply(p *pipe) []byte {
	var b []byte
	if s.who.proto == 3 {
		b = resp.AppendMap(b, 7)
	} else {
		b = resp.AppendArray(b, 14)
	}
	b = resp.AppendBulk(b, "server")
	b = resp.AppendBulk(b, p.info.server)
	b = resp.AppendBulk(b, "version")
	b = resp.AppendBulk(b, p.info.version)
	b = resp.AppendBulk(b, "proto")
	b = resp.AppendInt(b, int64(s.who.proto))
	b = resp.AppendBulk(b, "id")
	b = resp.AppendInt(b, s.id)
	b = resp.AppendBulk(b, "mode")
	b = resp.AppendBulk(b, p.info.mode)
	b = resp.AppendBulk(b, "role")
	b = resp.AppendBulk(b, "master")
	b = resp.AppendBulk(b, "modules")
	return append(b, p.info.modules...)
}

const (
	errNoAuth    = "NOAUTH Authentication required."
	errWrongPass = "WRONGPASS invalid username-password pair or user is disabled."
)

// noAuthHello is what a Redis of that version says to the HELLO of a client that must log in.
func noAuthHello(version string) string {
	form := "HELLO <proto> AUTH"
	if before72(version) {
		form = "HELLO AUTH"
	}
	return "NOAUTH HELLO must be called with the client already authenticated, otherwise the " + form +
		" <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
}

// before72 reports whether a version, as HELLO tells it, is older than Redis 7.2.
func before72(version string) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ := resp.ParseInt(first)
	minor, _ := resp.ParseInt(second)
	return major < 7 || major == 7 && minor < 2
}
