package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// overTCP runs a Sender over TCP until the test ends.
func overTCP(t *testing.T, log io.Writer, hooks ...Hook) (*events.Stream, *Sender) {
	t.Helper()
	stream := events.NewStream("gateway-0")
	s := New(Options{Stream: stream, Log: slog.New(slog.NewTextHandler(log, nil))}, hooks)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return stream, s
}

type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func TestOverTLS(t *testing.T) {
	var got atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/hook" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			t.Errorf("credentials of the address are %q %q", user, password)
		}
		if !strings.HasPrefix(r.Header.Get(HeaderSignature), "sha256=") || len(body) == 0 {
			t.Errorf("headers %v, body %q", r.Header, body)
		}
		got.Add(1)
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	defer srv.Close()
	url := "https://u:p@" + srv.Listener.Addr().String() + "/hook"
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	var log buffer
	stream, _ := overTCP(t, &log,
		Hook{Name: "trusted", URL: url, Secret: "k", CA: ca, Timeout: time.Minute},
		Hook{Name: "not", URL: url, Timeout: time.Minute}) // the system does not know its authority
	stream.Publish("m", events.RouteFenced{})
	waitFor(t, "a delivery", func() bool { return got.Load() == 1 })
	waitFor(t, "a complaint", func() bool { return strings.Contains(log.String(), "webhook=not") })
	if s := log.String(); !strings.Contains(s, "certificate") || strings.Contains(s, "webhook=trusted") {
		t.Errorf("log %s", s)
	}
}

// What a receiver may do wrong on the wire: each is bounded and told.
func TestBadReceivers(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	// A second answer's reason is not told for minutes, so the first must not be
	// late on a busy machine: only who never ends is given little time.
	const patient, short = time.Minute, 2 * time.Second
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		want  string // in the log
		kind  try
		limit time.Duration // 0: patient
	}{
		"redirects": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 307 Over there\r\nLocation: "+other.URL+"\r\nContent-Length: 0\r\n\r\n")
		}, "redirects are not followed", tryRefused, 0},
		"redirects nowhere": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 302 Over there\r\nLocation: http://%zz/T0PS3CRET\r\nContent-Length: 0\r\n\r\n")
		}, "redirects are not followed", tryRefused, 0},
		"answers 500": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
		}, "it answers 500", tryAnswered, 0},
		"hangs": {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "no answer within", tryFailed, short},
		"hangs in its body": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "it answers 500", tryAnswered, short},
		"talks for ever": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n")
			chunk := bytes.Repeat([]byte("x"), 4096)
			for _, err := c.Write(chunk); err == nil; _, err = c.Write(chunk) {
			}
		}, "it answers 500", tryAnswered, short},
		"endless headers": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			line := "X: " + strings.Repeat("T0PS3CRET", 400) + "\r\n"
			for _, err := io.WriteString(c, line); err == nil; _, err = io.WriteString(c, line) {
			}
		}, "not HTTP", tryFailed, 0},
		"no HTTP":     {func(c net.Conn) { _, _ = io.WriteString(c, "-ERR /T0PS3CRET\r\n") }, "not HTTP", tryFailed, 0},
		"hangs up":    {func(net.Conn) {}, "webhook cannot be told", tryFailed, 0},
		"nobody home": {nil, "refused", tryFailed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			defer serving.Wait()
			defer ln.Close()
			if tt.serve == nil {
				_ = ln.Close()
			}
			serving.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					serving.Go(func() {
						defer c.Close()
						var b [4096]byte
						_, _ = c.Read(b[:]) // the request
						tt.serve(c)
					})
				}
			})
			var log buffer
			h := Hook{Name: "h", URL: "http://" + ln.Addr().String() + "/T0PS3CRET", Timeout: cmp.Or(tt.limit, patient), Secret: "k"}
			stream, s := overTCP(t, &log, h)
			stream.Publish("m", events.RouteFenced{})
			waitFor(t, tt.want, func() bool { return strings.Contains(log.String(), tt.want) })
			waitFor(t, "the count", func() bool { return s.counts["h"].tries[tt.kind].Load() > 0 })
			if strings.Contains(log.String(), "T0PS3CRET") {
				t.Errorf("log %s", log.String())
			}
			if elsewhere.Load() > 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}
