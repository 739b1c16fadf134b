package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What the clients with large replies ask for, and those beside them.
const (
	sizesBytes   = 100 << 20
	sizesElement = 1000
	sizesBeside  = 4                      // clients that send a small GET and an INCR in turn
	sizesEvery   = 2 * time.Millisecond   // each of them
	sizesRest    = 300 * time.Millisecond // between two large replies
	sizesSlow    = 40 << 20               // bytes a second of the slow reader
	sizesTurns   = 10                     // large replies in each cell
)

// sizesCell is what one kind of large reply did to those beside it.
type sizesCell struct {
	command, reader, way string
	p50, p99, most       time.Duration // of the small commands, while large replies pass
	n                    int
	each                 time.Duration // median time that a large reply took its own client
}

// runSizes measures how long small commands take beside replies of 100 MB, directly and
// through the sidecar.
func runSizes(ctx context.Context, root string, o options, stdout, stderr io.Writer) error {
	l, err := openGroupOf(ctx, root, o, stderr, redistest.Options{Replicas: redistest.None, DownAfter: downAfter})
	if err != nil {
		return err
	}
	defer l.close()
	for _, s := range specs() {
		if s.name == nameDirect || s.name == nameSidecar {
			if err := l.add(ctx, root, s, stderr); err != nil {
				return err
			}
		}
	}
	if len(l.candidates) != 2 {
		return errors.New("sizes: direct and the sidecar are the candidates: leave --candidates out")
	}
	if err := l.fillSizes(ctx); err != nil {
		return err
	}
	var cells []sizesCell
	for _, command := range []string{"KEYS *", "LRANGE big:list 0 -1", "HGETALL big:hash", "GET big:string"} {
		for _, slow := range []bool{false, true} {
			for _, c := range l.candidates {
				cell, err := measureSizes(ctx, c, command, slow)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, command, err)
				}
				fmt.Fprintf(stdout, "%s, %s, %s: p99 %v, max %v\n", cell.command, cell.reader, cell.way, cell.p99, cell.most)
				cells = append(cells, cell)
			}
		}
	}
	return publish(root, o.out, sizesMarkdown(collectFacts(ctx, root, l), cells), stdout)
}

// fillSizes makes a string, a list, a hash and a keyspace of 100 MB each.
func (l *lab) fillSizes(ctx context.Context) error {
	a, err := dialAdmin(ctx, l.masterAddr(), nil)
	if err != nil {
		return err
	}
	defer a.close()
	const step = 1000
	script := fmt.Sprintf(`local v = string.rep('v', %d)
for i = ARGV[1], ARGV[1] + %d do
  redis.call('RPUSH', 'big:list', v)
  redis.call('HSET', 'big:hash', i, v)
  redis.call('APPEND', 'big:string', v)
  redis.call('SET', string.format('%%09d', i) .. v, '')
end return 1`, sizesElement, step-1)
	for i := 0; i < sizesBytes/sizesElement; i += step {
		if _, err := a.do("EVAL", script, "0", strconv.Itoa(i)); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	_, err = a.do("SET", "small", strings.Repeat("x", 64))
	return err
}

// measureSizes has one client ask for large replies, and others for small ones
// meanwhile.
func measureSizes(ctx context.Context, c *candidate, command string, slow bool) (sizesCell, error) { //nolint:revive // which reader it is
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cell := sizesCell{command: strings.Fields(command)[0], reader: "fast", way: c.name}
	if slow {
		cell.reader = "slow"
	}
	var mu sync.Mutex // guards the two below
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	for range sizesBeside {
		wg.Go(func() {
			mine, err := besides(ctx, c.addr)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			failed = errors.Join(failed, err)
		})
	}
	var each []time.Duration
	err := func() error {
		conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", string(c.addr))
		if err != nil {
			return err
		}
		defer conn.Close()
		r := bufio.NewReaderSize(conn, 256<<10)
		for range sizesTurns {
			began := time.Now()
			if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
				return err
			}
			if err := discardReply(ctx, r, slow); err != nil {
				return err
			}
			each = append(each, time.Since(began))
			wait(ctx, time.Now().Add(sizesRest))
		}
		return nil
	}()
	cancel()
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return cell, err
	}
	slices.Sort(took)
	slices.Sort(each)
	cell.n = len(took)
	cell.p50, cell.p99, cell.most = took[cell.n/2], took[cell.n*99/100], took[cell.n-1]
	cell.each = each[len(each)/2]
	return cell, nil
}

// besides sends small commands until ctx ends, and returns how long each took.
func besides(ctx context.Context, addr topology.Addr) ([]time.Duration, error) {
	a, err := dialAdmin(ctx, addr, nil)
	if err != nil {
		return nil, err
	}
	defer a.close()
	var took []time.Duration
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		if i%2 == 0 {
			_, err = a.do("STRLEN", "small")
		} else {
			_, err = a.do("INCR", "beside")
		}
		if err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
		wait(ctx, began.Add(sizesEvery))
	}
	return took, nil
}

// discardReply reads and forgets one reply of strings, or of arrays of them.
func discardReply(ctx context.Context, r *bufio.Reader, slow bool) error { //nolint:revive // which reader it is
	began, read := time.Now(), 0
	for left := 1; left > 0; left-- {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return fmt.Errorf("reply %q: %w", line, err)
		}
		if line[0] == '*' {
			left += n
			continue
		}
		for n += 2; n > 0; {
			k, err := r.Discard(min(n, 64<<10))
			if err != nil {
				return err
			}
			n -= k
			read += k
			if due := began.Add(time.Duration(float64(read) / sizesSlow * float64(time.Second))); slow && time.Until(due) > time.Millisecond {
				wait(ctx, due)
			}
		}
	}
	return nil
}

// sizesMarkdown returns the report.
func sizesMarkdown(facts []fact, cells []sizesCell) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Beside replies of 100 MB\n\nMade by `go run ./bench sizes`. One client asks %d times for %d MiB, resting %v between, "+
		"and reads them as fast as it can or (slow) at %d MiB a second. Beside it %d clients send STRLEN and INCR in turn, one each %v; "+
		"their latencies, resting times included, stand here. Target: no more through the sidecar than directly.\n\n",
		sizesTurns, sizesBytes>>20, sizesRest, sizesSlow>>20, sizesBeside, sizesEvery)
	writeFacts(&b, facts, nil)
	b.WriteString("| large reply | reader | small commands through | commands | p50 ms | p99 ms | max ms | the large reply took, ms |\n|---|---|---|---|---|---|---|---|\n")
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	for _, c := range cells {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %.2f | %.1f | %.1f | %.0f |\n", c.command, c.reader, c.way, c.n, ms(c.p50), ms(c.p99), ms(c.most), ms(c.each))
	}
	return b.String()
}
