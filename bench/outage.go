package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What an outage may cost.
const (
	outageConns     = 50
	outageMaxAnswer = 10 * time.Millisecond  // once the circuit is open
	outageMaxBack   = 100 * time.Millisecond // to the first success, once a master is back
	outageOpen      = 30 * time.Second       // how long the open circuit is watched
	outageWarmUp    = 3 * time.Second
	outageDownAfter = time.Second
)

// runOutage measures two outages at a steady rate, with the README's binary and
// default configuration: every Sentinel stops, and every Redis stops.
func runOutage(ctx context.Context, root string, o options, stdout, stderr io.Writer) error {
	l, err := openGroupOf(ctx, root, o, stderr, redistest.Options{DownAfter: outageDownAfter, FailoverTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer l.close()
	for _, s := range specs() {
		if s.name == nameSidecar {
			if err := l.add(ctx, root, s, stderr); err != nil {
				return err
			}
		}
	}
	if len(l.candidates) != 1 {
		return errors.New("outage: the sidecar is the candidate: leave --candidates out")
	}
	c := l.candidates[0]
	scrapes := startScraper(ctx, l.candidates)
	defer scrapes.stop()

	a, err := startAnswerer(ctx)
	if err != nil {
		return err
	}
	defer a.stop()
	s := pair{startSteady(ctx, c.addr, outageConns, o.rate, "warm-up"), startSteady(ctx, a.addr(), outageConns, o.rate, "warm-up")}
	defer s.stop()
	var out outageResult
	if out.withSentinels, out.without, err = sentinelsGone(ctx, l, s, o.length, stderr); err != nil {
		return err
	}
	if err := redisGone(ctx, l, s, c, &out, stderr); err != nil {
		return err
	}
	if err := publish(root, o.out, outageMarkdown(collectFacts(ctx, root, l), o, out), stdout); err != nil {
		return err
	}
	if o.strict && out.verdict() == outcomeMissed {
		return errTarget
	}
	return nil
}

// pair is clients of the sidecar, and as many of an answerer.
type pair struct{ sidecar, noise *steady }

// windows are what both saw at the same time.
type windows struct{ sidecar, noise *window }

func (p pair) next(name string) windows {
	return windows{p.sidecar.next(name), p.noise.next("the same to an empty server: the noise")}
}

func (p pair) stop() { p.sidecar.stop(); p.noise.stop() }

func (w windows) rows() string { return w.sidecar.row() + "\n" + w.noise.row() + "\n" }

// outageResult is what both outages cost.
type outageResult struct {
	withSentinels, without windows
	open                   windows       // all of Redis gone, the circuit open
	opened                 time.Duration // from the death of Redis
	back                   time.Duration // from the return of a master to the first success
}

// verdict says whether the promises were kept. Late answers are within the noise if
// there are no more than twice as many as of the empty server at the same time. The two
// windows of the Sentinels are for people to compare.
func (r outageResult) verdict() outcome {
	open, without := r.open.sidecar, r.without.sidecar
	switch {
	case open.ok > 0 || open.broken > 0 || r.back > outageMaxBack || without.refused+without.broken > 0:
		return outcomeMissed
	case open.overTen == 0:
		return outcomeMet
	case open.overTen <= 2*r.open.noise.overTen:
		return outcomeWithinNoise
	}
	return outcomeMissed
}

// sentinelsGone measures half of length with every Sentinel, and half without.
func sentinelsGone(ctx context.Context, l *lab, s pair, length time.Duration, stderr io.Writer) (with, without windows, err error) {
	wait(ctx, time.Now().Add(outageWarmUp))
	s.next("every Sentinel answers")
	wait(ctx, time.Now().Add(length/2))
	with = s.next("every Sentinel is dead")
	fmt.Fprintln(stderr, "bench: killing every Sentinel")
	for _, n := range l.group.Sentinels() {
		if err := n.Kill(); err != nil {
			return with, without, err
		}
	}
	wait(ctx, time.Now().Add(length/2))
	without = s.next("restarting the Sentinels")
	for _, n := range l.group.Sentinels() {
		if err := n.Restart(ctx); err != nil {
			return with, without, err
		}
	}
	wait(ctx, time.Now().Add(outageWarmUp))
	return with, without, ctx.Err()
}

// redisGone kills every data node, watches the open circuit, and starts them again.
func redisGone(ctx context.Context, l *lab, s pair, c *candidate, out *outageResult, stderr io.Writer) error {
	fmt.Fprintln(stderr, "bench: killing every Redis node")
	nodes := l.group.Nodes()
	killed := time.Now()
	for _, n := range nodes {
		if err := n.Kill(); err != nil {
			return err
		}
	}
	s.next("held")
	if err := until(ctx, func() bool { return routeDown(ctx, c.metrics) }); err != nil {
		return fmt.Errorf("the circuit does not open: %w", err)
	}
	out.opened = time.Since(killed)
	s.next("being told")
	wait(ctx, time.Now().Add(time.Second)) // those that were held have been told
	s.next("every Redis is dead, the circuit open")
	wait(ctx, time.Now().Add(outageOpen))
	out.open = s.next("coming back")

	fmt.Fprintln(stderr, "bench: starting every Redis node again")
	watch := watchBack(ctx, l.group)
	defer watch.stop()
	errs := make(chan error, len(nodes)) // one value each: never full
	for _, n := range nodes {
		go func() { errs <- n.Restart(ctx) }()
	}
	for range nodes {
		if err := <-errs; err != nil {
			return err
		}
	}
	var firstOK time.Time
	err := until(ctx, func() bool {
		s.sidecar.mu.Lock()
		defer s.sidecar.mu.Unlock()
		firstOK = s.sidecar.window.firstOK
		return !firstOK.IsZero() && !watch.at().IsZero()
	})
	if err != nil {
		return fmt.Errorf("no success after the return: %w", err)
	}
	out.back = max(0, firstOK.Sub(watch.at()))
	return nil
}

// until asks every 5 ms, for two minutes at most.
func until(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for !ok() {
		wait(ctx, time.Now().Add(5*time.Millisecond))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// routeDown reports whether the sidecar's metrics say that its circuit is open.
func routeDown(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "sentinelproxy_route_state{") && strings.Contains(line, `state="down"`) {
			return strings.HasSuffix(strings.TrimSpace(line), " 1")
		}
	}
	return false
}

// backWatch notes when a majority of the Sentinels names a node that says it is
// master: nothing can be served before.
type backWatch struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	named map[topology.Addr]topology.Addr
	first time.Time
}

func watchBack(ctx context.Context, g *redistest.Group) *backWatch {
	ctx, cancel := context.WithCancel(ctx)
	b := &backWatch{cancel: cancel, named: make(map[topology.Addr]topology.Addr)}
	masters := make(map[topology.Addr]bool)
	poll := func(n *redistest.Node, take func(reply []any), args ...any) {
		b.wg.Go(func() {
			for ctx.Err() == nil {
				reply, err := n.Do(ctx, args...)
				b.mu.Lock()
				if list, ok := reply.([]any); err == nil && ok {
					take(list)
				} else {
					take(nil)
				}
				votes := make(map[topology.Addr]int)
				for _, a := range b.named {
					votes[a]++
					if 2*votes[a] > len(g.Sentinels()) && masters[a] && b.first.IsZero() {
						b.first = time.Now()
					}
				}
				b.mu.Unlock()
				wait(ctx, time.Now().Add(5*time.Millisecond))
			}
		})
	}
	for _, n := range g.Sentinels() {
		poll(n, func(reply []any) {
			delete(b.named, n.Addr())
			if len(reply) == 2 {
				b.named[n.Addr()] = topology.Addr(fmt.Sprintf("%v:%v", reply[0], reply[1]))
			}
		}, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", g.Name())
	}
	for _, n := range g.Nodes() {
		poll(n, func(reply []any) { masters[n.Addr()] = len(reply) > 0 && reply[0] == "master" }, "ROLE")
	}
	return b
}

func (b *backWatch) at() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

func (b *backWatch) stop() { b.cancel(); b.wg.Wait() }

// outageMarkdown returns the report.
func outageMarkdown(facts []fact, o options, r outageResult) string {
	var b strings.Builder
	b.WriteString("# Outages at a steady rate\n\nMade by `go run ./bench outage`. ")
	fmt.Fprintf(&b, "%d commands a second (SET and GET of 64 bytes in turn) over %d plain connections, through the default "+
		"configuration before a master, two replicas and three Sentinels (down-after %v), /metrics scraped every second. "+
		"Latency counts from when a command was due.\n\n", o.rate, outageConns, outageDownAfter)
	writeFacts(&b, facts, nil)
	fmt.Fprintf(&b, "## Every Sentinel dies\n\n%v in all; the Sentinels are killed at half time.\n\n", o.length)
	b.WriteString(windowHeader + r.withSentinels.rows() + r.without.rows() + "\n")
	fmt.Fprintf(&b, "## Every Redis dies\n\nAll data nodes are killed; the circuit opened after %.1f s. Then each command is answered at once, "+
		"with `%s`. Target: every answer within %v, none a success.\n\n", r.opened.Seconds(), r.open.sidecar.firstError, outageMaxAnswer)
	b.WriteString(windowHeader + r.open.rows() + "\n")
	fmt.Fprintf(&b, "%d answers took longer than %v (%d of the empty server). When all were started again the first success came %.0f ms after a majority of the "+
		"Sentinels named a node that said it was master (seen by the benchmark's own 5 ms poller; target %v).\n\nVerdict: %s\n",
		r.open.sidecar.overTen, outageMaxAnswer, r.open.noise.overTen, float64(r.back)/1e6, outageMaxBack, r.verdict())
	return b.String()
}
