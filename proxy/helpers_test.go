package proxy

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The masters that scripts speak of.
const (
	nodeA = topology.Addr("a:6379")
	nodeB = topology.Addr("b:6379")
)

var errReset = errors.New("connection reset by peer")

// rig is a worker in a world without sockets and clocks: time passes when a test
// says so, and what is written piles up until the test looks at it.
type rig struct {
	failure string // why connections to the master fail
	wants   []wanted
	t       testing.TB
	w       *worker
	at      time.Duration
	timers  []*fakeTimer
	wires   []*fakeWire // open ones
	dials   []*fakeDial // not answered yet
	reports []topology.Report
	posted  []func()
	gen     uint64
	lease   *topology.Lease
	// limit is how many bytes new wires take before they are blocked; 0: any number.
	limit int
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	o := Options{Group: "orders", Loops: 1, Log: slog.New(slog.DiscardHandler)}
	r := &rig{t: tb, at: time.Hour}
	r.w = newWorker(r, 0, &o, newCommands(DefaultDenied()))
	r.w.slow = make(chan slowCommand, slowRoom)
	r.reach(r.at)
	return r
}

// serving is newRig with node A served.
func serving(tb testing.TB) *rig {
	tb.Helper()
	r := newRig(tb)
	r.serve(nodeA, 1)
	return r
}

func (r *rig) now() time.Duration { return r.at }

// reach has it be that time.
func (r *rig) reach(at time.Duration) { r.at, r.w.tick = at, uint64(at/time.Microsecond) }

func (r *rig) report(rep topology.Report) { r.reports = append(r.reports, rep) }

func (r *rig) reported(k topology.ReportKind) int {
	n := 0
	for _, rep := range r.reports {
		if rep.Kind == k {
			n++
		}
	}
	return n
}

// fakeTimer is a timer of a rig.
type fakeTimer struct {
	r     *rig
	at    time.Duration
	f     func()
	armed bool
}

func (r *rig) after(d time.Duration, f func()) timer {
	t := &fakeTimer{r: r, f: f}
	t.Reset(d)
	r.timers = append(r.timers, t)
	return t
}

func (t *fakeTimer) Reset(d time.Duration) { t.at, t.armed = t.r.at+d, true }
func (t *fakeTimer) Stop()                 { t.armed = false }

// advance lets d pass and runs what becomes due, in order.
func (r *rig) advance(d time.Duration) {
	r.t.Helper()
	end := r.at + d
	for n := 0; ; n++ {
		if n > 100000 {
			r.t.Fatal("timers never come to rest")
		}
		var next *fakeTimer
		for _, t := range r.timers {
			if t.armed && t.at <= end && (next == nil || t.at < next.at) {
				next = t
			}
		}
		if next == nil {
			break
		}
		r.reach(max(r.at, next.at))
		next.armed = false
		next.f()
		r.turn()
	}
	r.reach(end)
}

// fakeDial is a dial under way.
type fakeDial struct {
	addr topology.Addr
	p    *pipe
	done func(wire, error)
}

func (r *rig) dial(addr topology.Addr, p *pipe, done func(wire, error)) {
	r.dials = append(r.dials, &fakeDial{addr, p, done})
}

// accept answers the oldest dial and returns the server's end, without having
// answered its greeting.
func (r *rig) accept() *backend {
	r.t.Helper()
	r.turn()
	for len(r.dials) > 0 && r.dials[0].p.state != pipeDialing {
		r.dials = r.dials[1:] // given up meanwhile, as on the real host
	}
	if len(r.dials) == 0 {
		r.t.Fatal("nothing is being dialled")
	}
	d := r.dials[0]
	r.dials = r.dials[1:]
	w := &fakeWire{r: r, h: d.p, name: "backend " + string(d.addr), limit: r.limit}
	r.wires = append(r.wires, w)
	d.done(w, nil)
	r.turn()
	return &backend{wire: w, addr: d.addr}
}

// backend answers the oldest dial and greets as a master.
func (r *rig) backend() *backend {
	r.t.Helper()
	b := r.accept()
	b.expect("HELLO")
	b.reply(helloMaster)
	return b
}

// ownBackend is backend for the pipe of one session, past those that are shared.
func (r *rig) ownBackend() *backend {
	r.t.Helper()
	for {
		if b := r.backend(); b.wire.h.(*pipe).owner != nil {
			return b
		}
	}
}

// subscribed has a client subscribe to ch, and returns the connection that it does it on.
func (r *rig) subscribed(c *fakeClient) *backend {
	r.t.Helper()
	c.send("SUBSCRIBE ch")
	b := r.ownBackend()
	b.expect("SUBSCRIBE ch")
	b.reply(subscribedRESP2)
	c.expect(subscribedRESP2)
	return b
}

const helloMaster = "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:7\r\n" +
	"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"

// fakeWire is a connection seen from the proxy.
type fakeWire struct {
	r     *rig
	h     evloop.Handler
	name  string
	limit int // bytes it still takes before it is blocked; 0: any number

	got                                         []byte // all that was written and not looked at yet
	dirty, paused, closed, aborted, whenFlushed bool
	blocked                                     bool
	reaped                                      bool
	err                                         error
}

func (c *fakeWire) Flush()             { c.dirty = true }
func (c *fakeWire) Pause()             { c.paused = true }
func (c *fakeWire) Resume()            { c.paused = c.paused && c.whenFlushed }
func (c *fakeWire) Blocked() bool      { return c.blocked }
func (c *fakeWire) Close()             { c.closed = true }
func (c *fakeWire) CloseFlushed()      { c.whenFlushed, c.paused, c.dirty = true, true, true }
func (c *fakeWire) Abort()             { c.closed, c.aborted = true, true }
func (c *fakeWire) RemoteAddr() string { return c.name }
func (c *fakeWire) LocalAddr() string  { return "us" }

// write takes output as far as the limit goes.
func (c *fakeWire) write() {
	c.dirty = false
	var out []byte
	for _, b := range c.h.Output(nil) {
		out = append(out, b...)
	}
	if c.limit > 0 && len(out) >= c.limit {
		out = out[:c.limit-1]
		c.blocked = true
	}
	if len(out) > 0 {
		if c.limit > 0 {
			c.limit -= len(out)
		}
		c.got = append(c.got, out...)
		c.h.Wrote(len(out))
	} else if c.whenFlushed && !c.blocked {
		c.closed = true
	}
	if c.whenFlushed {
		c.dirty = c.dirty || !c.blocked
	}
}

// unblock has the wire take n more bytes; 0: any number.
func (c *fakeWire) unblock(n int) {
	c.blocked, c.dirty, c.limit = false, true, n
	c.r.turn()
}

// turn ends turns of the loop until nothing is left to do.
func (r *rig) turn() {
	r.t.Helper()
	r.w.pump()
	for n := 0; ; n++ {
		if n > 10000 {
			r.t.Fatal("the loop never comes to rest")
		}
		busy := len(r.posted) > 0
		for _, f := range r.posted {
			f()
		}
		r.posted = nil
		for _, c := range r.wires {
			if c.dirty && !c.closed && !c.blocked {
				busy = true
				c.write()
				r.w.pump()
			}
		}
		open := r.wires[:0:0]
		for _, c := range r.wires {
			if !c.closed {
				open = append(open, c)
				continue
			}
			busy, c.reaped = true, true
			c.h.Closed(c.err)
			r.w.pump()
		}
		r.wires = open
		if !busy {
			return
		}
	}
}

// peer hands over bytes as the other end sends them.
func (c *fakeWire) peer(b string) {
	c.r.t.Helper()
	if c.closed {
		c.r.t.Fatalf("%s: closed after %q, but the script sends %.40q", c.name, c.got, b)
	}
	c.data([]byte(b))
	c.r.turn()
}

// data hands over what the peer sends as a loop does. b may change afterwards.
func (c *fakeWire) data(b []byte) {
	for len(b) > 0 && !c.closed {
		room := b
		if h, ok := c.h.(evloop.Collector); ok {
			if own := h.Room(); len(own) > 0 {
				room = own
			}
		}
		n := copy(room, b)
		c.h.Data(room[:n])
		b = b[n:]
	}
}

func (c *fakeWire) peerEOF() {
	c.h.EOF()
	c.r.turn()
}

func (c *fakeWire) peerReset() {
	c.closed, c.err = true, errReset
	c.r.turn()
}

// backend is the server's end of a pipe.
type backend struct {
	wire *fakeWire
	addr topology.Addr
}

// next returns the next command that arrived, as words; nil if there is none.
func (b *backend) next() []string {
	var rq resp.Requests
	n, _, err := rq.Next(b.wire.got)
	if n == 0 || err != nil {
		return nil
	}
	var words []string
	for _, a := range resp.Args(nil, b.wire.got[:n]) {
		words = append(words, string(a))
	}
	b.wire.got = b.wire.got[n:]
	return words
}

// expect wants the next commands to be these, each as its words or their
// beginning.
func (b *backend) expect(cmds ...string) {
	b.wire.r.t.Helper()
	b.wire.r.turn()
	for _, want := range cmds {
		got := strings.Join(b.next(), " ")
		if got != want && !strings.HasPrefix(got, want+" ") {
			b.wire.r.t.Fatalf("%s got command %q; want %q", b.wire.name, got, want)
		}
	}
}

func (b *backend) expectNothing() {
	b.wire.r.t.Helper()
	b.wire.r.turn()
	if len(b.wire.got) > 0 {
		b.wire.r.t.Fatalf("%s got %q; want nothing", b.wire.name, b.wire.got)
	}
}

func (b *backend) reply(s string) {
	b.wire.r.t.Helper()
	b.wire.peer(s)
}

// keptBy is how many bytes a connection holds of commands that are not sent or answered.
func keptBy(b *backend) int {
	n := 0
	for _, c := range b.wire.h.(*pipe).out.chunks {
		n += len(c)
	}
	return n
}

// mayReply answers the question whether a client may call CLIENT REPLY.
func (b *backend) mayReply() {
	b.wire.r.t.Helper()
	b.expect("CLIENT REPLY ON")
	b.reply("+OK\r\n")
}

// fakeClient is the client's end of a session.
type fakeClient struct {
	wire *fakeWire
	s    *session
}

func (r *rig) client() *fakeClient {
	w := &fakeWire{r: r, name: "client"}
	s := r.w.accept(w)
	w.h = pumped{s}
	r.wires = append(r.wires, w)
	return &fakeClient{wire: w, s: s}
}

// pumped is what the Server's client type is on a real loop.
type pumped struct{ *session }

func (p pumped) Data(b []byte)    { p.session.Data(b); p.w.pump() }
func (p pumped) EOF()             { p.session.EOF(); p.w.pump() }
func (p pumped) Wrote(n int)      { p.session.Wrote(n); p.w.pump() }
func (p pumped) Closed(err error) { p.session.Closed(err); p.w.pump() }

// send sends commands in one read, each as words.
func (c *fakeClient) send(cmds ...string) {
	c.wire.r.t.Helper()
	c.wire.peer(frames(cmds...))
}

func frames(cmds ...string) string {
	var b []byte
	for _, cmd := range cmds {
		b = resp.AppendCommand(b, strings.Fields(cmd)...)
	}
	return string(b)
}

// expect wants exactly these bytes to have reached the client.
func (c *fakeClient) expect(want string) {
	c.wire.r.t.Helper()
	c.wire.r.turn()
	if got := string(c.wire.got); got != want {
		c.wire.r.t.Fatalf("client got %q; want %q", got, want)
	}
	c.wire.got = nil
}

// expectError wants one error reply that begins with code and contains text.
func (c *fakeClient) expectError(code, text string) {
	c.wire.r.t.Helper()
	c.wire.r.turn()
	line, rest, _ := strings.Cut(string(c.wire.got), "\r\n")
	if !strings.HasPrefix(line, "-"+code+" ") || !strings.Contains(line, text) {
		c.wire.r.t.Fatalf("client got %q; want an error -%s with %q", c.wire.got, code, text)
	}
	c.wire.got = []byte(rest)
}

// serve, hold and so on post routes.
func (r *rig) serve(addr topology.Addr, epoch uint64) {
	r.setRoute(topology.Route{State: topology.Serving, Master: addr, Epoch: epoch})
}

func (r *rig) hold(change ...func(*topology.Route)) {
	rt := topology.Route{State: topology.Holding, Master: r.w.route.Master, Epoch: r.w.route.Epoch, Why: "a test"}
	for _, f := range change {
		f(&rt)
	}
	r.setRoute(rt)
}

func (r *rig) setRoute(rt topology.Route) {
	r.gen++
	rt.Group, rt.Gen, rt.Since = "orders", r.gen, r.at
	if rt.HoldTimeout == 0 {
		rt.HoldTimeout = 6 * time.Second
	}
	if rt.Lease == nil {
		rt.Lease = r.lease
	}
	r.w.setRoute(rt)
	r.turn()
}

func doubt(rt *topology.Route)   { rt.Doubt = true }
func suspect(rt *topology.Route) { rt.Suspect = true }

// checkHeld wants every command that was counted as held to be accounted for.
func (r *rig) checkHeld(sent, failed, gone, waiting uint64) {
	r.t.Helper()
	s := &r.w.stats
	left := uint64(0)
	for _, sess := range r.w.sessions {
		left += uint64(sess.heldLeft)
	}
	if s.held != s.heldSent+s.heldFailed+s.heldPolicy+s.heldGone+left {
		r.t.Errorf("held %d != sent %d + failed %d + policy %d + gone %d + waiting %d", s.held, s.heldSent, s.heldFailed, s.heldPolicy, s.heldGone, left)
	}
	if s.heldSent != sent || s.heldFailed != failed || s.heldGone != gone || left != waiting {
		r.t.Errorf("held commands: sent %d, failed %d, gone %d, waiting %d; want %d, %d, %d, %d",
			s.heldSent, s.heldFailed, s.heldGone, left, sent, failed, gone, waiting)
	}
}

func (r *rig) everywhere(look func(*worker, func(found)), then func(found)) {
	look(r.w, func(f found) { r.posted = append(r.posted, func() { then(f) }) })
}

func (r *rig) learn(w wanted) { r.wants = append(r.wants, w) }

func (r *rig) failing(why string) { r.failure = why }
