package health

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// countedGroup counts how often its state is asked for.
type countedGroup struct {
	fakeGroup

	asked atomic.Int64
}

func (g *countedGroup) Status(ctx context.Context) any {
	g.asked.Add(1)
	return g.fakeGroup.Status(ctx)
}

// frames are when the frames of a board came, since start.
func frames(ctx context.Context, b *board, start time.Time, into *[]time.Duration) {
	var seen uint64
	for {
		frame, number, next := b.look(seen)
		if frame != nil {
			seen = number
			*into = append(*into, time.Since(start))
			continue
		}
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

// One frame a second while somebody watches, one at once when something happens, never two
// within a tenth of a second, and none while nobody watches.
func TestPaceOfFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &countedGroup{fakeGroup: fakeGroup{name: "a"}}
		s := &Server{
			o:       Options{Groups: []Group{g}, Events: events.NewStream("x"), Log: slog.New(slog.DiscardHandler)},
			started: time.Now(), board: newBoard(),
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.paint(ctx)
		time.Sleep(time.Hour)
		if n := g.asked.Load(); n != 0 {
			t.Errorf("asked %d times while nobody watched", n)
		}
		s.board.enter()
		var came []time.Duration
		watching, left := context.WithCancel(ctx)
		go frames(watching, s.board, time.Now(), &came)
		for _, ms := range []int{2500, 2520, 2530, 4000, 4050} { // alone, close together, with a regular one
			time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { s.o.Events.Publish("", events.ConfigReloaded{}) })
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		var ms []int64
		for _, d := range came {
			ms = append(ms, d.Milliseconds())
		}
		if want := []int64{0, 1000, 2000, 2500, 2600, 3600, 4000, 4100}; !slices.Equal(ms, want) {
			t.Errorf("frames at %d ms; want %d", ms, want)
		}
		// A storm of events costs ten a second, however many watch.
		s.board.enter()
		var others []time.Duration
		go frames(watching, s.board, time.Now(), &others)
		before := g.asked.Load()
		for range 1000 {
			s.o.Events.Publish("", events.ConfigReloaded{})
			time.Sleep(time.Millisecond)
		}
		if n := g.asked.Load() - before; n < 9 || n > 11 {
			t.Errorf("asked %d times in a second full of events, by two who watch; want ten", n)
		}
		left()
		s.board.leave()
		s.board.leave()
		time.Sleep(2 * time.Second)
		before = g.asked.Load()
		time.Sleep(time.Hour)
		if n := g.asked.Load() - before; n != 0 {
			t.Errorf("asked %d times after all had left", n)
		}
		// Who comes then is not shown what was an hour ago.
		s.board.enter()
		var late []time.Duration
		go frames(ctx, s.board, time.Now(), &late)
		synctest.Wait()
		if len(late) != 1 || late[0] != 0 {
			t.Errorf("frames at %v; want one at once", late)
		}
		cancel()
	})
}

func TestFirstFrameIsFresh(t *testing.T) {
	b := newBoard()
	b.enter()
	b.show([]byte("old"))
	b.enter()
	if frame, _, _ := b.look(0); string(frame) != "old" {
		t.Errorf("who joins others gets %q; want theirs", frame)
	}
	b.leave()
	b.leave()
	b.enter()
	frame, _, next := b.look(0)
	if frame != nil {
		t.Errorf("who comes first gets %q; want to wait", frame)
	}
	b.show([]byte("new"))
	<-next
	if frame, n, _ := b.look(0); string(frame) != "new" || n != 2 {
		t.Errorf("then %q, number %d", frame, n)
	}
}

// watchState follows the state.
func watchState(tb testing.TB, c *http.Client, addr string) sse {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+addr+"/api/v1/status/stream", http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = resp.Body.Close() })
	return sse{resp, bufio.NewReader(resp.Body)}
}

// state reads one frame.
func (s sse) state(tb testing.TB) statusPage {
	tb.Helper()
	msg := s.next()
	var p statusPage
	if err := json.Unmarshal([]byte(strings.TrimPrefix(msg, "data: ")), &p); err != nil {
		tb.Fatalf("frame %q: %v", msg, err)
	}
	return p
}

func TestStateStream(t *testing.T) {
	g := &fakeGroup{name: "a"}
	stream := events.NewStream("x")
	s, addr := start(t, Options{Groups: []Group{g, &fakeGroup{name: "b"}}, Events: stream})
	live := watchState(t, client(t), addr)
	if h := live.resp.Header; live.resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", live.resp.StatusCode, h)
	}
	first := live.state(t)
	if !first.Ready || len(first.Masters) != 2 || first.Masters[1].Name != "b" || first.At.IsZero() || first.LastEvent != stream.Last() {
		t.Errorf("first frame %+v", first)
	}
	g.set("holding", map[string]string{"state": "holding"})
	stream.Publish("a", events.RouteHeld{})
	next := live.state(t)
	for next.LastEvent == first.LastEvent {
		next = live.state(t) // that of a second, or of before
	}
	if m := next.Masters[0]; next.Ready || m.Ready || m.Reason != "holding" || !strings.Contains(string(mustJSON(t, m.Status)), `"state":"holding"`) || !next.Masters[1].Ready {
		t.Errorf("frame with the event: %+v", next)
	}
	// It says what /api/v1/status does.
	code, body := get(t, addr, "/api/v1/status")
	var asked statusPage
	if err := json.Unmarshal([]byte(body), &asked); err != nil || code != 200 {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	asked.At, asked.UptimeSeconds = next.At, next.UptimeSeconds
	if a, b := mustJSON(t, asked), mustJSON(t, next); string(a) != string(b) {
		t.Errorf("/api/v1/status %s; the stream %s", a, b)
	}
	// Those who follow events take places of the same number.
	for range maxStreams - 1 {
		follow(t, client(t), addr, "")
	}
	if over := watchState(t, client(t), addr); over.resp.StatusCode != http.StatusServiceUnavailable || over.resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d", over.resp.StatusCode)
	}
	code, _, h := ask(t, addr, "HEAD /api/v1/status/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if code != 200 || h.Get("Content-Type") != "text/event-stream" || s.streams.open.Load() != maxStreams {
		t.Errorf("HEAD: %d %v, %d open", code, h, s.streams.open.Load())
	}
	if code, _, _ := ask(t, addr, "GET /api/v1/status/stream HTTP/1.1\r\nHost: evil.example\r\n\r\n"); code != 421 {
		t.Errorf("a strange host: %d", code)
	}
	// What cannot be told is an empty frame, not the end.
	g.set("", func() {})
	stream.Publish("a", events.RouteHeld{})
	for p := live.state(t); !p.At.IsZero(); p = live.state(t) {
	}
}

func mustJSON(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Who does not read is cut off; who reads is shown the state all the while.
func TestSlowWatcherIsCut(t *testing.T) {
	g := &fakeGroup{name: "a"}
	g.set("", strings.Repeat("x", 1<<20)) // frames that fill any buffer
	stream := events.NewStream("x")
	s, addr := start(t, Options{Groups: []Group{g}, Events: stream})
	s.streams.patience = 3 * time.Second // longer than a busy machine keeps the one who reads from it
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4096) //nolint:forcetypeassert // it dialled TCP
	_, _ = io.WriteString(c, "GET /api/v1/status/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	live := watchState(t, client(t), addr)
	deadline := time.Now().Add(2 * time.Minute)
	for s.streams.open.Load() != 2 {
		live.state(t)
	}
	seen := 0
	for s.streams.open.Load() != 1 || seen < 3 {
		live.state(t)
		seen++
		stream.Publish("", events.ConfigReloaded{})
		if time.Now().After(deadline) {
			t.Fatalf("%d watch after %d frames; want one", s.streams.open.Load(), seen)
		}
	}
}
