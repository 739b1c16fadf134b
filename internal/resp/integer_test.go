package resp

import (
	"math"
	"strconv"
	"testing"
)

func TestParseInt(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "-1": -1, "10": 10, "9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
	} {
		if got, ok := ParseInt(in); got != want || !ok {
			t.Errorf("%q is %d, %v; want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{
		"", "-", "+", "+5", "05", "-05", "-0", "00", " 5", "5 ", "5\n", "5\x00", "1_0", "0x1", "1e3", "1.5", "x", "--1", "-+1",
		"9223372036854775808", "-9223372036854775809", "99999999999999999999", "000000000000000000001", "٣",
	} {
		if got, ok := ParseInt([]byte(in)); ok {
			t.Errorf("%q is taken for %d", in, got)
		}
	}
}

// What is taken is written in the one way that there is.
func FuzzParseInt(f *testing.F) {
	for _, s := range []string{"0", "-1", "05", "+5", "-0", "9223372036854775808"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseInt(s)
		want, err := strconv.ParseInt(s, 10, 64)
		if canonical := err == nil && strconv.FormatInt(want, 10) == s; ok != canonical || ok && n != want {
			t.Errorf("%q is %d, %v; want %d, %v", s, n, ok, want, canonical)
		}
	})
}
