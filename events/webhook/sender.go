package webhook

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// flushFor bounds the last tries when a sender is asked to end.
const flushFor = 2 * time.Second

// Options are what a Sender works with. Stream and Log are required.
type Options struct {
	Stream *events.Stream
	Log    *slog.Logger
	// Transport returns what sends a hook's requests; nil is HTTP over TCP. Tests put
	// others here.
	Transport func(Hook) (http.RoundTripper, error)
	// Agent is the User-Agent header; "" is "sentinelproxy".
	Agent string
}

// Sender tells hooks. Make it with New.
type Sender struct {
	// Fixed at construction.
	o       Options
	changed chan struct{} // holds one: a second change is seen with the first

	mu     sync.Mutex // guards the fields below
	want   []Hook
	counts map[string]*counts // by name: those of hooks that went stay until the end
	live   map[string]*hook   // those that run
}

// New returns a Sender that tells nobody before Run. The hooks' names are unique, and
// each CA holds certificates: the configuration was checked for it.
func New(o Options, hooks []Hook) *Sender {
	if o.Transport == nil {
		o.Transport = transport
	}
	if o.Agent == "" {
		o.Agent = "sentinelproxy"
	}
	s := &Sender{o: o, changed: make(chan struct{}, 1), counts: make(map[string]*counts), live: make(map[string]*hook)}
	s.Set(hooks)
	return s
}

// Set changes whom to tell. What waits for a hook goes on to the one of its name, if there
// is one still. It does not wait and is safe for concurrent use.
func (s *Sender) Set(hooks []Hook) {
	s.mu.Lock()
	s.want = hooks
	for _, h := range hooks {
		if s.counts[h.Name] == nil {
			s.counts[h.Name] = new(counts)
		}
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run tells the hooks of what is published, from the stream's first event on, until ctx
// ends. Then each receiver gets what waits for it, tried once, for two seconds at most.
// It waits for all it started.
func (s *Sender) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	after := s.o.Stream.First()
	for {
		s.mu.Lock()
		want := s.want
		s.mu.Unlock()
		s.bring(ctx, &wg, want, after)
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
			after = s.o.Stream.Last() // a hook that is new hears of what comes
		}
	}
}

// bring ends the hooks that are wanted no more, waits for them, and starts those that
// are new.
func (s *Sender) bring(ctx context.Context, wg *sync.WaitGroup, want []Hook, after uint64) {
	keep := make(map[string]bool)
	for _, h := range want {
		if old := s.running(h.Name); old != nil && old.equal(h) {
			keep[h.Name] = true
		}
	}
	s.mu.Lock()
	var ending []*hook
	for name, h := range s.live {
		if !keep[name] {
			ending = append(ending, h)
		}
	}
	s.mu.Unlock()
	left := make(map[string]*hook)
	for _, h := range ending {
		h.drop()
		<-h.ended
		left[h.Name] = h
		s.mu.Lock()
		delete(s.live, h.Name)
		s.mu.Unlock()
	}
	for _, h := range want {
		if !keep[h.Name] {
			s.start(ctx, wg, h, left[h.Name], after)
			delete(left, h.Name)
		}
	}
	for _, h := range left {
		h.giveUp()
		s.forget(h.Name)
	}
}

// forget drops the counts of a hook that is gone, unless it is wanted again by now.
func (s *Sender) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.want, func(h Hook) bool { return h.Name == name }) {
		delete(s.counts, name)
	}
}

func (s *Sender) running(name string) *hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[name]
}

// start runs a hook, in the place of one of its name that has ended, if that is not nil.
func (s *Sender) start(ctx context.Context, wg *sync.WaitGroup, o Hook, old *hook, after uint64) {
	log := s.o.Log.With("webhook", o.Name)
	rt, err := s.o.Transport(o)
	if err != nil {
		log.Error("webhook not started", "err", err)
		if old != nil {
			old.giveUp()
		}
		return
	}
	own, drop := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	h := &hook{
		Hook: o, log: log, agent: s.o.Agent, drop: drop, ended: make(chan struct{}), wake: make(chan struct{}, 1),
		counts: s.counts[o.Name], transport: rt,
	}
	if old != nil {
		h.reader, h.cool.seen, h.queue.waiting = old.reader, old.cool.seen, old.queue.waiting
	} else {
		h.reader = s.o.Stream.Reader("webhook "+o.Name, after)
	}
	h.cool.length = o.Cooldown
	s.live[o.Name] = h
	s.mu.Unlock()
	wg.Go(func() { h.run(ctx, own) })
}

// hook is one receiver that is told.
type hook struct {
	Hook

	// Fixed at construction.
	log    *slog.Logger
	agent  string
	counts *counts
	drop   context.CancelFunc // ends it without a last try
	ended  chan struct{}      // closed when it has ended
	wake   chan struct{}      // something was queued; holds one
	// transport is used without an http.Client, which follows redirects, and whose errors
	// name addresses.
	transport http.RoundTripper

	// Owned by the intake.
	reader *events.Reader
	cool   cooldown

	mu    sync.Mutex // guards queue
	queue queue

	// Owned by the goroutine that delivers.
	told time.Time // when a failure was last logged
	away bool      // the last try failed
}

// run tells until asking ends, then flushes and gives up what is left; or until own ends,
// and leaves everything as it is.
func (h *hook) run(asking, own context.Context) {
	defer close(h.ended)
	if t, ok := h.transport.(interface{ CloseIdleConnections() }); ok {
		defer t.CloseIdleConnections()
	}
	defer h.drop()
	ctx, stop := context.WithCancel(own)
	defer context.AfterFunc(asking, stop)()
	var wg sync.WaitGroup
	wg.Go(func() { h.take(ctx) })
	h.deliver(ctx)
	stop()
	wg.Wait()
	if own.Err() != nil {
		return
	}
	for list, missed := h.reader.Rest(); len(list) > 0; list, missed = h.reader.Rest() {
		h.queueAll(list, missed)
	}
	h.flush(own)
	h.giveUp()
}

// giveUp drops what waits. Nothing else runs any more.
func (h *hook) giveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.ended[outcomeStopped].Add(uint64(len(h.queue.waiting)))
	h.counts.queued.Add(-int64(len(h.queue.waiting)))
	h.queue.waiting = nil
}

// take brings events from the stream to the queue until ctx ends.
func (h *hook) take(ctx context.Context) {
	for {
		list, missed, err := h.reader.Next(ctx)
		if err != nil {
			return
		}
		h.queueAll(list, missed)
	}
}

func (h *hook) queueAll(list []events.Event, missed uint64) {
	if missed > 0 {
		h.log.Warn("events not told to a webhook: too many at once", "missed", missed)
	}
	for _, e := range list {
		if !h.wants(e) {
			continue
		}
		suppressed, ok := h.cool.admit(e.At, e)
		if !ok {
			h.counts.suppressed.Add(1)
			continue
		}
		d, err := newDelivery(e, suppressed)
		if err != nil {
			h.log.Error("event cannot be encoded", "event", e.Kind(), "err", err)
			continue
		}
		h.mu.Lock()
		dropped := h.queue.add(d)
		h.counts.accepted.Add(1)
		h.counts.ended[outcomeDropped].Add(uint64(dropped))
		h.counts.queued.Add(1 - int64(dropped))
		h.mu.Unlock()
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// newDelivery encodes an event once, for all tries.
func newDelivery(e events.Event, suppressed uint64) (*delivery, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if suppressed > 0 {
		n, err := json.Marshal(struct {
			Suppressed uint64 `json:"suppressed"`
		}{suppressed})
		if err != nil {
			return nil, err
		}
		body[len(body)-1] = ','
		body = append(body, n[1:]...)
	}
	return &delivery{kind: string(e.Kind()), id: deliveryID(e), body: body, at: e.At}, nil
}

// deliver tries what is due until ctx ends.
func (h *hook) deliver(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		d, wait := h.next()
		if d != nil {
			h.try(ctx, d)
			continue
		}
		if wait == 0 {
			wait = time.Hour // until it is woken
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-timer.C:
		}
	}
}

// next returns what is to be tried now, or how long to wait.
func (h *hook) next() (*delivery, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if n := h.queue.expire(now); n > 0 {
		h.counts.ended[outcomeExpired].Add(uint64(n))
		h.counts.queued.Add(-int64(n))
	}
	return h.queue.due(now)
}

// try sends d once and acts on how that went.
func (h *hook) try(ctx context.Context, d *delivery) {
	r := h.send(ctx, d)
	if ctx.Err() != nil && r.kind == tryFailed {
		return // we ended it: flush tries it once more
	}
	h.counts.tries[r.kind].Add(1)
	h.report(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch r.kind {
	case tryOK, tryRefused:
		if !h.queue.done(d) {
			return // it was dropped while we sent it, and is counted as that
		}
		h.counts.queued.Add(-1)
		if r.kind == tryRefused {
			h.counts.ended[outcomeRejected].Add(1)
			return
		}
		h.counts.ended[outcomeDelivered].Add(1)
		h.counts.last.Store(time.Now().Unix())
	case tryFailed:
		h.queue.failed(time.Now(), d, false)
	case tryAnswered:
		h.queue.failed(time.Now(), d, true)
	case tries:
	}
}

// flush tries each that waits once, for two seconds in all.
func (h *hook) flush(own context.Context) {
	ctx, cancel := context.WithTimeout(own, flushFor)
	defer cancel()
	h.mu.Lock()
	waiting := append([]*delivery(nil), h.queue.waiting...)
	h.mu.Unlock()
	for _, d := range waiting {
		if ctx.Err() != nil {
			return
		}
		h.try(ctx, d)
	}
}

// reportEvery is how often failures of one receiver are logged.
const reportEvery = 10 * time.Minute

// report logs that a receiver went away and came back, and reminds of it now and then.
func (h *hook) report(r result) {
	switch {
	case r.kind == tryOK && h.away:
		h.away = false
		h.log.Info("webhook answers again")
	case r.kind == tryRefused:
		h.log.Warn("webhook refuses an event, which is not sent again", "err", r.err)
	case r.kind != tryOK && (!h.away || time.Since(h.told) >= reportEvery):
		h.away, h.told = true, time.Now()
		h.log.Warn("webhook cannot be told, it is tried again", "err", r.err, "queued", h.counts.queued.Load())
	}
}
