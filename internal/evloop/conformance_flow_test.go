package evloop

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"
)

func testSlowReader(r *rig) {
	t := r.tb
	for _, network := range []string{"tcp", "unix"} {
		big := pattern(16 << 20)
		blocked := 0
		nc, h := r.accept(network, func(h *handler) {
			r.OnTurnEnd(func() {
				if h.c.Blocked() {
					blocked++
				}
			})
			for rest, n := big, 1; len(rest) > 0; n = n*5%99991 + 1 { // many sizes, hundreds of buffers
				n := min(n, len(rest))
				h.say(rest[:n])
				rest = rest[n:]
			}
		})
		r.until("Blocked", func() bool { return h.c.Blocked() })
		mustRead(t, nc, big)
		r.until("nothing left to write", func() bool { return !h.c.Blocked() && len(h.out) == 0 })
		r.do(func() {
			if blocked == 0 || h.cuts == 0 {
				t.Errorf("%s: blocked %d times, %d writes were cut", network, blocked, h.cuts)
			}
			h.say([]byte("more")) // and it can be written to again
		})
		mustRead(t, nc, []byte("more"))
	}
}

func testOutputGrows(r *rig) {
	t := r.tb
	want := pattern(1 << 20)
	rest := want
	nc, h := r.accept("tcp", func(h *handler) {
		h.onWrote = func(int) {
			if len(rest) > 0 { // said from inside of Wrote
				n := min(1000, len(rest))
				h.say(rest[:n])
				rest = rest[n:]
			}
		}
		h.say([]byte("x"))
	})
	mustRead(t, nc, append([]byte("x"), want...))
	r.until("all said", func() bool { return len(h.out) == 0 && !h.c.Blocked() })
}

// testEndlessOutput has one connection that always has more to say to a peer
// that takes it all. Others must get their turns.
func testEndlessOutput(r *rig) {
	t := r.tb
	chunk := make([]byte, 1000)
	hose, _ := r.accept("tcp", func(h *handler) {
		h.onWrote = func(int) { h.say(chunk) }
		h.say(chunk)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<20)
		for {
			if _, err := hose.Read(buf); err != nil {
				return
			}
		}
	}()
	nc, _ := r.accept("tcp", echo)
	for range 200 {
		mustWrite(t, nc, []byte("me too"))
		mustRead(t, nc, []byte("me too"))
	}
	_ = hose.Close()
	r.receive(done, "the reader")
}

func testPause(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) { h.c.Pause() })
	r.do(func() {
		if !h.c.Paused() {
			t.Error("Paused() = false")
		}
	})
	// More than all the buffers of both kernels' ends hold: the peer is pushed back.
	big := pattern(64 << 20)
	if err := nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := nc.Write(big)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n >= len(big) {
		t.Fatalf("a paused connection took %d bytes, %v; want the peer pushed back", n, err)
	}
	r.do(func() {
		if h.reads != 0 {
			t.Errorf("%d reads while paused", h.reads)
		}
		h.c.Resume()
	})
	r.until("what was sent", func() bool { return len(h.received) == n })
	r.do(func() {
		if !bytes.Equal(h.received, big[:n]) {
			t.Error("something else was received")
		}
	})
	// Pausing from inside of Data, many times.
	if err := nc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	got := 0
	r.do(func() {
		h.onData = func(b []byte) {
			got += len(b)
			h.c.Pause()
			r.After(0, h.c.Resume)
		}
	})
	mustWrite(t, nc, big[:8<<20])
	r.until("the rest", func() bool { return got == 8<<20 })
}

func testGonePaused(r *rig) {
	t := r.tb
	for _, network := range []string{"tcp", "unix"} {
		nc, h := r.accept(network, func(h *handler) {
			h.c.Pause()
		})
		r.do(func() {})
		_ = nc.Close()
		r.until("Left", func() bool { return h.lefts > 0 })
		r.do(func() { h.c.Close() })
		r.do(func() {
			if h.lefts != 1 || h.eofs != 0 || h.closeds != 1 || h.reads != 0 {
				t.Errorf("%s: %d Left, %d EOFs, %d Closed, %d reads; want 1, 0, 1, 0",
					network, h.lefts, h.eofs, h.closeds, h.reads)
			}
		})
	}
}

// testGonePausedData has a peer that says something, is heard, and while we are
// paused says something more and leaves: its last word is heard after Resume.
func testGonePausedData(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) {
		h.onData = func([]byte) { h.c.Pause() }
	})
	mustWrite(t, nc, []byte("first"))
	r.until("paused", func() bool { return h.c.Paused() })
	mustWrite(t, nc, []byte("second"))
	_ = nc.Close()
	r.until("Left", func() bool { return h.lefts > 0 })
	turns := r.turnsIn()
	r.do(func() {
		h.onData = nil
		h.c.Resume()
	})
	r.until("EOF", func() bool { return h.eofs > 0 })
	r.do(func() {
		if h.lefts != 1 || h.eofs != 1 || h.reads != 2 || string(h.received) != "second" {
			t.Errorf("%d Left, %d EOFs, %d reads, %q; want 1, 1, 2, the last word", h.lefts, h.eofs, h.reads, h.received)
		}
	})
	if turns > 100 {
		t.Errorf("the loop turned %d times for a peer that is gone", turns)
	}
}

// turnsIn counts the turns while a timer runs: a loop with nothing to do must rest.
func (r *rig) turnsIn() uint64 {
	r.tb.Helper()
	done := make(chan uint64, 1)
	r.do(func() {
		before := r.Stats().Turns
		r.After(30*time.Millisecond, func() { done <- r.Stats().Turns - before })
	})
	select {
	case n := <-done:
		return n
	case <-time.After(patience):
		r.tb.Fatal("no timer")
		return 0
	}
}

func testResetPaused(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) {
		h.c.Pause()
		h.onEOF = func() {}
	})
	r.do(func() {})
	reset(t, nc)
	r.until("Closed", func() bool { return h.closeds > 0 })
	r.do(func() {
		if h.eofs > 1 || h.closeds != 1 || h.reads != 0 || !isReset(h.err) {
			t.Errorf("%d EOFs, %d Closed, %d reads, %v", h.eofs, h.closeds, h.reads, h.err)
		}
	})
}

// testFairness has a firehose and a quiet connection; within a turn each is read
// at most once.
func testFairness(r *rig) {
	t := r.tb
	turn := 0
	r.do(func() { r.OnTurnEnd(func() { turn++ }) })
	perTurn := func(then func([]byte)) func([]byte) {
		last := -1
		return func(b []byte) {
			if turn == last {
				t.Error("read twice in one turn")
			}
			last = turn
			then(b)
		}
	}
	hose, _ := r.accept("tcp", func(h *handler) { h.onData = perTurn(func([]byte) {}) })
	quiet, _ := r.accept("tcp", func(h *handler) {
		echo(h)
		h.onData = perTurn(h.onData)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<20)
		for {
			if _, err := hose.Write(buf); err != nil {
				return
			}
		}
	}()
	for range 300 {
		mustWrite(t, quiet, []byte("ping"))
		mustRead(t, quiet, []byte("ping"))
	}
	_ = hose.(*net.TCPConn).Close()
	r.receive(done, "the writer")
}

func testOneWrite(r *rig) {
	t := r.tb
	nc, h := r.accept("tcp", func(h *handler) {
		h.onData = func(b []byte) {
			for i := range b {
				h.say(bytes.Clone(b[i : i+1]))
			}
		}
	})
	const rounds = 20
	msg := pattern(50)
	for range rounds {
		mustWrite(t, nc, msg)
		mustRead(t, nc, msg)
	}
	r.do(func() {
		if h.again > 0 {
			t.Errorf("%d turns had more than one Output call for many flushes", h.again)
		}
	})
}

func testTurnEnd(r *rig) {
	t := r.tb
	var h *handler
	heard := 0
	r.do(func() {
		r.OnTurnEnd(func() {
			if heard > 0 {
				h.say([]byte{byte(heard)})
				heard = 0
			}
		})
	})
	nc, _ := r.accept("tcp", func(conn *handler) {
		h = conn
		h.onData = func(b []byte) { heard += len(b) }
	})
	for range 20 {
		mustWrite(t, nc, []byte("abc"))
		mustRead(t, nc, []byte{3})
	}
	r.do(func() {
		if h.again > 0 {
			t.Errorf("%d turns had more than one Output call", h.again)
		}
	})
}
