package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The grid of a full campaign, and the part of it that has targets.
const (
	fullCells   = "c1P1,c1P16,c50P1,c50P16,c500P1,c500P16"
	targetCells = "c50P1/64,c50P16/64,c500P1/64"
	valueCells  = "c50P1/1024,c50P16/1024,c50P1/4096,c50P1/16384,c50P16/16384,c50P1/65536,c50P1/262144,c50P1/1048576"
)

// Value sizes in bytes.
const (
	smallValue = 64
	largeValue = 4096
	hugeValue  = 64 << 10 // from here on a run is measured in bytes, see campaign.commands
)

// The commands measured, as redis-benchmark's -t and its answer name them.
const (
	cmdGet = "GET"
	cmdSet = "SET"
)

// cell is one load: so many connections, each with so many commands under way.
type cell struct {
	clients  int
	pipeline int
	size     int    // bytes of a value
	command  string // cmdGet or cmdSet
}

// String returns the cell as --cells takes it, such as "c50P1/64/get".
func (c cell) String() string {
	if _, ok := fanOutOf(c); ok {
		return strings.ToLower(c.command)
	}
	return fmt.Sprintf("c%dP%d/%d/%s", c.clients, c.pipeline, c.size, strings.ToLower(c.command))
}

// heading returns what the report calls the cell.
func (c cell) heading() string {
	if f, ok := fanOutOf(c); ok {
		return fmt.Sprintf("%s: %s", c, f.about(c.clients))
	}
	return fmt.Sprintf("%s: %d connections, pipeline of %d, %s of %d bytes", c, c.clients, c.pipeline, c.command, c.size)
}

// keys returns how many keys the cell's commands are spread over: enough to
// leave the CPU caches, and for large values few enough that three copies of
// the data stay below half a gigabyte.
func (c cell) keys() int {
	if c.size > 1024 {
		return min(20_000, max(1, largeData/c.size))
	}
	return 100_000
}

// largeData is how many bytes the values of a cell are in all, if they are large.
const largeData = 80 << 20

// parseCells expands a comma-separated list: an item that names no size or no
// command stands for all of them. The order is that of the list, grouped by
// size, without repetitions; so the data is refilled as seldom as possible.
func parseCells(list string) ([]cell, error) {
	pattern := regexp.MustCompile(`^c([0-9]{1,5})P([0-9]{1,4})(?:/([0-9]{1,7})(?:/(get|set))?)?$`)
	var cells []cell
	for item := range strings.SplitSeq(list, ",") {
		m := pattern.FindStringSubmatch(strings.TrimSpace(item))
		if m == nil {
			return nil, fmt.Errorf("%q: want a cell such as c50P1, c50P1/64 or c50P1/64/get", item)
		}
		sizes, commands := []int{smallValue, largeValue}, []string{cmdGet, cmdSet}
		c := cell{clients: number(m[1]), pipeline: number(m[2])}
		if m[3] != "" {
			sizes = []int{number(m[3])}
		}
		if m[4] != "" {
			commands = []string{strings.ToUpper(m[4])}
		}
		if c.clients == 0 || c.pipeline == 0 || sizes[0] == 0 {
			return nil, fmt.Errorf("%q: every number must be at least 1", item)
		}
		for _, c.size = range sizes {
			for _, c.command = range commands {
				if !slices.Contains(cells, c) {
					cells = append(cells, c)
				}
			}
		}
	}
	slices.SortStableFunc(cells, func(a, b cell) int { return a.size - b.size })
	return cells, nil
}

// number reads digits that a pattern has checked already.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
