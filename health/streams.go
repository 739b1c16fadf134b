package health

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// maxStreams bounds those who follow anything at once; more are answered 503.
	maxStreams = 64
	// heartbeatEvery keeps proxies between from ending a stream in which nothing happens.
	heartbeatEvery = 15 * time.Second
	// streamPatience is how long one write to a follower may take: whoever reads slower is
	// cut off, and asks again from where it was.
	streamPatience = 5 * time.Second
	// retryAfter is when a browser that was cut off comes back.
	retryAfter = 2 * time.Second
)

// streams are those who follow events, or the state.
type streams struct {
	open     atomic.Int64
	refused  *atomic.Uint64
	stopping chan struct{} // closed when the server is to end
	// heartbeat and patience are constants but for tests.
	heartbeat, patience time.Duration
}

// admit lets one more follow, until leave; or it answers that there are too many.
func (t *streams) admit(w http.ResponseWriter) (*follower, bool) {
	if t.open.Add(1) > maxStreams {
		t.open.Add(-1)
		t.refused.Add(1)
		w.Header().Set("Retry-After", "30")
		w.Header().Set("Connection", "close")
		writeText(w, http.StatusServiceUnavailable, fmt.Sprintf("%d others follow already\n", maxStreams))
		return nil, false
	}
	return &follower{w, http.NewResponseController(w), t.patience}, true
}

func (t *streams) leave() { t.open.Add(-1) }

// follower is one who was admitted. Its handler's goroutine alone uses it.
type follower struct {
	w        http.ResponseWriter
	conn     *http.ResponseController
	patience time.Duration
}

// begin sends the head of a stream of server-sent events. The server's timeouts, which are
// for scrapes, count no more.
func (f *follower) begin() bool {
	_ = f.conn.SetReadDeadline(time.Time{}) // reading only shows that the client goes away
	f.w.Header().Set("Content-Type", contentStream)
	f.w.Header().Set("X-Accel-Buffering", "no") // as nginx wants to be told
	return f.send(fmt.Appendf(nil, "retry: %d\n\n", retryAfter.Milliseconds()))
}

// send writes b, or reports that the follower is gone or does not read.
func (f *follower) send(b []byte) bool {
	_ = f.conn.SetWriteDeadline(time.Now().Add(f.patience)) // a writer without deadlines has none to be set
	if _, err := f.w.Write(b); err != nil {
		return false
	}
	return f.conn.Flush() == nil
}

const contentStream = "text/event-stream"
