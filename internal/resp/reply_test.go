package resp

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/captures"
)

// replies finds the replies of b, which arrives in pieces; with stream the parts
// of an incomplete reply are taken away as they may be.
func replies(b []byte, stream bool, sizes ...int) ([]string, error) {
	var r Replies
	var out []string
	var buf []byte
	passed := ""
	for i := 0; len(b) > 0; i++ {
		n := min(len(b), max(1, sizes[i%len(sizes)]))
		buf = append(buf, b[:n]...)
		b = b[n:]
		for len(buf) > 0 {
			n, err := r.Next(buf)
			if err != nil {
				return out, err
			}
			if n == 0 {
				break
			}
			out = append(out, passed+string(buf[:n]))
			passed = ""
			buf = bytes.Clone(buf[n:])
		}
		if stream && r.Under() {
			n := r.Streamable(len(buf))
			passed += string(buf[:n])
			r.Skip(n)
			buf = bytes.Clone(buf[n:])
		}
	}
	return out, nil
}

func TestReplies(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
		bad  bool
	}{
		{in: "+OK\r\n-ERR x\r\n:1\r\n", want: []string{"+OK\r\n", "-ERR x\r\n", ":1\r\n"}},
		{in: "$3\r\na\r\n\r\n$-1\r\n$0\r\n\r\n", want: []string{"$3\r\na\r\n\r\n", "$-1\r\n", "$0\r\n\r\n"}},
		{in: "*2\r\n*1\r\n:1\r\n$-1\r\n*-1\r\n*0\r\n", want: []string{"*2\r\n*1\r\n:1\r\n$-1\r\n", "*-1\r\n", "*0\r\n"}},
		{in: "%1\r\n+a\r\n~1\r\n:1\r\n_\r\n", want: []string{"%1\r\n+a\r\n~1\r\n:1\r\n", "_\r\n"}},
		{in: "|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n", want: []string{"|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n"}},
		{in: ">2\r\n+a\r\n+b\r\n#t\r\n,1.5\r\n(123\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n", want: []string{
			">2\r\n+a\r\n+b\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n", "=5\r\ntxt:a\r\n", "!3\r\nERR\r\n",
		}},
		{in: "*2\r\n:1\r\n"},
		{in: "hello\r\n", bad: true},
		{in: "$x\r\n", bad: true},
		{in: "*\r\n", bad: true},
		{in: "*1\r\n$99999999999999999999\r\n", bad: true},
	} {
		for _, size := range []int{1, 2, 5, 100} {
			for _, stream := range []bool{false, true} {
				got, err := replies([]byte(tt.in), stream, size)
				if (err != nil) != tt.bad || !tt.bad && !slices.Equal(got, tt.want) {
					t.Errorf("%q in pieces of %d: %q, %v; want %q", tt.in, size, got, err, tt.want)
				}
			}
		}
	}
}

func TestRepliesNeed(t *testing.T) {
	var r Replies
	if _, err := r.Next([]byte("*2\r\n$1000000\r\nabc")); err != nil {
		t.Fatal(err)
	}
	if got := r.Need(); got < 1000000 {
		t.Errorf("Need() = %d for a reply of more than a million bytes", got)
	}
	if !r.Under() {
		t.Error("no reply is under way")
	}
}

// A script's status reply can be as long as a bulk: it is scanned once and may be
// passed on in parts.
func TestRepliesLongLine(t *testing.T) {
	var r Replies
	b := append([]byte("*2\r\n+"), bytes.Repeat([]byte("x"), 1000)...)
	if n, err := r.Next(b); n != 0 || err != nil {
		t.Fatalf("Next() = %d, %v", n, err)
	}
	if r.pos != len(b) {
		t.Errorf("%d of %d bytes are scanned", r.pos, len(b))
	}
	if got := r.Need(); got < len(b) {
		t.Errorf("Need() = %d for a line of %d bytes", got, len(b))
	}
	if got := r.Streamable(len(b)); got != len(b) {
		t.Fatalf("%d of %d bytes may be passed on", got, len(b))
	}
	r.Skip(len(b))
	if n, err := r.Next([]byte("-: \r\n:1\r\n+")); n != 9 || err != nil {
		t.Errorf("the rest has %d bytes, %v; want 9", n, err)
	}
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte("+OK\r\n$3\r\nabc\r\n*2\r\n:1\r\n%1\r\n+a\r\n|1\r\n+x\r\n+y\r\n$1\r\nb\r\n"), uint8(1), uint8(3))
	f.Add([]byte(">2\r\n+message\r\n$100\r\nabc"), uint8(9), uint8(2))
	for _, s := range captures.All(f) {
		f.Add(s.Server(), uint8(200), uint8(7))
	}
	f.Add([]byte("*2\r\n+a long status\r\n-a long error\r\n"), uint8(3), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, x, y uint8) {
		whole, errWhole := replies(b, false, len(b)+1)
		for _, stream := range []bool{false, true} {
			split, errSplit := replies(b, stream, int(x), int(y))
			if !slices.Equal(whole, split) || (errWhole == nil) != (errSplit == nil) {
				t.Errorf("%q: whole %q, %v; in pieces %q, %v (stream %v)", b, whole, errWhole, split, errSplit, stream)
			}
		}
		for _, s := range whole {
			if _, n, err := Decode([]byte(s)); err == nil && n != len(s) {
				t.Errorf("%q: framed as %d bytes, decoded as %d", s, len(s), n)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("%1\r\n+role\r\n$6\r\nmaster\r\n"))
	f.Add([]byte("*1\r\n|1\r\n+a\r\n+b\r\n:1\r\n"))
	f.Add([]byte("*99999999999\r\n"))
	for _, s := range captures.All(f) {
		whole, err := replies(s.Server(), false, captures.MaxBytes)
		if err != nil {
			f.Fatalf("%s: %v", s.Name, err)
		}
		for _, r := range whole {
			f.Add([]byte(r))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, n, err := Decode(b)
		if err != nil {
			return
		}
		if n <= 0 || n > len(b) {
			t.Fatalf("%q: length %d", b, n)
		}
		v.Int()
		v.Lookup("role")
	})
}

func TestDecode(t *testing.T) {
	v, n, err := Decode([]byte("%2\r\n+role\r\n$6\r\nmaster\r\n+id\r\n:7\r\n"))
	if err != nil || n != 32 || string(v.Lookup("role").Str) != "master" || v.Lookup("id").Int() != 7 {
		t.Errorf("got %+v, %d, %v", v, n, err)
	}
	if got := v.Lookup("nothing"); got.Type != 0 || got.Str != nil || got.Int() != 0 {
		t.Errorf("Lookup of what is not there: %+v", got)
	}
	if _, _, err := Decode([]byte(strings.Repeat("*1\r\n", 100) + ":1\r\n")); err == nil {
		t.Error("nesting has no bound")
	}
	for _, null := range []string{"$-1\r\n", "*-1\r\n", "_\r\n"} {
		if v, _, err := Decode([]byte(null)); err != nil || !v.Null {
			t.Errorf("%q: %+v, %v", null, v, err)
		}
	}
}

func TestAppendErrorStaysALine(t *testing.T) {
	if got := string(AppendError(nil, "ERR a\r\nb")); got != "-ERR a  b\r\n" {
		t.Errorf("got %q", got)
	}
}

// Attributes of attributes nest like anything else.
func TestDecodeDepthOfAttributes(t *testing.T) {
	if _, _, err := Decode([]byte(strings.Repeat("|0\r\n", 2*maxDepth) + "+OK\r\n")); err == nil {
		t.Error("attributes without end were followed")
	}
	if v, _, err := Decode([]byte("|1\r\n+a\r\n+b\r\n+OK\r\n")); err != nil || string(v.Str) != "OK" {
		t.Errorf("%q, %v; want the value behind its attribute", v.Str, err)
	}
}
