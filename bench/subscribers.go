package main

import (
	"context"
	"fmt"
	"time"
)

// The ways of publishing, as a cell's command.
const (
	cmdOneFull  = "ONE-FULL"
	cmdOneRate  = "ONE-RATE"
	cmdEachFull = "EACH-FULL"
	cmdEachRate = "EACH-RATE"
)

// fanRun is how long one run publishes.
const fanRun = 1500 * time.Millisecond

// fanOut is a way of publishing to many subscribers.
type fanOut struct {
	command string
	each    bool // a channel for each subscriber; else one for all
	window  int  // messages under way at once; for a rate 0
	rate    int  // messages a second; 0: as fast as they are delivered
}

func fanOuts() []fanOut {
	return []fanOut{
		{command: cmdOneFull, window: 4},
		{command: cmdOneRate, rate: 20},
		{command: cmdEachFull, each: true, window: 100},
		{command: cmdEachRate, each: true, rate: 2000},
	}
}

func (f fanOut) channels(subscribers int) int {
	if f.each {
		return subscribers
	}
	return 1
}

// about says how it is published, for the report.
func (f fanOut) about(subscribers int) string {
	where := fmt.Sprintf("%d subscribers of one channel", subscribers)
	if f.each {
		where = fmt.Sprintf("%d subscribers, each of a channel of its own", subscribers)
	}
	if f.rate > 0 {
		return fmt.Sprintf("%s, %d messages published a second", where, f.rate)
	}
	return fmt.Sprintf("%s, %d messages under way at all times", where, f.window)
}

// fanOutOf returns how the cell publishes; ok is false for a cell of
// redis-benchmark.
func fanOutOf(c cell) (f fanOut, ok bool) {
	for _, f := range fanOuts() {
		if f.command == c.command {
			return f, true
		}
	}
	return fanOut{}, false
}

func fanCells(subscribers int) []cell {
	var cells []cell
	for _, f := range fanOuts() {
		cells = append(cells, cell{clients: subscribers, pipeline: f.window, size: smallValue, command: f.command})
	}
	return cells
}

// fanTurn runs one cell of one candidate. A lost message is an error.
func (c *campaign) fanTurn(ctx context.Context, k *candidate, at cell, f fanOut) (sample, error) {
	var before, after clocks
	var resident int64
	begin := func() (err error) {
		before, err = readClocks(k, c.lab)
		return err
	}
	end := func() (err error) {
		if after, err = readClocks(k, c.lab); err == nil && k.proc != nil {
			resident, err = residentBytes(k.proc.pid())
		}
		return err
	}
	r, err := runFan(ctx, k.addr, f, at.clients, at.size, c.lab.options.run, begin, end)
	if err == nil && (r.lost > 0 || r.delivered == 0) {
		err = fmt.Errorf("%d messages published, %d deliveries, %d lost", r.published, r.delivered, r.lost)
	}
	if err != nil {
		if k.proc != nil {
			err = fmt.Errorf("%w; it printed: %s", err, k.proc.tail())
		}
		return sample{}, fmt.Errorf("%s: %v: %w", k.name, at, err)
	}
	ms := func(q float64) float64 { return float64(r.latency.ValueAtQuantile(q)) / 1000 }
	return sample{
		load:      load{rps: float64(r.delivered) / r.took.Seconds(), p50: ms(50), p99: ms(99)},
		published: float64(r.published) / r.took.Seconds(),
		longest:   float64(r.latency.Max()) / 1000,
		resident:  megabytes(resident),
		proxyCPU:  perCommand(after.proxy-before.proxy, r.delivered),
		redisCPU:  perCommand(after.redis-before.redis, r.delivered),
	}, nil
}
