package sentineltest_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
)

// TestWritesStoppedInTimeAreKept stops writers at +selected-slave: none of what
// was acknowledged by then may be lost, and the promotion copes with traffic.
func TestWritesStoppedInTimeAreKept(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.PromoteAfter = 6 * time.Second // a third of it is for the writers to stop in, on a busy machine
	g := sentineltest.New(t, o)
	old := g.MasterAddr()
	r := record(t, g.SentinelAddrs()[0])
	var stop atomic.Bool
	var wg sync.WaitGroup
	acked := make([]int, 8)
	for i := range acked {
		c := dial(t, old)
		wg.Go(func() {
			for !stop.Load() {
				c.send("SET", "w"+itoa(i)+":"+itoa(acked[i]), "x")
				if v, err := readValue(c.rd); err != nil || v.text != "OK" {
					t.Errorf("writer %d: %v, %v", i, v, err)
					return
				}
				acked[i]++
			}
		})
	}
	done := make(chan error, 1)
	go func() { done <- g.Failover(t.Context(), "") }()
	r.until("+selected-slave", 1)
	stop.Store(true)
	wg.Wait()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n := g.Node(g.MasterAddr())
	total := 0
	for i, upTo := range acked {
		for j := range upTo {
			if _, ok := n.Get("w" + itoa(i) + ":" + itoa(j)); !ok {
				t.Fatalf("acknowledged write %d of writer %d is lost", j, i)
			}
			total++
		}
	}
	t.Logf("%d writes acknowledged and kept", total)
	if total == 0 {
		t.Error("nothing was written")
	}
}
