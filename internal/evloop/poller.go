package evloop

import (
	"errors"
	"time"
)

var (
	errAgain = errors.New("evloop: would block") // nothing to read, or no room to write
	errEOF   = errors.New("evloop: end of file")
)

// evFlags say what happened to a connection.
type evFlags uint8

const (
	evRead   evFlags = 1 << iota
	evWrite          // it can take more
	evHangup         // the peer closed its side, seen without reading
	evError          // it is broken
)

// event is one thing that wait saw: a ready connection or a ready listener.
type event struct {
	conn   *Conn
	accept *listener
	flags  evFlags
}

// poller waits for connections and does their I/O. All but wake is called by
// the loop's goroutine alone. Events are level-triggered: what was not read is
// reported again.
type poller interface {
	// wait returns what is ready. d < 0 waits for ever, 0 not at all. The slice is
	// valid until the next call.
	wait(d time.Duration) ([]event, error)
	// wake makes a wait under way, or the next one, return at once. It is safe for
	// concurrent use.
	wake()
	add(c *Conn) error
	// update brings what is watched in line with c.paused, c.eof and c.wantsWrite.
	update(c *Conn)
	// remove closes the connection, with SO_LINGER 0 if c.abort.
	remove(c *Conn)
	// read returns n > 0, or errAgain, errEOF or why the connection is broken.
	read(c *Conn, b []byte) (int, error)
	// write returns how many bytes were taken. With errAgain the peer takes no more
	// for now; fewer than all without an error means that bufs was more than one
	// write carries.
	write(c *Conn, bufs [][]byte) (int, error)
	sockError(c *Conn) error

	listen(a *listener) error
	// updateListen brings what is watched in line with a.resting.
	updateListen(a *listener)
	unlisten(a *listener)
	accept(a *listener) (Socket, error)
	close()
}
