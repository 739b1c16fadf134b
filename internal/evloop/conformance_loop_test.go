package evloop

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

func testTimers(r *rig) {
	t := r.tb
	var got []int
	done := make(chan struct{})
	r.do(func() {
		start, turn := time.Now(), r.Now()
		for _, ms := range []int{30, 5, 20, 0, 10, 15} {
			r.After(time.Duration(ms)*time.Millisecond, func() {
				got = append(got, ms)
				if early := time.Duration(ms)*time.Millisecond - time.Since(start); early > 0 {
					t.Errorf("the timer of %d ms ran %v early", ms, early)
				}
				if r.Now().Before(turn) {
					t.Error("Now is before the turn that armed the timer")
				}
			})
		}
		r.After(31*time.Millisecond, func() { close(done) })
	})
	r.receive(done, "the timers")
	if want := []int{0, 5, 10, 15, 20, 30}; !slices.Equal(got, want) {
		t.Errorf("timers ran as %v; want %v", got, want)
	}
}

// testOnTurn wants to be told of each turn before its events, with the turn's time.
func testOnTurn(r *rig) {
	t := r.tb
	var told time.Time
	turns := 0
	r.do(func() { r.OnTurn(func(now time.Time) { told, turns = now, turns+1 }) })
	for want := range 3 {
		r.do(func() {
			if !told.Equal(r.Now()) || turns <= want {
				t.Errorf("in turn %v: told of %v, %d times", r.Now(), told, turns)
			}
		})
	}
}

func testTimerReset(r *rig) {
	t := r.tb
	var got []string
	say := func(s string) func() { return func() { got = append(got, s) } }
	done := make(chan struct{})
	r.do(func() {
		stopped := r.After(time.Millisecond, say("stopped"))
		stopped.Stop()
		stopped.Stop()
		later := r.After(time.Millisecond, say("later"))
		later.Reset(20 * time.Millisecond)
		sooner := r.After(time.Hour, say("sooner"))
		sooner.Reset(2 * time.Millisecond)
		again := r.After(time.Millisecond, say("again"))
		again.Stop()
		again.Reset(10 * time.Millisecond)
		n := 0
		var tick *Timer
		tick = r.After(time.Millisecond, func() { // arms itself
			if n++; n < 3 {
				tick.Reset(time.Millisecond)
				return
			}
			r.After(30*time.Millisecond, func() { close(done) })
		})
	})
	r.receive(done, "the timers")
	if want := []string{"sooner", "again", "later"}; !slices.Equal(got, want) {
		t.Errorf("timers ran as %v; want %v", got, want)
	}
}

func testPostOrder(r *rig) {
	t := r.tb
	const posters, each = 8, 2000
	last := make([]int, posters)
	total := 0
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := 1; i <= each; i++ {
				err := r.Post(func() {
					if last[p] != i-1 {
						t.Errorf("poster %d: %d came after %d", p, i, last[p])
					}
					last[p] = i
					total++
				})
				if err != nil {
					t.Errorf("Post: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.until("all of them", func() bool { return total == posters*each })

	ran := make(chan struct{}) // from the loop itself
	r.do(func() {
		if err := r.TryPost(func() { close(ran) }); err != nil {
			t.Errorf("TryPost: %v", err)
		}
	})
	r.receive(ran, "what the loop posted to itself")
}

func testPostFull(r *rig) {
	t := r.tb
	thaw := r.freeze()
	n := 0
	for range maxPosted {
		if err := r.TryPost(func() { n++ }); err != nil {
			t.Fatalf("TryPost: %v", err)
		}
	}
	if err := r.TryPost(func() {}); !errors.Is(err, ErrFull) {
		t.Errorf("TryPost to a full queue: %v; want ErrFull", err)
	}
	posted := make(chan error, 1)
	go func() { posted <- r.Post(func() { n++ }) }()
	thaw()
	if err := <-posted; err != nil {
		t.Errorf("Post to a full queue: %v", err)
	}
	r.until("all of them", func() bool { return n == maxPosted+1 })
}

// testPostStop posts from many goroutines while the loop stops: each function
// either runs or was refused.
func testPostStop(r *rig) {
	t := r.tb
	const posters = 8
	ran := make([]int, posters)
	accepted := make([]int, posters)
	var wg sync.WaitGroup
	started := make(chan struct{}, posters)
	for p := range posters {
		wg.Go(func() {
			for {
				err := r.Post(func() { ran[p]++ })
				if errors.Is(err, ErrStopped) {
					return
				}
				if accepted[p]++; accepted[p] == 100 {
					started <- struct{}{}
				}
			}
		})
	}
	for range posters {
		r.receive(started, "the posters")
	}
	r.stop()
	wg.Wait()
	if !slices.Equal(ran, accepted) {
		t.Errorf("ran %v of %v that were accepted", ran, accepted)
	}
	r.Close() // does nothing any more
}

func testStop(r *rig) {
	t := r.tb
	const n = 20
	var hs []*handler
	setup := func(h *handler) { hs = append(hs, h) }
	addr := r.serve("tcp", setup)
	for range n {
		dial(t, addr)
	}
	unix := r.serve("unix", setup)
	peer := dial(t, unix)
	r.until("all of them", func() bool { return len(hs) == n+1 })
	r.stop()
	for _, h := range hs {
		if h.closeds != 1 || !errors.Is(h.err, ErrStopped) {
			t.Errorf("closed %d times, with %v; want once, ErrStopped", h.closeds, h.err)
		}
	}
	if got := r.Len(); got != 0 {
		t.Errorf("Len() = %d after the stop", got)
	}
	mustEOF(t, peer)
	if err := r.Post(func() { t.Error("ran after the stop") }); !errors.Is(err, ErrStopped) {
		t.Errorf("Post after the stop: %v; want ErrStopped", err)
	}
}

func testStats(r *rig) {
	t := r.tb
	nc, _ := r.accept("tcp", echo)
	msg := bytes.Repeat([]byte("x"), 1000)
	mustWrite(t, nc, msg)
	mustRead(t, nc, msg)
	r.until("the bytes", func() bool {
		s := r.Stats()
		return s.BytesIn == 1000 && s.BytesOut == 1000 && s.Turns > 0 && s.Busy >= s.LongestTurn && s.LongestTurn > 0
	})
}

func TestCloseUnused(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			before := openFiles(t)
			l, err := New(Options{Driver: d})
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			l.Close()
			if now := openFiles(t); now != before {
				t.Errorf("%d descriptors are open; there were %d", now, before)
			}
		})
	}
}
