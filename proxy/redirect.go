package proxy

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// CLIENT TRACKING … REDIRECT names the client that gets the invalidations, by the id
// which the sidecar gave it. Redis must be told that of the connection which this
// client has for itself, since it subscribes.

// tracking returns whether the session has CLIENT TRACKING on, and the id that its
// last call redirects to; 0 if to none.
func (s *session) tracking() (on bool, redirect int64) {
	args := s.lastTracking()
	redirect, _ = redirectOf(args)
	return len(args) > 2 && equalFold(string(args[2]), "on"), redirect
}

// lastTracking returns the words of the session's last CLIENT TRACKING; nil for none.
func (s *session) lastTracking() [][]byte {
	for _, f := range slices.Backward(s.setup) {
		if s.w.cmds.find(f).name == "CLIENT|TRACKING" {
			return resp.Args(nil, f)
		}
	}
	return nil
}

// broadcasts reports whether the session's tracking is by prefixes: BCAST.
func (s *session) broadcasts() bool {
	args := s.lastTracking()
	for i := 3; i < len(args); i++ {
		switch word := string(args[i]); {
		case equalFold(word, "bcast"):
			return true
		case equalFold(word, "redirect"), equalFold(word, "prefix"):
			i++
		}
	}
	return false
}

// redirectOf finds the id in the arguments of CLIENT TRACKING ON, and its place; 0
// stands for none.
func redirectOf(args [][]byte) (id int64, at int) {
	for i := 3; i+1 < len(args); i++ {
		switch word := string(args[i]); {
		case equalFold(word, "redirect"):
			id, at = 0, i+1
			if n, ok := resp.ParseInt(args[i+1]); ok && n > 0 {
				id = n
			}
			i++
		case equalFold(word, "prefix"):
			i++
		}
	}
	return id, at
}

// redirect sends CLIENT TRACKING on p with the id that the client it names has at
// Redis. One that has no connection of its own listens to nothing, and is none to
// Redis. Nothing of the session is under way.
func (s *session) redirect(p *pipe, frame []byte, cmd *command) {
	args := resp.Args(nil, bytes.Clone(frame))
	id, at := redirectOf(args)
	s.wait, s.asked = waitLogin, true
	s.w.host.everywhere(func(w *worker, done func(found)) {
		var f found
		for _, o := range w.sessions {
			if o.id == id && !o.closed && o.own != nil && o.own.state == pipeReady {
				f.n = int(o.own.info.id)
				o.sticky, o.target = true, true // what comes there must not reach who has the connection next
			}
		}
		done(f)
	}, func(f found) {
		s.asked = false
		switch {
		case s.closed:
			return
		case s.own != p || p.state != pipeReady || !s.w.serving:
			s.pullAsked(resp.AppendCommand(nil, args...))
			s.takeBack(resendLost)
		case f.n == 0 && !s.tx.active:
			s.reply(resp.AppendError(nil, "ERR The client ID you want redirect to does not exist"))
			s.after(p)
		default:
			client := resp.AppendCommand(nil, args...)
			s.at, s.here = s.here.came(), entry{} // from here on it is the pipe's
			args[at] = []byte(noClient)           // EXEC will say that there is none
			if f.n > 0 {
				args[at] = strconv.AppendInt(nil, int64(f.n), 10)
			}
			n, queued := len(s.setup), len(s.tx.effects)
			s.replySkip = s.mute && !s.replyOff // its handling has used it up
			s.transmit(p, resp.AppendCommand(nil, args...), cmd)
			if len(s.setup) > n {
				s.setup[n] = client // as the client knows it
			}
			if len(s.tx.effects) > queued {
				s.tx.effects[queued].frame = client
			}
		}
		s.mute = false
		s.resume()
		s.w.pump()
	})
}

// endTrackers ends the clients whose invalidations went to the session's connection, which
// is gone: nobody else would tell them that their caches are void.
func (s *session) endTrackers() {
	if !s.target {
		return
	}
	s.target = false
	id := s.id
	s.w.host.everywhere(func(w *worker, done func(found)) {
		for _, o := range w.sessions {
			if on, to := o.tracking(); on && to == id && !o.closing {
				w.log.Info("client ended: the connection that its invalidations were redirected to is lost", "client", o.conn.RemoteAddr())
				o.abort()
			}
		}
		done(found{})
	}, func(found) {})
}

// redirects reports whether the transaction has an id of a connection in it, which
// means nothing to another master.
func (t *transaction) redirects() bool {
	return slices.ContainsFunc(t.effects, func(q queuedEffect) bool {
		id, _ := redirectOf(resp.Args(nil, q.frame))
		return q.cmd.name == "CLIENT|TRACKING" && id > 0
	})
}

// redirects returns what is to be done in place of transmit with a command that tells
// of a redirection, or of whose id; nil for others.
func (s *session) redirects(frame []byte, cmd *command) func(*pipe, []byte, *command) {
	if s.w.opts.Dedicated {
		return nil
	}
	switch cmd.name {
	case "CLIENT|TRACKING":
		if id, _ := redirectOf(resp.Args(nil, frame)); id > 0 {
			return s.redirect
		}
	case "CLIENT|GETREDIR", "CLIENT|TRACKINGINFO":
		if _, id := s.tracking(); id > 0 && s.own != nil && !s.tx.active {
			return s.tellRedirect
		}
	}
	return nil
}

// tellRedirect has Redis answer a command that says where the session's invalidations
// go, and puts the id that the client knows in the place of Redis'. Nothing of the
// session is under way.
func (s *session) tellRedirect(_ *pipe, frame []byte, cmd *command) {
	s.asking(frame, frame, func(reply []byte) {
		before := []byte(":")
		if cmd.name == "CLIENT|TRACKINGINFO" {
			before = []byte("\r\nredirect\r\n:") // the first, for prefixes come later
		}
		if _, id := s.tracking(); id > 0 {
			if head, tail, ok := bytes.Cut(reply, before); ok && len(tail) > 0 && tail[0] != '-' {
				_, tail, _ = bytes.Cut(tail, []byte("\r\n"))
				reply = slices.Concat(head, before, strconv.AppendInt(nil, id, 10), []byte("\r\n"), tail)
			}
		}
		s.reply(reply)
		s.mute = false
		s.resume()
	})
}

// redirectBroken returns a push as the session's client is to get it: in one by which Redis
// says that whoever got its invalidations is gone, the id is that which the client knows.
func (s *session) redirectBroken(push []byte) []byte {
	const before = ">2\r\n$21\r\ntracking-redir-broken\r\n:"
	if !bytes.HasPrefix(push, []byte(before)) {
		return push
	}
	s.broken = true
	_, id := s.tracking()
	if id == 0 || s.w.opts.Dedicated {
		return push
	}
	return resp.AppendInt([]byte(before[:len(before)-1]), id)
}
