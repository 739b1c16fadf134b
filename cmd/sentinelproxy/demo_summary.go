package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// demoSummary is what the demo was about, as JSON and as text. All of it was
// seen by the clients.
type demoSummary struct {
	Redis     string  `json:"redis"`   // "simulated", or the version of a real one
	Verdict   string  `json:"verdict"` // "pass" or "fail"
	Seconds   float64 `json:"seconds"`
	Clients   int     `json:"clients"`
	Failovers int     `json:"failovers"`

	Commands           int     `json:"commands"` // that were answered
	AcknowledgedWrites int     `json:"acknowledged_writes"`
	LostWrites         int     `json:"lost_writes"`    // acknowledged and undone later
	DoubledWrites      int     `json:"doubled_writes"` // executed more often than sent
	Errors             int     `json:"errors"`
	Uncertain          int     `json:"uncertain"` // of errors
	FirstError         string  `json:"first_error,omitempty"`
	Disconnects        int     `json:"disconnects"`
	Messages           int     `json:"messages"` // that the subscriber got
	LongestPauseMS     float64 `json:"longest_pause_ms"`

	Switches []demoSwitch `json:"switches"` // the failovers, in order
}

// demoSwitch is one failover.
type demoSwitch struct {
	Kind        string  `json:"kind"` // "planned" or "crash"
	From        string  `json:"from"`
	To          string  `json:"to"`
	PauseMS     float64 `json:"pause_ms"` // longest that a client waited
	Errors      int     `json:"errors"`
	Disconnects int     `json:"disconnects"`
}

func summarize(redis string, clients int, took time.Duration, c counts, switches []demoSwitch) demoSummary {
	s := demoSummary{
		Redis:              redis,
		Seconds:            float64(took.Round(10*time.Millisecond)) / float64(time.Second),
		Clients:            clients,
		Failovers:          len(switches),
		Commands:           c.commands,
		AcknowledgedWrites: c.acknowledged,
		LostWrites:         c.lost,
		DoubledWrites:      c.doubled,
		Errors:             c.errors,
		Uncertain:          c.uncertain,
		FirstError:         c.firstError,
		Disconnects:        c.disconnects,
		Messages:           c.messages,
		LongestPauseMS:     inMS(c.longest),
		Switches:           append([]demoSwitch{}, switches...),
	}
	s.Verdict = "pass"
	if s.err() != nil {
		s.Verdict = "fail"
	}
	return s
}

func inMS(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// err returns what is bad about it, with the exit code for that, or nil.
func (s demoSummary) err() error {
	var bad []string
	for _, b := range []struct {
		n    int
		noun string
	}{
		{s.Errors, "error"},
		{s.Disconnects, "disconnect"},
		{s.LostWrites, "lost write"},
		{s.DoubledWrites, "doubled write"},
	} {
		if b.n > 0 {
			bad = append(bad, plural(b.n, b.noun))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &exitError{exitVerdict, errors.New("the clients saw " + strings.Join(bad, ", "))}
}

// String returns the summary for people.
func (s demoSummary) String() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-16s"+format+"\n", append([]any{name}, args...)...)
	}
	fmt.Fprintf(&b, "What the clients saw in %.1fs (Redis %s):\n\n", s.Seconds, s.Redis)
	row("failovers", "%d", s.Failovers)
	row("commands", "%s", thousands(s.Commands))
	row("writes", "%s acknowledged, %s lost, %s doubled", thousands(s.AcknowledgedWrites), thousands(s.LostWrites), thousands(s.DoubledWrites))
	row("errors", "%s", s.errorsLine())
	row("disconnects", "%s", thousands(s.Disconnects))
	if s.FirstError != "" {
		row("the first was", "%s", s.FirstError)
	}
	row("longest pause", "%s", seconds(time.Duration(s.LongestPauseMS*float64(time.Millisecond))))
	b.WriteString("\n" + s.judgement() + "\n")
	return b.String()
}

func (s demoSummary) errorsLine() string {
	line := thousands(s.Errors)
	if s.Uncertain > 0 {
		line += fmt.Sprintf(", %s of them UNCERTAIN", thousands(s.Uncertain))
	}
	return line
}

// judgement is the last paragraph: what it means.
func (s demoSummary) judgement() string {
	alone := func(n int) bool { return n > 0 && n == s.Errors+s.Disconnects+s.LostWrites+s.DoubledWrites }
	switch {
	case alone(s.Uncertain):
		return "FAIL: a crashed master took the answers to some writes with it. Their clients were told\n" +
			"that nobody knows (UNCERTAIN). Nothing acknowledged was lost, and nobody was disconnected."
	case s.crashed() && alone(s.LostWrites+s.Uncertain):
		return "FAIL: a master crashed before it had replicated what it had acknowledged. Redis replicates\n" +
			"after it answers; what stands before it cannot change that."
	case s.err() != nil:
		return "FAIL: clients saw more than a pause."
	case s.Failovers == 0:
		return "No failover was over in this time: try --for 20s."
	}
	return "PASS: every failover was a pause. No client saw an error, and nothing acknowledged was lost."
}

// crashed reports whether a master was killed.
func (s demoSummary) crashed() bool {
	return slices.ContainsFunc(s.Switches, func(w demoSwitch) bool { return w.Kind == crash.String() })
}
