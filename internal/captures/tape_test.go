package captures

import (
	"context"
	"net"
	"sync"
	"testing"
)

// tape is a relay that records, one recording for each connection.
type tape struct {
	addr string

	wg     sync.WaitGroup
	cancel context.CancelFunc
	mu     sync.Mutex // guards conns
	conns  []*recording
}

// recording is one connection's.
type recording struct {
	mu      sync.Mutex // guards the fields below
	pieces  []Piece
	in, out int // bytes that are kept of the client and of the server
}

// newTape relays to target until stop.
func newTape(tb testing.TB, target string) *tape {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	t := &tape{addr: ln.Addr().String(), cancel: cancel}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	t.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r := &recording{}
			t.mu.Lock()
			t.conns = append(t.conns, r)
			t.mu.Unlock()
			t.wg.Go(func() { t.relay(ctx, r, c, target) })
		}
	})
	tb.Cleanup(func() { t.stop() })
	return t
}

func (t *tape) relay(ctx context.Context, r *recording, client net.Conn, target string) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })()
	done := make(chan struct{})
	t.wg.Go(func() {
		defer close(done)
		r.copy(client, server, false)
		_ = client.Close() // Redis has said its last word
	})
	r.copy(server, client, true)
	_ = server.Close()
	<-done
}

// copy passes on what from says until it ends.
func (r *recording) copy(to, from net.Conn, client bool) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		r.keep(b[:n], client)
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (r *recording) keep(b []byte, client bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := &r.out
	if client {
		kept = &r.in
	}
	if b = b[:min(len(b), MaxBytes-*kept)]; len(b) > 0 {
		*kept += len(b)
		r.pieces = append(r.pieces, Piece{FromClient: client, Bytes: append([]byte(nil), b...)})
	}
}

// stop ends all connections and returns the recordings in the order of accepting.
func (t *tape) stop() [][]Piece {
	t.cancel()
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	var out [][]Piece
	for _, r := range t.conns {
		if len(r.pieces) > 0 {
			out = append(out, r.pieces)
		}
	}
	return out
}
