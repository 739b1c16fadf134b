package evloop

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// portRead is what a reader asks for at once, and portBuffer what one
	// connection holds of each direction, in bytes.
	portRead   = 16 << 10
	portBuffer = 64 << 10

	// removeLinger is how long a closed connection may go on writing what the loop
	// was told is written; closeLinger is what is left of it when the loop ends.
	// The kernel does the same for a closed socket, and for longer.
	removeLinger = 10 * time.Second
	closeLinger  = time.Second
)

// portConn is one connection of the portable driver: a reader and a writer
// goroutine, with one bounded buffer each. When the incoming buffer is full the
// reader stops reading; when the outgoing one is not empty the loop must wait.
//
// The reader goes on filling its buffer while the loop has paused the
// connection: this is how a peer that leaves meanwhile is noticed. One that left
// more than portBuffer unread is noticed only after Resume.
type portConn struct {
	// Fixed at construction.
	p    *portable
	conn *Conn // its flags are read by the loop alone
	nc   net.Conn
	cond *sync.Cond // on p.mu: one of the fields below has changed

	// Guarded by p.mu.
	in      []byte // read, not yet handed over
	inErr   error  // why reading ended; errEOF at its regular end
	out     []byte // taken from the loop, not yet written; the writer's while writing
	writing bool
	outErr  error // why writing ended
	removed bool
	abort   bool
	isReady bool
}

func (p *portable) add(c *Conn) error {
	if c.sock.nc == nil {
		return errNotPortable
	}
	pc := &portConn{p: p, conn: c, nc: c.sock.nc, cond: sync.NewCond(&p.mu)}
	c.pc = pc
	p.wg.Go(pc.reads)
	p.wg.Go(pc.writes)
	return nil
}

// flags says what the loop should hear about pc, as a level: until it is no
// longer so. The loop calls it, with p.mu held.
func (pc *portConn) flags() evFlags {
	c := pc.conn
	var f evFlags
	switch {
	case pc.removed:
		return 0
	case c.eof:
	case !c.paused && (len(pc.in) > 0 || pc.inErr != nil):
		f |= evRead
	case c.paused && errors.Is(pc.inErr, errEOF):
		if !c.left {
			f |= evHangup
		}
	case c.paused && pc.inErr != nil:
		f |= evError
	}
	if c.wantsWrite && !pc.writing {
		f |= evWrite
	}
	if pc.outErr != nil {
		f |= evError
	}
	return f
}

// reads is the reader goroutine. It ends when reading ends for whatever reason;
// closing nc unblocks it.
func (pc *portConn) reads() {
	buf := make([]byte, portRead)
	for {
		n, err := pc.nc.Read(buf)
		if !pc.readDone(buf[:n], err) {
			return
		}
	}
}

// readDone hands over one read. It waits while the buffer has no room, and
// reports whether to go on.
func (pc *portConn) readDone(b []byte, err error) bool {
	p := pc.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(pc.in) > 0 && len(pc.in)+len(b) > portBuffer && !pc.removed {
		pc.cond.Wait()
	}
	if pc.removed {
		return false
	}
	pc.in = append(pc.in, b...)
	switch {
	case errors.Is(err, io.EOF):
		pc.inErr = errEOF
	case err != nil:
		pc.inErr = err
	}
	p.markLocked(pc)
	return err == nil
}

// writes is the writer goroutine, which also closes nc when the loop has removed
// the connection and what it had taken is written, or cannot be.
func (pc *portConn) writes() {
	for pc.nextWrite() {
		_, err := pc.nc.Write(pc.out)
		pc.writeDone(err)
	}
	_ = pc.nc.Close()
}

// nextWrite waits until there is something to write, and reports false when
// nothing will come any more.
func (pc *portConn) nextWrite() bool {
	p := pc.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for !pc.writing && !pc.removed {
		pc.cond.Wait()
	}
	if pc.writing && pc.outErr == nil && !pc.abort {
		return true
	}
	for !pc.removed { // broken: wait for the loop to see it
		pc.cond.Wait()
	}
	delete(p.lingering, pc)
	return false
}

func (pc *portConn) writeDone(err error) {
	p := pc.p
	p.mu.Lock()
	defer p.mu.Unlock()
	pc.writing = false
	pc.out = pc.out[:0]
	if err != nil {
		pc.outErr = err
	}
	if !pc.removed {
		p.markLocked(pc)
	}
}

func (p *portable) update(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.pc.flags() != 0 {
		p.markLocked(c.pc)
	}
}

// remove leaves the closing to the writer, so that the loop waits for nobody.
func (p *portable) remove(c *Conn) {
	pc := c.pc
	p.mu.Lock()
	defer p.mu.Unlock()
	pc.removed = true
	pc.abort = c.abort
	switch {
	case c.abort:
		if l, ok := pc.nc.(interface{ SetLinger(sec int) error }); ok {
			_ = l.SetLinger(0)
		}
		_ = pc.nc.SetDeadline(time.Unix(1, 0)) // unblocks both goroutines
	case pc.writing:
		_ = pc.nc.SetWriteDeadline(time.Now().Add(removeLinger))
		p.lingering[pc] = struct{}{}
	}
	pc.cond.Broadcast()
}

func (p *portable) read(c *Conn, b []byte) (int, error) {
	pc := c.pc
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(pc.in) == 0 {
		if pc.inErr != nil {
			return 0, pc.inErr
		}
		return 0, errAgain
	}
	n := copy(b, pc.in)
	pc.in = append(pc.in[:0], pc.in[n:]...)
	pc.cond.Broadcast()
	return n, nil
}

func (p *portable) write(c *Conn, bufs [][]byte) (int, error) {
	pc := c.pc
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case pc.outErr != nil:
		return 0, pc.outErr
	case pc.writing:
		return 0, errAgain
	}
	total := 0
	for _, b := range bufs {
		total += len(b)
		pc.out = append(pc.out, b[:min(len(b), portBuffer-len(pc.out))]...)
	}
	pc.writing = true
	pc.cond.Broadcast()
	if n := len(pc.out); n < total {
		return n, errAgain
	}
	return total, nil
}

func (p *portable) sockError(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.pc.outErr != nil {
		return c.pc.outErr
	}
	return c.pc.inErr
}
