package proxy

import (
	"bytes"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// drain closes idle clients, and the others as they finish.
func (w *worker) drain() {
	w.draining = true
	for _, s := range w.sessions {
		s.finish()
	}
	w.pump()
}

// drained reports whether a session may be closed in a drain: nothing that it
// asked for is still to come. Subscribers would never be done.
func (s *session) drained() bool {
	return s.w.draining && !s.unanswered() && len(s.in) == 0 && s.wait == waitNone && !s.tx.active
}

// endAll ends every client that is left, with an error.
func (w *worker) endAll() {
	for _, s := range w.sessions {
		if s.closing {
			continue
		}
		s.w.stats.heldFailed += uint64(s.heldLeft)
		s.heldLeft = 0
		s.replyError("ERR the proxy is shutting down (sentinelproxy)")
		s.end()
	}
}

// countCommands returns how many complete commands b holds.
func countCommands(b []byte) int {
	var r resp.Requests
	n := 0
	for len(b) > 0 {
		k, inline, err := r.Next(b)
		if k == 0 || err != nil {
			break
		}
		if inline && len(bytes.TrimSpace(b[:k])) > 0 || !inline && b[1] != '0' && b[1] != '-' {
			n++
		}
		b = b[k:]
	}
	return n
}
