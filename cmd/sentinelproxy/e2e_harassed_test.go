package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/events/webhook"
)

// hangingHook is a webhook's receiver that takes requests and answers none until the test
// ends; the sidecar must have been started later.
func hangingHook(tb testing.TB) (url string, asked *atomic.Int64) {
	tb.Helper()
	over := make(chan struct{})
	asked = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get(webhook.HeaderTimestamp) != "" {
			asked.Add(1)
		}
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	tb.Cleanup(func() { close(over); srv.Close() })
	return srv.URL, asked
}

// followEvents asks for the stream of events. Of the answer it reads the code alone; 0 is
// none. Whoever is admitted stays, and never reads.
func followEvents(ctx context.Context, admin string) (code int, c net.Conn) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", admin)
	if err != nil {
		return 0, nil
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "GET /api/v1/events?since=0 HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", admin); err != nil {
		return 0, c
	}
	head := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, c
	}
	_, _ = fmt.Sscanf(string(head), "HTTP/1.1 %d", &code) // 0 if it is none
	return code, c
}

// answers counts what many were answered, by code; 0 is who was hung up on.
type answers struct {
	mu sync.Mutex // guards of
	of map[int]int
}

func (a *answers) note(code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = make(map[int]int)
	}
	a.of[code]++
}

// storm scrapes /metrics, 200 at the same time and over again, until ctx ends.
func storm(ctx context.Context, admin string, got *answers) {
	const parallel = 200
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		var wave sync.WaitGroup
		for range parallel {
			wave.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", http.NoBody)
				if err != nil {
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					if ctx.Err() == nil {
						got.note(0)
					}
					return
				}
				defer resp.Body.Close()
				_, _ = io.Copy(io.Discard, resp.Body) // who is hung up on in the middle was answered
				got.note(resp.StatusCode)
			})
		}
		wave.Wait()
	}
}

// Whoever is told of the sidecar's life may hang, come in crowds, or ask without end, and a
// file in use may be broken: each is bounded, and no command of a client feels any of it, in
// a planned failover neither.
func TestHarassersAreNotFelt(t *testing.T) {
	url, asked := hangingHook(t)
	r := startTLSRun(t, calm, "--webhook-url", url, "--webhook-cooldown", "0s", "--webhook-timeout", "1s", "--webhook-min-severity", "info")
	old := stable(t, r.group)
	strain := r.group.WatchStrain(t)
	w := startWritersAs(t, r.secure, plainClients, func(w *writer) { w.tls = r.client })

	// Half a certificate in the place of the one that every leg uses.
	cert := filepath.Join(r.dir, "cert.pem")
	whole, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}

	// As many followers as there is room for, none of whom reads, and a crowd for whom there is none.
	admitted := 0
	for {
		code, c := followEvents(t.Context(), r.admin)
		if c != nil {
			defer c.Close()
		}
		if code != 200 {
			if code != 503 || admitted == 0 {
				t.Fatalf("follower %d is answered %d; want 503 after some", admitted, code)
			}
			break
		}
		if admitted++; admitted > 1000 {
			t.Fatal("a thousand followers are admitted")
		}
	}
	var refused answers
	var crowd sync.WaitGroup
	const parallel, each = 30, 10
	for range parallel {
		crowd.Go(func() {
			for range each {
				code, c := followEvents(t.Context(), r.admin)
				refused.note(code)
				if c != nil {
					_ = c.Close()
				}
			}
		})
	}

	var scrapes answers
	storming, calmDown := context.WithCancel(t.Context())
	var scrapers sync.WaitGroup
	scrapers.Go(func() { storm(storming, r.admin, &scrapes) })
	defer scrapers.Wait()
	defer calmDown()
	for _, leg := range []string{"clients", "redis", "sentinels"} {
		waitFor(t, "the broken file to be noticed by "+leg, func() bool {
			return strings.Contains(r.log.String(), `msg="changed tls files not loaded, the old ones stay in use" leg=`+leg)
		})
	}
	waitFor(t, "the webhook to be tried", func() bool { return asked.Load() > 0 })

	watch := watchMajority(t, r.group, old)
	f := ordered{asked: time.Now()}
	if err := r.group.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.majority = watch.named(t)
	watch.end()
	w.firstAckAfter(t, f.majority)
	demote(t, r.group, old)
	master := stable(t, r.group)
	late := redis.NewClient(&redis.Options{Addr: r.secure, TLSConfig: r.client, MaxRetries: -1, ReadTimeout: patience})
	defer late.Close()
	if err := late.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a client that comes now: %v", err)
	}
	crowd.Wait()
	calmDown()
	scrapers.Wait()
	w.unharmed(t, master, strain, f)

	if refused.of[200] > 0 || refused.of[503] == 0 {
		t.Errorf("followers past the %d that are admitted got %v; want 503, or no answer", admitted, refused.of)
	}
	if scrapes.of[200] == 0 || scrapes.of[503]+scrapes.of[0] == 0 {
		t.Errorf("scrapes got %v; want some of 200, and more turned away", scrapes.of)
	}
	t.Logf("%d followers, past them %v; scrapes %v; the webhook was tried %d times", admitted, refused.of, scrapes.of, asked.Load())
	for _, leg := range []string{"clients", "redis", "sentinels"} {
		if n := metric(t, r.admin, `sentinelproxy_tls_reloads_total{leg="`+leg+`",master_name="mymaster",result="failed"}`); n == 0 {
			t.Errorf("the broken file of the leg %s is not counted", leg)
		}
	}
	const hook = `webhook="127.0.0.1"`
	waitFor(t, "a try that was given up", func() bool {
		return metric(t, r.admin, `sentinelproxy_webhook_requests_total{result="unreachable",`+hook+`}`) > 0
	})
	if n := metric(t, r.admin, `sentinelproxy_webhook_queued_events{`+hook+`}`); n == 0 {
		t.Error("no event waits for the webhook")
	}
	if n := metric(t, r.admin, `sentinelproxy_webhook_deliveries_total{outcome="delivered",`+hook+`}`); n > 0 {
		t.Errorf("%v events are called delivered", n)
	}
	if code, _ := get(t, addrOf(r.admin), "/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
}
