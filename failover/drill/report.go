package drill

import (
	"encoding/json"
	"io"
	"slices"
	"time"
)

// Schema is the version of Report's JSON. It grows when a field changes its
// meaning or goes away; new fields may come at any time.
const Schema = 1

// Report is what a drill found. Its JSON is a documented interface.
type Report struct {
	Schema    int       `json:"schema"`
	Kind      Kind      `json:"kind"`
	Variant   string    `json:"variant,omitempty"` // minority, election or strict
	Group     string    `json:"group"`             // "ephemeral", or the master's name
	Verdict   string    `json:"verdict"`           // "pass" or "fail"
	Began     time.Time `json:"began"`
	Seconds   float64   `json:"seconds"`
	Redis     string    `json:"redis"` // version
	Clients   int       `json:"clients"`
	DownAfter float64   `json:"down_after_ms"`
	Rounds    []Round   `json:"rounds"`
	Growth    *Growth   `json:"growth,omitempty"` // of this process, over a soak
}

// Round is one workload and what was broken under it.
type Round struct {
	Kind      Kind       `json:"kind"`
	Seconds   float64    `json:"seconds"`
	SLO       SLO        `json:"slo"`
	Notes     []string   `json:"notes"` // what the kind makes worth knowing
	Failovers []Failover `json:"failovers"`
	// Columns are the proxies before the same group at the same time. The first is
	// the one that is judged.
	Columns []Column `json:"columns"`
	// Probes are the HTTP services that were asked meanwhile. The first is judged, as
	// part of the first column.
	Probes []Probed `json:"probes"`
}

// Column is what the clients of one proxy saw.
type Column struct {
	Findings

	Name       string `json:"name"`
	FirstError string `json:"first_error,omitempty"`
	Incomplete bool   `json:"incomplete"` // a client's record was full
	Pace       Pace   `json:"pace"`
	// RecoveryMS is the time from the end of a partition in which the clients were
	// on the losing side to the first success; 0 for other drills.
	RecoveryMS float64  `json:"recovery_ms"`
	Breaches   []string `json:"breaches"` // of the SLO; of the first column only

	probed Probed // what is judged with it
}

// Passed reports whether the verdict is good.
func (r Report) Passed() bool { return r.Verdict == verdictPass }

const (
	verdictPass = "pass"
	verdictFail = "fail"
)

// verdict is "pass" if no objective was missed.
func (r Report) verdict() string {
	if len(r.breaches()) > 0 || r.Growth != nil && len(r.Growth.Breaches) > 0 {
		return verdictFail
	}
	return verdictPass
}

// breaches returns what the first columns miss, round by round.
func (r Report) breaches() []string {
	var all []string
	for _, round := range r.Rounds {
		all = append(all, round.Columns[0].Breaches...)
	}
	return all
}

// total adds up a column over all rounds. Its Pace has the median of the longest
// pauses, and the worst of everything else.
func (r Report) total(column int) Column {
	t := Column{Name: r.Rounds[0].Columns[column].Name}
	var pauses []float64
	for _, round := range r.Rounds {
		c := round.Columns[column]
		t.Findings = t.plus(c.Findings)
		if t.FirstError == "" {
			t.FirstError = c.FirstError
		}
		pauses = append(pauses, c.Pace.LongestPauseMS)
		t.Pace.SilenceMS = max(t.Pace.SilenceMS, c.Pace.SilenceMS)
		t.Pace.P50MS = max(t.Pace.P50MS, c.Pace.P50MS)
		t.Pace.P99MS = max(t.Pace.P99MS, c.Pace.P99MS)
		t.Pace.P999MS = max(t.Pace.P999MS, c.Pace.P999MS)
		t.Pace.MaxMS = max(t.Pace.MaxMS, c.Pace.MaxMS)
	}
	for _, round := range r.Rounds {
		t.RecoveryMS = max(t.RecoveryMS, round.Columns[column].RecoveryMS)
	}
	slices.Sort(pauses)
	t.Pace.LongestPauseMS = pauses[len(pauses)/2]
	return t
}

// worstPause returns the longest pause of all rounds.
func (r Report) worstPause(column int) float64 {
	worst := 0.0
	for _, round := range r.Rounds {
		worst = max(worst, round.Columns[column].Pace.LongestPauseMS)
	}
	return worst
}

// plus adds up the counts of two histories.
func (f Findings) plus(o Findings) Findings {
	f.Commands += o.Commands
	f.Acknowledged += o.Acknowledged
	f.Errors += o.Errors
	f.Fenced += o.Fenced
	f.Uncertain += o.Uncertain
	f.Unanswered += o.Unanswered
	f.Disconnects += o.Disconnects
	f.Lost.Total += o.Lost.Total
	f.Lost.Lag += o.Lost.Lag
	f.Lost.Stale += o.Lost.Stale
	f.Duplicated += o.Duplicated
	f.RefusedExecuted += o.RefusedExecuted
	f.StaleReads += o.StaleReads
	f.Disorder += o.Disorder
	f.Registers.Checked += o.Registers.Checked
	f.Registers.Rewound += o.Registers.Rewound
	f.Registers.Illegal += o.Registers.Illegal
	f.Published += o.Published
	f.Received += o.Received
	f.Losses = slices.Concat(f.Losses, o.Losses)
	f.Samples = slices.Concat(f.Samples, o.Samples)
	return f
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
