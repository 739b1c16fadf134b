package main

import "fmt"

// target is a promise about sentinelproxy beside HAProxy, for GET and SET of
// 64-byte values.
type target struct {
	clients  int
	pipeline int
	metric   metric
	limit    float64 // of the ratio to HAProxy: at least for throughput, else at most
}

// targets returns the promises, in the order of the report.
func targets() []target {
	return []target{
		{50, 1, proxyCPU, 0.65},
		{500, 1, proxyCPU, 0.65},
		{50, 16, proxyCPU, 1.0},
		{500, 1, throughput, 1.3},
		{50, 1, throughput, 1.0},
		{50, 16, throughput, 1.0},
		{50, 1, p99, 1.0},
		{500, 1, p99, 1.0},
	}
}

// targets returns the promises of what was measured; for some there are none.
func (o *options) targets() []target {
	switch o.cmd {
	case cmdBeside:
		return targets()
	case cmdTLS:
		return tlsTargets()
	case cmdValues, cmdSubscribers, cmdIdle, cmdOutage, cmdSizes:
	}
	return nil
}

// atLeast reports which way the target points.
func (t target) atLeast() bool { return t.metric == throughput }

// String returns the target's condition, such as "≤ 0.65×".
func (t target) String() string {
	if t.atLeast() {
		return fmt.Sprintf("≥ %.2f×", t.limit)
	}
	return fmt.Sprintf("≤ %.2f×", t.limit)
}

// outcome says how a target came out. The zero value is invalid.
type outcome int

// The outcomes of a target.
const (
	_                  outcome = iota
	outcomeMet                 // the ratio is within the limit
	outcomeWithinNoise         // beyond the limit by no more than the A/A noise
	outcomeMissed              // beyond the limit by more than the noise, or the noise is unknown
	outcomeUnmeasured          // one of the two was not measured in the cell
)

// String returns the outcome as the report prints it.
func (o outcome) String() string {
	switch o {
	case outcomeMet:
		return "met"
	case outcomeWithinNoise:
		return "over, within the noise"
	case outcomeMissed:
		return "**missed**"
	case outcomeUnmeasured:
		return "not measured"
	}
	return "invalid"
}

// verdict is a target held against the results.
type verdict struct {
	target  target
	cell    cell
	base    string  // the candidate the ratio is to
	ratio   float64 // sentinelproxy's median divided by base's
	noise   float64 // see results.noise; 0 where unknown
	outcome outcome
}

// judge holds every target against the results, for both commands.
func judge(r results, targets []target) []verdict {
	var all []verdict
	for _, t := range targets {
		for _, command := range []string{cmdGet, cmdSet} {
			c := cell{clients: t.clients, pipeline: t.pipeline, size: smallValue, command: command}
			all = append(all, judgeCell(r, t, c))
		}
	}
	return all
}

func judgeCell(r results, t target, c cell) verdict {
	v := verdict{target: t, cell: c, base: baseFor(r, c, t.metric), outcome: outcomeUnmeasured}
	ratio, ok := r.ratio(nameSidecar, v.base, c, t.metric)
	if !ok {
		return v
	}
	v.ratio = ratio
	v.noise, _ = r.noise(c, t.metric)
	beyond := v.ratio - t.limit
	if t.atLeast() {
		beyond = -beyond
	}
	switch {
	case beyond <= 0:
		v.outcome = outcomeMet
	case beyond <= v.noise:
		v.outcome = outcomeWithinNoise
	default:
		v.outcome = outcomeMissed
	}
	return v
}

// baseFor returns whom a cell's metric is compared with: HAProxy as it comes,
// but for CPU whichever of its thread counts spends less.
func baseFor(r results, c cell, m metric) string {
	if m != proxyCPU {
		return nameHAProxy
	}
	one, okOne := r.median(nameHAProxy1, c, m)
	byDefault, okDefault := r.median(nameHAProxy, c, m)
	if okOne && (!okDefault || one < byDefault) {
		return nameHAProxy1
	}
	return nameHAProxy
}

// count returns how many verdicts came out as o.
func count(verdicts []verdict, o outcome) int {
	n := 0
	for _, v := range verdicts {
		if v.outcome == o {
			n++
		}
	}
	return n
}
