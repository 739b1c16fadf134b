package evloop

import "time"

// Stats are a loop's counters since it began: plain words that the loop owns, so
// that counting costs nothing.
type Stats struct {
	Turns       uint64
	Busy        time.Duration // spent in turns, waiting not counted
	LongestTurn time.Duration
	BytesIn     uint64 // read, of all connections
	BytesOut    uint64 // written, of all connections
}

func (s *Stats) turn(d time.Duration) {
	s.Turns++
	s.Busy += d
	s.LongestTurn = max(s.LongestTurn, d)
}

// Stats returns the loop's counters. Only the loop's goroutine may call it;
// others post a function that does.
func (l *Loop) Stats() Stats { return l.stats }
