package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// frameEvery is how often those who watch are shown the state when nothing happens.
	frameEvery = time.Second
	// frameGap is the least time between two frames, however much happens.
	frameGap = 100 * time.Millisecond
)

// board is where those who watch the state find it. One frame is made for all of them, and
// none while nobody watches. It is safe for concurrent use; its zero value is not.
type board struct {
	came chan struct{} // holds one word that somebody watches; full: it is there already

	mu       sync.Mutex // guards the fields below; nothing blocks under it
	watchers int
	frame    []byte        // the last one, as it is sent; nil: none that is fresh
	number   uint64        // of frame
	next     chan struct{} // closed with the next frame
}

func newBoard() *board { return &board{came: make(chan struct{}, 1), next: make(chan struct{})} }

// enter counts one more who watches, until leave.
func (b *board) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watchers == 0 {
		b.frame = nil // of when somebody watched last
	}
	b.watchers++
	select {
	case b.came <- struct{}{}:
	default:
	}
}

func (b *board) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers--
}

func (b *board) watched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.watchers > 0
}

// show replaces the frame. Who is still busy with an older one goes on with this one.
func (b *board) show(frame []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frame = frame
	b.number++
	close(b.next)
	b.next = make(chan struct{})
}

// look returns the frame unless it is the one that was seen, and what is closed with the
// next.
func (b *board) look(seen uint64) (frame []byte, number uint64, next <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.number == seen {
		return nil, seen, b.next
	}
	return b.frame, b.number, b.next
}

// stream shows the state as server-sent events: what /api/v1/status answers, now, then
// every second, and at once when something happens. Who is slow misses frames, and who takes
// none is cut off.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", contentStream)
		return
	}
	f, ok := s.streams.admit(w)
	if !ok {
		return
	}
	defer s.streams.leave()
	s.board.enter()
	defer s.board.leave()
	if !f.begin() {
		return
	}
	var seen uint64
	for {
		frame, number, next := s.board.look(seen)
		if frame != nil {
			if !f.send(frame) {
				return
			}
			seen = number
			continue
		}
		select {
		case <-next:
		case <-r.Context().Done():
			return
		case <-s.streams.stopping:
			return
		}
	}
}

// paint makes the frames, until ctx ends.
func (s *Server) paint(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		for !s.board.watched() {
			select {
			case <-s.board.came:
			case <-ctx.Done():
				return
			}
		}
		page := s.picture(ctx)
		if ctx.Err() != nil {
			return // what was not there in time would seem to be missing
		}
		b, err := json.Marshal(page)
		if err != nil {
			s.o.Log.Error("status cannot be encoded", "err", err)
			b = []byte("{}")
		}
		s.board.show(fmt.Appendf(nil, "data: %s\n\n", b))

		var happened <-chan struct{}
		if s.o.Events != nil {
			happened = s.o.Events.After(page.LastEvent)
		}
		tick.Reset(frameGap)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		tick.Reset(frameEvery - frameGap)
		select {
		case <-tick.C:
		case <-happened:
		case <-s.board.came:
		case <-ctx.Done():
			return
		}
	}
}
