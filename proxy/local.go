package proxy

import (
	"bytes"
	"slices"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// localFunc answers a command that does not simply travel. Nothing of the
// session is under way when it is called. It returns false if it must wait.
type localFunc func(s *session, frame []byte) bool

// localCommands lists the commands that every client library sends when it
// connects and that must not cost a pipe of its own. They are repeated on an own
// pipe when one is taken.
func localCommands() map[string]localFunc {
	return map[string]localFunc{
		"HELLO":          (*session).hello,
		"AUTH":           (*session).auth,
		"SELECT":         (*session).selectDB,
		"QUIT":           (*session).quit,
		"RESET":          (*session).reset,
		"CLIENT|SETINFO": (*session).clientSetInfo,
		"CLIENT|SETNAME": (*session).clientSetName,
		"CLIENT|GETNAME": (*session).clientGetName,
		"CLIENT|REPLY":   (*session).clientReply,
		"CLIENT|ID":      (*session).clientID,
		"CLIENT|INFO":    (*session).clientInfo,
		"CLIENT|LIST":    (*session).clientList,
		"CLIENT|KILL":    (*session).clientKill,
		"CLIENT|UNBLOCK": (*session).clientUnblock,

		"CLIENT|MAINT_NOTIFICATIONS": (*session).clientMaintenance,
	}
}

// identity is whom and how a backend connection speaks for: what a pipe is keyed
// by. The password lives in memory only, for redialling; it is never logged.
type identity struct {
	user, pass string
	db         int
	proto      int // 2 or 3
}

func (s *session) quit([]byte) bool {
	s.reply([]byte("+OK\r\n"))
	s.end()
	return true
}

func (s *session) reset(frame []byte) bool {
	s.mute = s.mute && !s.replyOff // which it ends; a skipped reply stays skipped
	if s.own != nil && s.own.state == pipeReady && s.w.serving && !s.monitors() {
		s.resetOwn(s.own, frame)
		return true
	}
	if s.own != nil {
		s.dropOwn()
	}
	s.forget()
	s.reply([]byte("+RESET\r\n"))
	return true
}

// monitors reports whether lines of MONITOR, which look like replies, may come.
func (s *session) monitors() bool {
	return slices.ContainsFunc(s.setup, func(f []byte) bool { return s.w.cmds.find(f).name == "MONITOR" })
}

// forget brings the session to where it was when its client connected.
func (s *session) forget() {
	s.mode = mode{}
	s.detach()
	s.who = s.w.anonymous()
	s.reqs.Unauthenticated = s.w.opts.Auth == AuthPassthrough
}

// resetOwn has Redis reset the session's connection: what comes next must not find
// its subscriptions still there. Dedicated, it stays and keeps its id.
func (s *session) resetOwn(p *pipe, frame []byte) {
	s.wait = waitLogin
	p.sendInternal(bytes.Clone(frame), func(reply []byte) {
		if s.closed {
			return
		}
		if !s.w.opts.Dedicated {
			s.endTrackers()
		}
		s.forget()
		p.name, p.id = "", s.who
		if !s.w.opts.Dedicated {
			if s.own == p { // else it is what ends the pipe
				s.dropOwn()
			}
		} else if who := s.who; reply != nil && (who.user != "" || who.pass != "") {
			p.sendInternal(resp.AppendCommand(nil, "AUTH", userName(who.user), who.pass), func([]byte) {})
		}
		if reply == nil {
			reply = []byte("+RESET\r\n") // with its connection everything is forgotten
		}
		s.reply(reply)
		s.mute = false
		s.resume()
	})
}

func (s *session) selectDB(frame []byte) bool {
	args := resp.Args(nil, frame)
	if len(args) != 2 {
		return s.wrongArgs("select")
	}
	db, ok := resp.ParseInt(args[1])
	if !ok || int64(int32(db)) != db {
		return s.ask(frame, frame, func() { s.replyError("ERR value is not an integer or out of range") })
	}
	who := s.who
	who.db = int(db)
	if s.movesOwn() {
		return s.moveOwn(frame, who, frame, nil)
	}
	return s.change(frame, bytes.Clone(frame), who, func(p *pipe) {
		p.busyAt = 0 // it is busy no more
		s.reply([]byte("+OK\r\n"))
	})
}

func (s *session) auth(frame []byte) bool {
	args := resp.Args(nil, frame)
	if len(args) < 2 {
		return s.wrongArgs("auth")
	}
	if len(args) > 3 {
		s.replyError("ERR syntax error")
		return true
	}
	user, pass := "default", string(args[len(args)-1])
	if len(args) == 3 {
		user = string(args[1])
	}
	if s.w.opts.Auth == AuthNone {
		return s.authLikeOpen(user, len(args) == 3)
	}
	who := s.who
	who.user, who.pass = user, pass
	if may, handled := s.mayTry(who); !may {
		return handled
	}
	if s.mayNotSelect() && !s.pinForLogin() {
		return s.wait == waitNone
	}
	if s.movesOwn() {
		return s.moveOwn(frame, who, frame, nil)
	}
	return s.login(frame, args[1:], user, pass, s.who.proto, func(*pipe) { s.reply([]byte("+OK\r\n")) })
}

// authLikeOpen answers as a Redis whose default user needs no password
// (authCommand in redis/src/acl.c).
func (s *session) authLikeOpen(user string, named bool) bool {
	switch {
	case !named:
		s.replyError("ERR AUTH <password> called without any password configured for the default user. " +
			"Are you sure your configuration is correct?")
	case user == "default":
		s.reply([]byte("+OK\r\n"))
	default:
		s.replyError(errWrongPass)
	}
	return true
}

// login has Redis itself check a login, in band on that user's pipe, and then
// makes it the session's. A failed login keeps the old one. words are AUTH's
// arguments as the client gave them: Redis tells one from two.
func (s *session) login(frame []byte, words [][]byte, user, pass string, proto int, done func(*pipe)) bool {
	check := resp.AppendCommand(nil, append([][]byte{[]byte("AUTH")}, words...)...)
	who := s.who
	who.user, who.pass, who.proto = user, pass, proto
	return s.change(check, bytes.Clone(frame), who, done)
}

// change moves the session to another identity if Redis agrees to check, which is
// sent there first: the connection may be older than what Redis thinks of it now. Without
// an answer again, the client's command, is taken back: to check changes nothing at Redis.
func (s *session) change(check, again []byte, who identity, done func(*pipe)) bool {
	return s.move(who, func(p *pipe) {
		s.wait = waitLogin
		p.sendInternal(check, func(reply []byte) {
			if s.closed {
				return
			}
			switch {
			case reply == nil:
				if s.turn == turnNone {
					s.turn = turnFree // it was let try already
				}
				s.leave(p)
				s.pullAsked(again)
				s.takeBack(p.gone())
			case reply[0] == '-':
				s.loginJudged(trimLine(reply))
				s.reply(reply)
				s.leave(p)
			default:
				s.turn = turnNone
				s.reqs.Unauthenticated = false
				done(p)
			}
			s.mute = false
			s.resume()
		})
	})
}

// move changes the session's identity once a pipe for the new one is ready, and
// calls done then. If Redis refuses the new identity, the old one stays and the
// client gets Redis' words.
func (s *session) move(who identity, done func(*pipe)) bool {
	if s.refusal != "" {
		s.passRefusal()
		return true
	}
	if !s.w.serving {
		return s.moveWithoutMaster(who, done)
	}
	p := s.w.sharedPipe(who)
	if p == nil {
		return s.noRoom()
	}
	if p.state != pipeReady && p.busy == "" { // else Redis takes AUTH and HELLO, and refuses SELECT itself
		return s.await(p, s.w.cmds.unknown)
	}
	if who.user == "" && who.pass == "" && !s.knock(p) {
		return false
	}
	s.before = s.who
	s.detach()
	s.who, s.pipe = who, p
	p.sessions++
	s.refast()
	done(p)
	return true
}

// leave goes back to the identity before a move that Redis refused.
func (s *session) leave(*pipe) {
	s.detach()
	s.who = s.before
}

const errClientName = "ERR Client names cannot contain spaces, newlines or special characters."

// validName is Redis' rule for names: printable ASCII without spaces
// (validateClientAttr in redis/src/networking.c).
func validName(b []byte) bool {
	for _, c := range b {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

func (s *session) clientSetName(frame []byte) bool {
	args := resp.Args(nil, frame)
	if len(args) != 3 {
		return s.ask(frame, frame, func() { s.wrongArgs("client|setname") })
	}
	if !validName(args[2]) {
		return s.ask(frame, badlyNamed(args), func() { s.replyError(errClientName) })
	}
	name, probe, set := string(args[2]), withLast(args, ""), bytes.Clone(frame)
	if s.own != nil && s.w.serving {
		probe, set = frame, nil // the connection is the client's alone
	}
	return s.ask(frame, probe, func() {
		s.name = name
		if p := s.own; p != nil && p.state == pipeReady {
			p.name = name
			if set != nil {
				p.sendInternal(set, func([]byte) {})
			}
		}
		s.reply([]byte("+OK\r\n"))
	})
}

// badlyNamed is a command that gives the connection a name, with one that Redis refuses
// if the user may call it at all: the connection is not the client's alone. What would be
// well named is asked with no name at all, which a shared connection has anyway, so that
// Redis counts no errors that no client made.
func badlyNamed(args [][]byte) []byte { return withLast(args, "not a name") }

// withLast is a command with another last word.
func withLast(args [][]byte, last string) []byte {
	words := slices.Clone(args)
	words[len(words)-1] = []byte(last)
	return resp.AppendCommand(nil, words...)
}

func (s *session) clientGetName(frame []byte) bool {
	return s.ask(frame, frame, func() {
		switch {
		case s.name != "":
			s.reply(resp.AppendBulk(nil, s.name))
		case s.who.proto == 3:
			s.reply([]byte("_\r\n"))
		default:
			s.reply([]byte("$-1\r\n"))
		}
	})
}

// clientSetInfo takes what libraries tell of themselves (CLIENT SETINFO in
// redis/src/networking.c, since 7.2).
func (s *session) clientSetInfo(frame []byte) bool {
	args := resp.Args(nil, frame)
	if len(args) != 4 {
		return s.ask(frame, frame, func() { s.wrongArgs("client|setinfo") })
	}
	opt := string(args[2])
	if !validName(args[3]) {
		return s.ask(frame, badlyNamed(args), func() {
			s.replyError("ERR " + opt + " cannot contain spaces, newlines or special characters.")
		})
	}
	value := string(args[3])
	return s.ask(frame, withLast(args, ""), func() {
		switch {
		case equalFold(opt, "lib-name"):
			s.libName = value
		case equalFold(opt, "lib-ver"):
			s.libVer = value
		default:
			s.replyError("ERR Unrecognized option '" + opt + "'")
			return
		}
		s.reply([]byte("+OK\r\n"))
	})
}

// clientMaintenance answers as Redis does, which has no such subcommand: go-redis
// asks on connect whether a managed service would tell of its maintenance. Ours is
// hidden from clients anyway.
func (s *session) clientMaintenance(frame []byte) bool {
	sub := resp.Args(nil, frame)[1]
	s.replyError("ERR unknown subcommand '" + string(sub[:min(len(sub), 128)]) + "'. Try CLIENT HELP.")
	return true
}

// clientReply is CLIENT REPLY ON|OFF|SKIP: backends always answer, and we keep
// the answers back. Where it is not allowed or not well formed, that reaches the client
// only if replies do.
func (s *session) clientReply(frame []byte) bool {
	args := resp.Args(nil, frame)
	opt, probe := "", frame
	if len(args) == 3 {
		opt = string(args[2])
		probe = resp.AppendCommand(nil, "CLIENT", "REPLY", "ON") // the only one that is answered for sure
	}
	s.mute = s.replyOff || s.replySkip
	return s.ask(frame, probe, func() {
		s.replySkip = false
		switch {
		case equalFold(opt, "on"):
			s.replyOff, s.mute = false, false
			s.reply([]byte("+OK\r\n"))
		case equalFold(opt, "off"):
			s.replyOff, s.mute = true, false
		case equalFold(opt, "skip"):
			s.replySkip, s.mute = !s.replyOff, false
		case len(args) != 3:
			s.wrongArgs("client|reply")
		default:
			s.replyError("ERR syntax error")
		}
		s.refast()
	})
}

func (s *session) wrongArgs(name string) bool {
	s.replyError("ERR wrong number of arguments for '" + name + "' command")
	return true
}

// mayNotSelect reports whether a login was refused only since its user may not SELECT the
// session's database. Redis would leave it there: the login has to go over a connection of
// the session's own that is in the database already, and that the session then keeps.
func (s *session) mayNotSelect() bool {
	return s.w.serving && s.who.db != 0 && strings.HasPrefix(s.refusal, "NOPERM")
}

// pinForLogin gives the session such a connection. It returns false if the command was
// answered (wait is none) or must wait.
func (s *session) pinForLogin() bool {
	s.refusal = ""
	return s.own != nil || s.pin(s.w.cmds.unknown) != nil
}

// movesOwn reports whether the session changes its identity on its own pipe.
func (s *session) movesOwn() bool { return s.w.serving && (s.own != nil || s.w.opts.Dedicated) }

// moveOwn changes the session's identity on its own pipe, which stays and with it
// what it watches and tracks: words, the client's command or one that means the same,
// go to Redis there. If Redis agrees, the client gets its reply or, if moved is not
// nil, what that returns. Without an own pipe one is made for the new identity. frame
// is the client's command, to be handled again if the connection is lost meanwhile.
func (s *session) moveOwn(frame []byte, who identity, words []byte, moved func(p *pipe, reply []byte) []byte) bool {
	if s.refusal != "" {
		s.passRefusal()
		return true
	}
	p := s.own
	if p != nil && p.id != s.who && p.id != who {
		s.dropOwn()
		p = nil
	}
	if p == nil {
		if s.forgot && s.lostOwn {
			s.cutForgotten()
			return true
		}
		if s.noMoreOwn(s.w.cmds.unknown) {
			return true
		}
		p = s.w.ownPipe(s, who, s.pinnedFor(nil))
		s.own, s.fast = p, false
		if p.state == pipeReady {
			s.restore(p)
		}
	}
	if p.state != pipeReady {
		return s.await(p, s.w.cmds.unknown)
	}
	again := bytes.Clone(frame)
	s.wait = waitLogin
	p.sendInternal(words, func(reply []byte) {
		if s.closed {
			return
		}
		switch {
		case reply == nil: // with the connection it is undone
			s.pullAsked(again)
			s.takeBack(resendLost)
		case reply[0] == '-':
			s.loginJudged(trimLine(reply))
			s.reply(reply)
			if p.id != s.who { // made for the identity that was refused
				s.dropOwn()
			}
		default:
			s.turn = turnNone
			s.detach()
			s.who, p.id = who, who
			s.sticky = s.sticky || !s.pinned() // see mayNotSelect
			s.reqs.Unauthenticated = false
			if moved != nil {
				reply = moved(p, reply)
			}
			s.reply(reply)
		}
		s.mute = false
		s.resume()
	})
	return true
}

// passRefusal answers with the words by which Redis refused a new identity.
func (s *session) passRefusal() {
	text := s.refusal
	s.refusal = ""
	s.loginJudged(text)
	if strings.HasPrefix(text, "NOAUTH") {
		text = errNoAuth // not what Redis says to HELLO
	}
	s.replyError(text)
}
