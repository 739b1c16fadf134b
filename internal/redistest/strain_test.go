package redistest

import (
	"fmt"
	"testing"
	"time"
)

// A node that is kept from running is late, one that is paused by its test is not.
func TestStrain(t *testing.T) {
	t.Parallel()
	n := Single(t, Options{})
	g := &Group{nodes: []*Node{n}}
	s := g.WatchStrain(t)
	const kept = 500 * time.Millisecond
	const seen = kept - 100*time.Millisecond // it is asked when its sleep has begun
	began := time.Now()
	waitFor(t, "a node that runs late to be noticed", func() error { // a watcher may have to connect first
		mustDo(t, n, "DEBUG", "SLEEP", kept.Seconds())
		if late := s.Late(began, time.Now()); late < seen {
			return fmt.Errorf("%v late", late)
		}
		return nil
	})
	// A busy machine makes us late as well: then there is nothing to be seen.
	for range 20 {
		must(t, pause(t.Context(), pausedNoticed))
		began := time.Now()
		must(t, n.Pause())
		must(t, pause(t.Context(), kept))
		must(t, n.Resume())
		if s.Late(began, time.Now()) < seen {
			return
		}
	}
	t.Error("a paused node counts as late")
}
