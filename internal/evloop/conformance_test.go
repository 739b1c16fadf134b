package evloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
)

// The conformance tests: what every driver must do, told once. The cases are in
// conformance_*_test.go, by what they are about.
var conformance = map[string]func(*rig){
	"echo":                      testEcho,
	"echo over a unix socket":   testEchoUnix,
	"reads where it is told":    testRooms,
	"adopts what was dialled":   testAdopt,
	"accepted for another loop": testAcceptElsewhere,
	"stops listening":           testStopListening,
	"addresses":                 testAddresses,

	"half close":                    testHalfClose,
	"reset by the peer":             testReset,
	"reset while output waits":      testResetBlocked,
	"close by another's data":       testCloseOther,
	"close and accept in one turn":  testReuse,
	"close before the first event":  testCloseInMake,
	"abort resets the peer":         testAbort,
	"close flushed says everything": testCloseFlushed,
	"close flushed reads no more":   testCloseFlushedQuiet,

	"big writes to a slow reader":      testSlowReader,
	"more output while it is written":  testOutputGrows,
	"endless output holds nobody up":   testEndlessOutput,
	"pause and resume":                 testPause,
	"gone while paused":                testGonePaused,
	"gone with a word while paused":    testGonePausedData,
	"reset while paused":               testResetPaused,
	"one read a turn":                  testFairness,
	"one write a turn":                 testOneWrite,
	"turn ends come before the output": testTurnEnd,

	"turns tell when they begin":    testOnTurn,
	"timers come in order":          testTimers,
	"timers are reset and stopped":  testTimerReset,
	"posts keep their order":        testPostOrder,
	"posts are bounded":             testPostFull,
	"posts while it stops":          testPostStop,
	"stop closes everything":        testStop,
	"nothing is added after a stop": testAddStopped,
	"counts what it does":           testStats,
}

func TestConformance(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			for name, test := range conformance {
				t.Run(name, func(t *testing.T) { test(newRig(t, d)) })
				if d == DriverEpoll { // the other cannot linger
					t.Run(name+", lingering", func(t *testing.T) { test(newRigOf(t, Options{Driver: d, Linger: true})) })
				}
			}
		})
	}
}

func testEcho(r *rig) {
	t := r.tb
	addr := r.serve("tcp", echo)
	for i := range 20 {
		nc := dial(t, addr)
		for j := range 20 {
			msg := fmt.Appendf(nil, "message %d of %d", j, i)
			mustWrite(t, nc, msg)
			mustRead(t, nc, msg)
		}
	}
	if got := r.Len(); got != 20 {
		t.Errorf("Len() = %d; want 20", got)
	}
}

func testRooms(r *rig) {
	nc, _ := r.accept("tcp", echoRooms)
	big := pattern(3 << 20)
	go func() { _, _ = nc.Write(big) }()
	mustRead(r.tb, nc, big)
}

func testEchoUnix(r *rig) {
	t := r.tb
	nc, h := r.accept("unix", echo)
	big := pattern(3 << 20)
	go func() { _, _ = nc.Write(big) }()
	mustRead(t, nc, big)
	r.do(func() {
		if got := h.c.RemoteAddr(); got != "unix" {
			t.Errorf("RemoteAddr() = %q; want unix", got)
		}
	})
	_ = nc.Close()
	r.until("Closed", func() bool { return h.closeds == 1 && h.err == nil })
}

func testAdopt(r *rig) {
	t := r.tb
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, err := Detach(dial(t, ln.Addr()), r.driver)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	var h *handler
	r.do(func() {
		h = r.add(s, func(h *handler) { h.say([]byte("hello")) })
	})
	mustRead(t, peer, []byte("hello"))
	mustWrite(t, peer, []byte("welcome"))
	r.until("the answer", func() bool { return string(h.received) == "welcome" })
	r.do(h.c.Close)
	mustEOF(t, peer)
}

func testAcceptElsewhere(r *rig) {
	t := r.tb
	other := newRig(t, r.driver)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.do(func() {
		err = r.Listen(ln, func(s Socket) {
			if err := other.Post(func() { other.add(s, echo) }); err != nil {
				s.Close()
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	nc := dial(t, ln.Addr())
	mustWrite(t, nc, []byte("over there"))
	mustRead(t, nc, []byte("over there"))
	if r.Len() != 0 || other.Len() != 1 {
		t.Errorf("the loops have %d and %d connections; want 0 and 1", r.Len(), other.Len())
	}
	other.stop()
	nc = dial(t, ln.Addr())
	mustEOF(t, nc)
}

func testStopListening(r *rig) {
	t := r.tb
	addr := r.serve("tcp", echo)
	nc := dial(t, addr)
	mustWrite(t, nc, []byte("x"))
	mustRead(t, nc, []byte("x"))
	r.do(r.StopListening)
	d := net.Dialer{Timeout: patience}
	if late, err := d.DialContext(t.Context(), "tcp", addr.String()); err == nil {
		_ = late.Close()
		t.Error("connected after StopListening")
	}
	mustWrite(t, nc, []byte("still there"))
	mustRead(t, nc, []byte("still there"))
}

func testAddresses(r *rig) {
	t := r.tb
	var atEnd string
	nc, h := r.accept("tcp", func(h *handler) {
		h.onClosed = func(error) { atEnd = h.c.RemoteAddr() }
	})
	r.do(func() {
		if got, want := h.c.RemoteAddr(), nc.LocalAddr().String(); got != want {
			t.Errorf("RemoteAddr() = %q; want %q", got, want)
		}
		if got, want := h.c.LocalAddr(), nc.RemoteAddr().String(); got != want {
			t.Errorf("LocalAddr() = %q; want %q", got, want)
		}
		if h.c.Loop() != r.Loop {
			t.Error("Loop() is another one")
		}
		h.c.Close()
	})
	mustEOF(t, nc)
	r.do(func() {
		if want := nc.LocalAddr().String(); atEnd != want {
			t.Errorf("RemoteAddr() in Closed = %q; want %q", atEnd, want)
		}
	})
}

func testHalfClose(r *rig) {
	t := r.tb
	for _, network := range []string{"tcp", "unix"} {
		answer := pattern(1 << 20)
		nc, h := r.accept(network, func(h *handler) {
			h.onEOF = func() {
				h.say(answer)
				h.c.CloseFlushed()
			}
		})
		mustWrite(t, nc, []byte("question"))
		if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		mustRead(t, nc, answer)
		mustEOF(t, nc)
		r.until("Closed", func() bool { return h.closeds == 1 })
		r.do(func() {
			if h.eofs != 1 || string(h.received) != "question" || h.err != nil {
				t.Errorf("%s: %d EOFs, received %q, closed with %v", network, h.eofs, h.received, h.err)
			}
		})
	}
}

func testReset(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(*handler) {})
	reset(t, nc)
	r.until("Closed", func() bool { return h.closeds > 0 })
	r.do(func() {
		if !isReset(h.err) || h.closeds != 1 || h.eofs != 0 {
			t.Errorf("closed %d times, EOF %d times, with %v; want once, reset", h.closeds, h.eofs, h.err)
		}
	})
}

func reset(tb testing.TB, nc net.Conn) {
	tb.Helper()
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		tb.Fatal(err)
	}
	_ = nc.Close()
}

func testResetBlocked(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) {
		h.onEOF = func() {} // which of reading and writing hears of the reset is open
		h.say(make([]byte, 32<<20))
	})
	r.until("Blocked", func() bool { return h.c.Blocked() })
	reset(t, nc)
	r.until("Closed", func() bool { return h.closeds > 0 })
	r.do(func() {
		if !isReset(h.err) || h.closeds != 1 {
			t.Errorf("closed %d times, with %v; want once, reset", h.closeds, h.err)
		}
	})
}

// testCloseOther has two connections ready in one turn; whichever is first closes
// the other, which must then hear nothing but Closed.
func testCloseOther(r *rig) {
	t := r.tb
	for range 50 {
		var hs []*handler
		addr := r.serve("tcp", func(h *handler) {
			hs = append(hs, h)
			h.onData = func([]byte) {
				for _, other := range hs {
					if other != h {
						other.c.Close()
						if !other.c.Closed() {
							t.Error("Closed() = false after Close")
						}
					}
				}
			}
		})
		a, b := dial(t, addr), dial(t, addr)
		r.until("both", func() bool { return len(hs) == 2 })
		thaw := r.freeze()
		mustWrite(t, a, []byte("a"))
		mustWrite(t, b, []byte("b"))
		thaw()
		r.until("one closed", func() bool { return hs[0].closeds+hs[1].closeds == 1 })
		r.do(func() {
			if got := hs[0].reads + hs[1].reads; got != 1 {
				t.Errorf("%d handlers were given data; want 1", got)
			}
			hs[0].c.Close()
			hs[1].c.Close()
			r.StopListening()
		})
	}
}

// testReuse closes connections while others come and data is on its way, so that
// descriptors are reused at once. No connection may get another's bytes.
func testReuse(r *rig) {
	t := r.tb
	const rounds, width = 40, 8
	live := map[string]*handler{} // by remote address
	addr := r.serve("tcp", func(h *handler) {
		me := h.c.RemoteAddr()
		live[me] = h
		h.onClosed = func(error) { delete(live, me) }
		h.onData = func(b []byte) {
			h.received = append(h.received, b...)
			if !bytes.HasPrefix([]byte(me), h.received) {
				t.Errorf("%s was given %q", me, h.received)
			}
			for _, other := range live {
				other.c.Close() // also itself
			}
		}
	})
	for range rounds {
		var fresh []net.Conn
		for range width {
			fresh = append(fresh, dial(t, addr))
		}
		r.until("all accepted", func() bool {
			return !slices.ContainsFunc(fresh, func(nc net.Conn) bool { return live[nc.LocalAddr().String()] == nil })
		})
		thaw := r.freeze()
		for _, nc := range fresh {
			mustWrite(t, nc, []byte(nc.LocalAddr().String()))
		}
		next := dial(t, addr) // accepted in the turn that closes the others
		mustWrite(t, next, []byte(next.LocalAddr().String()))
		thaw()
		for _, nc := range append(fresh, next) {
			_, _ = io.Copy(io.Discard, nc) // until it is closed or reset
			_ = nc.Close()
		}
	}
}

func testCloseInMake(r *rig) {
	t := r.tb
	addr := r.serve("tcp", func(h *handler) { h.c.Close() })
	mustEOF(t, dial(t, addr))
	r.until("nothing left", func() bool { return r.Len() == 0 })
}

func testAbort(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) { h.say(make([]byte, 32<<20)) })
	r.until("Blocked", func() bool { return h.c.Blocked() })
	r.do(h.c.Abort)
	n, err := io.Copy(io.Discard, nc)
	if !isReset(err) || n >= 32<<20 {
		t.Errorf("the peer read %d bytes, then %v; want a reset", n, err)
	}
	r.do(func() {
		if h.err != nil {
			t.Errorf("closed with %v; want nil", h.err)
		}
	})
}

func testCloseFlushed(r *rig) {
	t := r.tb
	for _, network := range []string{"tcp", "unix"} {
		big := pattern(8 << 20)
		nc, h := r.accept(network, func(h *handler) {
			h.onData = func([]byte) {
				h.say(big[:1], big[1:7], big[7:])
				h.c.CloseFlushed()
			}
		})
		mustWrite(t, nc, []byte("go"))
		r.until("Blocked", func() bool { return h.c.Blocked() })
		mustRead(t, nc, big)
		mustEOF(t, nc)
		r.until("Closed", func() bool { return h.closeds == 1 && h.err == nil })
	}
	nc, _ := r.accept("tcp", func(h *handler) { h.c.CloseFlushed() }) // with nothing to say
	mustEOF(t, nc)
}

func testCloseFlushedQuiet(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) { h.say(make([]byte, 32<<20)) })
	r.until("Blocked", func() bool { return h.c.Blocked() })
	r.do(func() {
		h.c.CloseFlushed()
		h.c.Resume() // does not count any more
	})
	mustWrite(t, nc, []byte("is anyone there?"))
	reset(t, nc)
	r.until("Closed", func() bool { return h.closeds == 1 })
	r.do(func() {
		if h.reads != 0 {
			t.Error("Data after CloseFlushed")
		}
	})
}

func testAddStopped(r *rig) {
	t := r.tb
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, err := Detach(dial(t, ln.Addr()), r.driver)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := r.Add(s, nil); !errors.Is(err, ErrStopped) {
		t.Errorf("Add after the stop: %v; want ErrStopped", err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	mustEOF(t, peer)
}
