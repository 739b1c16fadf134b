package proxy

import "testing"

// BenchmarkForward is what the loop does for one command, sockets left out: from its
// client's bytes to the master's, and the reply back.
func BenchmarkForward(b *testing.B) {
	for name, n := range map[string]int{"P1": 1, "P16": 16} {
		b.Run(name, func(b *testing.B) {
			r := serving(b)
			c := r.client()
			p, ok := warm(r, c).wire.h.(*pipe)
			if !ok {
				b.Fatal("no pipe")
			}
			s := pumped{c.s}
			c.s.conn, p.conn = nullWire{}, nullWire{}
			var in, out []byte
			for range n {
				in = append(in, frames("GET key:0001")...)
				out = append(out, "$5\r\nhello\r\n"...)
			}
			iov := make([][]byte, 0, 8)
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				s.Data(in)
				p.Wrote(len(p.Output(iov[:0])[0]))
				p.Data(out)
				s.Wrote(len(s.Output(iov[:0])[0]))
			}
		})
	}
}
