package proxy

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// How much the differential test does.
var (
	diffCommands = flag.Int("difftest.commands", 5000, "commands of the differential test, for each mode")
	diffSeed     = flag.Uint64("difftest.seed", 0, "seed of the differential test; 0: one by the clock")
)

// mostDifferences is after how many of them a run ends.
const mostDifferences = 20

// TestDifferential sends the same random commands to Redis and through the sidecar to
// the same Redis, and wants the same bytes from both. What it does not compare is
// listed in diffLeftOut, diffShape and diffUnordered.
func TestDifferential(t *testing.T) {
	node := redistest.Single(t, redistest.Options{RedisConfig: []string{"enable-debug-command no"}})
	specs := diffSpecs(t, node)
	seed := *diffSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			d := differ{tb: t, node: node, proxy: r.addr, specs: specs, seed: seed, seen: map[string]int{}}
			for d.commands < *diffCommands && len(d.seen) < mostDifferences {
				d.stream()
			}
			t.Logf("seed %d: %d commands in %d streams, %d of them compared by kind alone, %d differences",
				seed, d.commands, d.streams, d.shapes, d.differences)
		})
	}
}

// differ is one run of the differential test.
type differ struct {
	tb    testing.TB
	node  *redistest.Node
	proxy string
	specs []diffSpec
	seed  uint64

	streams, commands, shapes, differences int

	seen map[string]int // differences, by command
}

// stream makes the commands of one connection, sends them both ways, and compares.
func (d *differ) stream() {
	d.streams++
	g := &diffGen{Rand: rand.New(rand.NewPCG(d.seed, uint64(d.streams))), specs: d.specs, stream: d.streams}
	g.exact = g.one(4)
	var cmds []diffCmd
	if g.one(2) {
		cmds = append(cmds, diffCmd{words: []string{"HELLO", "3"}})
	}
	for n := 10 + g.IntN(90); len(cmds) < n; {
		c := g.next()
		g.note(c)
		cmds = append(cmds, c)
	}
	cmds = append(cmds, diffCmd{words: []string{"RESET"}}, diffCmd{words: []string{"QUIT"}})
	d.commands += len(cmds)
	var b []byte
	for _, c := range cmds {
		b = g.encode(b, c.words)
	}
	cuts := g.cuts(len(b))
	d.clean()
	want := d.send(string(d.node.Addr()), b, cuts)
	d.clean()
	got := d.send(d.proxy, b, cuts)
	if g.exact {
		d.compareBytes(cmds, want, got)
	} else {
		d.compareReplies(cmds, want, got)
	}
}

// note keeps the generator's idea of the connection true.
func (g *diffGen) note(c diffCmd) {
	switch strings.ToUpper(c.words[0]) {
	case "MULTI":
		g.tx = g.tx || len(c.words) == 1
	case "EXEC", "DISCARD", "RESET":
		g.tx = g.tx && len(c.words) > 1
	case "SELECT":
		g.moved = true
	case "EVAL":
		if len(c.words) == 5 && !g.tx && c.words[2] == "1" && !strings.Contains(c.words[1], "syntax") {
			sum := sha1.Sum([]byte(c.words[1]))
			g.scripts = append(g.scripts, hex.EncodeToString(sum[:]))
		}
	}
}

// encode appends a command in array form or, now and then, as a line.
func (g *diffGen) encode(b []byte, words []string) []byte {
	if !g.one(12) || len(strings.Join(words, "")) > 4000 { // how long a line may be depends on how it is cut
		return resp.AppendCommand(b, words...)
	}
	for i, w := range words {
		if i == 0 && w == "" {
			return resp.AppendCommand(b, words...)
		}
		if i > 0 {
			b = append(b, ' ')
		}
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\'' || r == '\\' }) {
			b = append(b, '"')
			for j := range len(w) {
				b = fmt.Appendf(b, `\x%02x`, w[j])
			}
			b = append(b, '"')
		} else {
			b = append(b, w...)
		}
	}
	return append(b, '\r', '\n')
}

// cuts says where the bytes of a stream are cut into writes.
func (g *diffGen) cuts(n int) []int {
	var at []int
	for range g.IntN(12) {
		at = append(at, g.IntN(n))
	}
	slices.Sort(at)
	return append(at, n)
}

// clean brings the node back to where it was.
func (d *differ) clean() {
	d.tb.Helper()
	c := d.dial(string(d.node.Addr()))
	defer c.Close()
	cmds := [][]string{
		{"FLUSHALL"},
		{"SCRIPT", "FLUSH"},
		{"FUNCTION", "FLUSH"},
		{"ACL", "LOG", "RESET"},
		{"CONFIG", "SET", "slowlog-max-len", "128"},
		{"ACL", "SETUSER", "limited", "reset", "on", ">secret", "~k1", "~k2", "+@read", "+@connection", "+set", "+multi", "+exec", "+watch", "-select", "-echo"},
		{"CLIENT", "UNPAUSE"},
	}
	var b []byte
	for _, w := range cmds {
		b = resp.AppendCommand(b, w...)
	}
	if _, err := c.Write(append(b, "QUIT\r\n"...)); err != nil {
		d.tb.Fatal(err)
	}
	if out, err := io.ReadAll(c); err != nil || strings.Count("\r\n"+string(out), "\r\n+OK") != len(cmds)+1 {
		d.tb.Fatalf("cleaning: %q, %v", out, err)
	}
}

func (d *differ) dial(addr string) net.Conn {
	d.tb.Helper()
	c, err := (&net.Dialer{}).DialContext(d.tb.Context(), "tcp", addr)
	if err != nil {
		d.tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testWait))
	return c
}

// send writes b, cut into pieces, and returns all that is answered.
func (d *differ) send(addr string, b []byte, cuts []int) []byte {
	d.tb.Helper()
	c := d.dial(addr)
	defer c.Close()
	go func() {
		at := 0
		for _, end := range cuts {
			if _, err := c.Write(b[at:end]); err != nil {
				return // it was closed on us
			}
			at = end
		}
	}()
	out, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		out = append(out, "(and no end)"...)
	}
	return out
}

var helloID = regexp.MustCompile(`(\$2\r\nid\r\n):\d+`)

// compareBytes compares a stream of which each byte counts.
func (d *differ) compareBytes(cmds []diffCmd, want, got []byte) {
	want, got = helloID.ReplaceAll(want, []byte("$1:0")), helloID.ReplaceAll(got, []byte("$1:0"))
	if bytes.Equal(want, got) {
		return
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	d.differ("bytes", len(cmds)-1, cmds, tail(want, at), tail(got, at))
}

func tail(b []byte, at int) string {
	return fmt.Sprintf("…%q", b[max(0, at-120):min(len(b), at+120)])
}

// compareReplies compares reply by reply, each in the way of its command.
func (d *differ) compareReplies(cmds []diffCmd, want, got []byte) {
	ws, wpush := replies(want)
	gs, gpush := replies(got)
	for i, c := range cmds {
		if i >= len(ws) || i >= len(gs) {
			if len(ws) != len(gs) {
				d.differ("count", i, cmds, fmt.Sprint(len(ws), " replies, then ", last(ws)), fmt.Sprint(len(gs), " replies, then ", last(gs)))
			}
			return
		}
		w, g := helloID.ReplaceAllString(ws[i], "$1:0"), helloID.ReplaceAllString(gs[i], "$1:0")
		if c.how == howShape {
			d.shapes++
		}
		if normal(w, c.how) != normal(g, c.how) {
			d.differ(strings.ToUpper(c.words[0]), i, cmds, w, g)
			return
		}
	}
	if !slices.Equal(wpush, gpush) {
		d.differ("pushes", len(cmds)-1, cmds, fmt.Sprintf("%q", wpush), fmt.Sprintf("%q", gpush))
	}
}

func last(s []string) string {
	if len(s) == 0 {
		return "nothing"
	}
	return s[len(s)-1]
}

// replies cuts what was answered into replies and pushes.
func replies(b []byte) (rs, pushes []string) {
	var f resp.Replies
	for len(b) > 0 {
		n, err := f.Next(b)
		if n == 0 || err != nil {
			return append(rs, string(b)), pushes
		}
		if b[0] == '>' {
			pushes = append(pushes, string(b[:n]))
		} else {
			rs = append(rs, string(b[:n]))
		}
		b = b[n:]
	}
	return rs, pushes
}

// normal leaves of a reply what can be compared.
func normal(s string, how diffHow) string {
	switch {
	case how == howExact || s == "" || s[0] == '-':
		return s
	case how == howShape:
		return s[:1]
	}
	v, _, err := resp.Decode([]byte(s))
	if err != nil {
		return s
	}
	if how == howCursor && len(v.Elem) == 2 && string(v.Elem[0].Str) != "0" {
		v.Elem[0].Str = []byte("a cursor")
	}
	return sortedValue(v)
}

func sortedValue(v resp.Value) string {
	parts := make([]string, 0, len(v.Elem))
	for _, e := range v.Elem {
		parts = append(parts, sortedValue(e))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%c%q%v", v.Type, v.Str, parts)
}

// differ reports one difference; more of the same command are counted alone.
func (d *differ) differ(what string, i int, cmds []diffCmd, want, got string) {
	d.tb.Helper()
	d.differences++
	key := what + " " + firstWord(want) + " " + firstWord(got)
	d.seen[key]++
	if d.seen[key] > 1 {
		return
	}
	var b strings.Builder
	from := max(0, i-50)
	if what == "bytes" {
		from = 0
	}
	for _, c := range cmds[from : i+1] {
		fmt.Fprintf(&b, "\n    %.200q", c.words)
	}
	d.tb.Errorf("seed %d, stream %d, command %d:%s\nRedis says   %.600q\nthe sidecar  %.600q", d.seed, d.streams, i, b.String(), want, got)
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w[:min(len(w), 12)]
}
