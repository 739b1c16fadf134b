package main

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestFanOnRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	const subscribers = 20
	for _, kind := range fanOuts() {
		t.Run(kind.command, func(t *testing.T) {
			var began, ended bool
			r, err := runFan(t.Context(), node.Addr(), kind, subscribers, smallValue, 100*time.Millisecond,
				func() error { began = true; return nil }, func() error { ended = true; return nil })
			if err != nil {
				t.Fatal(err)
			}
			want := r.published * subscribers / kind.channels(subscribers)
			if r.published == 0 || r.delivered != want || r.lost != 0 || r.took <= 0 {
				t.Errorf("%d published, %d delivered, %d lost in %v; want some, %d and 0", r.published, r.delivered, r.lost, r.took, want)
			}
			if int(r.latency.TotalCount()) != r.delivered || !began || !ended {
				t.Errorf("%d latencies of %d deliveries; began %v, ended %v", r.latency.TotalCount(), r.delivered, began, ended)
			}
		})
	}
}

// message is the number-th message of a channel, as a subscriber gets it.
func message(number uint64) []byte {
	payload := make([]byte, smallValue)
	binary.BigEndian.PutUint64(payload, number)
	return fmt.Appendf(nil, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%s\r\n", len(payload), payload)
}

func TestFanSeesWhatIsWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		numbers []uint64
		lost    int
		fails   bool
	}{
		"in order":  {[]uint64{0, 1, 2}, 0, false},
		"a gap":     {[]uint64{0, 3}, 2, false},
		"twice":     {[]uint64{0, 0}, 0, true},
		"backwards": {[]uint64{1, 0}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fan{
				kind: fanOut{rate: 1}, size: smallValue, started: time.Now(), under: 100,
				latency: hdrhistogram.New(1, maxFan.Microseconds(), 3), failed: make(chan struct{}), confirmed: make(chan struct{}),
			}
			close(f.confirmed)
			s := &subscriber{peer: peer{fan: f}}
			var in []byte
			for _, n := range tt.numbers {
				in = append(in, message(n)...)
			}
			for i := range in { // cut wherever it can be
				s.Data(in[i : i+1])
			}
			if f.lost != tt.lost || (f.firstErr != nil) != tt.fails {
				t.Errorf("lost %d, error %v; want %d, and an error: %v", f.lost, f.firstErr, tt.lost, tt.fails)
			}
			if want := 100 - f.delivered - f.lost; f.under != want {
				t.Errorf("%d deliveries under way; want %d", f.under, want)
			}
		})
	}
}
