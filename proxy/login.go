package proxy

// SetLogin changes the sidecar's own account, which clients use under AuthNone,
// for connections to masters that are made from now on; those that are open keep
// theirs. It is safe for concurrent use.
func (s *Server) SetLogin(username, password string) {
	s.learner.login.Store(&account{username, password})
	for i, l := range s.loops {
		w := s.workers[i]
		_ = l.Post(func() { w.setAccount(account{username, password}) }) // fails only when the loop has ended
	}
}

// account is the sidecar's own login on the masters. It must not be logged.
type account struct{ user, pass string }

// setAccount has every session and pipe of the old account redial with the new one.
func (w *worker) setAccount(a account) {
	old := w.account
	w.account = a
	if w.opts.Auth != AuthNone || a == old {
		return
	}
	change := func(who *identity) {
		if who.user == old.user && who.pass == old.pass {
			who.user, who.pass = a.user, a.pass
		}
	}
	for _, s := range w.sessions {
		change(&s.who)
		change(&s.before)
	}
	for _, p := range w.allPipes() {
		change(&p.id)
	}
	pipes, idle := w.pipes, w.idle
	w.pipes, w.idle = make(map[identity]*pipe), make(map[identity][]*pipe)
	for _, p := range pipes {
		w.pipes[p.id] = p
	}
	for who, list := range idle {
		change(&who)
		w.idle[who] = append(w.idle[who], list...)
	}
	for _, p := range w.replicas.all() {
		p.abandon()
	}
	clear(w.refusals)
}
