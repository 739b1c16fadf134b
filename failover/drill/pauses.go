package drill

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Pace is how fast commands were answered.
type Pace struct {
	// LongestPause is the longest time that a client was without a success: from
	// sending a command to the next answer without an error.
	LongestPauseMS float64 `json:"longest_pause_ms"`
	// Silence is the longest time in which no client at all had a success.
	SilenceMS float64 `json:"silence_ms"`
	P50MS     float64 `json:"p50_ms"` // of commands answered without an error, blocking ones aside
	P99MS     float64 `json:"p99_ms"`
	P999MS    float64 `json:"p999_ms"`
	MaxMS     float64 `json:"max_ms"`
	// Series is what happened in each time slice.
	SliceMS float64 `json:"slice_ms"`
	Series  []Slice `json:"series"`
}

// Slice is what was answered within one stretch of time.
type Slice struct {
	OK      int     `json:"ok"`
	Bad     int     `json:"bad"`      // errors and disconnects
	WorstMS float64 `json:"worst_ms"` // the slowest success that ended here
}

// sliceLength is the resolution of Pace.Series.
const sliceLength = 100 * time.Millisecond

// measure returns how fast h's commands were answered.
func measure(h History) Pace {
	const shortest, longest, digits = int64(time.Microsecond), int64(10 * time.Minute), 3
	p := Pace{SliceMS: ms(sliceLength), Series: make([]Slice, int(h.Took/sliceLength)+1)}
	hist := hdrhistogram.New(shortest, longest, digits)
	for _, ops := range h.Clients {
		p.LongestPauseMS = max(p.LongestPauseMS, ms(longestPause(ops)))
		for _, op := range ops {
			if op.Outcome == OK && steady(op.Kind) {
				// Out of range is only what no client waits for.
				_ = hist.RecordValue(min(max(int64(op.End-op.Begin), shortest), longest))
			}
		}
	}
	last := time.Duration(0)
	for _, op := range h.byEnd() {
		s := p.at(op.End)
		switch {
		case op.Outcome != OK:
			s.Bad++
		case steady(op.Kind):
			s.OK++
			s.WorstMS = max(s.WorstMS, ms(op.End-op.Begin))
			p.SilenceMS = max(p.SilenceMS, ms(op.End-last))
			last = op.End
		}
	}
	for _, at := range h.Disconnects {
		p.at(at).Bad++
	}
	quantile := func(q float64) float64 { return ms(time.Duration(hist.ValueAtQuantile(q))) }
	p.P50MS, p.P99MS, p.P999MS, p.MaxMS = quantile(50), quantile(99), quantile(99.9), ms(time.Duration(hist.Max()))
	return p
}

// at returns the slice of a time; the last one takes what came after the end.
func (p *Pace) at(t time.Duration) *Slice {
	return &p.Series[min(int(t/sliceLength), len(p.Series)-1)]
}

// steady reports whether the time of such a command is the proxy's and Redis'
// alone: a pop waits for an item, and a message for nobody.
func steady(k OpKind) bool { return k != OpPop && k != OpMessage }

// longestPause returns how long a client was without a success at most.
func longestPause(ops []Op) time.Duration {
	var longest time.Duration
	since := time.Duration(-1) // when the first command since the last success was sent
	for _, op := range ops {
		if !steady(op.Kind) {
			continue
		}
		if since < 0 {
			since = op.Begin
		}
		longest = max(longest, op.End-since)
		if op.Outcome == OK {
			since = -1
		}
	}
	return longest
}

// ms returns d in milliseconds, to the hundredth.
func ms(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
