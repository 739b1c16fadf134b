package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// What one value of Redis' largest size may cost the sidecar beside what it holds
// when idle.
const (
	largestValue = 512 << 20
	mayGrow      = 64 << 20
)

// sizesWait bounds each passage of a large value, on a busy machine too.
const sizesWait = 3 * time.Minute

// startBuilt is startRun with the program as users build it, in a process of its own:
// the race detector of the test would multiply its memory.
func startBuilt(tb testing.TB, g *redistest.Group, more ...string) (*started, int) {
	tb.Helper()
	program := filepath.Join(tb.TempDir(), "sentinelproxy")
	if out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		tb.Fatalf("go build: %v: %s", err, out)
	}
	s := &started{addr: freeAddr(tb), admin: freeAddr(tb), log: new(buffer)}
	args := []string{"run", "--listen", s.addr, "--admin", s.admin, "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	cmd := exec.CommandContext(tb.Context(), program, append(args, more...)...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
			tb.Errorf("run: %v", err)
		}
		if tb.Failed() {
			tb.Log(s.log.String())
		}
	})
	waitFor(tb, "readiness", func() bool {
		code, _ := get(tb, addrOf(s.admin), "/readyz")
		return code == 200
	})
	return s, cmd.Process.Pid
}

// resident returns a line of /proc/PID/status, VmRSS or VmHWM, in bytes.
func resident(tb testing.TB, pid int, line string) int {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), line+":")
	rest, _, _ = strings.Cut(rest, "kB")
	kb, err := strconv.Atoi(strings.TrimSpace(rest))
	if err != nil {
		tb.Fatalf("%s of %q", line, b)
	}
	return kb << 10
}

// stays runs f and wants the process to hold at most mayGrow more meanwhile than idle.
func stays(tb testing.TB, pid, idle int, f func()) {
	tb.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil { // VmHWM begins anew
		tb.Fatal(err)
	}
	f()
	peak := resident(tb, pid, "VmHWM")
	tb.Logf("at most %.1f MiB resident, %.1f when idle", float64(peak)/(1<<20), float64(idle)/(1<<20))
	if peak > idle+mayGrow {
		tb.Errorf("%d MiB resident while it passed, %d when idle; want at most %d more", peak>>20, idle>>20, mayGrow>>20)
	}
}

// sizesConn is a client that writes and reads large values without holding them.
type sizesConn struct {
	net.Conn

	tb testing.TB
	r  *bufio.Reader
}

func dialSizes(tb testing.TB, addr string) *sizesConn {
	tb.Helper()
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(sizesWait))
	return &sizesConn{Conn: c, tb: tb, r: bufio.NewReaderSize(c, 256<<10)}
}

// pattern is the byte at each place of a large value: what is lost or doubled shows.
func pattern(b []byte, at int) {
	for i := range b {
		b[i] = 'a' + byte((at+i)%26+(at+i)/1000%7)
	}
}

// send writes a command whose last argument is the largest value.
func (c *sizesConn) send(words ...string) {
	c.tb.Helper()
	_ = c.SetDeadline(time.Now().Add(sizesWait))
	w := bufio.NewWriterSize(c, 256<<10)
	fmt.Fprintf(w, "*%d\r\n", len(words)+1)
	for _, s := range words {
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(s), s)
	}
	fmt.Fprintf(w, "$%d\r\n", largestValue)
	piece := make([]byte, 182000) // of whole periods of the pattern
	pattern(piece, 0)
	for left := largestValue; left > 0; left -= len(piece) {
		_, _ = w.Write(piece[:min(left, len(piece))])
	}
	_, _ = w.WriteString("\r\n")
	if err := w.Flush(); err != nil {
		c.tb.Fatalf("%s of %d bytes: %v", words[0], largestValue, err)
	}
}

// say writes a small command.
func (c *sizesConn) say(words ...string) {
	c.tb.Helper()
	_ = c.SetDeadline(time.Now().Add(sizesWait))
	if _, err := fmt.Fprintf(c, "%s\r\n", strings.Join(words, " ")); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *sizesConn) line() string {
	c.tb.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.tb.Fatal(err)
	}
	return strings.TrimSuffix(s, "\r\n")
}

func (c *sizesConn) want(lines ...string) {
	c.tb.Helper()
	for _, want := range lines {
		if got := c.line(); got != want {
			c.tb.Fatalf("got %q; want %q", got, want)
		}
	}
}

// value reads a value of n bytes and compares it; between is called now and then.
func (c *sizesConn) value(n int, between func()) {
	c.tb.Helper()
	c.want("$" + strconv.Itoa(n))
	want, got := make([]byte, 182000), make([]byte, 182000)
	pattern(want, 0)
	for at := 0; at < n; at += len(want) {
		k := min(len(want), n-at)
		if _, err := io.ReadFull(c.r, got[:k]); err != nil {
			c.tb.Fatalf("after %d of %d bytes: %v", at, n, err)
		}
		if !bytes.Equal(got[:k], want[:k]) {
			c.tb.Fatalf("other bytes came back, near %d", at)
		}
		if between != nil {
			between()
		}
	}
	c.want("")
}

// A value of Redis' largest size passes, in and out, in every kind of command, through
// a sidecar that holds little of it.
func TestLargestValuesNeedLittleMemory(t *testing.T) {
	g := redistest.New(t, redistest.Options{Replicas: redistest.None, Sentinels: 1})
	for _, mode := range []string{"true", "false"} {
		t.Run("multiplex "+mode, func(t *testing.T) {
			s, pid := startBuilt(t, g, "--multiplex="+mode)
			c := dialSizes(t, s.addr)
			c.say("PING")
			c.want("+PONG")
			idle := resident(t, pid, "VmRSS")
			ok := func(f func()) { stays(t, pid, idle, f) }
			ok(func() { c.send("SET", "k"); c.want("+OK") })
			ok(func() { c.say("GET k"); c.value(largestValue, nil) })
			ok(func() { // a slow reader, and others beside it
				other := dialSizes(t, s.addr)
				c.say("GET k")
				n := 0
				c.value(largestValue, func() {
					n++
					other.say("INCR n")
					other.want(":" + strconv.Itoa(n))
				})
				other.say("DEL n")
				other.want(":1")
			})
			if mode == "false" {
				c.say("DEL k")
				c.want(":1")
				return // the rest differs in nothing
			}
			ok(func() {
				c.say("MULTI")
				c.send("SET", "k")
				c.say("GET k")
				c.say("EXEC")
				c.want("+OK", "+QUEUED", "+QUEUED", "*2", "+OK")
				c.value(largestValue, nil)
			})
			ok(func() { c.send("SETRANGE", "k", "0"); c.want(":" + strconv.Itoa(largestValue)) })
			ok(func() {
				c.say("DEL k")
				c.send("APPEND", "k")
				c.want(":1", ":"+strconv.Itoa(largestValue))
			})
			ok(func() {
				c.say("DEL k")
				c.send("EVAL", "return #ARGV[1]", "0")
				c.want(":1", ":"+strconv.Itoa(largestValue))
			})
		})
	}
}

// A large value that comes while no master is served stays with its client.
func TestHeldLargestValueNeedsLittleMemory(t *testing.T) {
	g := redistest.New(t, redistest.Options{Replicas: 1, DownAfter: 3 * time.Second, RedisConfig: []string{"repl-diskless-sync yes"}})
	s, pid := startBuilt(t, g, patiently()...)
	stable(t, g)
	old, err := g.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := dialSizes(t, s.addr)
	c.say("PING")
	c.want("+PONG")
	idle := resident(t, pid, "VmRSS")
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the route to hold", func() bool {
		code, _ := get(t, addrOf(s.admin), "/readyz")
		return code != 200
	})
	stays(t, pid, idle, func() { c.send("SET", "k"); c.want("+OK") })
	now := stable(t, g)
	if now.Addr() == old.Addr() {
		t.Fatal("there was no failover")
	}
	if n, err := now.Do(t.Context(), "STRLEN", "k"); err != nil || n != int64(largestValue) {
		t.Errorf("the new master has %v bytes, %v; want all", n, err)
	}
}
