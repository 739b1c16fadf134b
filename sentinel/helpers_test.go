package sentinel

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testGroup = "orders"

// recorder keeps what a Follower tells.
type recorder struct {
	mu      sync.Mutex // guards the fields below
	last    topology.Observation
	history []topology.Observation // only those whose pair, Agreed or Answering differ from the one before
	signs   []topology.Sign
	wake    chan struct{} // closed and replaced at each news
}

func (r *recorder) observe(o topology.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.last
	if len(r.history) == 0 || p.Master != o.Master || p.Epoch != o.Epoch || p.Agreed != o.Agreed || p.Answering != o.Answering {
		r.history = append(r.history, o)
	}
	r.last = o
	r.newsLocked()
}

func (r *recorder) sign(s topology.Sign) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signs = append(r.signs, s)
	r.newsLocked()
}

func (r *recorder) newsLocked() {
	close(r.wake)
	r.wake = make(chan struct{})
}

// wait blocks until ok, which runs with the lock held, or fails the test with
// what was seen.
func (r *recorder) wait(tb testing.TB, what string, ok func(r *recorder) bool) {
	tb.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		done, wake := ok(r), r.wake
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-wake:
		case <-deadline.C:
			r.mu.Lock()
			defer r.mu.Unlock()
			var b strings.Builder
			fmt.Fprintf(&b, "last: %s\n", brief(r.last))
			for _, v := range r.last.Views {
				fmt.Fprintf(&b, "  %s up=%v sub=%v %s@%d others=%d tilt=%v err=%q\n",
					v.Sentinel, v.Up, v.Subscribed, v.Master, v.Epoch, v.OtherSentinel, v.Tilt, v.Err)
			}
			for _, s := range r.signs[max(0, len(r.signs)-20):] {
				fmt.Fprintf(&b, "  sign %s %s %s<-%s from %s\n", s.Kind, s.Event, s.Candidate, s.Old, s.Sentinel)
			}
			tb.Fatalf("waited in vain until %s\n%s", what, b.String())
		}
	}
}

func (r *recorder) waitAgreed(tb testing.TB, master topology.Addr, epoch uint64) topology.Observation {
	tb.Helper()
	var o topology.Observation
	r.wait(tb, fmt.Sprintf("a majority names %s at %d", master, epoch), func(r *recorder) bool {
		o = r.last
		return o.Agreed && o.Master == master && o.Epoch == epoch
	})
	return o
}

// view returns the last view of one Sentinel; call it with the lock held.
func (r *recorder) view(addr topology.Addr) topology.View {
	for _, v := range r.last.Views {
		if v.Sentinel == addr {
			return v
		}
	}
	return topology.View{}
}

func brief(o topology.Observation) string {
	return fmt.Sprintf("%s@%d agreed=%v support=%d known=%d answering=%d max=%s@%d conflict=%v unanimous=%v",
		o.Master, o.Epoch, o.Agreed, o.Support, o.Known, o.Answering, o.MaxAddr, o.MaxEpoch, o.Conflict, o.Unanimous)
}

// follow runs a Follower until the test ends.
func follow(tb testing.TB, o Options) (*Follower, *recorder) {
	tb.Helper()
	r := &recorder{wake: make(chan struct{})}
	if o.Group == "" {
		o.Group = testGroup
	}
	o.OnObservation, o.OnSign = r.observe, r.sign
	f, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			tb.Error("Run did not end a minute after its context")
		}
	})
	return f, r
}

// logBook keeps log messages.
type logBook struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(p))
	return len(p), nil
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *logBook) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, l := range b.lines {
		if strings.Contains(l, s) {
			n++
		}
	}
	return n
}
