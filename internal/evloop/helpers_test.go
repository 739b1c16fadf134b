package evloop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for what must happen; it is never waited out
// by a test that passes.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// drivers are those that this system has.
func drivers() map[string]Driver {
	if runtime.GOOS == "linux" {
		return map[string]Driver{"epoll": DriverEpoll, "portable": DriverPortable}
	}
	return map[string]Driver{"portable": DriverPortable}
}

// rig is a running loop and what a test does with it.
type rig struct {
	*Loop

	tb     testing.TB
	driver Driver
	logs   *logBuffer
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
}

// newRig runs a loop until the test ends, and then checks that no descriptor is left.
func newRig(tb testing.TB, d Driver) *rig {
	tb.Helper()
	return newRigOf(tb, Options{Driver: d})
}

// newRigOf is newRig with other options than the driver's; its log is the rig's.
func newRigOf(tb testing.TB, o Options) *rig {
	tb.Helper()
	before := openFiles(tb)
	logs := &logBuffer{}
	o.Log = slog.New(slog.NewTextHandler(logs, nil))
	l, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	r := &rig{Loop: l, tb: tb, driver: o.Driver, logs: logs, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		if err := l.Run(ctx); err != nil {
			tb.Errorf("Run: %v", err)
		}
	}()
	tb.Cleanup(func() {
		r.stop()
		if before < 0 {
			return
		}
		waitFor(tb, func() string {
			if now := openFiles(tb); now > before {
				return fmt.Sprintf("%d descriptors are open; there were %d", now, before)
			}
			return ""
		})
	})
	return r
}

func (r *rig) stop() {
	r.cancel()
	r.receive(r.ended, "the end of Run")
}

func (r *rig) receive(c <-chan struct{}, what string) {
	r.tb.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		r.tb.Fatalf("waited in vain for %s", what)
	}
}

// do runs f on the loop and returns when it has run.
func (r *rig) do(f func()) {
	r.tb.Helper()
	done := make(chan struct{})
	if err := r.Post(func() { defer close(done); f() }); err != nil {
		r.tb.Fatalf("Post: %v", err)
	}
	r.receive(done, "a posted function")
}

// freeze stops the loop in mid-turn until the returned function is called.
func (r *rig) freeze() (thaw func()) {
	r.tb.Helper()
	frozen, release := make(chan struct{}), make(chan struct{})
	if err := r.Post(func() { close(frozen); <-release }); err != nil {
		r.tb.Fatalf("Post: %v", err)
	}
	r.receive(frozen, "the loop to stand still")
	thaw = sync.OnceFunc(func() { close(release) })
	r.tb.Cleanup(thaw)
	return thaw
}

// until waits for a condition that is asked on the loop.
func (r *rig) until(what string, cond func() bool) {
	r.tb.Helper()
	waitFor(r.tb, func() string {
		ok := false
		r.do(func() { ok = cond() })
		if ok {
			return ""
		}
		return "not seen: " + what
	})
}

// waitFor polls until the condition has nothing to complain about.
func waitFor(tb testing.TB, complaint func() string) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		c := complaint()
		if c == "" {
			return
		}
		if time.Now().After(end) {
			tb.Error(c)
			return
		}
	}
}

// serve listens on the loop; each connection gets a handler that setup completes.
func (r *rig) serve(network string, setup func(h *handler)) net.Addr {
	r.tb.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(shortDir(r.tb), "s")
	}
	ln, err := new(net.ListenConfig).Listen(r.tb.Context(), network, addr)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.do(func() {
		err = r.Listen(ln, func(s Socket) { r.add(s, setup) })
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	return ln.Addr()
}

// add makes the loop own s; it runs on the loop.
func (r *rig) add(s Socket, setup func(h *handler)) *handler {
	h := &handler{tb: r.tb}
	if _, err := r.Add(s, func(c *Conn) Handler {
		h.c = c
		setup(h)
		return h
	}); err != nil {
		r.tb.Errorf("Add: %v", err)
	}
	return h
}

// accept serves one connection and returns both its ends.
func (r *rig) accept(network string, setup func(h *handler)) (net.Conn, *handler) {
	r.tb.Helper()
	got := make(chan *handler, 1)
	addr := r.serve(network, func(h *handler) {
		setup(h)
		got <- h
	})
	nc := dial(r.tb, addr)
	select {
	case h := <-got:
		return nc, h
	case <-time.After(patience):
		r.tb.Fatal("no connection was accepted")
		return nil, nil
	}
}

func dial(tb testing.TB, addr net.Addr) net.Conn {
	tb.Helper()
	d := net.Dialer{Timeout: patience}
	nc, err := d.DialContext(tb.Context(), addr.Network(), addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	return nc
}

func mustWrite(tb testing.TB, w io.Writer, b []byte) {
	tb.Helper()
	if _, err := w.Write(b); err != nil {
		tb.Fatalf("write: %v", err)
	}
}

func mustRead(tb testing.TB, r io.Reader, want []byte) {
	tb.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		tb.Fatalf("read %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		tb.Fatalf("read something else than was sent, from byte %d of %d", i, len(want))
	}
}

func mustEOF(tb testing.TB, r io.Reader) {
	tb.Helper()
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		tb.Fatalf("read %d bytes, %v; want EOF", n, err)
	}
}

// pattern is n bytes in which every place looks different.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// shortDir is a directory whose path is short enough for a socket's name.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "ev") //nolint:usetesting // TempDir holds the test's name, and a socket's path at most 107 bytes
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// openFiles counts our descriptors, or returns -1 where it cannot.
func openFiles(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// handler is a Handler whose behaviour a test fills in. What it counts belongs
// to the loop.
type handler struct {
	tb testing.TB
	c  *Conn

	onData   func(b []byte)
	onRoom   func() []byte // nil: no room of its own
	onEOF    func()        // nil: Close
	onWrote  func(n int)
	onClosed func(err error)

	out                [][]byte
	received           []byte // if onData is nil
	room               []byte // for the next Data
	reads, lefts, eofs int
	outputs, closeds   int
	outputTurn         uint64 // the turn of the last Output, counted from 1
	again              int    // Output calls in the same turn as the one before
	cuts               int    // writes that ended within a buffer
	err                error
}

func (h *handler) say(b ...[]byte) {
	h.out = append(h.out, b...)
	h.c.Flush()
}

func (h *handler) alive(what string) {
	if h.closeds > 0 {
		h.tb.Errorf("%s after Closed", what)
	}
}

func (h *handler) Data(b []byte) {
	h.alive("Data")
	if h.c.Closed() {
		h.tb.Error("Data after Close")
	}
	if h.c.Paused() {
		h.tb.Error("Data while paused")
	}
	if h.eofs > 0 {
		h.tb.Error("Data after EOF")
	}
	room := h.room
	h.room = nil
	switch {
	case len(b) == 0, len(room) == 0 && len(b) > ReadSize:
		h.tb.Errorf("Data of %d bytes", len(b))
	case len(room) > 0 && (&b[0] != &room[0] || len(b) > len(room)):
		h.tb.Errorf("Data of %d bytes is elsewhere than in the room of %d", len(b), len(room))
	}
	h.reads++
	if h.onData != nil {
		h.onData(b)
		return
	}
	h.received = append(h.received, b...)
}

func (h *handler) Room() []byte {
	h.alive("Room")
	if h.onRoom != nil {
		h.room = h.onRoom()
	}
	return h.room
}

func (h *handler) Left() {
	h.alive("Left")
	if !h.c.Paused() {
		h.tb.Error("Left while not paused")
	}
	h.lefts++
}

func (h *handler) EOF() {
	h.alive("EOF")
	h.eofs++
	if h.onEOF != nil {
		h.onEOF()
		return
	}
	h.c.Close()
}

func (h *handler) Output(bufs [][]byte) [][]byte {
	h.alive("Output")
	h.outputs++
	if turn := h.c.Loop().Stats().Turns + 1; turn == h.outputTurn {
		h.again++
	} else {
		h.outputTurn = turn
	}
	return append(bufs, h.out...)
}

func (h *handler) Wrote(n int) {
	h.alive("Wrote")
	if h.onWrote != nil {
		h.onWrote(n)
	}
	for n > 0 {
		if len(h.out) == 0 {
			h.tb.Errorf("Wrote more than there was")
			return
		}
		k := min(n, len(h.out[0]))
		if k < len(h.out[0]) {
			h.cuts++
		}
		h.out[0] = h.out[0][k:]
		n -= k
		if len(h.out[0]) == 0 {
			h.out = h.out[1:]
		}
	}
}

func (h *handler) Closed(err error) {
	h.closeds++
	h.err = err
	if h.onClosed != nil {
		h.onClosed(err)
	}
}

// echo answers everything with itself.
func echo(h *handler) {
	h.onData = func(b []byte) { h.say(bytes.Clone(b)) }
}

// echoRooms is echo which has the bytes read to buffers of its own, of many sizes.
func echoRooms(h *handler) {
	h.onRoom = func() []byte { return make([]byte, [...]int{0, 1, 1000, 3 * ReadSize}[h.reads%4]) }
	h.onData = func(b []byte) {
		if h.reads%4 == 1 { // it was read to the loop's own
			b = bytes.Clone(b)
		}
		h.say(b)
	}
}

// logBuffer is what a loop has logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}
