package proxy

import (
	"errors"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// The watchdog looks at every pipe once a second. A connection can die without a
// word: a firewall forgets it, a host is gone. TCP takes minutes to notice. Redis
// answers in order and all connections alike, so where an older command has had no
// answer while a new connection gets one, the old connection is dead.
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
			w.trialSilent(t)
		}
	}
	if w.failure != "" && w.opts.Auth == AuthNone && w.serving {
		w.sharedPipe(w.anonymous()) // until our own account is let in
	}
	w.checkSoft()
	w.trimBufs()
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

// question is what a trial asks for p: something that changes nothing, and that Redis has
// wait if it has p's oldest command wait. CLIENT PAUSE WRITE holds up PFCOUNT, too.
func (p *pipe) question() []byte {
	if p.queue.len() > 0 {
		if c := p.queue.front().cmd; c != nil && (c.write() || c.name == "PFCOUNT") {
			return resp.AppendCommand(nil, "PFCOUNT", "sentinelproxy:no-such-key")
		}
	}
	return pingFrame()
}

// trialGreeted asks for more: while a script runs too long Redis greets, and answers
// BUSY to everything else.
func (w *worker) trialGreeted(t *pipe) { w.ask(t, 2) }

// ask asks a trial's question, as often as is said: what has paused writes wait may end at
// that moment, and then Redis may answer the trial before the pipe that it is about. By
// the next answer it has answered both.
func (w *worker) ask(t *pipe, times int) {
	t.asking, t.greetAt = true, w.now()
	t.sendInternal(t.trialOf.question(), func(reply []byte) {
		switch {
		case reply == nil:
		case reply[0] == '-' && isBusy(trimLine(reply)):
			w.trialWaits(t)
		case times > 1:
			w.ask(t, times-1)
		default:
			w.trialPassed(t)
		}
	})
}

// trialSilent ends a trial that was not answered in time. If it was greeted, Redis has
// the question wait, and so p's oldest command: its writes are paused.
func (w *worker) trialSilent(t *pipe) {
	if t.asking {
		w.trialWaits(t)
		return
	}
	t.lost(errGreetTimeout)
}

// trialWaits ends a trial that shows why its pipe is silent: a script runs too long, or
// writes are paused. What waits behind that there, and may be sent again, is sent on
// another one, where Redis answers BUSY, or what is not paused.
func (w *worker) trialWaits(t *pipe) {
	p := t.trialOf
	w.endTrial(t)
	if p.owner != nil || p.state == pipeClosed || p.heard != p.seen || p.queue.len() == 0 {
		return
	}
	if s := p.queue.front().s; s != nil {
		p.isolate(s, nil)
	}
}

// trialPassed ends a trial that was answered, and with it the pipe that is still
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
		w.log.Warn("the master turns our connections away", "addr", w.route.Master, "err", text)
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
