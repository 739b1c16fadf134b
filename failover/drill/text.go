package drill

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "drill %s: %s\n\n", r.name(), strings.ToUpper(r.Verdict))
	fmt.Fprintf(&b, "Redis %s, down-after %s ms, %d clients, %s, %.0f s\n\n",
		r.Redis, plain(r.DownAfter), r.Clients, count(len(r.Rounds), "round"), r.Seconds)
	r.table(&b)
	r.probeTable(&b)
	r.timelines(&b)
	r.wrong(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// name is the kind and its variant.
func (r Report) name() string {
	if r.Variant != "" {
		return string(r.Kind) + " (" + r.Variant + ")"
	}
	return string(r.Kind)
}

// table prints a column for each proxy, added up over the rounds.
func (r Report) table(b *strings.Builder) {
	columns := make([]Column, len(r.Rounds[0].Columns))
	for i := range columns {
		columns[i] = r.total(i)
	}
	row := func(name string, cell func(i int, c Column) string) {
		fmt.Fprintf(b, "  %-28s", name)
		for i, c := range columns {
			fmt.Fprintf(b, " %20s", cell(i, c))
		}
		b.WriteByte('\n')
	}
	number := func(name string, of func(Column) int) {
		row(name, func(_ int, c Column) string { return thousands(of(c)) })
	}
	duration := func(name string, of func(Column) float64) {
		row(name, func(_ int, c Column) string { return millis(of(c)) })
	}
	row("", func(_ int, c Column) string { return c.Name })
	number("commands answered", func(c Column) int { return c.Commands })
	number("errors", func(c Column) int { return c.Errors })
	number("uncertain (-UNCERTAIN)", func(c Column) int { return c.Uncertain })
	number("fenced (-NOREPLICAS, ...)", func(c Column) int { return c.Fenced })
	number("disconnects", func(c Column) int { return c.Disconnects })
	number("writes acknowledged", func(c Column) int { return c.Acknowledged })
	number("  of them lost", func(c Column) int { return c.Lost.Total })
	number("    by replication lag", func(c Column) int { return c.Lost.Lag })
	number("    to a stale master", func(c Column) int { return c.Lost.Stale })
	number("duplicated", func(c Column) int { return c.Duplicated })
	number("refused, yet executed", func(c Column) int { return c.RefusedExecuted })
	number("stale reads", func(c Column) int { return c.StaleReads })
	number("out of order", func(c Column) int { return c.Disorder })
	row("registers linearizable", func(_ int, c Column) string {
		return fmt.Sprintf("%d of %d", c.Registers.Checked-c.Registers.Illegal, c.Registers.Checked)
	})
	row("messages arrived", func(_ int, c Column) string {
		return fmt.Sprintf("%s of %s", thousands(c.Received), thousands(c.Published))
	})
	pause := "longest pause of a client"
	if len(r.Rounds) > 1 {
		pause = "longest pause, median"
		row("longest pause, worst", func(i int, _ Column) string { return millis0(r.worstPause(i)) })
	}
	duration(pause, func(c Column) float64 { return c.Pace.LongestPauseMS })
	duration("nobody had a success for", func(c Column) float64 { return c.Pace.SilenceMS })
	if columns[0].RecoveryMS > 0 {
		duration("served again after healing", func(c Column) float64 { return c.RecoveryMS })
	}
	duration("p50", func(c Column) float64 { return c.Pace.P50MS })
	duration("p99", func(c Column) float64 { return c.Pace.P99MS })
	duration("p99.9", func(c Column) float64 { return c.Pace.P999MS })
}

// maxTimelines bounds how many are printed; the JSON has all.
const maxTimelines = 3

// timelines prints what happened after each fault.
func (r Report) timelines(b *strings.Builder) {
	left := maxTimelines
	for n, round := range r.Rounds {
		for _, note := range round.Notes {
			fmt.Fprintf(b, "\nRound %d: %s.\n", n+1, note)
		}
		for _, l := range explained(round.Columns[0].Losses) {
			fmt.Fprintf(b, "\nRound %d: lost: %s", n+1, l)
		}
		for _, f := range round.Failovers {
			if left--; left < 0 {
				b.WriteString("\nMore timelines are in the JSON report.\n")
				return
			}
			fmt.Fprintf(b, "\nRound %d: %s", n+1, f.Fault)
			if f.Switched {
				fmt.Fprintf(b, " (the promoted node was %s behind)", inBytes(f.LagBytes))
			}
			b.WriteByte('\n')
			for _, s := range f.Steps {
				line := fmt.Sprintf("  %+9.0f ms  %-21s %s", s.AfterMS, s.Name, string(s.Addr))
				b.WriteString(strings.TrimRight(line, " ") + "\n")
			}
		}
	}
}

// maxExplained bounds the lost writes that are printed; the JSON has more.
const maxExplained = 5

// explained tells lost writes, one line each, and how many are left out.
func explained(losses []LostWrite) []string {
	var lines []string
	for i, l := range losses {
		if i == maxExplained {
			lines = append(lines, fmt.Sprintf("and %d more, in the JSON report\n", len(losses)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%s, acknowledged at %s: %s", l.What, millis0(l.AtMS), l.Why))
	}
	return lines
}

// wrong prints what breaks the verdict, and samples of what was found.
func (r Report) wrong(b *strings.Builder) {
	for n, round := range r.Rounds {
		c := round.Columns[0]
		for _, breach := range c.Breaches {
			fmt.Fprintf(b, "\nFAIL, round %d: %s", n+1, breach)
		}
		if len(c.Breaches) == 0 {
			continue
		}
		for _, s := range c.Samples {
			fmt.Fprintf(b, "\n      %s", s)
		}
		if c.FirstError != "" {
			fmt.Fprintf(b, "\n      the first error was: %s", c.FirstError)
		}
		b.WriteByte('\n')
	}
	if g := r.Growth; g != nil {
		fmt.Fprintf(b, "\nGrowth of this process: goroutines %d to %d, descriptors %d to %d, heap %s to %s\n",
			g.Before.Goroutines, g.After.Goroutines, g.Before.Descriptors, g.After.Descriptors,
			inBytes(int64(g.Before.HeapBytes)), inBytes(int64(g.After.HeapBytes)))
		for _, breach := range g.Breaches {
			fmt.Fprintf(b, "FAIL: %s\n", breach)
		}
	}
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

func millis(v float64) string {
	if v < 10 {
		return strconv.FormatFloat(v, 'f', 2, 64) + " ms"
	}
	return millis0(v)
}

func millis0(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) + " ms" }

// inBytes prints a size.
func inBytes(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return count(int(n), "byte")
}

// thousands prints n with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
