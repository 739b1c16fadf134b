package proxy

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// This file deals with what a client sends that is not a plain command in array
// form: lines, HTTP, breaches of the protocol.

// inlined turns a line into a command in array form; empty for a blank line. ok
// is false if its quotes do not match.
func inlined(line []byte) (frame []byte, ok bool) {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	args, ok := resp.SplitInline(line)
	if !ok {
		return nil, false
	}
	if len(args) == 0 {
		return nil, true
	}
	return resp.AppendCommand(nil, args...), true
}

// speaksHTTP reports whether a browser was tricked into talking to us.
func speaksHTTP(frame []byte) bool {
	arg, _ := resp.Arg(frame, 0)
	name := string(arg)
	return equalFold(name, "post") || equalFold(name, "host:")
}

// refuseHTTP shows a browser the door without a word (securityWarningCommand in
// redis/src/server.c), once what it asked before is answered.
func (s *session) refuseHTTP() bool {
	if s.unanswered() {
		s.wait = waitDrain
		return false
	}
	s.w.stats.breaches[breachHTTP]++
	if more, ok := s.w.httpWarning.now(); ok {
		s.w.log.Warn("possible security attack: a client speaks http", "client", s.conn.RemoteAddr(), "unlogged_before", more)
	}
	s.end()
	return true
}

// letIn finds out whether the client must log in, for a command past the limits
// of those who must. It returns true if it need not; otherwise the session must
// wait to know, or is not let in.
func (s *session) letIn() bool {
	if s.refusal != "" {
		s.refusal = ""
		return false
	}
	if !s.w.serving {
		if s.asks = s.w.mayHold() && !s.expired; s.asks {
			s.wait = waitRoute
		}
		return false
	}
	s.asks = false
	if _, refused := s.w.refusedLately(s.who); refused || !s.connected(s.w.cmds.unknown) {
		return false
	}
	s.reqs.Unauthenticated = false
	return true
}

// openFor is how long it is believed that Redis lets in who does not log in, unless a
// command that may change it is seen to be answered meanwhile.
const openFor = 100 * time.Millisecond

// knock reports whether the session may have p, which is ready. Redis judges by its
// default user who connects and does not log in; p may have connected long before, when
// that user was on and needed no password. So a client that was not let in yet waits
// until Redis lets in the default user with any password. If it does not, the client has
// to log in; those who are in stay.
func (s *session) knock(p *pipe) bool {
	w := s.w
	if !s.reqs.Unauthenticated || s.who.user != "" || s.who.pass != "" || p.busy != "" || p.info.old ||
		w.now()-p.openAt < openFor && p.access == w.access.Load() {
		return true
	}
	s.wait = waitLogin
	access := w.access.Load()
	p.sendInternal(resp.AppendCommand(nil, "AUTH", "default", ""), func(reply []byte) {
		if s.closed {
			return
		}
		switch {
		case reply == nil: // lost: a new connection shows it
		case bytes.HasPrefix(reply, []byte("-WRONGPASS")):
			s.refusal = noAuthHello(p.info.version)
			w.refusals[p.id] = refusal{text: s.refusal, until: w.now() + refusalTTL, access: access}
			if s.own == p {
				s.dropOwn()
			}
		default: // an error of another kind says nothing: AUTH may have another name there
			p.openAt, p.access = w.now(), access
			if s.own == p {
				s.restore(p)
			}
		}
		s.mute = false
		s.resume()
	})
	return false
}

// connected reports whether the session has a connection that is ready for its
// commands. If not, it was told why not or waits for one.
func (s *session) connected(cmd *command) bool {
	switch {
	case s.own == nil && s.w.opts.Dedicated:
		return s.pin(cmd) != nil
	case s.own == nil:
		return s.attach(cmd) != nil
	case s.own.state != pipeReady:
		s.await(s.own, cmd)
		return false
	}
	return true
}

// protocolError answers as Redis does and closes after it.
func (s *session) protocolError(err error) {
	kind := breachOf(err)
	s.w.stats.breaches[kind]++
	if kind == breachTLS {
		if more, ok := s.w.tlsWarning.now(); ok {
			s.w.log.Warn("a client began a tls handshake on a port without tls", "client", s.conn.RemoteAddr(), "unlogged_before", more)
		}
	}
	s.w.log.Debug("protocol error from client", "client", s.conn.RemoteAddr(), "err", err)
	s.replyError("ERR " + err.Error())
	s.end()
}

// breach is how a client broke the protocol.
type breach uint8

const (
	breachFraming breach = iota // a count or length that is none, or what stands in its place
	breachTooBig                // a line, count or length without end
	breachLogin                 // past the limits of those who must log in
	breachQuotes                // a line whose quotes do not match
	breachTLS                   // a TLS handshake
	breachHTTP                  // a browser
	breachEnd
)

func (k breach) String() string {
	return [...]string{"framing", "too_big", "login_limit", "quotes", "tls", "http"}[k]
}

func breachOf(err error) breach {
	text := err.Error()
	switch {
	case errors.Is(err, resp.ErrTLS):
		return breachTLS
	case resp.LoginLimit(err):
		return breachLogin
	case errors.Is(err, errQuotes):
		return breachQuotes
	case strings.HasPrefix(text, "Protocol error: too big"):
		return breachTooBig
	}
	return breachFraming
}

const errQuotes = resp.ProtocolError("unbalanced quotes in request")
