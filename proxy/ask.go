package proxy

import "bytes"

// ask has Redis say whether the session's user may call a command that is answered
// here. probe is a form of the command that changes nothing, whatever Redis answers to
// it: refused for want of a right or a login, it is the client's answer, else then is
// called. While no master is served nobody can be asked, and nobody is. It returns
// false if the command must wait.
func (s *session) ask(frame, probe []byte, then func()) bool {
	if !s.w.serving {
		then()
		return true
	}
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
		if s.closed {
			return
		}
		switch {
		case reply == nil:
			s.pullFrame(again, false)
			s.takeBack()
		case bytes.HasPrefix(reply, []byte("-NOPERM ")), bytes.HasPrefix(reply, []byte("-NOAUTH ")):
			s.reply(reply)
		default:
			then()
		}
		s.mute = false
		s.resume()
	})
	return true
}
