package drill

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Probed is what the clients of one HTTP service saw.
type Probed struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Expect int    `json:"expect"`
	Rate   int    `json:"rate"` // requests a second
	// Requests is how many were due; Good those answered as expected, Bad the rest.
	Requests int `json:"requests"`
	Good     int `json:"good"`
	Bad      int `json:"bad"`
	// ByStatus counts all answers; "none" are requests without one.
	ByStatus map[string]int `json:"by_status"`
	FirstBad string         `json:"first_bad,omitempty"` // what it said
	// LongestGapMS is the longest time without a good answer.
	LongestGapMS float64 `json:"longest_gap_ms"`
	P50MS        float64 `json:"p50_ms"` // of good answers
	P99MS        float64 `json:"p99_ms"`
	MaxMS        float64 `json:"max_ms"`
	// Stretches are the times in which requests were not answered well.
	Stretches []Stretch `json:"stretches"`
	SliceMS   float64   `json:"slice_ms"`
	Series    []Slice   `json:"series"` // by when the answers came
}

// Pace is what a chart is drawn of.
func (r Probed) Pace() Pace { return Pace{SliceMS: r.SliceMS, Series: r.Series} }

// Stretch is a run of requests that were not answered well, the first to the last,
// with less than a second of good ones between any two.
type Stretch struct {
	// The request that was sent first, and the answer that came last, after the fault.
	FromMS   float64        `json:"from_ms"`
	ToMS     float64        `json:"to_ms"`
	Bad      int            `json:"bad"`
	ByStatus map[string]int `json:"by_status"`
}

// noAnswer is the name of no status.
const noAnswer = "none"

// stretchGap ends a stretch.
const stretchGap = time.Second

// probed judges what was answered. fault is when something was broken.
func probed(p Probe, answers []answer, firstBad string, fault time.Duration) Probed {
	const shortest, longest, digits = int64(time.Microsecond), int64(10 * time.Minute), 3
	sortAnswers(answers)
	r := Probed{
		Name: p.Name, URL: p.URL, Expect: p.Expect, Rate: p.Rate, Requests: len(answers), FirstBad: firstBad,
		ByStatus: map[string]int{}, Stretches: []Stretch{}, SliceMS: ms(sliceLength),
	}
	hist := hdrhistogram.New(shortest, longest, digits)
	var last time.Duration
	for _, a := range answers {
		last = max(last, a.end)
	}
	r.Series = make([]Slice, int(last/sliceLength)+1)
	lastBad := time.Duration(0) // begin of it
	for _, a := range answers {
		r.ByStatus[statusName(a.status)]++
		slice := &r.Series[int(a.end/sliceLength)]
		if a.status == p.Expect {
			r.Good++
			slice.OK++
			slice.WorstMS = max(slice.WorstMS, ms(a.end-a.begin))
			_ = hist.RecordValue(int64(a.end - a.begin)) // out of range is only what no client waits for
			continue
		}
		r.Bad++
		slice.Bad++
		if n := len(r.Stretches); n == 0 || a.begin-lastBad >= stretchGap {
			r.Stretches = append(r.Stretches, Stretch{FromMS: ms(a.begin - fault), ToMS: ms(a.end - fault), ByStatus: map[string]int{}})
		}
		s := &r.Stretches[len(r.Stretches)-1]
		s.ToMS = max(s.ToMS, ms(a.end-fault))
		s.Bad++
		s.ByStatus[statusName(a.status)]++
		lastBad = a.begin
	}
	r.LongestGapMS = ms(longestGap(answers, p.Expect))
	r.P50MS, r.P99MS, r.MaxMS = ms(time.Duration(hist.ValueAtQuantile(50))), ms(time.Duration(hist.ValueAtQuantile(99))), ms(time.Duration(hist.Max()))
	return r
}

// longestGap returns the longest time without a good answer, from the first request to
// the last answer.
func longestGap(answers []answer, expect int) time.Duration {
	if len(answers) == 0 {
		return 0
	}
	byEnd := slices.Clone(answers)
	slices.SortFunc(byEnd, func(a, b answer) int { return cmp.Compare(a.end, b.end) })
	longest, last := time.Duration(0), answers[0].begin
	for _, a := range byEnd {
		if a.status == expect {
			longest, last = max(longest, a.end-last), a.end
		}
	}
	return max(longest, byEnd[len(byEnd)-1].end-last)
}

func statusName(status int) string {
	if status == 0 {
		return noAnswer
	}
	return strconv.Itoa(status)
}

// plus adds up what was seen in two rounds.
func (r Probed) plus(o Probed) Probed {
	r.Requests += o.Requests
	r.Good += o.Good
	r.Bad += o.Bad
	sum := map[string]int{}
	for _, m := range []map[string]int{r.ByStatus, o.ByStatus} {
		for status, n := range m {
			sum[status] += n
		}
	}
	r.ByStatus, r.FirstBad = sum, cmp.Or(r.FirstBad, o.FirstBad)
	r.LongestGapMS = max(r.LongestGapMS, o.LongestGapMS)
	r.P50MS, r.P99MS, r.MaxMS = max(r.P50MS, o.P50MS), max(r.P99MS, o.P99MS), max(r.MaxMS, o.MaxMS)
	return r
}
