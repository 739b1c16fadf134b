package events

import (
	"context"
	"sync"
	"time"
)

// kept is how many events a stream holds: some days of a quiet group, minutes of one
// that flaps. With half a kilobyte each they take less than 1 MB.
const kept = 1024

// Stream is the last events of one process. It is safe for concurrent use.
type Stream struct {
	sidecar string // fixed at construction

	mu      sync.Mutex    // guards the fields below; nothing blocks under it
	ring    []Event       // the event of id n is at n modulo its length
	first   uint64        // the oldest id held
	next    uint64        // of the event to come; nothing is held while it equals first
	base    uint64        // the first id of this process
	changed chan struct{} // closed by the next Publish; nil: nobody waits
	counts  map[count]uint64
	missed  map[string]uint64 // by reader
}

// count is what is counted apart.
type count struct {
	kind     Kind
	severity Severity
}

// NewStream returns an empty stream. sidecar says which sidecar its events are of.
func NewStream(sidecar string) *Stream { return newStream(sidecar, kept) }

func newStream(sidecar string, size int) *Stream {
	// Milliseconds leave room for a thousand events a second until the ids of a process
	// that starts later could meet ours, and are exact in JavaScript's numbers.
	base := uint64(time.Now().UnixMilli())
	s := &Stream{
		sidecar: sidecar, ring: make([]Event, size), first: base, next: base, base: base,
		counts: make(map[count]uint64), missed: make(map[string]uint64),
	}
	for _, e := range Catalogue() {
		for _, sev := range e.Severities() {
			s.counts[count{e.Kind, sev}] = 0
		}
	}
	return s
}

// Publish adds an event about a master, or with "" about the process. It never blocks: when
// the stream is full the oldest event goes, and readers that had not come to it are told
// that they missed one.
func (s *Stream) Publish(master string, b Body) {
	e := Event{At: time.Now().UTC(), Sidecar: s.sidecar, Master: master, Body: b}
	c := count{e.Kind(), e.Severity()}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.ID = s.next
	s.next++
	size := uint64(len(s.ring))
	s.ring[e.ID%size] = e
	if s.next-s.first > size {
		s.first = s.next - size
	}
	s.counts[c]++
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Since returns the oldest events above the id after, limit at most, and how many that
// were above it are held no longer. An id of a process that ended counts as none: its
// holder gets everything.
func (s *Stream) Since(after uint64, limit int) (list []Event, missed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since(after, limit)
}

func (s *Stream) since(after uint64, limit int) (list []Event, missed uint64) {
	from := after + 1
	if from < s.base || from > s.next {
		from = s.base // another process's id, or none at all
	}
	if from < s.first {
		missed, from = s.first-from, s.first
	}
	size := uint64(len(s.ring))
	for id := from; id < s.next && len(list) < limit; id++ {
		list = append(list, s.ring[id%size])
	}
	return list, missed
}

// Last returns the id of the newest event; with none yet, one below the first to come.
func (s *Stream) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next - 1
}

// After returns a channel that is closed once there is an event above an id.
func (s *Stream) After(id uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next > id+1 {
		over := make(chan struct{})
		close(over)
		return over
	}
	return s.wait()
}

// First returns one below the id of the first event of this process: reading after it
// gives everything.
func (s *Stream) First() uint64 { return s.base - 1 }

// Reader reads a stream in order. It is not safe for concurrent use.
type Reader struct {
	s     *Stream
	name  string
	after uint64
}

// Reader returns a reader of the events above after. name is a metric's label: there must
// be few.
func (s *Stream) Reader(name string, after uint64) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.missed[name]; !known {
		s.missed[name] = 0
	}
	if after >= s.next {
		after = s.base - 1 // see Since
	}
	return &Reader{s: s, name: name, after: after}
}

// readMost is how many events Next returns at most.
const readMost = 64

// Next waits for events and returns them, 64 at most, with the number of those that were
// dropped before them. The error is ctx's.
func (r *Reader) Next(ctx context.Context) (list []Event, missed uint64, err error) {
	for {
		var changed <-chan struct{}
		list, missed, changed = r.Poll()
		if len(list) > 0 {
			return list, missed, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Rest returns what Next would without waiting.
func (r *Reader) Rest() (list []Event, missed uint64) {
	list, missed, _ = r.Poll()
	return list, missed
}

// Poll returns what Next would, or without any event a channel that is closed by the next
// one.
func (r *Reader) Poll() (list []Event, missed uint64, changed <-chan struct{}) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	list, missed = s.since(r.after, readMost)
	if len(list) > 0 {
		r.after = list[len(list)-1].ID
		s.missed[r.name] += missed
		return list, missed, nil
	}
	return nil, 0, s.wait()
}

// wait returns what the next Publish closes. The caller holds the lock.
func (s *Stream) wait() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}
