package proxy

import (
	"errors"
	"time"
)

// The watchdog looks at every pipe once a second. A connection can die without a
// word: a firewall forgets it, a host is gone. TCP takes minutes to notice. Redis
// answers in order and all connections alike, so where an older command has had
// no answer while a new connection is greeted, the old connection is dead.
const (
	watchEvery   = time.Second
	greetTimeout = time.Second // for HELLO's answer; a hung master never gives it
	staleLooks   = 2           // before a trial
)

var (
	errGreetTimeout = errors.New("the master did not answer HELLO in time")
	errSilent       = errors.New("its connection died silently")
)

func (w *worker) armWatch() {
	if w.watchAt == nil {
		w.watchAt = w.host.after(watchEvery, w.watch)
	}
}

func (w *worker) watch() {
	now := w.now()
	for _, p := range w.allPipes() {
		switch p.state {
		case pipeGreeting:
			if now-p.greetAt > greetTimeout {
				p.lost(errGreetTimeout)
			}
		case pipeReady, pipeRetired:
			p.unhalt()
			p.look()
		case pipeDialing, pipeClosed:
		}
		if t := p.trial; t != nil && t.state == pipeGreeting && now-t.greetAt > greetTimeout {
			t.lost(errGreetTimeout)
		}
	}
	if w.failure != "" && w.opts.Auth == AuthNone && w.serving {
		w.sharedPipe(w.anonymous()) // until our own account is let in
	}
	w.checkSoft()
	w.watchAt.Reset(watchEvery)
	w.pump()
}

// look starts a trial for a pipe on which an answer is overdue.
func (p *pipe) look() {
	due := p.queue.len() > 0 && p.sent > p.head && !p.slow && !p.halted && !p.mayBeSilent() && p.heard == p.seen
	p.seen = p.heard
	if !due {
		p.stale = 0
		return
	}
	p.stale++
	if p.stale < staleLooks || p.trial != nil || !p.w.serves(p) {
		return
	}
	p.trial = &pipe{w: p.w, id: p.id, trialOf: p}
	p.w.connect(p.trial)
}

// mayBeSilent reports whether the next answer is that of a call which may take
// for ever.
func (p *pipe) mayBeSilent() bool {
	s := p.owner
	return s != nil && (s.blocking || s.stream != streamOff || s.subscribed() || s.subCalls > 0)
}

// trialPassed ends a trial that was greeted, and with it the pipe that is still
// silent.
func (w *worker) trialPassed(t *pipe) {
	p := t.trialOf
	w.endTrial(t)
	if p.state == pipeClosed || p.heard != p.seen || p.queue.len() == 0 {
		return
	}
	w.stats.silent++
	w.distrust(p)
	w.log.Warn("backend connection died silently: the master answers on a new one", "addr", p.addr)
	p.lost(errSilent)
}

func (*worker) endTrial(t *pipe) {
	if t.trialOf != nil {
		t.trialOf.trial = nil
	}
	t.end()
}

// failed notes why the master turned a connection away. Until one is accepted the
// server is not ready.
func (w *worker) failed(text string) {
	if w.failure == "" {
		w.failedAt = w.now()
		w.log.Warn("the master turns our connections away", "addr", w.route.Master, "error", text)
	}
	w.failure = text
	w.host.failing(text)
}

func (w *worker) succeeded() {
	if w.failure != "" {
		w.failure = ""
		w.host.failing("")
	}
}
