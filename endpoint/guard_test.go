package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"github.com/sentinelproxy/sentinelproxy/internal/captures"
)

// scripted is a connection whose client has said all that it will.
type scripted struct {
	net.Conn // nil: nothing else is called

	in    *bytes.Reader
	piece int // most bytes that one Read gives
	out   bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)     { return s.in.Read(p[:min(len(p), s.piece)]) }
func (s *scripted) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*scripted) SetWriteDeadline(time.Time) error { return nil }
func newScripted(b []byte, piece int) (c *scripted) {
	return &scripted{in: bytes.NewReader(b), piece: piece}
}
func (s *scripted) guard(breach func(error)) io.Reader { return &guard{Conn: s, breach: breach} }

// read returns what redcon reads behind the guard, what the guard answered itself,
// and how it ended.
func read(b []byte, piece int) (cmds [][]string, answer string, err error) {
	s := newScripted(b, piece)
	rd := redcon.NewReader(s.guard(func(error) {}))
	for {
		cmd, err := rd.ReadCommand()
		if err != nil {
			return cmds, s.out.String(), err
		}
		var args []string
		for _, a := range cmd.Args {
			args = append(args, string(a))
		}
		cmds = append(cmds, args)
	}
}

func TestGuard(t *testing.T) {
	for name, tt := range map[string]struct {
		in, cmds, answer string
	}{
		"array":                        {"*2\r\n$4\r\nPING\r\n$1\r\na\r\n", "[[PING a]]", ""},
		"inline":                       {"PING 'a b'\r\nPING\n", "[[PING a b] [PING]]", ""},
		"empty ones are none":          {"*0\r\n\r\n*-1\r\nPING\r\n", "[[PING]]", ""},
		"empty argument":               {"*2\r\n$4\r\nPING\r\n$0\r\n\r\n", "[[PING ]]", ""},
		"incomplete":                   {"*2\r\n$4\r\nPING\r\n", "[]", ""},
		"quotes":                       {"PING\r\nGET \"a\r\nPING\r\n", "[[PING]]", "-ERR Protocol error: unbalanced quotes in request\r\n"},
		"not a bulk":                   {"*1\r\nPING\r\n", "[]", "-ERR Protocol error: expected '$', got 'P'\r\n"},
		"length that redcon panics at": {"*1\r\n$9223372036854775807\r\nx\r\n", "[]", "-ERR Protocol error: invalid bulk length\r\n"},
		"too many arguments":           {"*9999999999\r\n", "[]", "-ERR Protocol error: invalid multibulk length\r\n"},
		"too long a bulk":              {"*1\r\n$600000000\r\n", "[]", "-ERR Protocol error: invalid bulk length\r\n"},
		"too long for us":              {"*1\r\n$200000\r\nabc", "[]", "-ERR Protocol error: too big query for a Sentinel (sentinelproxy)\r\n"},
		"too long in all":              {"*9000\r\n" + strings.Repeat("$60\r\n"+strings.Repeat("x", 60)+"\r\n", 5000), "[]", "-ERR Protocol error: too big query for a Sentinel (sentinelproxy)\r\n"},
		"too long a line":              {strings.Repeat("x", 80<<10), "[]", "-ERR Protocol error: too big inline request\r\n"},
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s by %d", name, piece), func(t *testing.T) {
				cmds, answer, err := read([]byte(tt.in), piece)
				if got := fmt.Sprint(cmds); got != tt.cmds {
					t.Errorf("commands %s; want %s", got, tt.cmds)
				}
				if answer != tt.answer {
					t.Errorf("answer %q; want %q", answer, tt.answer)
				}
				if !errors.Is(err, io.EOF) {
					t.Errorf("ended with %v; want EOF", err)
				}
			})
		}
	}
}

// However long a pipeline is, and wherever its reads end, what waits in memory is
// bounded.
func TestGuardKeepsLittle(t *testing.T) {
	one := "*2\r\n$4\r\nPING\r\n$100\r\n" + strings.Repeat("x", 100) + "\r\n"
	s := newScripted([]byte(strings.Repeat(one, 50_000)), 4093) // never where a command ends
	g := &guard{Conn: s, breach: func(error) {}}
	p := make([]byte, 4096)
	total := 0
	for {
		n, err := g.Read(p)
		if err != nil {
			break
		}
		total += n
		if kept := cap(g.in) + cap(g.ready); kept > 4*batch {
			t.Fatalf("%d bytes kept after %d", kept, total)
		}
	}
	if want := 50_000 * len(one); total != want {
		t.Errorf("%d bytes came through; want %d", total, want)
	}
}

// FuzzBytes lets a client say anything, in pieces of any size: no panic, no reply
// without bound, and the guard gives redcon commands in its own form alone.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{
		"PING\r\n", "*1\r\n$4\r\nPING\r\n", "*3\r\n$8\r\nSENTINEL\r\n$6\r\nMASTER\r\n$6\r\norders\r\n", "HELLO 3\r\nSUBSCRIBE a\r\nUNSUBSCRIBE\r\n",
		"*1\r\n$9223372036854775807\r\n", "*-1\r\n*0\r\n$3\r\n", "CLIENT TRACKING ON OPTIN\r\nINFO\r\nROLE\r\nSENTINEL MASTERS\r\n",
		"CLIENT KILL\r\nHELLO 3 AUTH a b SETNAME \"x\\ry\"\r\nFOO \"a\\r\\nb\"\r\nAUTH \"a\\n\" b\r\nCLIENT INFO\r\n", "*2\r\n$4\r\nPING\r\n$1\r\nax",
	} {
		f.Add([]byte(s), 3)
	}
	for _, s := range captures.All(f) {
		f.Add(s.Client(), 100)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		if len(b) > 2*maxQuery {
			return
		}
		piece = 1 + piece&0xfff
		cmds, answer, err := read(b, piece)
		if !errors.Is(err, io.EOF) {
			t.Fatalf("redcon ends with %v", err)
		}
		if answer != "" && (!strings.HasPrefix(answer, "-ERR Protocol error: ") || strings.Count(answer, "\n") != 1) {
			t.Errorf("the guard answers %q", answer)
		}
		s := testSession()
		for _, args := range cmds {
			out, stay := s.serve(args)
			if len(out) == 0 || !bytes.HasSuffix(out, []byte("\r\n")) {
				t.Fatalf("%q answers %q", args, out)
			}
			if limit := 8<<10 + 2*maxNameBytes + 64*len(args) + 2*length(args); len(out) > limit {
				t.Fatalf("%.100q answers %d bytes; want at most %d", args, len(out), limit)
			}
			if out[0] == '-' && bytes.Count(out, []byte("\n")) != 1 && !strings.EqualFold(args[0], "SUBSCRIBE") && !strings.EqualFold(args[0], "PSUBSCRIBE") {
				t.Fatalf("%q answers an error of several lines: %q", args, out)
			}
			if !stay {
				return
			}
		}
	})
}

func length(args []string) int {
	n := 0
	for _, a := range args {
		n += len(a)
	}
	return n
}
