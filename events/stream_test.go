package events

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// publish publishes n events that can be told apart, by a number that counts up.
func publish(s *Stream, from, n int) {
	for i := range n {
		s.Publish("m", ConfigReloaded{Applied: from + i})
	}
}

func numbers(list []Event) []int {
	var ns []int
	for _, e := range list {
		ns = append(ns, e.Body.(ConfigReloaded).Applied) //nolint:forcetypeassert // publish's
	}
	return ns
}

func wantRange(t *testing.T, list []Event, from, to int) {
	t.Helper()
	got := numbers(list)
	if len(got) != to-from {
		t.Fatalf("events %v; want %d to %d", got, from, to-1)
	}
	for i, n := range got {
		if n != from+i {
			t.Fatalf("events %v; want %d to %d", got, from, to-1)
		}
	}
}

func TestSince(t *testing.T) {
	s := newStream("here", 8)
	if list, missed := s.Since(0, 100); len(list) != 0 || missed != 0 {
		t.Errorf("an empty stream gives %v, %d missed", list, missed)
	}
	publish(s, 0, 5)
	list, missed := s.Since(0, 100)
	wantRange(t, list, 0, 5)
	if missed != 0 {
		t.Errorf("%d missed", missed)
	}
	third := list[2].ID
	for i, e := range list {
		if e.ID != list[0].ID+uint64(i) || e.Master != "m" || e.Sidecar != "here" || e.At.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
	list, _ = s.Since(third, 100)
	wantRange(t, list, 3, 5)
	list, _ = s.Since(third, 1)
	wantRange(t, list, 3, 4)
	if list, missed := s.Since(s.Last(), 100); len(list) != 0 || missed != 0 {
		t.Errorf("after the last: %v, %d missed", list, missed)
	}

	publish(s, 5, 10) // 15 in a ring of 8: 0 to 6 are gone
	list, missed = s.Since(third, 100)
	wantRange(t, list, 7, 15)
	if missed != 4 {
		t.Errorf("%d missed; want 3 to 6", missed)
	}
	list, missed = s.Since(0, 100)
	wantRange(t, list, 7, 15)
	if missed != 7 {
		t.Errorf("%d missed from the start; want 7", missed)
	}
}

// An id that a process before gave out, or that nobody did, brings everything.
func TestIDsOfAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := newStream("a", 8)
		publish(before, 0, 3)
		time.Sleep(time.Second) // a restart
		s := newStream("a", 8)
		publish(s, 0, 2)
		if s.First() <= before.Last() {
			t.Errorf("ids begin at %d, and went to %d before", s.First()+1, before.Last())
		}
		for _, id := range []uint64{0, 1, before.Last(), s.Last() + 1000, 1<<64 - 1} {
			list, missed := s.Since(id, 100)
			wantRange(t, list, 0, 2)
			if missed != 0 {
				t.Errorf("since %d: %d missed", id, missed)
			}
			list, _ = s.Reader("x", id).Rest()
			wantRange(t, list, 0, 2)
		}
		if list, _ := s.Reader("x", s.Last()).Rest(); len(list) != 0 {
			t.Errorf("a reader of what comes got %v", list)
		}
	})
}

// A reader waits, is woken by one event, and ends with its context.
func TestReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("a", 4)
		ctx, cancel := context.WithCancel(t.Context())
		type got struct {
			list   []Event
			missed uint64
			err    error
		}
		results := make(chan got)
		go func() {
			r := s.Reader("slow", s.First())
			for {
				list, missed, err := r.Next(ctx)
				results <- got{list, missed, err}
				if err != nil {
					return
				}
			}
		}()
		synctest.Wait() // it waits
		publish(s, 0, 1)
		wantRange(t, (<-results).list, 0, 1)

		synctest.Wait()
		publish(s, 1, 1)
		synctest.Wait() // it has taken that one, and nobody reads its result
		publish(s, 2, 9)
		wantRange(t, (<-results).list, 1, 2)
		g := <-results
		wantRange(t, g.list, 7, 11)
		if g.missed != 5 {
			t.Errorf("%d missed; want 2 to 6", g.missed)
		}
		cancel()
		if g := <-results; !errors.Is(g.err, context.Canceled) {
			t.Errorf("Next: %v; want the context's error", g.err)
		}
		if s.missed["slow"] != 5 {
			t.Errorf("counted %d missed; want 5", s.missed["slow"])
		}
	})
}

// Nobody who publishes waits, whoever reads.
func TestPublishDoesNotWait(t *testing.T) {
	s := newStream("a", 4)
	for range 100 {
		_ = s.Reader("stuck", s.First())
	}
	done := make(chan struct{})
	go func() { defer close(done); publish(s, 0, 10_000) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Publish waits")
	}
	if list, missed := s.Since(0, 100); len(list) != 4 || missed != 9996 {
		t.Errorf("%d held, %d missed; want 4 and 9996", len(list), missed)
	}
}

func TestAfter(t *testing.T) {
	s := newStream("here", 8)
	closed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	seen := s.Last()
	first, second := s.After(seen), s.After(seen)
	if closed(first) {
		t.Fatal("closed before anything was published")
	}
	publish(s, 0, 1)
	if !closed(first) || !closed(second) || !closed(s.After(seen)) {
		t.Error("an event came, and not all who wait were told")
	}
	if closed(s.After(s.Last())) {
		t.Error("closed without a later event")
	}
}
