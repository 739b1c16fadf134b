package redistest

import (
	"context"
	"errors"
	"os"
	"testing"
)

// New starts a group that is stopped when the test has ended, after the
// cleanups that the test registers later. If the test fails it prints the ends
// of all logs; with -artifacts the logs are kept. Without Redis the test is
// skipped, or fails if SENTINELPROXY_REQUIRE_REDIS or CI is set.
func New(tb testing.TB, o Options) *Group {
	tb.Helper()
	if o.Dir == "" {
		dir, err := os.MkdirTemp(tb.ArtifactDir(), "redis-") //nolint:usetesting // one of several in a directory that may be kept
		if err != nil {
			tb.Fatal(err)
		}
		o.Dir = dir
	}
	// Not the test's context: that ends before cleanups, which may need the group.
	g := startOrSkip(context.WithoutCancel(tb.Context()), tb, o)
	tb.Cleanup(func() {
		if err := g.Stop(); err != nil {
			tb.Errorf("stop redis group: %v", err)
		}
		if tb.Failed() {
			g.printLogs(tb)
		}
	})
	return g
}

// startOrSkip is Start for tests. It leaves Stop to its caller.
func startOrSkip(ctx context.Context, tb testing.TB, o Options) *Group {
	tb.Helper()
	g, err := Start(ctx, o)
	if errors.Is(err, ErrNoRedis) && os.Getenv("SENTINELPROXY_REQUIRE_REDIS") == "" && os.Getenv("CI") == "" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// Single starts one redis-server without replicas or Sentinels, as New does.
func Single(tb testing.TB, o Options) *Node {
	tb.Helper()
	o.Replicas, o.Sentinels = None, None
	return New(tb, o).nodes[0]
}

func (g *Group) printLogs(tb testing.TB) {
	tb.Helper()
	for _, n := range g.all() {
		tb.Logf("end of the log of %s (%s):\n%s", n.name, n.announced, logTail(n.LogPath(), 0, 40))
	}
}
