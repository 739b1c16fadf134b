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
	for _, f := range slices.Backward(s.setup) {
		if s.w.cmds.find(f).name == "CLIENT|TRACKING" {
			args := resp.Args(nil, f)
			redirect, _ = redirectOf(args)
			return len(args) > 2 && equalFold(string(args[2]), "on"), redirect
		}
	}
	return false, 0
}

// redirectOf finds the id in the arguments of CLIENT TRACKING ON, and its place; 0
// stands for none.
func redirectOf(args [][]byte) (id int64, at int) {
	for i := 3; i+1 < len(args); i++ {
		switch word := string(args[i]); {
		case equalFold(word, "redirect"):
			id, at = 0, i+1
			if n, err := strconv.ParseInt(string(args[i+1]), 10, 64); err == nil && n > 0 {
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
			s.takeBack()
		case f.n == 0:
			s.reply(resp.AppendError(nil, "ERR The client ID you want redirect to does not exist"))
			s.after(p)
		default:
			client := resp.AppendCommand(nil, args...)
			args[at] = strconv.AppendInt(nil, int64(f.n), 10)
			n := len(s.setup)
			s.replySkip = s.mute && !s.replyOff // its handling has used it up
			s.transmit(p, resp.AppendCommand(nil, args...), cmd)
			if len(s.setup) > n {
				s.setup[n] = client // as the client knows it
			}
		}
		s.mute = false
		s.resume()
		s.w.pump()
	})
}

// redirects reports whether a command must go the way of redirect.
func (s *session) redirects(frame []byte, cmd *command) bool {
	if cmd.name != "CLIENT|TRACKING" || s.w.opts.Dedicated || s.tx.active {
		return false
	}
	id, _ := redirectOf(resp.Args(nil, frame))
	return id > 0
}
