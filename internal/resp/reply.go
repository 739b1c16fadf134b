package resp

import (
	"errors"
	"fmt"
)

// Replies finds the replies in a server's bytes, of RESP2 and RESP3. Like
// Requests it scans each byte once. The zero value is ready. It is not safe for
// concurrent use.
type Replies struct {
	pos  int  // bytes of the reply under way that are scanned
	left int  // values still to come in it, the one under way included; 0: none is under way
	need int  // bytes behind pos of the bulk under way, its CRLF included; 0: none
	line bool // pos is inside a line: a status, an error or a number can be as long as a bulk
}

// Next looks at b, which must begin where the last reply ended and may only grow
// until a reply is complete. It returns the reply's length, attributes before it
// included, or 0 if more bytes are needed. A RESP3 push is a reply of its own,
// to be told by its first byte '>'. An error means that the server does not
// speak the protocol; the connection is then of no use.
func (r *Replies) Next(b []byte) (int, error) {
	pos, left := r.pos, r.left
	if left == 0 {
		left = 1
	}
	if r.need > 0 {
		if pos+r.need > len(b) {
			return 0, nil
		}
		pos += r.need
		r.need = 0
		left--
	}
	if r.line {
		i := lineEnd(b, pos)
		if i == 0 {
			r.pos = len(b)
			return 0, nil
		}
		r.line = false
		pos = i
		left--
	}
	for left > 0 {
		if pos >= len(b) {
			break
		}
		t := b[pos]
		switch t {
		case '+', '-', ':', ',', '#', '_', '(':
			i := lineEnd(b, pos+1)
			if i == 0 {
				r.line = true
				pos = len(b)
				goto more
			}
			pos = i
			left--
		case '$', '!', '=':
			v, p, ok := number(b, pos+1)
			if !ok {
				if p > 0 {
					return 0, fmt.Errorf("resp: bad length in reply of type %q", t)
				}
				goto more
			}
			pos = p
			if v >= 0 {
				if pos+v+2 > len(b) {
					r.need = v + 2
					goto more
				}
				pos += v + 2
			}
			left--
		case '*', '~', '>', '%', '|':
			v, p, ok := number(b, pos+1)
			if !ok {
				if p > 0 {
					return 0, fmt.Errorf("resp: bad count in reply of type %q", t)
				}
				goto more
			}
			pos = p
			v = max(v, 0)
			switch t {
			case '%':
				v *= 2
				left--
			case '|':
				v *= 2 // and the value that the attribute belongs to is still to come
			default:
				left--
			}
			left += v
		case tlsAlert:
			return 0, ErrTLSNode
		default:
			return 0, fmt.Errorf("resp: unknown reply type %q", t)
		}
	}
more:
	if left > 0 {
		r.pos, r.left = pos, left
		if pos == 0 && left == 1 && r.need == 0 {
			r.left = 0
		}
		return 0, nil
	}
	r.pos, r.left = 0, 0
	return pos, nil
}

// ErrTLSNode says that a node answered with an alert of TLS: it does not speak plain
// Redis on this port.
var ErrTLSNode = errors.New("the node speaks TLS on this port: want redis.tls.enabled, or the node's plain port")

// Need returns how long the reply under way is at least, in bytes, as far as its
// lengths are known; 0 if none is under way.
func (r *Replies) Need() int { return r.pos + r.need }

// Streamable returns how many of the n bytes at hand of a reply under way may be
// passed on before it is complete, followed by Skip.
func (r *Replies) Streamable(n int) int { return streamable(n, r.pos, r.need) }

// Skip says that the first n bytes were taken away while a reply is under way;
// n is at most what Streamable returned.
func (r *Replies) Skip(n int) {
	r.pos, r.need = skip(n, r.pos, r.need)
	r.left = max(r.left, 1)
}

// Under reports whether part of a reply was seen.
func (r *Replies) Under() bool { return r.left > 0 }

// lineEnd returns the position behind the CRLF of the line at b[i:], or 0.
func lineEnd(b []byte, i int) int {
	for j := i; j < len(b); j++ {
		if b[j] == '\n' {
			return j + 1
		}
	}
	return 0
}
