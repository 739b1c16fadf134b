package proxy

import "testing"

// nullWire is a connection that takes everything and remembers nothing.
type nullWire struct{}

func (nullWire) Flush()             {}
func (nullWire) Pause()             {}
func (nullWire) Resume()            {}
func (nullWire) Blocked() bool      { return false }
func (nullWire) Close()             {}
func (nullWire) CloseFlushed()      {}
func (nullWire) Abort()             {}
func (nullWire) RemoteAddr() string { return "" }
func (nullWire) LocalAddr() string  { return "" }

// TestForwardedCommandAllocatesNothing is the guard of the hot path: a command
// from its client to the master, and the reply back.
func TestForwardedCommandAllocatesNothing(t *testing.T) {
	for name, tt := range map[string]struct{ commands, replies string }{
		"one":       {frames("GET key:0001"), "$5\r\nhello\r\n"},
		"pipelined": {frames("SET a 1", "GET a", "INCR n", "HGETALL h"), "+OK\r\n$1\r\n1\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			p, ok := b.wire.h.(*pipe)
			if !ok || p != c.s.pipe {
				t.Fatal("the session is not on the shared pipe")
			}
			s := pumped{c.s}
			c.s.conn, p.conn = nullWire{}, nullWire{}
			in, out := []byte(tt.commands), []byte(tt.replies)
			iov := make([][]byte, 0, 8)
			written := func(bufs [][]byte) int {
				n := 0
				for _, b := range bufs {
					n += len(b)
				}
				return n
			}
			command := func() {
				s.Data(in)
				n := written(p.Output(iov[:0]))
				if n != len(in) {
					t.Fatalf("%d bytes went to the master; want %d", n, len(in))
				}
				p.Wrote(n)
				p.Data(out)
				n = written(s.Output(iov[:0]))
				if n != len(out) {
					t.Fatalf("%d bytes went to the client; want %d", n, len(out))
				}
				s.Wrote(n)
			}
			if n := testing.AllocsPerRun(1000, command); n != 0 {
				t.Errorf("%v allocations; want none", n)
			}
		})
	}
}
