package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says how bad a finding is.
type Severity uint8

// The severities, from the least. The zero value is invalid.
const (
	Info    Severity = 1 + iota // for people to know
	Warning                     // it works now, and will not in some failure
	Error                       // it does not work, or no failover would
)

// String returns "info", "warning" or "error".
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return "invalid"
}

// MarshalText returns the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing worth telling. It holds no secret.
type Finding struct {
	Check    string   `json:"check"` // such as "sentinel-majority"; it does not change
	Severity Severity `json:"severity"`
	Master   string   `json:"master_name,omitempty"`
	Subject  string   `json:"subject,omitempty"` // a node, a file, a listener; "" for the whole
	Reason   string   `json:"reason"`
	Remedy   string   `json:"remedy,omitempty"`
}

// Worst returns the highest severity; Info where there is none.
func Worst(list []Finding) Severity {
	worst := Info
	for _, f := range list {
		worst = max(worst, f.Severity)
	}
	return worst
}

// Sort puts the worst first.
func Sort(list []Finding) {
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(-cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Master, b.Master),
			cmp.Compare(a.Check, b.Check), cmp.Compare(a.Subject, b.Subject))
	})
}

// notes collects the findings of one master.
type notes struct {
	master string
	list   []Finding
}

// add takes a finding whose reason is a format.
func (n *notes) add(s Severity, check, subject, remedy, format string, args ...any) {
	n.list = append(n.list, Finding{check, s, n.master, subject, fmt.Sprintf(format, args...), remedy})
}
