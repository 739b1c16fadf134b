package redistest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// halt is an error that ends an await at once.
type halt struct{ error }

// Unwrap gives errors.Is what halt wraps.
func (h halt) Unwrap() error { return h.error }

// await calls check, with a pause of every between, until it returns nil or a
// halt, or ctx ends; then the error says what check saw last.
func await(ctx context.Context, every time.Duration, check func(context.Context) error) error {
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if h, ok := errors.AsType[halt](err); ok {
			return h.error
		}
		if ctx.Err() == nil || last == nil {
			last = err // else: what the end of ctx broke, which says nothing
		}
		if err := pause(ctx, every); err != nil {
			return fmt.Errorf("%w; last: %w", err, last)
		}
	}
}

// pause waits for d, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// withDefaultWait gives ctx the default deadline if it has none.
func withDefaultWait(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultWait)
}
