package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// A writer's own counter tells what became of its writes.
func TestDemoCounter(t *testing.T) {
	const doubt = -1
	for name, tt := range map[string]struct {
		replies       []int // or doubt
		lost, doubled int
	}{
		"all kept":                      {[]int{1, 2, 3}, 0, 0},
		"two undone":                    {[]int{1, 2, 3, 2, 3}, 2, 0},
		"all undone":                    {[]int{1, 2, 3, 1}, 3, 0},
		"executed twice":                {[]int{1, 3, 4}, 0, 1},
		"uncertain, executed":           {[]int{1, doubt, 3, 4}, 0, 0},
		"uncertain, not executed":       {[]int{1, doubt, 2, 3}, 0, 0},
		"uncertain, executed twice":     {[]int{1, doubt, 4}, 0, 1},
		"uncertain hides no older loss": {[]int{1, 2, doubt, 2}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := &counter{key: "k", tally: newTally(1)}
			for _, n := range tt.replies {
				if n == doubt {
					w.doubt()
					continue
				}
				w.reply(resp.Value{Type: ':', Str: []byte(strconv.Itoa(n))})
			}
			if c := w.tally.now(); c.lost != tt.lost || c.doubled != tt.doubled {
				t.Errorf("%v: %d lost, %d doubled; want %d, %d", tt.replies, c.lost, c.doubled, tt.lost, tt.doubled)
			}
		})
	}
}

// On a terminal the live line is replaced, never wrapped, and makes way for what
// is said.
func TestScreenLiveLine(t *testing.T) {
	var b strings.Builder
	s := &screen{w: &b, width: func() int { return 8 }}
	s.draw("abcdefghij")
	s.say("said")
	s.say("again")
	s.draw("x")
	want := clearLine + "abcdefg" + clearLine + "said\nagain\n" + clearLine + "x"
	if b.String() != want {
		t.Errorf("got %q; want %q", b.String(), want)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q; want %q", n, got, want)
		}
	}
}
