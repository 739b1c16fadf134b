package outage

// Match reports whether key matches a pattern as Redis understands it in KEYS and
// ACL rules: * any bytes, ? one byte, [ab], [a-c] and [^a] one byte of a set, and
// \ takes the next byte as it is (stringmatchlen in redis/src/util.c). It takes
// time in proportion to the product of both lengths at most.
func Match[T string | []byte](pattern string, key T) bool {
	if pattern == "*" {
		return true
	}
	if len(key) == 0 {
		return pattern == ""
	}
	p, k := 0, 0
	star, from := -1, 0 // the last * seen, and where what it swallows ends
	for k < len(key) {
		if p < len(pattern) && pattern[p] == '*' {
			star, from = p, k
			p++
			continue
		}
		if n, ok := matchOne(pattern[p:], key[k]); ok {
			p += n
			k++
			continue
		}
		if star < 0 {
			return false
		}
		from++
		p, k = star+1, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one byte against the head of a pattern, which is no *, and
// returns how long that head is.
func matchOne(p string, c byte) (n int, ok bool) {
	switch {
	case p == "":
		return 0, false
	case p[0] == '?':
		return 1, true
	case p[0] == '[':
		return matchSet(p, c)
	case p[0] == '\\' && len(p) >= 2:
		return 2, p[1] == c
	}
	return 1, p[0] == c
}

// matchSet matches one byte against a set. One that is never closed ends with the
// pattern, as in Redis.
func matchSet(p string, c byte) (n int, ok bool) {
	i := 1
	not := i < len(p) && p[i] == '^'
	if not {
		i++
	}
	for ; i < len(p) && p[i] != ']'; i++ {
		switch {
		case p[i] == '\\' && i+1 < len(p):
			i++
			ok = ok || p[i] == c
		case i+2 < len(p) && p[i+1] == '-':
			low, high := min(p[i], p[i+2]), max(p[i], p[i+2])
			i += 2
			ok = ok || low <= c && c <= high
		default:
			ok = ok || p[i] == c
		}
	}
	return min(i+1, len(p)), ok != not
}
