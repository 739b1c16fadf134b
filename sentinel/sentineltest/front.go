package sentineltest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// front is a listener and its connections. It can be closed and opened again at
// the same address.
type front struct {
	serve    func(*conn, []string) // one call at a time per connection
	farewell func(*conn)           // after the last serve

	wg sync.WaitGroup // the accept loop and every connection's goroutines

	mu     sync.Mutex // guards the fields below
	addr   string     // "host:0" until first opened, then fixed
	ln     net.Listener
	conns  map[*conn]struct{}
	lastID int64
}

// open starts listening. At an address that was open before it tries for up to
// five seconds, since another program may hold the port for a moment.
func (f *front) open(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ln != nil {
		return nil
	}
	ln, err := listen(ctx, f.addr)
	if err != nil {
		return fmt.Errorf("sentineltest: listen on %s: %w", f.addr, err)
	}
	f.ln = ln
	f.addr = ln.Addr().String()
	f.conns = map[*conn]struct{}{}
	f.wg.Go(func() { f.accept(ln) })
	return nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var lc net.ListenConfig
	for {
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err == nil || !wait(ctx, 20*time.Millisecond) {
			return ln, err
		}
	}
}

// wait returns false as soon as ctx is done, or true after d.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (f *front) accept(ln net.Listener) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return // closed: nothing else ends a loopback listener
		}
		f.adopt(ln, nc)
	}
}

func (f *front) adopt(ln net.Listener, nc net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ln != ln {
		_ = nc.Close()
		return
	}
	f.lastID++
	c := newConn(f.lastID, nc)
	f.conns[c] = struct{}{}
	f.wg.Go(c.read)
	f.wg.Go(c.write)
	f.wg.Go(func() { f.run(c) })
}

func (f *front) run(c *conn) {
	c.execute(f.serve)
	f.farewell(c)
	c.shut()
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}

// close refuses new connections, resets those there are, and waits until
// nothing of them runs. Not to be called by a connection's own executor.
func (f *front) close() {
	f.mu.Lock()
	if f.ln != nil {
		_ = f.ln.Close()
		f.ln = nil
	}
	for c := range f.conns {
		c.reset()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// all returns the connections there are now.
func (f *front) all() []*conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*conn, 0, len(f.conns))
	for c := range f.conns {
		list = append(list, c)
	}
	return list
}
