package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// load is what redis-benchmark says about one run. Latencies are milliseconds
// and, with a pipeline, those of the whole pipeline.
type load struct {
	rps float64
	p50 float64
	p99 float64
}

// redisBenchmark sends n commands of the cell to addr and returns what it says.
// An error reply is an error: a benchmark of refusals would look fast.
func redisBenchmark(ctx context.Context, addr topology.Addr, c cell, n int, more ...string) (load, error) {
	host, port := addr.Split()
	args := append(more,
		"-h", host, "-p", strconv.Itoa(port),
		"-c", strconv.Itoa(c.clients), "-P", strconv.Itoa(c.pipeline),
		"-d", strconv.Itoa(c.size), "-r", strconv.Itoa(c.keys()),
		"-n", strconv.Itoa(n), "-t", strings.ToLower(c.command), "--csv")
	cmd := exec.CommandContext(ctx, "redis-benchmark", args...)
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)+string(exit.Stderr)))
		}
		return load{}, fmt.Errorf("redis-benchmark %v on %s: %w", c, addr, err)
	}
	got, err := parseLoad(string(out), c.command)
	if err != nil {
		return load{}, fmt.Errorf("redis-benchmark %v on %s: %w", c, addr, err)
	}
	return got, nil
}

// parseLoad reads the answer of redis-benchmark --csv for one command. Columns
// are found by name, since releases add some.
func parseLoad(out, command string) (load, error) {
	if i := strings.Index(out, "Error from server"); i >= 0 {
		line, _, _ := strings.Cut(out[i:], "\n")
		return load{}, errors.New(strings.TrimSpace(line))
	}
	start := strings.Index(out, `"test"`)
	if start < 0 {
		return load{}, fmt.Errorf("no table in %q (redis-benchmark 6.2 or newer is needed)", out)
	}
	rows, err := csv.NewReader(strings.NewReader(out[start:])).ReadAll()
	if err != nil {
		return load{}, err
	}
	for _, row := range rows[1:] {
		if row[0] != command {
			continue
		}
		var l load
		for column, into := range map[string]*float64{"rps": &l.rps, "p50_latency_ms": &l.p50, "p99_latency_ms": &l.p99} {
			if *into, err = field(rows[0], row, column); err != nil {
				return load{}, err
			}
		}
		if l.rps <= 0 {
			return load{}, fmt.Errorf("rps %v: want more than 0", l.rps)
		}
		return l, nil
	}
	return load{}, fmt.Errorf("no row for %s in %q", command, out)
}

// field returns the number in the named column of row.
func field(header, row []string, column string) (float64, error) {
	for i, name := range header {
		if name == column && i < len(row) {
			return strconv.ParseFloat(row[i], 64)
		}
	}
	return 0, fmt.Errorf("no column %q among %q", column, header)
}
