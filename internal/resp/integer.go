package resp

import "strconv"

// maxInteger is how many bytes an integer of 64 bits has at most, with its sign.
const maxInteger = 20

// ParseInt reads an integer as Redis takes one (string2ll in redis/src/util.c): no plus, no
// leading zero, no minus zero, no space, and 64 bits at most.
func ParseInt[T string | []byte](s T) (n int64, ok bool) {
	digits := s
	if len(s) > 0 && s[0] == '-' {
		digits = s[1:]
	}
	if len(s) > maxInteger || len(digits) == 0 || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(s), 10, 64)
	return n, err == nil
}
