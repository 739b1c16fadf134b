package drill

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// conn is a connection as the simplest Redis client has it: a command, its
// reply, the next. It is for one goroutine.
type conn struct {
	nc      net.Conn
	timeout time.Duration // for one reply
	release func() bool   // ends the watch on the context
	out     []byte
	in      []byte // read, and not taken by a reply yet
	scan    resp.Replies
}

// dialAs is dial, and logs in.
func dialAs(ctx context.Context, addr string, login Login, timeout, grace time.Duration) (*conn, error) {
	c, err := dial(ctx, addr, timeout, grace)
	if err != nil {
		return nil, err
	}
	if auth := login.command(); auth != nil {
		if _, err := c.ask(auth...); err != nil {
			c.close()
			return nil, fmt.Errorf("log in: %w", err)
		}
	}
	return c, nil
}

// dial connects to host:port, or unix:/path. When ctx ends, a wait for a reply may go on for grace.
func dial(ctx context.Context, addr string, timeout, grace time.Duration) (*conn, error) {
	d := net.Dialer{Timeout: timeout}
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, timeout: timeout, in: make([]byte, 0, 512)}
	c.release = context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now().Add(grace)) })
	return c, nil
}

func (c *conn) close() {
	c.release()
	_ = c.nc.Close() // nothing to lose
}

// do sends a command and waits for its reply. An error means that the
// connection is of no more use, and that the command may have been executed.
func (c *conn) do(args ...string) (resp.Value, error) {
	c.out = resp.AppendCommand(c.out[:0], args...)
	return c.exchange(c.out)
}

// exchange writes b and waits for one reply.
func (c *conn) exchange(b []byte) (resp.Value, error) {
	if c.timeout > 0 {
		if err := c.nc.SetDeadline(time.Now().Add(c.timeout)); err != nil {
			return resp.Value{}, err
		}
	}
	if _, err := c.nc.Write(b); err != nil {
		return resp.Value{}, err
	}
	return c.receive()
}

// receive waits for a reply or a message. It is the caller's.
func (c *conn) receive() (resp.Value, error) {
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
func (c *conn) fill() error {
	var b [16 << 10]byte
	n, err := c.nc.Read(b[:])
	c.in = append(c.in, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// pipeline sends all commands at once and waits for all replies.
func (c *conn) pipeline(commands [][]string) ([]resp.Value, error) {
	c.out = c.out[:0]
	for _, args := range commands {
		c.out = resp.AppendCommand(c.out, args...)
	}
	replies := make([]resp.Value, 0, len(commands))
	if len(commands) == 0 {
		return replies, nil
	}
	v, err := c.exchange(c.out)
	for {
		if err != nil {
			return nil, err
		}
		if v.Type == '-' {
			return nil, fmt.Errorf("%s: %s", commands[len(replies)][0], v.Str)
		}
		if replies = append(replies, v); len(replies) == len(commands) {
			return replies, nil
		}
		v, err = c.receive()
	}
}
