package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// demoPatience bounds every wait of the demo that should be much shorter: for a
// reply, for a new master, for a stable group.
const demoPatience = time.Minute

// plainConn is a connection as the simplest Redis client has it: a command, its
// reply, the next. It is for one goroutine; the end of its context ends a wait
// for a reply within the grace given to dialPlain.
type plainConn struct {
	nc      net.Conn
	release func() bool // ends the watch on the context
	out     []byte
	in      []byte // read, and not taken by a reply yet
	scan    resp.Replies
}

// dialPlain connects. Once ctx has ended the connection goes on for grace.
func dialPlain(ctx context.Context, addr string, grace time.Duration) (*plainConn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &plainConn{nc: nc, in: make([]byte, 0, 512)}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		_ = nc.Close()
		return nil, err
	}
	c.release = context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now().Add(grace)) })
	return c, nil
}

// close ends the connection.
func (c *plainConn) close() {
	c.release()
	_ = c.nc.Close()
}

// do sends a command and waits for its reply. The reply is valid until the next
// call. An error means that the connection is of no more use.
func (c *plainConn) do(args ...string) (resp.Value, error) {
	c.out = resp.AppendCommand(c.out[:0], args...)
	if _, err := c.nc.Write(c.out); err != nil {
		return resp.Value{}, err
	}
	return c.receive()
}

// receive waits for a reply or message. It is valid until the next call.
func (c *plainConn) receive() (resp.Value, error) {
	for {
		n, err := c.scan.Next(c.in)
		if err != nil {
			return resp.Value{}, fmt.Errorf("reply: %w", err)
		}
		if n > 0 {
			reply := append([]byte(nil), c.in[:n]...)
			c.in = append(c.in[:0], c.in[n:]...)
			v, _, err := resp.Decode(reply)
			return v, err
		}
		if err := c.fill(); err != nil {
			return resp.Value{}, err
		}
	}
}

// fill reads once.
func (c *plainConn) fill() error {
	var b [4096]byte
	n, err := c.nc.Read(b[:])
	c.in = append(c.in, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}
