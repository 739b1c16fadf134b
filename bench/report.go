package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	title, made := "sentinelproxy beside direct, HAProxy and twemproxy", "go run ./bench"
	if r.options.tls {
		title, made = "sentinelproxy beside HAProxy, both terminating TLS", "go run ./bench tls"
	}
	fmt.Fprintf(&b, "# %s\n\nMade by `%s`: %d rounds, %d cells, %v each, %v in all. Medians over the rounds.\n\n",
		title, made, r.rounds, len(r.options.cells), r.options.run, r.took.Round(time.Second))
	writeFacts(&b, r.facts, r.leftOut)
	r.writeVerdicts(&b)
	r.writeCandidates(&b)
	r.writeCells(&b)
	return b.String()
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

func (r report) writeCandidates(b *strings.Builder) {
	b.WriteString("## Candidates\n\n")
	if r.options.tls {
		b.WriteString("Clients speak TLS 1.3 (AES-128-GCM, an ECDSA P-256 certificate) to every candidate; behind them Redis is plain.\n\n")
	}
	for _, c := range r.candidates {
		fmt.Fprintf(b, "- **%s**: %s", c.name, c.about)
		if c.metrics != "" {
			fmt.Fprintf(b, " (%s)", r.scraped)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nAll run at the same time before one group (a master, two replicas, three Sentinels), each loaded in its turn. " +
		"CPU is what the proxy's process, and Redis' master, spent from before redis-benchmark starts to after it ends, divided by " +
		"the commands: opening the cell's connections is part of it. Load generator, proxy and Redis share the machine's cores. " +
		"Latencies with P > 1 are those of a whole pipeline.\n\n")
}

func (r report) writeCells(b *strings.Builder) {
	b.WriteString("## Cells\n")
	for _, c := range r.options.cells {
		fmt.Fprintf(b, "\n### %s: %d connections, pipeline of %d, %s of %d bytes\n\n", c, c.clients, c.pipeline, c.command, c.size)
		b.WriteString("| | commands/s | × | p50 ms | × | p99 ms | × | proxy CPU µs | × | Redis CPU µs | × |\n")
		b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
		for _, k := range r.candidates {
			r.writeRow(b, k.name, c)
		}
	}
}

// writeRow writes one candidate's medians, each with its ratio to HAProxy's.
func (r report) writeRow(b *strings.Builder, name string, c cell) {
	fmt.Fprintf(b, "| %s |", name)
	for m := throughput; m < metricsDone; m++ {
		v, ok := r.results.median(name, c, m)
		if !ok || (name == nameDirect && m == proxyCPU) {
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
		case p50, p99:
			digits = 3
		case proxyCPU, redisCPU, metricsDone:
		}
		fmt.Fprintf(b, " %.*f | %s |", digits, v, ratio)
	}
	b.WriteString("\n")
}
