package faultnet

import (
	"io"
	"net"
	"sync/atomic"
)

// ConnFaults says how a Conn misbehaves. Zero means not at all.
type ConnFaults struct {
	MaxRead  int // most bytes one Read returns
	MaxWrite int // most bytes one Write takes; a longer one ends with io.ErrShortWrite
	// FailRead and FailWrite are the numbers, counted from 1, of the first calls
	// that fail with Err; later calls fail too.
	FailRead, FailWrite int
	Err                 error // default io.ErrUnexpectedEOF
}

// Conn is a net.Conn that reads and writes less than it was asked to, or fails
// at a given call. It is as safe for concurrent use as the Conn it wraps.
type Conn struct {
	net.Conn // the real connection

	faults        ConnFaults
	reads, writes atomic.Int64 // calls so far
}

// NewConn wraps c, which it owns from then on.
func NewConn(c net.Conn, f ConnFaults) *Conn {
	if f.Err == nil {
		f.Err = io.ErrUnexpectedEOF
	}
	return &Conn{Conn: c, faults: f}
}

// Read reads at most MaxRead bytes.
func (c *Conn) Read(p []byte) (int, error) {
	if n := c.reads.Add(1); c.faults.FailRead > 0 && n >= int64(c.faults.FailRead) {
		return 0, c.faults.Err
	}
	if c.faults.MaxRead > 0 {
		p = p[:min(len(p), c.faults.MaxRead)]
	}
	return c.Conn.Read(p)
}

// Write writes at most MaxWrite bytes.
func (c *Conn) Write(p []byte) (int, error) {
	if n := c.writes.Add(1); c.faults.FailWrite > 0 && n >= int64(c.faults.FailWrite) {
		return 0, c.faults.Err
	}
	if c.faults.MaxWrite == 0 || len(p) <= c.faults.MaxWrite {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:c.faults.MaxWrite])
	if err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}
