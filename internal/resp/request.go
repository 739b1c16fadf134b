// Package resp frames the Redis protocol, versions 2 and 3, without copying and
// without I/O: it finds where a command or a reply ends, and reads and writes
// the few values the sidecar itself must understand.
//
// Limits and error texts are those of Redis 7.0 (processMultibulkBuffer and
// processInlineBuffer in redis/src/networking.c).
package resp

import "bytes"

// ProtocolError is a breach of the protocol by a client. Its text is what Redis
// answers after "-ERR Protocol error: ", before it closes the connection.
type ProtocolError string

// Error returns the text as Redis sends it, without the leading "-ERR ".
func (e ProtocolError) Error() string { return "Protocol error: " + string(e) }

// The limits of Redis 7.0.
const (
	MaxInline       = 64 << 10  // PROTO_INLINE_MAX_SIZE: inline commands and length lines
	MaxBulk         = 512 << 20 // proto-max-bulk-len's default
	maxArgs         = 1<<31 - 1
	maxUnauthArgs   = 10
	maxUnauthBulk   = 16 << 10
	maxNumberDigits = 20
)

const (
	errUnauthArgs = ProtocolError("unauthenticated multibulk length")
	errUnauthBulk = ProtocolError("unauthenticated bulk length")
)

// ErrTLS is the breach of a client that begins a TLS handshake. Redis would wait
// for the end of its line.
const ErrTLS = ProtocolError("a TLS handshake on a port without TLS")

// What a TLS record of a handshake begins with.
const (
	tlsHandshake = 0x16
	tlsAlert     = 0x15
	tlsMajor     = 3
)

// LoginLimit reports whether err is a breach of the limits that hold only for
// clients that must log in (Requests.Unauthenticated).
func LoginLimit(err error) bool { return err == errUnauthArgs || err == errUnauthBulk } //nolint:errorlint // Next never wraps

// Requests finds the commands in a client's bytes. It remembers how far it has
// looked, so a command that arrives in many pieces is scanned once. The zero
// value is ready. It is not safe for concurrent use.
type Requests struct {
	// Unauthenticated applies Redis' lower limits for clients that must log in.
	Unauthenticated bool

	pos  int  // bytes of the command under way that are scanned
	args int  // arguments still to come, the one under way included
	need int  // bytes behind pos of the argument under way, its CRLF included; 0: its length is not read yet
	head bool // the head was read: args and need are valid
}

// Next looks at b, which must begin where the last command ended and may only
// grow until a command is complete. It returns the length of the command, which
// may be empty (a blank line, "*0"), or 0 if more bytes are needed. inline says
// that the command is a line to be split by SplitInline. After an error no
// further call makes sense.
func (r *Requests) Next(b []byte) (n int, inline bool, err error) {
	if !r.head {
		if len(b) == 0 {
			return 0, false, nil
		}
		if b[0] != '*' {
			return r.inline(b)
		}
		v, p, ok := number(b, 1)
		if !ok {
			if p > 0 {
				return 0, false, ProtocolError("invalid multibulk length")
			}
			if len(b) > MaxInline {
				return 0, false, ProtocolError("too big mbulk count string")
			}
			return 0, false, nil
		}
		if v > maxArgs {
			return 0, false, ProtocolError("invalid multibulk length")
		}
		if r.Unauthenticated && v > maxUnauthArgs {
			return 0, false, errUnauthArgs
		}
		if v <= 0 {
			return p, false, nil
		}
		r.head, r.args, r.need, r.pos = true, v, 0, p
	}
	pos := r.pos
	for r.args > 0 {
		if r.need == 0 {
			if pos >= len(b) {
				break
			}
			if b[pos] != '$' {
				// Redis looks for the end of the line first.
				if i := bytes.IndexByte(b[pos:], '\r'); i < 0 || pos+i+1 >= len(b) {
					if i < 0 && len(b)-pos > MaxInline {
						return 0, false, ProtocolError("too big bulk count string")
					}
					break
				}
				return 0, false, ProtocolError("expected '$', got '" + string(printable(b[pos])) + "'")
			}
			v, p, ok := number(b, pos+1)
			if !ok {
				if p > 0 {
					return 0, false, ProtocolError("invalid bulk length")
				}
				if len(b)-pos > MaxInline {
					return 0, false, ProtocolError("too big bulk count string")
				}
				break
			}
			if v < 0 || v > MaxBulk {
				return 0, false, ProtocolError("invalid bulk length")
			}
			if r.Unauthenticated && v > maxUnauthBulk {
				return 0, false, errUnauthBulk
			}
			r.need, pos = v+2, p // Redis does not look at the two bytes behind it either
		}
		if pos+r.need > len(b) {
			break
		}
		pos += r.need
		r.need = 0
		r.args--
	}
	if r.args > 0 {
		r.pos = pos
		return 0, false, nil
	}
	r.head, r.pos = false, 0
	return pos, false, nil
}

func (r *Requests) inline(b []byte) (int, bool, error) {
	if b[0] == tlsHandshake && len(b) > 1 && b[1] == tlsMajor {
		return 0, true, ErrTLS
	}
	i := bytes.IndexByte(b[min(r.pos, len(b)):], '\n')
	if i < 0 {
		if len(b) > MaxInline {
			return 0, true, ProtocolError("too big inline request")
		}
		r.pos = len(b)
		return 0, true, nil
	}
	n := r.pos + i + 1
	r.pos = 0
	return n, true, nil
}

// Need returns how long the command under way is at least, in bytes, as far as
// its lengths are known; 0 if none is under way.
func (r *Requests) Need() int {
	if !r.head {
		return 0
	}
	return r.pos + r.need
}

// Streamable returns how many of the n bytes at hand of a command under way may
// be passed on before it is complete, followed by Skip.
func (r *Requests) Streamable(n int) int { return streamable(n, r.pos, r.need) }

// Skip says that the first n bytes were taken away while a command is under way;
// n is at most what Streamable returned.
func (r *Requests) Skip(n int) { r.pos, r.need = skip(n, r.pos, r.need) }

func streamable(n, pos, need int) int {
	if need > 0 {
		return n
	}
	return pos
}

func skip(n, pos, need int) (int, int) {
	if n <= pos {
		return pos - n, need
	}
	return 0, need - (n - pos)
}

// Under reports whether a command is under way: begun, not complete.
func (r *Requests) Under() bool { return r.head }

// printable keeps an error line a line.
func printable(c byte) byte {
	if c == '\r' || c == '\n' || c == 0 {
		return ' '
	}
	return c
}

// number reads a length line from b[i:] up to CRLF. It returns the value and
// the position behind the line. ok is false with next 0 if the line is not
// complete, and with next > 0 if it is not a number as string2ll in
// redis/src/util.c has it: no plus, no leading zero, no space.
func number(b []byte, i int) (v, next int, ok bool) {
	if i >= len(b) {
		return 0, 0, false
	}
	j := i
	neg := false
	if j < len(b) && b[j] == '-' {
		neg = true
		j++
	}
	start := j
	for j < len(b) {
		c := b[j] - '0'
		if c > 9 {
			break
		}
		if j-start > maxNumberDigits {
			break
		}
		v = v*10 + int(c)
		j++
	}
	if j >= len(b) || b[j] != '\r' {
		k := bytes.IndexByte(b[i:], '\r')
		if k < 0 || i+k+1 >= len(b) {
			return 0, 0, false
		}
		return 0, i + k + 2, false
	}
	if j+1 >= len(b) {
		return 0, 0, false
	}
	digits := j - start
	if digits == 19 && neg { // too long for v, but a number still
		return -1, j + 2, string(b[start:j]) <= "9223372036854775808" && b[start] != '0'
	}
	if digits == 0 || digits > 18 || (b[start] == '0' && (digits > 1 || neg)) {
		return 0, j + 2, false
	}
	if neg {
		v = -v
	}
	return v, j + 2, true
}

// Count returns how many arguments a complete command in array form has, its name
// included, without looking at them; 0 if b is none.
func Count(b []byte) int {
	n, _, ok := number(b, 1)
	if !ok {
		return 0
	}
	return max(n, 0)
}

// Arg returns the first argument, the command's name, of a complete command in
// array form, and the position behind it. It returns nil where there is none.
func Arg(b []byte, pos int) (arg []byte, next int) {
	if pos == 0 {
		_, p, ok := number(b, 1)
		if !ok {
			return nil, 0
		}
		pos = p
	}
	if pos >= len(b) || b[pos] != '$' {
		return nil, 0
	}
	v, p, ok := number(b, pos+1)
	if !ok || v < 0 || p+v > len(b) {
		return nil, 0
	}
	return b[p : p+v], p + v + 2
}

// Args appends all arguments of a complete command in array form to dst. They
// point into b.
func Args(dst [][]byte, b []byte) [][]byte {
	for pos := 0; ; {
		a, next := Arg(b, pos)
		if next == 0 {
			return dst
		}
		dst = append(dst, a)
		pos = next
		if pos >= len(b) {
			return dst
		}
	}
}
