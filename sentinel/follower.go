package sentinel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Options says whom to follow and whom to tell. Group and Sentinels are
// required; every other zero value works.
type Options struct {
	Group     string          // the name the Sentinels know the group by
	Sentinels []topology.Addr // configured; at most 32, host names allowed

	Username, Password string // for the Sentinels themselves, not for Redis

	Dial  func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer
	Clock boottime.Clock                                                    // nil: boottime.Now
	Log   *slog.Logger                                                      // nil: nothing is logged

	// Poll is the slow pace. 0 derives it: a quarter of 0.7 × down-after, at
	// most 1 s, and 250 ms until down-after is known. Up to a tenth is taken
	// off at random.
	Poll time.Duration

	// OnObservation gets what all Sentinels say together after every poll of
	// any of them, changed or not: a lease needs the fresh AgreedAt. Polls that
	// end at the same time may share one Observation.
	OnObservation func(topology.Observation)
	// OnSign gets each event as it arrives, before any Observation that a poll
	// woken by it leads to.
	//
	// Both are called by Run's goroutine only, never at once, and must return
	// at once: while they run, no Sentinel is heard.
	OnSign func(topology.Sign)
	// Tell publishes what happened, under the same rules; nil does nothing.
	Tell func(events.Body)
}

// Validate returns every problem, joined, each naming its field.
func (o Options) Validate() error {
	var errs []error
	if o.Group == "" {
		errs = append(errs, errors.New("group: want the master name that the Sentinels monitor"))
	}
	if len(o.Sentinels) == 0 {
		errs = append(errs, errors.New("sentinels: want at least one address"))
	}
	if len(o.Sentinels) > maxSentinels {
		errs = append(errs, fmt.Errorf("sentinels: want at most %d, got %d", maxSentinels, len(o.Sentinels)))
	}
	for _, a := range o.Sentinels {
		if host, port := a.Split(); host == "" || port == 0 {
			errs = append(errs, fmt.Errorf("sentinels: %q: want host:port", string(a)))
		}
	}
	if o.Poll < 0 {
		errs = append(errs, fmt.Errorf("poll: want 0 or more, got %v", o.Poll))
	}
	return errors.Join(errs...)
}

// Follower watches every Sentinel of one group: those configured and those they
// name. Poll, SetFast and the Collector methods are safe for concurrent use,
// before, during and after Run.
type Follower struct {
	// Fixed at construction.
	group         string
	sentinels     []topology.Addr // configured, without repeats
	dialer        dialer
	clock         boottime.Clock
	log           *slog.Logger
	fixedPoll     time.Duration // 0: derived
	onObservation func(topology.Observation)
	onSign        func(topology.Sign)
	tellEvent     func(events.Body)
	rules         map[string]rule // read only
	metrics       *metrics

	fast      atomic.Bool
	downAfter atomic.Int64  // nanoseconds; stored by Run, read by watchers for their pace
	pollNow   chan struct{} // one waits at most: a second would ask nothing new
	// inbox carries the watchers' messages to Run. When it is full they wait:
	// nothing is dropped, and a Sentinel that talks too much is slowed down.
	inbox chan message
}

// New returns a Follower that does nothing until Run.
func New(o Options) (*Follower, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("sentinel: %w", err)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Clock == nil {
		o.Clock = boottime.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnObservation == nil {
		o.OnObservation = func(topology.Observation) {}
	}
	if o.OnSign == nil {
		o.OnSign = func(topology.Sign) {}
	}
	if o.Tell == nil {
		o.Tell = func(events.Body) {}
	}
	f := &Follower{
		group:         o.Group,
		dialer:        dialer{dial: o.Dial, username: o.Username, password: o.Password},
		clock:         o.Clock,
		log:           o.Log.With("master_name", o.Group),
		fixedPoll:     o.Poll,
		onObservation: o.OnObservation,
		onSign:        o.OnSign,
		tellEvent:     o.Tell,
		rules:         eventRules(),
		pollNow:       make(chan struct{}, 1),
		inbox:         make(chan message, 64),
	}
	seen := make(map[topology.Addr]bool)
	for _, a := range o.Sentinels {
		host, port := a.Split()
		if a = topology.JoinAddr(host, port); !seen[a] {
			seen[a] = true
			f.sentinels = append(f.sentinels, a)
		}
	}
	f.metrics = newMetrics(o.Group, f.rules)
	return f, nil
}

// Poll has every Sentinel asked now. Calls that come faster than Sentinels
// answer are joined. It never blocks.
func (f *Follower) Poll() {
	select {
	case f.pollNow <- struct{}{}:
	default:
	}
}

// SetFast chooses the pace: while true every Sentinel is polled every 20 to
// 25 ms. It never blocks.
func (f *Follower) SetFast(fast bool) { //nolint:revive // one switch with two positions reads better than two methods
	if f.fast.Swap(fast) != fast {
		f.Poll() // and from there at the new pace
	}
}

// pace returns the time from one poll of a Sentinel to the next.
func (f *Follower) pace() time.Duration {
	switch {
	case f.fast.Load():
		return lengthen(fastPoll)
	case f.fixedPoll > 0:
		return shorten(f.fixedPoll)
	}
	return shorten(pollEvery(time.Duration(f.downAfter.Load())))
}

// tell hands m to Run, waiting for room until ctx ends.
func (f *Follower) tell(ctx context.Context, m message) {
	select {
	case f.inbox <- m:
	case <-ctx.Done():
	}
}

// Run follows until ctx ends, waits for all it started, and returns nil. It may
// be called once.
func (f *Follower) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	h := newHub(f, func(w *watcher, ctx context.Context) { wg.Go(func() { w.run(ctx) }) })
	for _, addr := range f.sentinels {
		h.follow(ctx, addr, byConfig)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.pollNow:
			h.wakeAll(scopeVote)
		case m := <-f.inbox:
			h.take(ctx, m)
			for range len(f.inbox) { // bounded: what comes meanwhile waits for the next turn
				h.take(ctx, <-f.inbox)
			}
			h.publish()
		}
	}
}
