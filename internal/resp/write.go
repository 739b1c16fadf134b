package resp

import "strconv"

// AppendArray appends the head of an array (or of a command) of n elements.
func AppendArray(b []byte, n int) []byte { return appendHead(b, '*', n) }

// AppendMap appends the head of a RESP3 map of n pairs.
func AppendMap(b []byte, n int) []byte { return appendHead(b, '%', n) }

// AppendPush appends the head of a RESP3 push of n elements.
func AppendPush(b []byte, n int) []byte { return appendHead(b, '>', n) }

// AppendBulk appends a bulk string.
func AppendBulk[T string | []byte](b []byte, s T) []byte {
	b = appendHead(b, '$', len(s))
	b = append(b, s...)
	return append(b, '\r', '\n')
}

// AppendInt appends an integer reply.
func AppendInt(b []byte, n int64) []byte {
	b = append(b, ':')
	b = strconv.AppendInt(b, n, 10)
	return append(b, '\r', '\n')
}

// AppendSimple appends a status reply; s must be one line.
func AppendSimple(b []byte, s string) []byte {
	b = append(b, '+')
	b = append(b, s...)
	return append(b, '\r', '\n')
}

// AppendError appends an error reply; s begins with its code, such as "ERR".
// Line breaks in s become spaces, as in Redis.
func AppendError(b []byte, s string) []byte {
	b = append(b, '-')
	for i := range len(s) {
		c := s[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, '\r', '\n')
}

// AppendCommand appends a command in array form.
func AppendCommand[T string | []byte](b []byte, args ...T) []byte {
	b = AppendArray(b, len(args))
	for _, a := range args {
		b = AppendBulk(b, a)
	}
	return b
}

func appendHead(b []byte, t byte, n int) []byte {
	b = append(b, t)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '\r', '\n')
}
