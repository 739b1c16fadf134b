package drill

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// probeTable prints a column for each HTTP service, added up over the rounds, and when
// it was not answered well.
func (r Report) probeTable(b *strings.Builder) {
	if len(r.Rounds[0].Probes) == 0 {
		return
	}
	all := make([]Probed, len(r.Rounds[0].Probes))
	for i := range all {
		all[i] = r.Rounds[0].Probes[i]
		for _, round := range r.Rounds[1:] {
			all[i] = all[i].plus(round.Probes[i])
		}
	}
	row := func(name string, cell func(Probed) string) {
		fmt.Fprintf(b, "  %-28s", name)
		for _, p := range all {
			fmt.Fprintf(b, " %20s", cell(p))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	row("HTTP, "+strconv.Itoa(all[0].Rate)+" requests/s", func(p Probed) string { return p.Name })
	row("requests", func(p Probed) string { return thousands(p.Requests) })
	row("answered "+strconv.Itoa(all[0].Expect), func(p Probed) string { return thousands(p.Good) })
	row("not answered "+strconv.Itoa(all[0].Expect), func(p Probed) string { return thousands(p.Bad) })
	for _, status := range badStatuses(all) {
		name := "  answered " + status
		if status == noAnswer {
			name = "  not answered"
		}
		row(name, func(p Probed) string { return thousands(p.ByStatus[status]) })
	}
	row("longest without one", func(p Probed) string { return millis(p.LongestGapMS) })
	row("p50", func(p Probed) string { return millis(p.P50MS) })
	row("p99", func(p Probed) string { return millis(p.P99MS) })
	row("slowest", func(p Probed) string { return millis(p.MaxMS) })
	for n, round := range r.Rounds {
		for _, p := range round.Probes {
			for i, s := range p.Stretches {
				if i == maxExplained {
					fmt.Fprintf(b, "\nRound %d: %s: %d more stretches are in the JSON report", n+1, p.Name, len(p.Stretches)-i)
					break
				}
				fmt.Fprintf(b, "\nRound %d: %s: %s bad from %+.0f to %+.0f ms after the fault (%s)", n+1, p.Name, count(s.Bad, "answer"), s.FromMS, s.ToMS, byStatus(s.ByStatus))
			}
			if p.FirstBad != "" {
				fmt.Fprintf(b, "\n         the first said: %s", p.FirstBad)
			}
		}
	}
	b.WriteByte('\n')
}

// badStatuses returns the names of all statuses that were not expected, sorted.
func badStatuses(all []Probed) []string {
	names := map[string]bool{}
	for _, p := range all {
		for status := range p.ByStatus {
			if status != strconv.Itoa(p.Expect) {
				names[status] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// byStatus prints counts, such as "503: 12, none: 3".
func byStatus(counts map[string]int) string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", status, counts[status]))
	}
	return strings.Join(parts, ", ")
}
