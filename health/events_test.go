package health

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sentinelproxy/sentinelproxy/events"
)

func startEvents(tb testing.TB) (*events.Stream, *Server, string) {
	tb.Helper()
	stream := events.NewStream("gateway-0")
	s, addr := start(tb, Options{
		Groups: []Group{&fakeGroup{name: "a"}}, Events: stream,
		Certificates: func() any { return []string{"c"} },
	})
	return stream, s, addr
}

type page struct {
	Events []struct {
		ID      uint64
		Event   string
		Applied int
	}
	Next, Missed uint64
}

func getPage(tb testing.TB, addr, query string) page {
	tb.Helper()
	code, body := get(tb, addr, "/api/v1/events"+query)
	var p page
	if err := json.Unmarshal([]byte(body), &p); err != nil || code != 200 {
		tb.Fatalf("%s: %d %s: %v", query, code, body, err)
	}
	return p
}

func TestEventsSince(t *testing.T) {
	stream, _, addr := startEvents(t)
	if p := getPage(t, addr, ""); p.Events == nil || len(p.Events) != 0 || p.Next != stream.Last() {
		t.Errorf("without events: %+v", p)
	}
	for i := range 150 {
		stream.Publish("", events.ConfigReloaded{Applied: i})
	}
	var got []int
	query := ""
	for range 4 {
		p := getPage(t, addr, query)
		for _, e := range p.Events {
			got = append(got, e.Applied)
		}
		query = "?limit=60&since=" + strconv.FormatUint(p.Next, 10)
	}
	if len(got) != 150 || got[0] != 0 || got[149] != 149 {
		t.Errorf("paging through gave %d events: %v", len(got), got)
	}
	for i := range 2000 {
		stream.Publish("", events.ConfigReloaded{Applied: i})
	}
	if p := getPage(t, addr, query); p.Missed == 0 || uint64(len(p.Events))+p.Missed > 2000 || len(p.Events) != 60 {
		t.Errorf("after a flood: %d events, %d missed", len(p.Events), p.Missed)
	}
	for _, bad := range []string{"?since=x", "?since=-1", "?limit=0", "?limit=1001", "?limit=x"} {
		if code, body := get(t, addr, "/api/v1/events"+bad); code != 400 || !strings.Contains(body, "want") {
			t.Errorf("%s: %d %q; want 400 and what is valid", bad, code, body)
		}
	}
	if code, body := get(t, addr, "/api/v1/certificates"); code != 200 || !strings.Contains(body, `"c"`) {
		t.Errorf("/api/v1/certificates: %d %s", code, body)
	}
}

// sse is one who follows.
type sse struct {
	resp  *http.Response
	lines *bufio.Reader
}

func follow(tb testing.TB, c *http.Client, addr, last string) sse {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+addr+"/api/v1/events", http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := c.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = resp.Body.Close() })
	return sse{resp, bufio.NewReader(resp.Body)}
}

// next returns the next message that is no heartbeat, or "" at the end.
func (s sse) next() string {
	var b strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		switch {
		case err != nil:
			return ""
		case line == "\n" && b.Len() > 0:
			return b.String()
		case line == "\n", strings.HasPrefix(line, ":"), strings.HasPrefix(line, "retry:"):
		default:
			b.WriteString(line)
		}
	}
}

// client returns one whose connections are its own.
func client(tb testing.TB) *http.Client {
	tb.Helper()
	t := &http.Transport{}
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

func TestEventStream(t *testing.T) {
	stream, s, addr := startEvents(t)
	stream.Publish("", events.ConfigReloaded{Applied: 1})
	c := client(t)
	live := follow(t, c, addr, "")
	if got := live.resp.Header.Get("Content-Type"); got != "text/event-stream" || live.resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %q", live.resp.Status, got)
	}
	// Its headers came after it began to read: nothing is missed from here on.
	if n := s.streams.open.Load(); n != 1 {
		t.Errorf("%d follow; want 1", n)
	}
	stream.Publish("m", events.RouteFenced{Master: "a:1"})
	want := fmt.Sprintf("id: %d\ndata: {\"id\":%[1]d,\"event\":\"RouteFenced\"", stream.Last())
	if got := live.next(); !strings.HasPrefix(got, want) {
		t.Errorf("got %q; want %q: what comes, and not what was", got, want)
	}
	// One that was away is told what it missed, from the id that it had.
	back := follow(t, c, addr, strconv.FormatUint(stream.First(), 10))
	if got := back.next(); !strings.Contains(got, "ConfigReloaded") {
		t.Errorf("got %q; want the first event", got)
	}
	if got := back.next(); !strings.Contains(got, "RouteFenced") {
		t.Errorf("got %q; want the second event", got)
	}
	for range 3000 {
		stream.Publish("", events.ConfigReloaded{})
	}
	late := follow(t, c, addr, strconv.FormatUint(stream.First()+1, 10))
	if got := late.next(); !strings.HasPrefix(got, "event: missed\ndata: {\"missed\":") {
		t.Errorf("got %q; want how many are gone", got)
	}
	if code, _, _ := ask(t, addr, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: x\r\n\r\n"); code != 400 {
		t.Errorf("a bad id: %d", code)
	}
}

func TestHeartbeat(t *testing.T) {
	stream := events.NewStream("x")
	s := &Server{o: Options{Events: stream}, streams: streams{stopping: make(chan struct{}), heartbeat: time.Millisecond, patience: time.Minute}}
	srv := &http.Server{Handler: http.HandlerFunc(s.events), ReadHeaderTimeout: time.Minute}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close(); <-served }()
	live := follow(t, client(t), ln.Addr().String(), "")
	beats := 0
	for beats < 3 {
		line, err := live.lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == ": heartbeat\n" {
			beats++
		}
	}
	close(s.streams.stopping)
	for _, err := live.lines.ReadString('\n'); err == nil; _, err = live.lines.ReadString('\n') {
	}
}

// The server's own timeouts are for scrapes: a stream outlasts them; and it ends with the
// server.
func TestStreamEndsWithTheServer(t *testing.T) {
	stream := events.NewStream("x")
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln, Groups: []Group{&fakeGroup{name: "a"}}, Events: stream, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const short = 2 * time.Second // and yet longer than a busy machine keeps a request from being read
	s.servers[0].ReadTimeout, s.servers[0].WriteTimeout = short, short
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	live := follow(t, client(t), ln.Addr().String(), "")
	after := time.After(short + short/4)
	<-after
	stream.Publish("", events.SidecarStopping{})
	if got := live.next(); !strings.Contains(got, "SidecarStopping") {
		t.Errorf("got %q after more than the timeout", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := live.next(); got != "" {
		t.Errorf("got %q; want the end", got)
	}
}

// Ten thousand want to follow: those above the limit get 503, a scrape gets its answer, and
// places become free again.
func TestTenThousandFollowers(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens ten thousand connections")
	}
	stream, s, addr := startEvents(t)
	var in, refused, failed atomic.Int64
	var wg sync.WaitGroup
	gate := make(chan struct{}, 100)
	for range maxStreams {
		if f := follow(t, client(t), addr, ""); f.resp.StatusCode == http.StatusOK {
			in.Add(1)
		}
	}
	for range 10_000 - maxStreams {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				failed.Add(1)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
			b, err := io.ReadAll(c) // to the end: a refused one is closed
			if err == nil && strings.HasPrefix(string(b), "HTTP/1.1 503") && strings.Contains(string(b), "Retry-After: 30") {
				refused.Add(1)
			} else {
				failed.Add(1)
			}
		})
	}
	if code, _ := get(t, addr, "/livez"); code != 200 {
		t.Errorf("/livez meanwhile: %d", code)
	}
	wg.Wait()
	if in.Load() != maxStreams || refused.Load() != 10_000-maxStreams {
		t.Errorf("%d follow, %d refused, %d failed; want %d and the rest refused", in.Load(), refused.Load(), failed.Load(), maxStreams)
	}
	stream.Publish("", events.ConfigReloaded{})
	if n := s.streams.open.Load(); n != maxStreams {
		t.Errorf("%d counted as open", n)
	}
	want := fmt.Sprintf(`# HELP sentinelproxy_admin_requests_refused_total Requests to the admin server answered 503 because as many as may be were being served.
# TYPE sentinelproxy_admin_requests_refused_total counter
sentinelproxy_admin_requests_refused_total{what="list"} 0
sentinelproxy_admin_requests_refused_total{what="scrape"} 0
sentinelproxy_admin_requests_refused_total{what="stream"} %d
`, 10_000-maxStreams)
	if err := testutil.CollectAndCompare(s.Collector(), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// Whoever does not read is cut off, and keeps nobody else waiting.
func TestSlowFollowerIsCut(t *testing.T) {
	stream, s, addr := startEvents(t)
	s.streams.patience = 100 * time.Millisecond
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4096) //nolint:forcetypeassert // it dialled TCP
	_, _ = io.WriteString(c, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
	waitOpen := func(want int64) {
		t.Helper()
		deadline := time.After(2 * time.Minute)
		for s.streams.open.Load() != want {
			stream.Publish("", events.ReplicaLost{Err: events.Text(strings.Repeat("x", 480))})
			select {
			case <-deadline:
				t.Fatalf("%d follow; want %d", s.streams.open.Load(), want)
			case <-time.After(10 * time.Microsecond):
			}
		}
	}
	waitOpen(1)
	waitOpen(0)
}

// Who polls loses nothing, also of what is published while a poll finds nothing: each
// round has one event that comes at another moment of it.
func TestEventsPolledWhilePublished(t *testing.T) {
	stream, s, _ := startEvents(t)
	const rounds = 5_000
	round := make(chan int)
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer close(round)
	publishing.Go(func() {
		var spun atomic.Int64
		for i := range round {
			for range i % 2000 {
				spun.Add(1)
			}
			stream.Publish("", events.ConfigReloaded{Applied: i})
		}
	})
	next, seen := stream.First(), uint64(0)
	for i := range rounds {
		round <- i
		w := httptest.NewRecorder()
		s.events(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/events?since="+strconv.FormatUint(next, 10), http.NoBody))
		var p page
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		seen += uint64(len(p.Events)) + p.Missed
		if next = p.Next; next-stream.First() != seen {
			t.Fatalf("round %d: told of %d events, and to go on behind the %dth", i, seen, next-stream.First())
		}
	}
}
