package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	// probeTurns is how often each connection fills its pipeline in the run
	// that finds out how many commands make a run of the wanted length.
	probeTurns = 20
	minProbe   = 4_000
	maxProbe   = 60_000
	probeBytes = 128 << 20 // of huge values
	// minTurns keeps opening the connections a small part of any run.
	minTurns = 20
)

// campaign measures every cell of every candidate, round after round.
type campaign struct {
	lab    *lab
	stdout io.Writer
	began  time.Time

	done    int // rounds that count
	results results
	rate    map[string]map[cell]float64 // commands per second last seen, sizes the next run
}

// runCampaign measures, prints the report and writes it to its file.
func runCampaign(ctx context.Context, root string, o options, stdout, stderr io.Writer) error {
	began := time.Now()
	l, err := openLab(ctx, root, o, stderr)
	if err != nil {
		return err
	}
	defer l.close()
	facts := collectFacts(ctx, root, l)
	for _, line := range l.leftOut {
		fmt.Fprintln(stderr, "bench:", line)
	}
	for _, k := range l.candidates {
		if k.proc != nil {
			if k.before, err = residentBytes(k.proc.pid()); err != nil {
				return err
			}
		}
	}
	c := &campaign{lab: l, stdout: stdout, began: began, results: results{}, rate: map[string]map[cell]float64{}}
	scrapes := startScraper(ctx, l.candidates)
	err = c.rounds(ctx)
	scraped := scrapes.stop()
	if err != nil {
		return err
	}
	if err := l.checkMaster(ctx); err != nil {
		return err
	}
	r := report{
		facts: facts, options: o, rounds: c.done, results: c.results, candidates: l.candidates,
		leftOut: l.leftOut, scraped: scraped, verdicts: judge(c.results, o.targets()), took: time.Since(began),
	}
	if err := publish(root, o.out, r.markdown(), stdout); err != nil {
		return err
	}
	if n := count(r.verdicts, outcomeMissed); n > 0 && o.strict {
		return fmt.Errorf("%w: %d of %d", errTarget, n, len(r.verdicts))
	}
	return nil
}

// rounds runs the calibration and then every round, or as many as the budget
// has room for: a busy machine makes a short campaign shallower, not longer.
func (c *campaign) rounds(ctx context.Context) error {
	o := c.lab.options
	for round := range o.rounds + 1 {
		start := time.Now()
		if err := c.round(ctx, round); err != nil {
			return err
		}
		took := time.Since(start)
		if round == 0 {
			fmt.Fprintf(c.stdout, "calibration: %v\n", took.Round(100*time.Millisecond))
			continue
		}
		c.done = round
		fmt.Fprintf(c.stdout, "round %d of %d: %v\n", round, o.rounds, took.Round(100*time.Millisecond))
		if o.budget > 0 && round < o.rounds && time.Since(c.began)+took > o.budget {
			fmt.Fprintf(c.stdout, "no time for another round within %v\n", o.budget)
			return nil
		}
	}
	return nil
}

// round measures each cell once per candidate. Round 0 only finds out how
// many commands to send.
func (c *campaign) round(ctx context.Context, round int) error {
	filled, o := 0, c.lab.options
	for i, at := range o.cells {
		if at.size != filled && o.cmd != cmdSubscribers {
			if err := c.lab.fill(ctx, at); err != nil {
				return err
			}
			filled = at.size
		}
		for _, k := range turns(len(c.lab.candidates), round+i) {
			s, err := c.turn(ctx, c.lab.candidates[k], at)
			if err != nil {
				return err
			}
			if round > 0 {
				c.results.add(c.lab.candidates[k].name, at, s)
			}
		}
	}
	return nil
}

// turns returns 0 … n-1 starting at the first-th, so that over the rounds each
// candidate goes first, last, and after each pause as often as the others.
func turns(n, first int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (first + i) % n
	}
	return order
}

// turn runs one cell of one candidate and notes its rate for the next time.
func (c *campaign) turn(ctx context.Context, k *candidate, at cell) (sample, error) {
	if f, ok := fanOutOf(at); ok {
		return c.fanTurn(ctx, k, at, f)
	}
	s, err := c.measure(ctx, k, at, c.commands(k.name, at))
	if err != nil {
		return sample{}, err
	}
	if c.rate[k.name] == nil {
		c.rate[k.name] = map[cell]float64{}
	}
	c.rate[k.name][at] = s.rps
	if at.command == cmdSet {
		return s, c.lab.settle(ctx)
	}
	return s, nil
}

// commands returns how many commands the next run sends: as many as last longer
// than noise at the rate last seen, or a probe's.
func (c *campaign) commands(name string, at cell) int {
	atOnce := at.clients * at.pipeline
	rate, ok := c.rate[name][at]
	least := minTurns * atOnce
	if at.size >= hugeValue { // one turn takes as long as many of small values
		least = 2 * atOnce
	}
	if ok {
		return max(int(rate*c.lab.options.run.Seconds()), least)
	}
	if at.size >= hugeValue {
		return max(probeBytes/at.size, least)
	}
	return min(max(probeTurns*atOnce, minProbe), maxProbe)
}

// measure sends n commands and reads the CPU clocks before and after.
func (c *campaign) measure(ctx context.Context, k *candidate, at cell, n int) (sample, error) {
	before, err := readClocks(k, c.lab)
	if err != nil {
		return sample{}, err
	}
	l, err := redisBenchmark(ctx, k.addr, at, n, c.lab.tls.benchmarkArgs()...)
	if err != nil {
		if k.proc != nil {
			err = fmt.Errorf("%s: %w; it printed: %s", k.name, err, k.proc.tail())
		}
		return sample{}, err
	}
	after, err := readClocks(k, c.lab)
	if err != nil {
		return sample{}, err
	}
	return sample{
		load:     l,
		proxyCPU: perCommand(after.proxy-before.proxy, n),
		redisCPU: perCommand(after.redis-before.redis, n),
	}, nil
}

// clocks are the CPU times spent so far.
type clocks struct{ proxy, redis time.Duration }

func readClocks(k *candidate, l *lab) (c clocks, err error) {
	if k.proc != nil {
		if c.proxy, err = cpuTime(k.proc.pid()); err != nil {
			return c, fmt.Errorf("%s: %w", k.name, err)
		}
	}
	c.redis, err = cpuTime(l.master.Pid())
	return c, err
}

// perCommand returns microseconds.
func perCommand(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(n)
}
