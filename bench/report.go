package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is everything a campaign found out. It is only printed, never changed.
type report struct {
	facts      []fact
	options    options
	rounds     int // that were measured
	results    results
	candidates []*candidate
	leftOut    []string
	scraped    scraped
	verdicts   []verdict
	took       time.Duration
}

// markdown returns the whole report.
func (r report) markdown() string {
	var b strings.Builder
	title, made := r.options.title()
	fmt.Fprintf(&b, "# %s\n\nMade by `%s`: %d rounds, %d cells, %v each, %v in all. Medians over the rounds.\n\n",
		title, made, r.rounds, len(r.options.cells), r.options.run, r.took.Round(time.Second))
	writeFacts(&b, r.facts, r.leftOut)
	if len(r.verdicts) > 0 {
		r.writeVerdicts(&b)
	} else {
		r.writeSummary(&b)
	}
	r.writeUnscraped(&b)
	r.writeCandidates(&b)
	r.writeCells(&b)
	return b.String()
}

// title returns what the report is called, and the command that makes it.
func (o *options) title() (title, made string) {
	switch o.cmd {
	case cmdTLS:
		return "sentinelproxy beside HAProxy, both terminating TLS", "go run ./bench tls"
	case cmdValues:
		return "sentinelproxy beside HAProxy: values of 1 KiB to 1 MiB", "go run ./bench values"
	case cmdSubscribers:
		return "sentinelproxy beside HAProxy: subscribers", "go run ./bench subscribers"
	case cmdBeside, cmdIdle, cmdOutage, cmdSizes:
	}
	return "sentinelproxy beside direct, HAProxy and twemproxy", "go run ./bench"
}

// columns returns the figures of a cell's table and what heads each.
func (o *options) columns() ([]metric, []string) {
	if o.cmd == cmdSubscribers {
		return []metric{throughput, published, p50, p99, longest, proxyCPU, redisCPU, resident},
			[]string{"deliveries/s", "published/s", "p50 ms", "p99 ms", "max ms", "proxy CPU µs", "Redis CPU µs", "proxy MB"}
	}
	return []metric{throughput, p50, p99, proxyCPU, redisCPU},
		[]string{"commands/s", "p50 ms", "p99 ms", "proxy CPU µs", "Redis CPU µs"}
}

// publish prints a report and writes it to its file, a path from the root of
// the repository.
func publish(root, out, text string, stdout io.Writer) error {
	path := out
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	fmt.Fprint(stdout, "\n", text)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nwritten to %s\n", out)
	return nil
}

// writeFacts writes the machine's table, and below it what is missing.
func writeFacts(b *strings.Builder, facts []fact, leftOut []string) {
	b.WriteString("| | |\n|---|---|\n")
	for _, f := range facts {
		fmt.Fprintf(b, "| %s | %s |\n", f.name, f.value)
	}
	b.WriteString("\n")
	for _, line := range leftOut {
		fmt.Fprintf(b, "**%s**\n\n", line)
	}
}

func (r report) writeVerdicts(b *strings.Builder) {
	b.WriteString("## Targets\n\n")
	fmt.Fprintf(b, "Ratios to HAProxy; for CPU to whichever of its thread counts spends less. A target is missed only "+
		"beyond the noise: how far HAProxy and its twin came apart in the same cell (the larger of |ratio of the medians − 1| "+
		"and half the interquartile range of the ratios round by round). %d met, %d within the noise, %d missed, %d not measured.\n\n",
		count(r.verdicts, outcomeMet), count(r.verdicts, outcomeWithinNoise), count(r.verdicts, outcomeMissed), count(r.verdicts, outcomeUnmeasured))
	b.WriteString("| cell | figure | target | measured | noise | verdict | compared with |\n|---|---|---|---|---|---|---|\n")
	for _, v := range r.verdicts {
		measured, noise := "–", "–"
		if v.outcome != outcomeUnmeasured {
			measured, noise = fmt.Sprintf("%.2f×", v.ratio), fmt.Sprintf("± %.2f", v.noise)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", v.cell, v.target.metric, v.target, measured, noise, v.outcome, v.base)
	}
	b.WriteString("\n")
}

// howNoisy says what stands behind ±.
const howNoisy = "After each the noise: how far HAProxy and its twin came apart in the same cell (the larger of |ratio of the medians − 1| " +
	"and half the interquartile range of the ratios round by round).\n\n"

// writeSummary holds the sidecar against HAProxy where nothing was promised.
func (r report) writeSummary(b *strings.Builder) {
	b.WriteString("## Beside HAProxy\n\nsentinelproxy's medians as ratios to HAProxy's; for CPU to whichever of its thread counts spends less. " + howNoisy)
	r.writeRatios(b, func(c cell, m metric) string { return baseFor(r.results, c, m) })
}

// writeUnscraped holds the sidecar against one that nobody scrapes, where both were measured.
func (r report) writeUnscraped(b *strings.Builder) {
	if !slices.Contains(r.options.candidates, nameUnscraped) || !slices.Contains(r.options.candidates, nameSidecar) {
		return
	}
	b.WriteString("## Scraped every second, beside not at all\n\nsentinelproxy's medians as ratios to those of one that nobody scrapes. " + howNoisy)
	r.writeRatios(b, func(cell, metric) string { return nameUnscraped })
}

// writeRatios is a table of the sidecar's figures against those of a base.
func (r report) writeRatios(b *strings.Builder, base func(cell, metric) string) {
	columns := []metric{throughput, p50, p99, proxyCPU}
	b.WriteString("| cell |")
	for _, m := range columns {
		fmt.Fprintf(b, " %s |", m)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, c := range r.options.cells {
		fmt.Fprintf(b, "| %s |", c)
		for _, m := range columns {
			ratio, ok := r.results.ratio(nameSidecar, base(c, m), c, m)
			noise, known := r.results.noise(c, m)
			switch {
			case !ok:
				b.WriteString(" – |")
			case !known:
				fmt.Fprintf(b, " %.2f× |", ratio)
			default:
				fmt.Fprintf(b, " %.2f× ± %.2f |", ratio, noise)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

func (r report) writeCandidates(b *strings.Builder) {
	b.WriteString("## Candidates\n\n")
	if r.options.cmd == cmdTLS {
		b.WriteString("Clients speak TLS 1.3 (AES-128-GCM, an ECDSA P-256 certificate) to every candidate; behind them Redis is plain.\n\n")
	}
	for _, c := range r.candidates {
		fmt.Fprintf(b, "- **%s**: %s", c.name, c.about)
		if c.metrics != "" {
			fmt.Fprintf(b, " (%s)", r.scraped)
		}
		if c.before > 0 && r.options.cmd == cmdSubscribers {
			fmt.Fprintf(b, "; %.1f MB resident before the first subscriber", megabytes(c.before))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nAll run at the same time before one group (a master, two replicas, three Sentinels), each loaded in its turn. ")
	if r.options.cmd == cmdSubscribers {
		fmt.Fprintf(b, "Publisher and subscribers connect through the candidate; a message has %d bytes. Every message carries its number "+
			"in its channel and the time it was published: a lost, doubled or disordered one ends the benchmark, and there was none. "+
			"CPU is what the proxy's process, and Redis' master, spent between the first message and the last delivery, divided by the "+
			"deliveries; the publisher's part of it is in there. Load generator, proxy and Redis share the machine's cores.\n\n", smallValue)
		return
	}
	b.WriteString("CPU is what the proxy's process, and Redis' master, spent from before redis-benchmark starts to after it ends, divided by " +
		"the commands: opening the cell's connections is part of it. Load generator, proxy and Redis share the machine's cores. " +
		"Latencies with P > 1 are those of a whole pipeline.\n\n")
}

func (r report) writeCells(b *strings.Builder) {
	b.WriteString("## Cells\n")
	_, heads := r.options.columns()
	for _, c := range r.options.cells {
		fmt.Fprintf(b, "\n### %s\n\n", c.heading())
		fmt.Fprintf(b, "| | %s | × |\n", strings.Join(heads, " | × | "))
		b.WriteString("|---|" + strings.Repeat("---|---|", len(heads)) + "\n")
		for _, k := range r.candidates {
			r.writeRow(b, k.name, c)
		}
	}
}

// writeRow writes one candidate's medians, each with its ratio to HAProxy's.
func (r report) writeRow(b *strings.Builder, name string, c cell) {
	fmt.Fprintf(b, "| %s |", name)
	columns, _ := r.options.columns()
	for _, m := range columns {
		v, ok := r.results.median(name, c, m)
		if !ok || (name == nameDirect && (m == proxyCPU || m == resident)) {
			b.WriteString(" – | – |")
			continue
		}
		ratio := "–"
		if x, ok := r.results.ratio(name, nameHAProxy, c, m); ok {
			ratio = fmt.Sprintf("%.2f", x)
		}
		digits := 2
		switch m {
		case throughput:
			digits = 0
		case p50, p99, longest:
			digits = 3
		case published, resident:
			digits = 1
		case proxyCPU, redisCPU:
		}
		fmt.Fprintf(b, " %.*f | %s |", digits, v, ratio)
	}
	b.WriteString("\n")
}
