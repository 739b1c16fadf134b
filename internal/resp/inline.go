package resp

// SplitInline splits an inline command as sdssplitargs in redis/src/sds.c does:
// by white space, with "..." (escapes \n \r \t \b \a \xHH) and '...' (escape \').
// It returns ok false for unbalanced quotes.
func SplitInline(line []byte) (args [][]byte, ok bool) {
	i := 0
	for {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i >= len(line) || line[i] == 0 {
			return args, true
		}
		var arg []byte
		inDouble, inSingle := false, false
	word:
		for {
			end := i >= len(line)
			switch {
			case inDouble:
				switch {
				case end:
					return nil, false
				case line[i] == '\\' && i+3 < len(line) && line[i+1] == 'x' && isHex(line[i+2]) && isHex(line[i+3]):
					arg = append(arg, hex(line[i+2])<<4|hex(line[i+3]))
					i += 3
				case line[i] == '\\' && i+1 < len(line):
					i++
					arg = append(arg, unescape(line[i]))
				case line[i] == '"':
					if i+1 < len(line) && !isSpace(line[i+1]) {
						return nil, false
					}
					i++
					break word
				default:
					arg = append(arg, line[i])
				}
			case inSingle:
				switch {
				case end:
					return nil, false
				case line[i] == '\\' && i+1 < len(line) && line[i+1] == '\'':
					i++
					arg = append(arg, '\'')
				case line[i] == '\'':
					if i+1 < len(line) && !isSpace(line[i+1]) {
						return nil, false
					}
					i++
					break word
				default:
					arg = append(arg, line[i])
				}
			default:
				if end || isSpace(line[i]) || line[i] == 0 {
					break word
				}
				switch line[i] {
				case '"':
					inDouble = true
				case '\'':
					inSingle = true
				default:
					arg = append(arg, line[i])
				}
			}
			i++
		}
		if arg == nil {
			arg = []byte{}
		}
		args = append(args, arg)
	}
}

func isSpace(c byte) bool { return c == ' ' || (c >= '\t' && c <= '\r') }

func isHex(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')
}

func hex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}
