package proxy

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

func TestScaleHasEveryBound(t *testing.T) {
	c := &durations
	if len(c.bounds) != cellCount-1 {
		t.Fatalf("%d bounds, so %d cells; cellCount is %d", len(c.bounds), len(c.bounds)+1, cellCount)
	}
	for _, b := range classicBounds {
		if !slices.Contains(c.bounds, b) {
			t.Errorf("the classic bound %d is inside a cell", b)
		}
	}
	for cell, i := range c.native {
		last := cell == len(c.bounds)
		if !last && c.bounds[cell] > nativeBound(i) || i > nativeFirst && cell > 0 && c.bounds[cell-1] < nativeBound(i-1) {
			t.Errorf("cell %d is not all of native bucket %d", cell, i)
		}
	}
	if got := c.native[cellCount-1]; got != nativeLast+1 {
		t.Errorf("what is above all bounds is in native bucket %d; want the one behind the last", got)
	}
	// In seconds: a bound is the last whole microsecond that is not above it.
	for i := nativeFirst; i <= nativeLast; i++ {
		exact := math.Exp2(float64(i) / 4)
		if b := nativeBound(i); float64(b)/1e6 > exact || float64(b+1)/1e6 <= exact {
			t.Errorf("bound %d of %v s is %d µs", i, exact, b)
		}
	}
}

func TestScaleCells(t *testing.T) {
	for i, b := range durations.bounds {
		for us, want := range map[uint64]int{b: i, b + 1: i + 1} {
			if got := durations.cell(us); got != want {
				t.Errorf("%d µs is in cell %d; want %d", us, got, want)
			}
		}
	}
	for us := range uint64(1 << 16) {
		checkCell(t, us)
	}
}

func FuzzDurationCell(f *testing.F) {
	for _, us := range []uint64{0, 1, 30, 31, 50, 51, 1 << 20, 1e9, 1 << 40, math.MaxUint64} {
		f.Add(us)
	}
	f.Fuzz(func(t *testing.T, us uint64) { checkCell(t, us) })
}

// checkCell wants what a look at every bound finds.
func checkCell(t *testing.T, us uint64) {
	t.Helper()
	want, _ := slices.BinarySearch(durations.bounds, us)
	if got := durations.cell(us); got != want {
		t.Fatalf("%d µs is in cell %d; want %d", us, got, want)
	}
}

// Both histograms, and the one of the status page, count each duration in the bucket
// that has it.
func TestTallyAsHistograms(t *testing.T) {
	took := []uint64{0, 30, 31, 50, 51, 99, 100, 101, 777, 1_000_000, 1_000_001, 59_999_999, 60_000_000, 64_000_001, 1 << 40}
	ta := tally{cmd: newCommands(nil).shared("GET"), errors: 1}
	var micros uint64
	for _, us := range took {
		ta.cells[durations.cell(us)]++
		ta.micros += us
		micros += us
	}
	d := prometheus.NewDesc("a_seconds", "A.", []string{"master_name", "command"}, nil)
	var m dto.Metric
	if err := ta.histogram(d, time.Unix(1, 0), "orders", "get").Write(&m); err != nil {
		t.Fatal(err)
	}
	h := m.GetHistogram()
	if h.GetSampleCount() != uint64(len(took)) || math.Abs(h.GetSampleSum()-float64(micros)/1e6) > 1e-6 {
		t.Errorf("count %d, sum %v; want %d, %v", h.GetSampleCount(), h.GetSampleSum(), len(took), float64(micros)/1e6)
	}
	below := func(bound float64) (n uint64) {
		for _, us := range took {
			if float64(us)/1e6 <= bound {
				n++
			}
		}
		return n
	}
	if len(h.GetBucket()) != len(classicBounds) {
		t.Errorf("%d classic buckets; want %d", len(h.GetBucket()), len(classicBounds))
	}
	for _, b := range h.GetBucket() {
		if b.GetCumulativeCount() != below(b.GetUpperBound()) {
			t.Errorf("%d in the classic buckets up to %v; want %d", b.GetCumulativeCount(), b.GetUpperBound(), below(b.GetUpperBound()))
		}
	}
	if h.GetSchema() != nativeSchema || h.GetZeroThreshold() != math.Exp2(-15) || h.GetZeroCount() != below(math.Exp2(-15)) {
		t.Errorf("schema %d, zero threshold %v, zero count %d", h.GetSchema(), h.GetZeroThreshold(), h.GetZeroCount())
	}
	at, n, total := int32(0), int64(0), h.GetZeroCount()
	deltas := h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		at += span.GetOffset()
		for range span.GetLength() {
			n += deltas[0]
			deltas = deltas[1:]
			total += uint64(n)
			want := below(math.Exp2(float64(at) / 4))
			if at > nativeLast {
				want = uint64(len(took))
			}
			if n > 0 && total != want {
				t.Errorf("%d in the native buckets up to %d; want %d", total, at, want)
			}
			at++
		}
	}
	if total != uint64(len(took)) {
		t.Errorf("%d in all native buckets; want %d", total, len(took))
	}
	l := latencyOf([]tally{ta, {cmd: newCommands(nil).shared("BLPOP"), cells: [cellCount]uint64{7}}})
	if len(l.Counts) != len(l.Bounds)+1 || l.Count != uint64(len(took)) || l.Sum != float64(micros)/1e6 {
		t.Errorf("%d counts for %d bounds, count %d, sum %v", len(l.Counts), len(l.Bounds), l.Count, l.Sum)
	}
	sum := uint64(0)
	for i, b := range l.Bounds {
		if sum += l.Counts[i]; sum != below(b) {
			t.Errorf("%d up to %v s; want %d", sum, b, below(b))
		}
	}
}

// spent returns how many of a command were counted, how many with errors, and how long
// all of them took.
func (r *rig) spent(name string) (n, errors uint64, took time.Duration) {
	t := r.w.tallies[r.w.cmds.shared(name).id]
	if t == nil {
		return 0, 0, 0
	}
	return t.count(), t.errors, time.Duration(t.micros) * time.Microsecond
}

func (r *rig) wantSpent(name string, n, errors uint64, took time.Duration) {
	r.t.Helper()
	if gn, ge, gt := r.spent(name); gn != n || ge != errors || gt != took {
		r.t.Errorf("%s: %d, %d errors, %v; want %d, %d, %v", name, gn, ge, gt, n, errors, took)
	}
}

func TestCommandsAreCountedWithTheTimeTheyTake(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		script func(r *rig, c *fakeClient)
		want   map[string]tally
	}{
		"answered": {func(r *rig, c *fakeClient) {
			b := warm(r, c)
			c.send("GET a", "SET a 1")
			r.advance(3 * ms)
			b.reply("$1\r\n1\r\n")
			r.advance(2 * ms)
			b.reply("-ERR no\r\n")
		}, map[string]tally{"GET": {micros: 3000}, "SET": {micros: 5000, errors: 1}}},
		"complete only with its last byte": {func(r *rig, c *fakeClient) {
			b := warm(r, c)
			c.wire.peer("*2\r\n$3\r\nGE")
			r.advance(9 * ms)
			c.wire.peer("T\r\n$1\r\na\r\n")
			r.advance(1 * ms)
			b.reply("$1\r\n1\r\n")
		}, map[string]tally{"GET": {micros: 1000}}},
		"held": {func(r *rig, c *fakeClient) {
			warm(r, c)
			r.hold()
			c.send("GET a")
			r.advance(40 * ms)
			r.serve(nodeB, 2)
			b := r.backend()
			r.advance(2 * ms)
			b.reply("$1\r\n1\r\n")
		}, map[string]tally{"GET": {micros: 42_000}}},
		"held for too long": {func(r *rig, c *fakeClient) {
			warm(r, c)
			r.hold()
			c.send("GET a")
			r.advance(6 * time.Second)
		}, map[string]tally{"GET": {micros: 6_000_000, errors: 1}}},
		"sent again": {func(r *rig, c *fakeClient) {
			b := warm(r, c)
			c.send("GET a")
			r.advance(5 * ms)
			b.wire.peerReset()
			b = r.backend()
			r.advance(5 * ms)
			b.reply("$1\r\n1\r\n")
		}, map[string]tally{"GET": {micros: 10_000}}},
		"uncertain": {func(r *rig, c *fakeClient) {
			b := warm(r, c)
			c.send("INCR a")
			r.turn()
			r.advance(5 * ms)
			b.wire.peerReset()
		}, map[string]tally{"INCR": {micros: 5000, errors: 1}}},
		"answered here": {func(r *rig, c *fakeClient) {
			c.send("SHUTDOWN", "SELECT")
		}, map[string]tally{"SHUTDOWN": {errors: 1}, "SELECT": {errors: 1}}},
		"answered here after Redis was asked": {func(r *rig, c *fakeClient) {
			b := warm(r, c)
			c.send("CLIENT ID")
			r.advance(2 * ms)
			b.next()
			b.reply("-NOPERM no\r\n")
		}, map[string]tally{"CLIENT|ID": {micros: 2000, errors: 1}}},
		"a login": {func(r *rig, c *fakeClient) {
			warm(r, c)
			c.send("SELECT 2")
			b := r.backend()
			for w := b.next(); w != nil; w = b.next() {
				b.reply("+OK\r\n")
			}
		}, map[string]tally{"SELECT": {}}},
		"unknown": {func(r *rig, c *fakeClient) {
			c.send("NOSUCH a")
			r.turn()
			b := r.ownBackend()
			b.expect("NOSUCH")
			b.reply("-ERR unknown command\r\n")
		}, map[string]tally{"unknown": {errors: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			tt.script(r, c)
			for name, want := range tt.want {
				r.wantSpent(name, 1, want.errors, time.Duration(want.micros)*time.Microsecond)
			}
		})
	}
}

// A pipeline longer than what one client may have under way: its commands came when its
// bytes did. What came later and is handled in one go with the rest of it is taken to be as old.
func TestPipelineTakesFromWhenItCame(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.wire.peer(strings.Repeat(frames("ECHO a"), maxShare+1))
	r.advance(time.Millisecond)
	c.send("ECHO b")
	r.advance(time.Millisecond)
	for range maxShare {
		b.reply("$1\r\na\r\n")
	}
	r.advance(time.Millisecond)
	b.reply("$1\r\na\r\n$1\r\nb\r\n")
	c.send("ECHO c")
	b.reply("$1\r\nc\r\n") // came just now
	r.wantSpent("ECHO", maxShare+3, 0, maxShare*2*time.Millisecond+(3+3)*time.Millisecond)
}

func TestKindOfReply(t *testing.T) {
	for reply, want := range map[string]string{
		"+OK\r\n": "", ":1\r\n": "", "-ERR x\r\n": "ERR", "-WRONGTYPE x\r\n": "WRONGTYPE", "-WRONGPASS\r\n": "WRONGPASS",
		"-SOMETHING new\r\n": "other", "-\r\n": "other", "-err x\r\n": "other", "-": "other",
		"-other x\r\n": "other", "-UNCERTAIN x\r\n": "UNCERTAIN", "-MASTERDOWN x\r\n": "MASTERDOWN",
	} {
		got := ""
		if k := kindOf([]byte(reply)); k >= replyError {
			got = errorWords[k-replyError]
		}
		if got != want {
			t.Errorf("%q is %q; want %q", reply, got, want)
		}
	}
}

// Each reason has a name of its own, and each way to need a connection its reason.
func TestPinsByReason(t *testing.T) {
	for cmd, want := range map[string]pinReason{
		"SUBSCRIBE a": pinSubscription, "MONITOR": pinMonitor, "MULTI": pinTransaction, "WATCH a": pinWatch, "BLPOP a 0": pinCall,
		"KEYS *": pinCall, "CLIENT TRACKING ON": pinTracking, "NOSUCH": pinUnknown, "READONLY": pinState,
	} {
		r := serving(t)
		r.client().send(cmd)
		for reason, n := range r.w.stats.pinned {
			if (n == 1) != (pinReason(reason) == want) {
				t.Errorf("%s: %d pins for %q; want one for %q", cmd, n, pinReason(reason), want)
			}
		}
	}
	seen := map[string]bool{}
	for k := range pinReasons {
		seen[k.String()] = true
	}
	if len(seen) != int(pinReasons) {
		t.Errorf("%d names for %d reasons", len(seen), pinReasons)
	}
}

func TestBytesOfClientsAndRedisAreCountedApart(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	before := r.w.stats
	in := string(resp.AppendCommand(nil, "GET", "key"))
	c.wire.peer(in)
	b.reply("$5\r\nhello\r\n")
	s := &r.w.stats
	out := uint64(len("$5\r\nhello\r\n"))
	if s.clientIn-before.clientIn != uint64(len(in)) || s.backendOut-before.backendOut != uint64(len(in)) ||
		s.clientOut-before.clientOut != out || s.backendIn-before.backendIn != out {
		t.Errorf("clients %d in, %d out; redis %d out, %d in", s.clientIn-before.clientIn, s.clientOut-before.clientOut,
			s.backendOut-before.backendOut, s.backendIn-before.backendIn)
	}
}

// A name from outside may be that of what has none.
func TestLabelsOfCommandsAreDifferent(t *testing.T) {
	cmds := newCommands([]string{"other"})
	get, other := cmds.shared("GET"), cmds.shared("OTHER")
	if other == cmds.unknown || other.label() != cmds.unknown.label() {
		t.Fatalf("%q and %q are no test", other.label(), cmds.unknown.label())
	}
	one := [cellCount]uint64{1}
	got := map[string]uint64{}
	all := byCommand([]tally{{cmd: get, cells: one}, {cmd: other, cells: one}, {cmd: cmds.unknown, cells: one}, {cmd: get, cells: one}}, cmds.unknown)
	for i := range all {
		got[all[i].cmd.label()] += all[i].count()
	}
	if len(all) != 2 || got["get"] != 2 || got["other"] != 2 {
		t.Errorf("%d series: %v; want get and other, 2 each", len(all), got)
	}
}

// Who left was not answered.
func TestCommandsOfClientsThatLeftAreNotCounted(t *testing.T) {
	r := slowRig(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("GET a")
	d.send("GET b")
	c.wire.peerReset()
	r.advance(time.Second)
	b.reply("$-1\r\n$-1\r\n")
	d.expect("$-1\r\n")
	r.wantSpent("GET", 1, 0, time.Second)
	if lines := r.slow(); len(lines) != 1 {
		t.Errorf("slow commands: %q; want one", lines)
	}
}
