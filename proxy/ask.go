package proxy

import (
	"bytes"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// ask has Redis say whether the session's user may call a command that is answered
// here. probe is a form of the command that changes nothing. What Redis has against it
// is the client's answer; else then is called. While no master is served nobody can be
// asked, and nobody is: it is for what concerns the client alone. It returns false if
// the command must wait.
func (s *session) ask(frame, probe []byte, then func()) bool {
	if !s.w.serving {
		then()
		return true
	}
	return s.asking(frame, probe, func([]byte) {
		then()
		s.mute = false
		s.resume()
	})
}

// asking is ask while a master is served; then gets Redis' answer and has the session
// go on.
func (s *session) asking(frame, probe []byte, then func(reply []byte)) bool {
	if !s.connected(s.w.cmds.unknown) {
		return s.wait == waitNone
	}
	p := s.own
	if p == nil {
		p = s.pipe
	}
	again := bytes.Clone(frame)
	s.wait = waitLogin
	p.sendInternal(probe, func(reply []byte) {
		switch {
		case s.closed:
			return
		case reply == nil:
			s.pullAsked(again)
			s.takeBack(p.gone())
		case reply[0] == '-' && !provoked(reply):
			s.reply(reply)
		default:
			then(reply)
			return
		}
		s.mute = false
		s.resume()
	})
	return true
}

// provoked reports whether an error is what a probe was made to get.
func provoked(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-ERR No such client\r")) ||
		bytes.HasPrefix(reply, []byte("-ERR ")) && bytes.HasSuffix(reply, []byte(" cannot contain spaces, newlines or special characters.\r\n"))
}

// pullAsked takes a command back of which Redis was asked, with the CLIENT REPLY SKIP
// that its handling has used up.
func (s *session) pullAsked(frame []byte) {
	if s.mute && !s.replyOff {
		s.pullFrame(resp.AppendCommand(nil, "CLIENT", "REPLY", "SKIP"), false, s.here.came())
	}
	s.pullFrame(frame, false, s.here.came())
	s.here = entry{}
}
