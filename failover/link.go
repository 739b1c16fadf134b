package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// link is one control connection to a data node: it sends commands, hands out
// replies in order, and notices at once when the server closes it, also while
// nothing is asked. (A pooling client hides that, and it is the earliest word of a
// promotion.)
type link struct {
	conn    net.Conn
	replies chan reply    // closed when the connection is over; err tells why
	done    chan struct{} // closed when read has returned
	err     error         // valid once replies is closed
}

// newLink takes over conn. Its owner runs read in a goroutine of its own, and close in
// the end.
func newLink(conn net.Conn) *link {
	return &link{conn: conn, replies: make(chan reply), done: make(chan struct{})}
}

// read hands out replies until the connection ends or ctx does. A reply that nobody
// takes stops the reading: there is at most one per command sent.
func (l *link) read(ctx context.Context) {
	defer close(l.done)
	defer close(l.replies)
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, err := l.conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for len(buf) > 0 {
			r, used, perr := parseReply(buf)
			if errors.Is(perr, errShort) && len(buf) <= replyMax {
				break
			}
			if perr != nil {
				l.err = perr
				return
			}
			buf = buf[:copy(buf, buf[used:])]
			select {
			case l.replies <- r:
			case <-ctx.Done():
				l.err = ctx.Err()
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("closed by the server")
			}
			l.err = err
			return
		}
	}
}

// whyUnanswered adds to the end of a connection that brought no reply what it may
// mean: Redis resets who speaks plain to its TLS port.
func (l *link) whyUnanswered(err error) error {
	if _, plain := l.conn.(*net.TCPConn); plain && errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%w before any reply: if the node speaks TLS on this port, redis.tls.enabled is needed", err)
	}
	return err
}

// send writes one command; it must not take longer than a probe.
func (l *link) send(args ...string) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(appendCommand(nil, args...))
	return err
}

// close ends the connection and waits for its reader, whose replies are dropped.
func (l *link) close() {
	_ = l.conn.Close() // nothing is left to be delivered
	for range l.replies {
	}
	<-l.done
}
