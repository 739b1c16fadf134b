package proxy

import (
	"bytes"
	"slices"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// reply appends to what the client will get.
func (s *session) reply(b []byte) {
	if s.closed || s.mute || len(b) == 0 {
		return
	}
	s.said = kindOf(b)
	if len(s.kept) > 0 {
		s.kept = append(s.kept, kept{reply: bytes.Clone(b)}) // it may not overtake them
		return
	}
	if len(b) <= cap(s.out)-len(s.out) {
		s.out = append(s.out, b...)
	} else {
		s.extend(b)
	}
	s.unsent += len(b)
	s.conn.Flush()
	if s.unsent >= s.w.sizes.alarm {
		s.alarmed()
	}
}

// extend adds to out what it has no room for. Little grows in one place, much is kept in
// pieces of bigBuf: it is not copied again and again as it grows.
func (s *session) extend(b []byte) {
	if n := len(s.out) + len(b); n <= bigBuf/2 {
		if s.out == nil {
			s.out = s.w.takeBuf()
		}
		s.out = append(s.out, b...)
		return
	}
	if in := s.w.lent; len(b) > bigBuf/2 && len(in) >= len(b) && &in[0] == &b[0] {
		// It need not be copied: it was collected in a buffer that nobody else wants.
		s.w.lent = nil
		if s.unsent > 0 {
			s.older = append(s.older, s.out)
		} else if s.out != nil {
			s.w.giveBuf(s.out)
		}
		s.out = b
		return
	}
	if cap(s.out) < bigBuf {
		piece := append(s.w.takeBufOf(bigBuf), s.out...)
		s.w.giveBuf(s.out)
		s.out = piece
	}
	for {
		n := min(len(b), cap(s.out)-len(s.out))
		s.out = append(s.out, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return
		}
		s.older = append(s.older, s.out)
		s.out = s.w.takeBufOf(bigBuf)
	}
}

func (s *session) replyError(text string) { s.reply(resp.AppendError(nil, text)) }

func (s *session) pending() int { return s.unsent }

// Output hands over the replies.
func (s *session) Output(bufs [][]byte) [][]byte {
	off := s.outOff
	for _, b := range s.older {
		bufs = append(bufs, b[off:])
		off = 0
	}
	if off < len(s.out) {
		bufs = append(bufs, s.out[off:])
	}
	return bufs
}

// Wrote forgets written replies, and goes on with what waited for that.
func (s *session) Wrote(n int) {
	s.seen = s.w.second
	s.unsent -= n
	s.w.stats.clientOut += uint64(n)
	s.outOff += n
	gone := 0
	for gone < len(s.older) && s.outOff >= len(s.older[gone]) {
		s.outOff -= len(s.older[gone])
		s.w.giveBuf(s.older[gone])
		gone++
	}
	if gone > 0 {
		s.older = slices.Delete(s.older, 0, gone)
	}
	if s.unsent == 0 {
		s.w.giveBuf(s.out)
		s.out, s.outOff = nil, 0
	}
	if s.softSince != 0 {
		if l, _ := s.outputLimit(); s.pending() < l.Soft {
			s.softSince = 0
		}
	}
	if s.pending() >= s.w.sizes.mark/2 {
		return
	}
	if p := s.slowPipe; p != nil {
		s.slowPipe = nil
		p.wake()
	}
	if s.wait == waitOutput {
		s.resume()
	}
}
