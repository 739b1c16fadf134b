package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What idle clients may cost.
const (
	idleMaxResident = 40 << 20 // bytes, of the whole process
	idleMaxBackend  = 16       // connections, over all nodes of the group
)

const (
	idleWatch = 5 * time.Second        // how long memory is watched once all are connected
	idleTick  = 500 * time.Millisecond // how often
	idleBatch = 100                    // connections opened before their PONGs are read
)

// idleResult is what a candidate's idle clients cost.
type idleResult struct {
	name       string
	clients    int
	before     int64 // bytes resident before the clients came
	resident   int64 // the most bytes resident while all were idle
	backend    int   // connections the proxy added at the nodes, in all
	atMaster   int   // of these, at the master
	gone       int   // clients whose connection was closed on them
	unanswered int   // clients without a PONG at the end
}

// verdict says whether the result keeps the promise.
func (r idleResult) verdict() outcome {
	if r.resident <= idleMaxResident && r.backend <= idleMaxBackend && r.gone == 0 && r.unanswered == 0 {
		return outcomeMet
	}
	return outcomeMissed
}

// runIdle measures memory and backend connections under many idle clients, one
// candidate after another, each started when its turn comes.
func runIdle(ctx context.Context, root string, o options, stdout, stderr io.Writer) error {
	l, err := openGroup(ctx, root, o, stderr)
	if err != nil {
		return err
	}
	defer l.close()
	var rows []idleResult
	for _, s := range specs() {
		if s.prepare == nil || !l.wants(s.name) {
			continue
		}
		r, err := l.idle(ctx, root, s, stderr)
		if err != nil && s.name != nameSidecar && ctx.Err() == nil {
			// Not being able to hold so many clients is a result too.
			l.leftOut = append(l.leftOut, fmt.Sprintf("%s failed: %v", s.name, err))
			continue
		}
		if err != nil {
			return err
		}
		if r != nil {
			rows = append(rows, *r)
			fmt.Fprintf(stdout, "%s: %d clients, %.1f MB resident, %d backend connections\n",
				r.name, r.clients, megabytes(r.resident), r.backend)
		}
	}
	for _, line := range l.leftOut {
		fmt.Fprintln(stderr, "bench:", line)
	}
	if len(rows) == 0 {
		return fmt.Errorf("%w: no candidate can be measured", errMissing)
	}
	text := idleMarkdown(collectFacts(ctx, root, l), l.leftOut, rows)
	if err := publish(root, o.out, text, stdout); err != nil {
		return err
	}
	for _, r := range rows {
		if o.strict && r.name == nameSidecar && r.verdict() == outcomeMissed {
			return errTarget
		}
	}
	return nil
}

// idle measures one candidate; nil without an error means it was left out.
func (l *lab) idle(ctx context.Context, root string, s spec, stderr io.Writer) (*idleResult, error) {
	baseMaster, baseAll, err := l.connected(ctx)
	if err != nil {
		return nil, err
	}
	n := len(l.candidates)
	if err := l.add(ctx, root, s, stderr); err != nil || len(l.candidates) == n {
		return nil, err
	}
	c := l.candidates[n]
	defer func() {
		c.stop()
		l.candidates = l.candidates[:n]
	}()
	r := &idleResult{name: s.name, clients: l.options.connections}
	if r.before, err = residentBytes(c.proc.pid()); err != nil {
		return nil, err
	}
	clients, err := openIdle(ctx, c.addr, r.clients)
	defer closeAll(clients)
	if err != nil {
		return nil, fmt.Errorf("%s: after %d idle connections: %w; it printed: %s", s.name, len(clients), err, c.proc.tail())
	}
	if r.resident, err = watchResident(ctx, c.proc.pid()); err != nil {
		return nil, err
	}
	master, all, err := l.connected(ctx)
	if err != nil {
		return nil, err
	}
	r.atMaster, r.backend = master-baseMaster, all-baseAll
	r.gone, r.unanswered = askAll(clients)
	return r, nil
}

// connected returns how many clients the master has, and all nodes together.
// Replicas are not among them; the connection asking is.
func (l *lab) connected(ctx context.Context) (master, all int, err error) {
	for _, node := range l.group.Nodes() {
		reply, err := node.Do(ctx, "INFO", "clients")
		if err != nil {
			return 0, 0, err
		}
		n, err := connectedClients(fmt.Sprint(reply))
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", node.Addr(), err)
		}
		all += n
		if node == l.master {
			master = n
		}
	}
	return master, all, nil
}

// connectedClients reads the answer to INFO clients.
func connectedClients(info string) (int, error) {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "connected_clients:"); ok {
			return strconv.Atoi(v)
		}
	}
	return 0, errors.New("INFO clients has no connected_clients")
}

// openIdle opens n connections and waits for a PONG on each, so that every one
// has been accepted and served. What it returns is open also after an error.
func openIdle(ctx context.Context, addr topology.Addr, n int) ([]net.Conn, error) {
	d := net.Dialer{Timeout: readyWithin, KeepAlive: -1}
	var conns []net.Conn
	for len(conns) < n {
		first := len(conns)
		for range min(idleBatch, n-first) {
			conn, err := d.DialContext(ctx, "tcp", string(addr))
			if err != nil {
				return conns, err
			}
			conns = append(conns, conn)
		}
		if gone, unanswered := askAll(conns[first:]); gone+unanswered > 0 {
			return conns, fmt.Errorf("%d closed and %d without a PONG among %d", gone, unanswered, len(conns)-first)
		}
	}
	return conns, nil
}

// askAll sends PING on every connection, then reads the answers. A client that
// was cut off counts as gone, one that got no PONG in time as unanswered.
func askAll(conns []net.Conn) (gone, unanswered int) {
	deadline := time.Now().Add(readyWithin)
	failed := make([]bool, len(conns))
	for i, c := range conns {
		_ = c.SetDeadline(deadline) // fails on a closed connection only, as does what follows
		if _, err := io.WriteString(c, "*1\r\n$4\r\nPING\r\n"); err != nil {
			gone++
			failed[i] = true
		}
	}
	buf := make([]byte, len("+PONG\r\n"))
	for i, c := range conns {
		if failed[i] {
			continue
		}
		_, err := io.ReadFull(c, buf)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			unanswered++
		case err != nil:
			gone++
		case string(buf) != "+PONG\r\n":
			unanswered++
		}
	}
	return gone, unanswered
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// watchResident returns the most memory the process held during idleWatch.
func watchResident(ctx context.Context, pid int) (int64, error) {
	done := time.NewTimer(idleWatch)
	defer done.Stop()
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	var most int64
	for {
		now, err := residentBytes(pid)
		if err != nil {
			return 0, err
		}
		most = max(most, now)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-done.C:
			return most, nil
		case <-tick.C:
		}
	}
}

// idleMarkdown returns the report of the idle test.
func idleMarkdown(facts []fact, leftOut []string, rows []idleResult) string {
	var b strings.Builder
	b.WriteString("# Idle clients\n\nMade by `go run ./bench idle`. ")
	fmt.Fprintf(&b, "Every client sends one PING, reads its PONG and stays. Target for sentinelproxy: at most %.0f MB resident "+
		"and %d backend connections, with every client answered at the end. Memory is the highest within %v; backend "+
		"connections are what the proxy added to connected_clients of all three nodes, control connections included.\n\n",
		megabytes(idleMaxResident), idleMaxBackend, idleWatch)
	writeFacts(&b, facts, leftOut)
	b.WriteString("| | clients | MB before | MB with them | KB per client | backend connections | of these at the master | cut off | unanswered | verdict |\n" +
		"|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		verdict := "–"
		if r.name == nameSidecar {
			verdict = r.verdict().String()
		}
		fmt.Fprintf(&b, "| %s | %d | %.1f | %.1f | %.2f | %d | %d | %d | %d | %s |\n", r.name, r.clients, megabytes(r.before),
			megabytes(r.resident), float64(r.resident-r.before)/1024/float64(max(r.clients, 1)), r.backend, r.atMaster, r.gone, r.unanswered, verdict)
	}
	return b.String()
}

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
