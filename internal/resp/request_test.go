package resp

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/captures"
)

// framed is one command as Requests finds it.
type framed struct {
	text   string
	inline bool
}

// requests finds the commands of b, which arrives in pieces of at most the given
// sizes, over and over.
func requests(b []byte, sizes ...int) ([]framed, error) {
	var r Requests
	var out []framed
	buf := []byte{}
	for i := 0; len(b) > 0; i++ {
		n := min(len(b), max(1, sizes[i%len(sizes)]))
		buf = append(buf, b[:n]...)
		b = b[n:]
		for {
			n, inline, err := r.Next(buf)
			if err != nil {
				return out, err
			}
			if n == 0 {
				break
			}
			out = append(out, framed{string(buf[:n]), inline})
			buf = bytes.Clone(buf[n:])
			if len(buf) == 0 {
				break
			}
		}
	}
	return out, nil
}

func TestRequests(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want []framed
		err  string
	}{
		"TLS":              {in: "\x16\x03\x01\x05\x00\x01\x00", err: "a TLS handshake on a port without TLS"},
		"array":            {"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", []framed{{"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", false}}, ""},
		"two":              {"*1\r\n$4\r\nPING\r\nPING\r\n", []framed{{"*1\r\n$4\r\nPING\r\n", false}, {"PING\r\n", true}}, ""},
		"empty ones":       {"*0\r\n*-1\r\n\r\n", []framed{{"*0\r\n", false}, {"*-1\r\n", false}, {"\r\n", true}}, ""},
		"very negative":    {"*-9223372036854775808\r\n", []framed{{"*-9223372036854775808\r\n", false}}, ""},
		"too negative":     {"*-9223372036854775809\r\n", nil, "invalid multibulk length"},
		"minus zero":       {"*-0\r\n", nil, "invalid multibulk length"},
		"incomplete":       {"*2\r\n$3\r\nGET\r\n$1\r\na", nil, ""},
		"empty argument":   {"*1\r\n$0\r\n\r\n", []framed{{"*1\r\n$0\r\n\r\n", false}}, ""},
		"length 512 MiB":   {"*1\r\n$536870912\r\n", nil, ""},
		"length and one":   {"*1\r\n$536870913\r\n", nil, "invalid bulk length"},
		"after a good one": {"PING\r\n*1\r\n$x\r\n", []framed{{"PING\r\n", true}}, "invalid bulk length"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 3, len(tt.in)} {
				got, err := requests([]byte(tt.in), size)
				if !slices.Equal(got, tt.want) {
					t.Errorf("in pieces of %d: got %v; want %v", size, got, tt.want)
				}
				var pe ProtocolError
				if tt.err == "" && err != nil || tt.err != "" && (!errors.As(err, &pe) || string(pe) != tt.err) {
					t.Errorf("in pieces of %d: error %v; want %q", size, err, tt.err)
				}
			}
		})
	}
}

func TestLoginLimits(t *testing.T) {
	for in, want := range map[string]bool{
		"*10\r\n": false, "*11\r\n": true, "*1\r\n$16384\r\n": false, "*1\r\n$16385\r\n": true,
	} {
		r := Requests{Unauthenticated: true}
		if _, _, err := r.Next([]byte(in)); LoginLimit(err) != want {
			t.Errorf("%q: LoginLimit(%v); want %v", in, err, want)
		}
		if _, _, err := new(Requests).Next([]byte(in)); err != nil {
			t.Errorf("%q from somebody who is logged in: %v", in, err)
		}
	}
}

func TestInlineLimit(t *testing.T) {
	var r Requests
	if _, _, err := r.Next([]byte(strings.Repeat("a", MaxInline))); err != nil {
		t.Errorf("64 KiB: %v", err)
	}
	if _, _, err := r.Next([]byte(strings.Repeat("a", MaxInline+1))); err == nil {
		t.Error("64 KiB and one: no error")
	}
}

// TestSkip streams a command as a session does: passing on what may be passed on
// must not change where it ends.
func TestSkip(t *testing.T) {
	cmd := AppendCommand(nil, "SET", strings.Repeat("k", 300), strings.Repeat("v", 1000))
	in := slices.Concat(cmd, []byte("PING\r\n"))
	for size := 1; size < len(cmd); size += 7 {
		var r Requests
		var passed, buf []byte
		rest := in
		for {
			n := min(size, len(rest))
			buf, rest = append(buf, rest[:n]...), rest[n:]
			n, _, err := r.Next(buf)
			if err != nil {
				t.Fatalf("pieces of %d: %v", size, err)
			}
			if n > 0 {
				passed = append(passed, buf[:n]...)
				break
			}
			if r.Under() {
				n = r.Streamable(len(buf))
				r.Skip(n)
				passed, buf = append(passed, buf[:n]...), bytes.Clone(buf[n:])
			}
		}
		if !bytes.Equal(passed, cmd) {
			t.Fatalf("pieces of %d: passed %d bytes on, not the command of %d", size, len(passed), len(cmd))
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n*0\r\n"), uint8(1), uint8(3))
	f.Add([]byte("*1\r\n$4\r\nPINGxxSET \"a\\x41\" 'b'\r\n"), uint8(2), uint8(5))
	f.Add([]byte("*-1\r\n*1\r\n$-1\r\n"), uint8(7), uint8(1))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), uint8(1), uint8(1))
	for _, s := range captures.All(f) {
		f.Add(s.Client(), uint8(200), uint8(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, x, y uint8) {
		whole, errWhole := requests(b, len(b)+1)
		split, errSplit := requests(b, int(x), int(y))
		if !slices.Equal(whole, split) {
			t.Errorf("%q: whole %v, in pieces %v", b, whole, split)
		}
		if (errWhole == nil) != (errSplit == nil) {
			t.Errorf("%q: whole %v, in pieces %v", b, errWhole, errSplit)
		}
		for _, c := range whole {
			if c.inline || c.text[0] != '*' {
				continue
			}
			args := Args(nil, []byte(c.text))
			if n := Count([]byte(c.text)); n != len(args) {
				t.Errorf("%q: counted %d arguments; it has %d", c.text, n, len(args))
			}
			if len(args) == 0 {
				continue
			}
			again, err := requests(AppendCommand(nil, args...), 1)
			if err != nil || len(again) != 1 {
				t.Errorf("%q: its arguments %q do not make a command: %v", c.text, args, err)
			}
		}
	})
}

func TestSplitInline(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"  \t ", nil, true},
		{"SET a  b", []string{"SET", "a", "b"}, true},
		{`"a b" c`, []string{"a b", "c"}, true},
		{`"\n\r\t\b\a\\\"\x41\xZZ"`, []string{"\n\r\t\b\a\\\"AxZZ"}, true},
		{`'a\'b \n'`, []string{`a'b \n`}, true},
		{`""`, []string{""}, true},
		{`a"b c"`, []string{"ab c"}, true},
		{`"a"b`, nil, false},
		{`'a'b`, nil, false},
		{`"a`, nil, false},
		{`'a`, nil, false},
		{`"a\`, nil, false},
		{"a\x00b c", []string{"a"}, true},
	} {
		args, ok := SplitInline([]byte(tt.in))
		var got []string
		for _, a := range args {
			got = append(got, string(a))
		}
		if ok != tt.ok || ok && !slices.Equal(got, tt.want) {
			t.Errorf("SplitInline(%q) = %q, %v; want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzSplitInline(f *testing.F) {
	f.Add([]byte(`SET "a\x41\n" 'it\'s'`))
	for _, s := range captures.All(f) {
		if !strings.HasPrefix(s.Name, "inline") {
			continue
		}
		for line := range bytes.Lines(s.Client()) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		args, ok := SplitInline(line)
		if !ok || len(args) == 0 {
			return
		}
		// What was split, quoted again, splits into the same.
		var quoted []byte
		for _, a := range args {
			quoted = append(quoted, '"')
			for _, c := range a {
				quoted = append(quoted, '\\', 'x', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			}
			quoted = append(quoted, '"', ' ')
		}
		again, ok := SplitInline(quoted)
		if !ok || !slices.EqualFunc(args, again, bytes.Equal) {
			t.Errorf("%q: %q, quoted again: %q", line, args, again)
		}
	})
}
