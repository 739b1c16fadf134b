package sentinel

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// announcedTries is how many polls of a discovered Sentinel may fail before it
// is called unreachable.
const announcedTries = 3

// message is what a watcher tells Follower.Run.
//
//sumtype:decl
type message interface{ message() }

// viewed is a watcher's new word about its Sentinel, after each poll.
type viewed struct {
	from    *watcher
	view    topology.View
	knows   bool   // it answers and knows the group
	refused bool   // it may not be subscribed to
	peers   []peer // nil: not asked this time
	// failures counts polls failed in a row; 0 if it answered.
	failures int
}

// heard is an event about our group.
type heard struct {
	from  *watcher
	sign  topology.Sign
	reach reach
}

func (viewed) message() {}
func (heard) message()  {}

// watcher watches one Sentinel: one goroutine polls, one listens.
type watcher struct {
	// Fixed at construction.
	f    *Follower
	addr topology.Addr // as configured, or as announced: its identity whatever it resolves to
	why  origin
	log  *slog.Logger
	stop context.CancelFunc // ends run

	wake     chan struct{}                // one waits at most: a second would ask nothing new
	whole    atomic.Bool                  // the next poll asks everything
	sub      atomic.Pointer[subscription] // stored by listen
	tilted   atomic.Bool                  // stored by whoever heard of it last
	back     chan struct{}                // the poll is answered again: listen need not wait longer; holds one
	answered chan struct{}                // closed by poll once it has answered for our group
}

func newWatcher(f *Follower, addr topology.Addr, why origin, stop context.CancelFunc) *watcher {
	w := &watcher{
		f: f, addr: addr, why: why, stop: stop,
		log:      f.log.With("sentinel", addr),
		wake:     make(chan struct{}, 1),
		back:     make(chan struct{}, 1),
		answered: make(chan struct{}),
	}
	w.sub.Store(&subscription{})
	return w
}

// run watches until ctx ends, and waits for what it started.
func (w *watcher) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.poll(ctx) })
	if w.why == byPeers {
		select { // what others announce may be no Sentinel of ours, or nothing at all
		case <-w.answered:
		case <-ctx.Done():
			return
		}
	}
	w.listen(ctx)
}

// wakeUp has the Sentinel polled now. It never blocks.
func (w *watcher) wakeUp(s scope) {
	if s == scopeWhole {
		w.whole.Store(true)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// hear turns one event into a Sign and a poll.
func (w *watcher) hear(ctx context.Context, channel, payload string) {
	sign, r, ours := readEvent(w.f.rules, w.f.group, channel, payload)
	if !ours {
		return
	}
	w.f.metrics.event(channel)
	if on, said := tiltOf(channel); said {
		w.tilted.Store(on)
	}
	sign.Sentinel, sign.At = w.addr, w.f.clock()
	w.f.tell(ctx, heard{from: w, sign: sign, reach: r.reach})
	w.wakeUp(scopeWhole)
}

// poll asks at a pace, and when woken, until ctx ends.
func (w *watcher) poll(ctx context.Context) {
	p := poller{dialer: w.f.dialer, addr: w.addr, group: w.f.group, clock: w.f.clock}
	defer p.close()
	var (
		view      = topology.View{Sentinel: w.addr}
		b         backoff
		lastEnd   time.Time // of the poll before
		lastWhole time.Time // when everything was last asked
		gap       = pollGap // least distance from lastEnd
	)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			if early := gap - time.Since(lastEnd); early > 0 {
				timer.Reset(early)
				continue
			}
		case <-timer.C:
		}

		s := scopeVote
		if w.whole.Swap(false) || time.Since(lastWhole) >= fullPoll {
			s = scopeWhole
		}
		start := time.Now()
		a, err := p.ask(ctx, s, pollTimeout(view.DownAfter))
		if err == nil && s == scopeVote && a.known && (a.master != view.Master || a.info.epoch != view.Epoch) {
			// Never pair the replicas of one master with another.
			s = scopeWhole
			a, err = p.ask(ctx, s, pollTimeout(view.DownAfter))
		}
		if ctx.Err() != nil {
			return
		}
		w.f.metrics.poll(resultOf(a, err))
		lastEnd = time.Now()
		var wait time.Duration
		if err != nil {
			view = failed(view, err)
			limit := w.backoffLimit()
			wait, gap = b.next(limit), backoffMin
			w.whole.Store(true)
		} else {
			if s == scopeWhole {
				lastWhole = start
			}
			view = w.answeredView(view, a)
			if b.failures > 0 {
				b.reset()
				select {
				case w.back <- struct{}{}:
				default:
				}
			}
			wait, gap = w.f.pace()-time.Since(start), pollGap
		}
		w.f.tell(ctx, viewed{
			from: w, view: view, knows: err == nil && a.known, peers: a.peers,
			refused: w.sub.Load().refused, failures: b.failures,
		})
		timer.Reset(max(wait, gap))
	}
}

// answeredView is the view after an answer. It closes answered at the first
// that is about our group.
func (w *watcher) answeredView(last topology.View, a answer) topology.View {
	v := topology.View{Sentinel: w.addr, RunID: last.RunID, Up: true, SentAt: a.sentAt}
	if a.runID != "" {
		v.RunID = a.runID
	}
	sub := w.sub.Load()
	v.Subscribed, v.Err = sub.on, sub.err
	if !a.known {
		v.Err = "does not know master " + strconv.Quote(w.f.group)
		return v
	}
	select {
	case <-w.answered:
	default:
		close(w.answered)
	}
	v.Master, v.Epoch, v.RoleReported = a.master, a.info.epoch, a.info.role
	v.Flags, v.Quorum, v.OtherSentinel, v.DownAfter = a.info.flags, a.info.quorum, a.info.others, a.info.downAfter
	v.Replicas = last.Replicas
	if a.scope == scopeWhole {
		v.Replicas = a.replicas
		if a.tilt != tiltUnknown {
			w.tilted.Store(a.tilt == tiltOn)
		}
	}
	v.Tilt = w.tilted.Load()
	return v
}

// failed is the view after a poll that got no answer: the last word, no longer Up.
func failed(last topology.View, err error) topology.View {
	last.Up, last.Subscribed, last.Err = false, false, err.Error()
	return last
}

func (w *watcher) backoffLimit() time.Duration {
	if w.f.fast.Load() {
		return backoffFast
	}
	return backoffMax
}

func resultOf(a answer, err error) pollResult {
	switch {
	case err == nil && a.known:
		return pollOK
	case err == nil:
		return pollUnknown
	case isTimeout(err):
		return pollTimedOut
	case isReply(err), errors.Is(err, errMalformed), errors.Is(err, errUnsteady):
		return pollRefused
	}
	return pollFailed
}
