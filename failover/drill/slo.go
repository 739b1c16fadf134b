package drill

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SLO are the objectives that a drill is held to: the most of each that is still
// good. What is not named is not judged. A pause is in milliseconds.
type SLO map[string]float64

// The names of objectives.
const (
	maxErrors      = "max-errors"
	maxUncertain   = "max-uncertain"
	maxDisconnects = "max-disconnects"
	maxLost        = "max-lost"
	maxUnexplained = "max-unexplained"
	maxDuplicated  = "max-duplicated"
	maxRefusedRan  = "max-refused-executed"
	maxStaleReads  = "max-stale-reads"
	maxDisorder    = "max-disorder"
	maxNonlinear   = "max-nonlinear"
	maxPause       = "max-pause"
	maxFenced      = "max-fenced"
	maxRecovery    = "max-recovery"
	maxBadAnswers  = "max-bad-answers"
	maxAnswerGap   = "max-answer-gap"
)

// objective is one name and what it bounds.
type objective struct {
	name string
	noun string
	of   func(Column) float64
}

// objectives returns all, in the order in which they are told.
func objectives() []objective {
	return []objective{
		{maxErrors, "errors", func(c Column) float64 { return float64(c.Errors) }},
		{maxFenced, "-NOREPLICAS and -MASTERDOWN answers", func(c Column) float64 { return float64(c.Fenced) }},
		{maxUncertain, "-UNCERTAIN answers", func(c Column) float64 { return float64(c.Uncertain) }},
		{maxDisconnects, "disconnects", func(c Column) float64 { return float64(c.Disconnects) }},
		{maxLost, "acknowledged writes lost", func(c Column) float64 { return float64(c.Lost.Total) }},
		{maxUnexplained, "lost and not explained by replication lag", func(c Column) float64 { return float64(c.Lost.Unexplained()) }},
		{maxDuplicated, "duplicated effects", func(c Column) float64 { return float64(c.Duplicated) }},
		{maxRefusedRan, "refused and executed all the same", func(c Column) float64 { return float64(c.RefusedExecuted) }},
		{maxStaleReads, "stale reads", func(c Column) float64 { return float64(c.StaleReads) }},
		{maxDisorder, "out of order", func(c Column) float64 { return float64(c.Disorder) }},
		{maxNonlinear, "registers not linearizable", func(c Column) float64 { return float64(c.Registers.Illegal) }},
		{maxPause, "ms longest pause", func(c Column) float64 { return c.Pace.LongestPauseMS }},
		{maxRecovery, "ms until clients were served again", func(c Column) float64 { return c.RecoveryMS }},
		{maxBadAnswers, "HTTP answers that were not as expected", func(c Column) float64 { return float64(c.probed.Bad) }},
		{maxAnswerGap, "ms without an HTTP answer as expected", func(c Column) float64 { return c.probed.LongestGapMS }},
	}
}

// ObjectiveNames returns the names that ParseSLO takes.
func ObjectiveNames() []string {
	var names []string
	for _, o := range objectives() {
		names = append(names, o.name)
	}
	return names
}

// ParseSLO reads objectives such as "max-errors=0,max-pause=3s,max-lost=any" and
// returns base with them replaced. "any" takes an objective away. The error says
// every mistake.
func ParseSLO(text string, base SLO) (SLO, error) {
	s := SLO{}
	maps.Copy(s, base)
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !slices.Contains(ObjectiveNames(), name) {
			errs = append(errs, fmt.Errorf("%q: no such objective; want %s", name, strings.Join(ObjectiveNames(), ", ")))
			continue
		}
		if value == "any" {
			delete(s, name)
			continue
		}
		limit, err := parseLimit(name, value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s[name] = limit
	}
	return s, errors.Join(errs...)
}

// timed reports whether an objective is a duration.
func timed(name string) bool { return name == maxPause || name == maxRecovery || name == maxAnswerGap }

// parseLimit reads a duration for a pause, and a count for all else.
func parseLimit(name, value string) (float64, error) {
	if timed(name) {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("%s=%s: want a duration such as 3s, or any", name, value)
		}
		return ms(d), nil
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s=%s: want a number, or any", name, value)
	}
	return float64(n), nil
}

// judge returns a line for each objective that c misses.
func (s SLO) judge(c Column) []string {
	breaches := []string{}
	for _, o := range objectives() {
		limit, judged := s[o.name]
		if got := o.of(c); judged && got > limit {
			breaches = append(breaches, fmt.Sprintf("%s %s; %s is %s", plain(got), o.noun, o.name, plain(limit)))
		}
	}
	if c.Incomplete {
		breaches = append(breaches, "the record of a client was full: what came later was not checked")
	}
	return breaches
}

// plain prints a number without needless zeros.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
