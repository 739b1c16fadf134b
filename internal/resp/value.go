package resp

import (
	"errors"
	"strconv"
)

// Value is one decoded reply. It is for the few replies that the sidecar itself
// reads (handshakes, subscriptions), not for the data path.
type Value struct {
	Type byte    // the type byte, such as '$'; attributes are dropped
	Null bool    // $-1, *-1, _
	Str  []byte  // the text of all but aggregates; points into the input
	Elem []Value // of aggregates; maps alternate key and value
}

var errIncomplete = errors.New("resp: incomplete reply")

// maxDepth bounds the nesting that Decode follows.
const maxDepth = 32

// Decode reads one complete reply as framed by Replies, and returns its length.
func Decode(b []byte) (Value, int, error) { return decode(b, 0) }

func decode(b []byte, depth int) (Value, int, error) {
	if len(b) == 0 || depth > maxDepth {
		return Value{}, 0, errIncomplete
	}
	v := Value{Type: b[0]}
	switch v.Type {
	case '+', '-', ':', ',', '#', '_', '(':
		end := lineEnd(b, 1)
		if end < 3 {
			return v, 0, errIncomplete
		}
		v.Str, v.Null = b[1:end-2], v.Type == '_'
		return v, end, nil
	case '$', '!', '=':
		n, p, ok := number(b, 1)
		if !ok || (n >= 0 && p+n+2 > len(b)) {
			return v, 0, errIncomplete
		}
		if n < 0 {
			v.Null = true
			return v, p, nil
		}
		v.Str = b[p : p+n]
		return v, p + n + 2, nil
	case '*', '~', '>', '%', '|':
		n, p, ok := number(b, 1)
		if !ok {
			return v, 0, errIncomplete
		}
		if n < 0 {
			v.Null = true
			return v, p, nil
		}
		if v.Type == '%' || v.Type == '|' {
			n *= 2
		}
		for range n {
			e, k, err := decode(b[p:], depth+1)
			if err != nil {
				return v, 0, err
			}
			v.Elem = append(v.Elem, e)
			p += k
		}
		if v.Type == '|' {
			next, k, err := decode(b[p:], depth+1)
			return next, p + k, err
		}
		return v, p, nil
	}
	return v, 0, errors.New("resp: unknown reply type")
}

// Int returns the value as a number; 0 if it is none.
func (v Value) Int() int64 {
	n, err := strconv.ParseInt(string(v.Str), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Lookup returns the value behind a key of a map, or of an array of pairs as
// RESP2 writes maps. The zero Value stands for "not there".
func (v Value) Lookup(key string) Value {
	for i := 0; i+1 < len(v.Elem); i += 2 {
		if string(v.Elem[i].Str) == key {
			return v.Elem[i+1]
		}
	}
	return Value{}
}
