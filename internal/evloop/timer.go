package evloop

import (
	"container/heap"
	"time"
)

// Timer runs a function on its loop at a time. Only the loop's goroutine may use it.
type Timer struct {
	loop *Loop
	at   time.Time
	f    func()
	pos  int // in the heap; -1 when not armed
}

// After has f run on the loop once d has passed. Timers run late rather than
// early, and before the output of the turn is written.
func (l *Loop) After(d time.Duration, f func()) *Timer {
	t := &Timer{loop: l, f: f, pos: -1}
	t.Reset(d)
	return t
}

// Reset arms t anew, whether or not it is armed, to run after d.
func (t *Timer) Reset(d time.Duration) {
	t.at = time.Now().Add(d)
	if t.pos >= 0 {
		heap.Fix(&t.loop.timers, t.pos)
		return
	}
	heap.Push(&t.loop.timers, t)
}

// Stop disarms t; it may be armed again by Reset.
func (t *Timer) Stop() {
	if t.pos >= 0 {
		heap.Remove(&t.loop.timers, t.pos)
	}
}

func (l *Loop) runTimers() {
	if len(l.timers) == 0 {
		return
	}
	now := time.Now()
	for len(l.timers) > 0 && !l.timers[0].at.After(now) {
		t, _ := heap.Pop(&l.timers).(*Timer)
		t.f()
	}
}

// timerHeap orders armed timers, the next one first.
type timerHeap []*Timer

func (h *timerHeap) next() (time.Time, bool) {
	if len(*h) == 0 {
		return time.Time{}, false
	}
	return (*h)[0].at, true
}

func (h *timerHeap) Len() int           { return len(*h) }
func (h *timerHeap) Less(i, j int) bool { return (*h)[i].at.Before((*h)[j].at) }
func (h *timerHeap) Swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].pos, s[j].pos = i, j
}

func (h *timerHeap) Push(x any) {
	t, _ := x.(*Timer)
	t.pos = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.pos = -1
	return t
}
