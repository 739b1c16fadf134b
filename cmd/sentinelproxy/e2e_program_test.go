package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// program is a client program that does all that its users do with a library at
// once, and checks every reply. Its tasks go round after round until finish.
type program struct {
	tb   testing.TB
	name string
	way  *way
	lib  library

	tasks  []*task
	stop   context.CancelFunc // ends the tasks after the round at hand
	finish func()             // ends it all and waits; may be called often

	heard, missed atomic.Int64 // number of the last message that came back; messages that did not
	pushed        atomic.Int64 // elements that RPUSH acknowledged
	popped        atomic.Int64
	done          atomic.Int64 // transactions that EXEC acknowledged
	hits          atomic.Int64 // answers of the client-side cache

	fail func(error) // is told what ends a task
}

// task is one goroutine of a program: rounds is how many rounds went well.
type task struct {
	name   string
	rounds atomic.Int64
	over   atomic.Bool // it has failed
	// longest is the longest round. Owned by the task; read after finish.
	longest time.Duration
}

// startProgram starts a program, and returns it when its library is connected. fail is told
// of each task that failed.
func startProgram(tb testing.TB, name string, w *way, newLib func(testing.TB, *way) library, fail func(error)) *program {
	tb.Helper()
	p := &program{tb: tb, name: name, way: w, lib: newLib(tb, w), fail: fail}
	ctx, stop := context.WithCancel(tb.Context())
	p.stop = stop
	listening, deafen := context.WithCancel(tb.Context())
	var running, hearing sync.WaitGroup
	hearing.Go(func() {
		last := int64(0)
		err := p.lib.listen(listening, p.key("news"), func(text string) {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n <= last {
				tb.Errorf("%s: heard %q after %d", name, text, last)
			}
			p.missed.Add(n - last - 1)
			last = n
			p.heard.Store(n)
		})
		if listening.Err() == nil {
			tb.Errorf("%s: the subscription ended: %v", name, err)
		}
	})
	for i := range 3 {
		p.start(ctx, &running, "pool", p.poolRound(fmt.Sprint(i)))
	}
	for range 2 {
		p.start(ctx, &running, "transaction", p.transactionRound)
	}
	p.start(ctx, &running, "pipeline", p.pipelineRound)
	p.start(ctx, &running, "script", p.scriptRound)
	p.start(ctx, &running, "publisher", p.publishRound)
	p.start(ctx, &running, "producer", p.pushRound)
	p.start(ctx, &running, "consumer", p.popRound)
	if p.lib.cached != nil {
		p.start(ctx, &running, "cache", p.cacheRound)
	}
	p.finish = sync.OnceFunc(func() {
		stop()
		running.Wait()
		deafen()
		p.lib.close()
		hearing.Wait()
	})
	tb.Cleanup(p.finish)
	return p
}

func (p *program) key(s string) string { return p.name + ":" + s }

func (p *program) start(ctx context.Context, running *sync.WaitGroup, name string, round func(ctx context.Context, n int64) error) {
	t := &task{name: name}
	p.tasks = append(p.tasks, t)
	working := context.WithoutCancel(ctx) // a round that began is finished
	running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := int64(1); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			begun := time.Now()
			if err := round(working, n); err != nil {
				t.over.Store(true)
				p.fail(fmt.Errorf("%s: %s, round %d: %w", p.name, name, n, err))
				return
			}
			t.longest = max(t.longest, time.Since(begun))
			t.rounds.Store(n)
		}
	})
}

// want is an error unless got prints as want does.
func want(what string, got any, err error, want ...any) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if g, w := fmt.Sprint(got), fmt.Sprint(want...); g != w {
		return &wrongError{what, g, w}
	}
	return nil
}

// wrongError is a reply that is not as it must be.
type wrongError struct{ what, got, want string }

func (e *wrongError) Error() string { return fmt.Sprintf("%s: got %s; want %s", e.what, e.got, e.want) }

// mayBeLate reports whether err is what somebody may be told in a failover in which somebody
// is late (docs/adr/0004-late-selections.md): that nobody knows, or of less than was
// acknowledged. A queue that lost an element or the end of one goes on with another. More
// than was acknowledged, and an old value in a cache, are never for lateness.
func mayBeLate(err error) bool {
	if strings.Contains(err.Error(), "UNCERTAIN") {
		return true
	}
	e, ok := errors.AsType[*wrongError](err)
	if !ok || e.what == cachedGet {
		return false
	}
	if e.what == "BLPOP" {
		return true
	}
	got, want := strings.Fields(strings.Trim(e.got, "[]")), strings.Fields(strings.Trim(e.want, "[]"))
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			g, err1 := strconv.ParseInt(got[i], 10, 64)
			w, err2 := strconv.ParseInt(want[i], 10, 64)
			return err1 == nil && err2 == nil && g < w
		}
	}
	return false
}

const cachedGet = "cached GET"

// poolRound counts, writes and reads over whatever connection the pool gives: each
// count must be the next one, or a write was lost or done twice.
func (p *program) poolRound(worker string) func(context.Context, int64) error {
	counter, key := p.key("n"+worker), p.key("k"+worker)
	return func(ctx context.Context, n int64) error {
		v, err := p.lib.do(ctx, "INCR", counter)
		if err := want("INCR", v, err, n); err != nil {
			return err
		}
		v, err = p.lib.do(ctx, "SET", key, fmt.Sprint(n))
		if err := want("SET", v, err, "OK"); err != nil {
			return err
		}
		v, err = p.lib.do(ctx, "GET", key)
		return want("GET", v, err, n)
	}
}

func (p *program) pipelineRound(ctx context.Context, n int64) error {
	var cmds [][]string
	var wanted []any
	for i := range 20 {
		v := fmt.Sprintf("%d-%d", n, i)
		cmds = append(cmds, []string{"INCR", p.key("pipe:n")}, []string{"SET", p.key("pipe:k"), v}, []string{"GET", p.key("pipe:k")})
		wanted = append(wanted, 20*(n-1)+int64(i)+1, "OK", v)
	}
	got, err := p.lib.pipeline(ctx, cmds)
	return want("pipeline", got, err, wanted)
}

func (p *program) transactionRound(ctx context.Context, _ int64) error {
	for {
		done, err := p.lib.increment(ctx, p.key("tx"), p.key("tx2"))
		if err != nil {
			return err
		}
		if done {
			p.done.Add(1)
			return nil
		}
	}
}

func (p *program) scriptRound(ctx context.Context, n int64) error {
	v, err := p.lib.script(ctx, p.key("script:n"), p.key("script:k"), fmt.Sprint("value", n))
	return want("script", v, err, []any{n, fmt.Sprint("value", n)})
}

func (p *program) publishRound(ctx context.Context, n int64) error {
	_, err := p.lib.do(ctx, "PUBLISH", p.key("news"), fmt.Sprint(n))
	return err
}

func (p *program) pushRound(ctx context.Context, n int64) error {
	if _, err := p.lib.do(ctx, "RPUSH", p.key("queue"), fmt.Sprint(n)); err != nil {
		return err
	}
	p.pushed.Store(n)
	return nil
}

// popRound wants one element after the other, each once.
func (p *program) popRound(ctx context.Context, _ int64) error {
	v, err := p.lib.pop(ctx, p.key("queue"))
	if err != nil || v == "" {
		return err
	}
	return want("BLPOP", v, nil, p.popped.Add(1))
}

// cacheRound changes a cached key, and wants the new value at once when the cache
// was told. It reads until no invalidation came meanwhile: then the value is in the
// cache, and Redis knows.
func (p *program) cacheRound(ctx context.Context, n int64) error {
	key, value := p.key("cached"), fmt.Sprint(n)
	told := p.lib.invalidated.Load()
	v, err := p.lib.do(ctx, "SET", key, value)
	if err := want("SET", v, err, "OK"); err != nil {
		return err
	}
	if n > 1 {
		deadline := time.Now().Add(2 * patience)
		for p.lib.invalidated.Load() == told {
			if time.Now().After(deadline) {
				return errors.New("the cache never heard of the new value")
			}
			pause(p.tb, time.Millisecond)
		}
	}
	for {
		told = p.lib.invalidated.Load()
		v, hit, err := p.lib.cached(ctx, key)
		if err := want(cachedGet, v, err, value); err != nil {
			return err
		}
		if hit {
			p.hits.Add(1)
		}
		if hit && p.lib.invalidated.Load() == told {
			return nil
		}
	}
}

// failed reports whether one of the tasks has.
func (p *program) failed() bool {
	return slices.ContainsFunc(p.tasks, func(t *task) bool { return t.over.Load() })
}

// waitRounds waits until every task has done n more rounds and a message that was published
// since was heard, in every program of which none has failed.
func waitRounds(tb testing.TB, programs []*program, n int64) {
	tb.Helper()
	goal := make(map[*task]int64)
	news := make(map[*program]int64)
	for _, p := range programs {
		for _, t := range p.tasks {
			goal[t] = t.rounds.Load() + n
			if t.name == "publisher" {
				news[p] = t.rounds.Load() + 2
			}
		}
	}
	behind := func() string {
		for _, p := range programs {
			if p.failed() {
				continue // a consumer without its producer would take long
			}
			for _, t := range p.tasks {
				if got := t.rounds.Load(); got < goal[t] {
					return fmt.Sprintf("%s: %s has done %d rounds of %d", p.name, t.name, got, goal[t])
				}
			}
			if got := p.heard.Load(); got < news[p] {
				return fmt.Sprintf("%s has heard message %d and not %d", p.name, got, news[p])
			}
		}
		return ""
	}
	deadline := time.Now().Add(6 * patience)
	for why := behind(); why != ""; why = behind() {
		if tb.Failed() || time.Now().After(deadline) {
			tb.Fatal(why)
		}
		pause(tb, 5*time.Millisecond)
	}
}

// check compares what the program was told with what the master has.
func (p *program) check(master *redistest.Node) {
	p.tb.Helper()
	has := func(cmd, key string, acknowledged int64) {
		p.tb.Helper()
		v, err := master.Do(p.tb.Context(), cmd, p.key(key))
		if err := want(cmd+" "+p.key(key)+" at the master", v, err, acknowledged); err != nil {
			p.fail(fmt.Errorf("%s: %w", p.name, err))
		}
	}
	workers := 0
	for _, t := range p.tasks {
		n := t.rounds.Load()
		switch t.name {
		case "pool":
			has("GET", fmt.Sprint("n", workers), n)
			has("GET", fmt.Sprint("k", workers), n)
			workers++
		case "pipeline":
			has("GET", "pipe:n", 20*n)
		case "script":
			has("GET", "script:n", n)
		case "cache":
			has("GET", "cached", n)
		}
	}
	has("GET", "tx", p.done.Load())
	has("GET", "tx2", p.done.Load())
	has("LLEN", "queue", p.pushed.Load()-p.popped.Load())
}

func (p *program) String() string {
	var rounds int64
	var longest time.Duration
	for _, t := range p.tasks {
		rounds += t.rounds.Load()
		if t.name != "consumer" {
			longest = max(longest, t.longest)
		}
	}
	s := fmt.Sprintf("%s: %d rounds, longest %v; %d connections, %d popped, %d messages missed", p.name, rounds,
		longest.Round(time.Millisecond), p.way.opened.Load(), p.popped.Load(), p.missed.Load())
	if p.lib.cached != nil {
		s += fmt.Sprintf("; %d answers of the cache, %d invalidations, %d of all", p.hits.Load(), p.lib.invalidated.Load(), p.lib.flushed.Load())
	}
	return s
}

func TestMayBeLate(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"nobody knows":       {fmt.Errorf("x: %w", errors.New("UNCERTAIN SET may or may not")), true},
		"lost":               {want("INCR", int64(6), nil, int64(7)), true},
		"doubled":            {want("INCR", int64(8), nil, int64(7)), false},
		"lost in a pipeline": {want("pipeline", []any{int64(19), "OK"}, nil, []any{int64(21), "OK"}), true},
		"doubled in one":     {want("pipeline", []any{int64(1), int64(23), "OK"}, nil, []any{int64(1), int64(22), "OK"}), false},
		"a queue":            {want("BLPOP", "211", nil, int64(212)), true},
		"an old value":       {want(cachedGet, "6", nil, "7"), false},
		"a refusal":          {want("SET", "QUEUED", nil, "OK"), false},
		"a connection":       {errors.New("EOF"), false},
	} {
		if got := mayBeLate(tt.err); got != tt.want {
			t.Errorf("%s: %v for %v; want %v", name, got, tt.err, tt.want)
		}
	}
}
