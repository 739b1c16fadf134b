package sentinel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// errRefused means that the Sentinel's ACL forbids this login to subscribe.
var errRefused = errors.New("subscription refused by the Sentinel's ACL")

// errSilent means that a subscription answered no PING.
var errSilent = errors.New("subscription does not answer")

// subscription is the state of one watcher's subscription. It is immutable.
type subscription struct {
	on      bool
	refused bool   // polling alone until an operator allows it
	err     string // why it is not on; "" before the first try
}

// listen keeps a subscription until ctx ends. Each time it is up it wakes the
// poll: what happened while it was not up is seen by asking, and only asking
// after subscribing misses nothing.
func (w *watcher) listen(ctx context.Context) {
	var b backoff
	for {
		err := w.subscribe(ctx, &b)
		if ctx.Err() != nil {
			return
		}
		wait := b.next(w.backoffLimit())
		refused := errors.Is(err, errRefused)
		if refused {
			wait = lengthen(refusedRetry)
		}
		w.sub.Store(&subscription{refused: refused, err: err.Error()})
		w.wakeUp(scopeVote) // it may be the Sentinel that ended
		w.log.Debug("subscription ended", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-w.back:
		case <-time.After(wait):
		}
	}
}

// subscribe opens one subscription and reads from it until it ends. It never
// returns nil. It resets b once subscribed.
func (w *watcher) subscribe(ctx context.Context, b *backoff) error {
	link, err := w.f.dialer.open(ctx, w.addr)
	if err != nil {
		return err
	}
	defer link.close()
	ps := link.client.Subscribe(ctx)
	defer ps.Close()
	if err := w.enrol(ctx, ps); err != nil {
		return err
	}
	b.reset()
	w.sub.Store(&subscription{on: true})
	w.wakeUp(scopeWhole)

	pinged := false
	for {
		msg, err := receive(ctx, ps, subscriptionIdle)
		switch {
		case err == nil:
			pinged = false
			if m, ok := msg.(*redis.Message); ok {
				w.hear(ctx, m.Channel, m.Payload)
			}
		case !isTimeout(err):
			return fmt.Errorf("subscription to sentinel %s: %w", w.addr, err)
		case pinged:
			return fmt.Errorf("subscription to sentinel %s: %w", w.addr, errSilent)
		default:
			if err := ps.Ping(ctx); err != nil {
				return fmt.Errorf("subscription to sentinel %s: %w", w.addr, err)
			}
			pinged = true
		}
	}
}

// enrol subscribes to everything or, where the ACL forbids that, to each event
// we know: one of them allowed is better than none, and polling has the rest.
func (w *watcher) enrol(ctx context.Context, ps *redis.PubSub) error {
	if err := ps.PSubscribe(ctx, "*"); err != nil {
		return fmt.Errorf("subscribe to sentinel %s: %w", w.addr, err)
	}
	err := w.confirm(ctx, ps)
	if err == nil || !isForbidden(err) {
		return err
	}
	channels := make([]string, 0, len(w.f.rules))
	for ev := range w.f.rules {
		channels = append(channels, ev)
	}
	slices.Sort(channels)
	allowed := 0
	for _, ch := range channels {
		if err := ps.Subscribe(ctx, ch); err != nil {
			return fmt.Errorf("subscribe to sentinel %s: %w", w.addr, err)
		}
		one := w.confirm(ctx, ps)
		switch {
		case one == nil:
			allowed++
		case !isForbidden(one):
			return one
		}
	}
	if allowed == 0 {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	w.log.Debug("subscribed to some events only", "allowed", allowed, "of", len(channels))
	return nil
}

// confirm waits for the answer to one subscription. Events that come before it
// are heard.
func (w *watcher) confirm(ctx context.Context, ps *redis.PubSub) error {
	for {
		msg, err := receive(ctx, ps, dialTimeout)
		if err != nil {
			return fmt.Errorf("subscribe to sentinel %s: %w", w.addr, err)
		}
		switch m := msg.(type) {
		case *redis.Subscription:
			return nil
		case *redis.Message:
			w.hear(ctx, m.Channel, m.Payload)
		}
	}
}

// receive reads one message. go-redis asserts the types inside a pushed message
// and so panics on one that no server sends; here that is an error like any
// other, for a peer must not be able to end the program.
func receive(ctx context.Context, ps *redis.PubSub, timeout time.Duration) (msg any, err error) {
	defer func() {
		if r := recover(); r != nil {
			msg, err = nil, fmt.Errorf("%w: %v", errMalformed, r)
		}
	}()
	return ps.ReceiveTimeout(ctx, timeout)
}
