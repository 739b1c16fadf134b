package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// receiver answers the requests of one hook as the test says. It has no network, so that
// a bubble's clock can pass it.
type receiver struct {
	mu     sync.Mutex // guards the fields below
	answer func(n int) (code int, err error)
	hang   bool
	tries  []time.Time
	got    []request // answered with 2xx
}

type request struct {
	header http.Header
	body   []byte
	json   map[string]any
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	n := len(r.tries)
	r.tries = append(r.tries, time.Now())
	hang, answer := r.hang, r.answer
	r.mu.Unlock()
	if hang {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	code := 204
	if answer != nil {
		if code, err = answer(n); err != nil {
			return nil, err
		}
	}
	if code/100 == 2 {
		one := request{header: req.Header, body: body}
		if err := json.Unmarshal(body, &one.json); err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.got = append(r.got, one)
		r.mu.Unlock()
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("answer"))}, nil
}

func (r *receiver) set(hang bool, answer func(int) (int, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hang, r.answer = hang, answer
}

func (r *receiver) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kinds []string
	for _, g := range r.got {
		kinds = append(kinds, g.header.Get(HeaderEvent))
	}
	return kinds
}

func (r *receiver) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tries)
}

// bench is a Sender in a bubble.
type bench struct {
	t      *testing.T
	stream *events.Stream
	sender *Sender
	log    buffer
	stop   func()
}

func start(t *testing.T, to map[string]*receiver, hooks ...Hook) *bench {
	t.Helper()
	b := &bench{t: t, stream: events.NewStream("gateway-0")}
	for i := range hooks {
		hooks[i] = whole(hooks[i])
	}
	b.sender = New(Options{
		Stream: b.stream, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		Transport: func(h Hook) (http.RoundTripper, error) { return to[h.Name], nil },
	}, hooks)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.sender.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func whole(h Hook) Hook {
	if h.URL == "" {
		h.URL = "https://hooks.example/T0PS3CRET"
	}
	if h.Timeout == 0 {
		h.Timeout = 5 * time.Second
	}
	return h
}

func (b *bench) publish(list ...events.Body) {
	for _, e := range list {
		b.stream.Publish("orders", e)
	}
	synctest.Wait()
}

// sleep lets time pass, and what is due happen.
func (b *bench) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// addsUp checks that every event that was accepted has ended in one way, or waits.
func (b *bench) addsUp() {
	b.t.Helper()
	for name, c := range b.sender.counts {
		sum := uint64(c.queued.Load())
		for o := range outcomes {
			sum += c.ended[o].Load()
		}
		if sum != c.accepted.Load() {
			b.t.Errorf("webhook %s: %d accepted, %d told of", name, c.accepted.Load(), sum)
		}
	}
}

// ended returns how many of the hook h ended so.
func (b *bench) ended(o outcome) uint64 { return b.sender.counts["h"].ended[o].Load() }

func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		b := start(t, map[string]*receiver{"pager": r}, Hook{Name: "pager", Secret: "hmac-key"})
		b.publish(events.ReplicaLost{Replica: "n:1", Err: "refused"})
		if len(r.got) != 1 {
			t.Fatalf("%d deliveries; want 1", len(r.got))
		}
		g := r.got[0]
		for k, want := range map[string]any{
			"event": "ReplicaLost", "master_name": "orders", "sidecar": "gateway-0", "severity": "warning", "subject": "n:1",
			"replica": "n:1", "error": "refused", "message": "the replica n:1 does not answer: refused",
			"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "id": float64(b.stream.Last()),
		} {
			if g.json[k] != want {
				t.Errorf("%s: %v; want %v", k, g.json[k], want)
			}
		}
		if got, want := g.header.Get(HeaderSignature), Sign("hmac-key", time.Now(), g.body); got != want {
			t.Errorf("signature %q; want %q", got, want)
		}
		if g.header.Get(HeaderEvent) != "ReplicaLost" || g.header.Get("Content-Type") != "application/json" || g.header.Get(HeaderDelivery) == "" {
			t.Errorf("headers %v", g.header)
		}
		b.addsUp()
	})
}

func TestFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, some, grave := new(receiver), new(receiver), new(receiver)
		b := start(t, map[string]*receiver{"all": all, "some": some, "grave": grave},
			Hook{Name: "all"}, Hook{Name: "some", Kinds: []events.Kind{"ReplicaBack", "RouteFenced"}}, Hook{Name: "grave", MinSeverity: events.Critical})
		b.publish(events.ReplicaLost{}, events.ReplicaBack{}, events.RouteFenced{}, events.MasterRestarted{}, events.MasterRestarted{Fell: true})
		for name, tt := range map[string]struct {
			r    *receiver
			want string
		}{
			"all":   {all, "ReplicaLost ReplicaBack RouteFenced MasterRestarted MasterRestarted"},
			"some":  {some, "ReplicaBack RouteFenced"},
			"grave": {grave, "RouteFenced MasterRestarted"},
		} {
			if got := strings.Join(tt.r.taken(), " "); got != tt.want {
				t.Errorf("%s: %s; want %s", name, got, tt.want)
			}
		}
		b.addsUp()
	})
}

func TestCooldownTellsWhatItKeptBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h", Cooldown: time.Minute})
		for range 5 {
			b.publish(events.RouteHeld{Master: "n:1"})
		}
		b.publish(events.RouteHeld{Master: "n:2"})
		if got := len(r.got); got != 2 {
			t.Fatalf("%d deliveries; want one for each master", got)
		}
		b.sleep(time.Minute)
		b.publish(events.RouteHeld{Master: "n:1"})
		if got := r.got[len(r.got)-1].json["suppressed"]; len(r.got) != 3 || got != 4.0 {
			t.Errorf("%d deliveries, the last with suppressed %v; want 3 and 4", len(r.got), got)
		}
		if n := b.sender.counts["h"].suppressed.Load(); n != 4 {
			t.Errorf("counted %d; want 4", n)
		}
		b.addsUp()
	})
}

// A receiver that is down for an hour gets everything afterwards, in order, and is not
// tried more often than once a minute. Others do not wait for it.
func TestDownForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, fine := new(receiver), new(receiver)
		down.set(false, func(int) (int, error) { return 0, errors.New("connection refused") })
		b := start(t, map[string]*receiver{"down": down, "fine": fine}, Hook{Name: "down"}, Hook{Name: "fine"})
		for i := range 60 {
			b.publish(events.ConfigReloaded{Applied: i})
			b.sleep(time.Minute)
		}
		if n := len(fine.taken()); n != 60 {
			t.Errorf("the receiver that is there got %d of 60", n)
		}
		if n := down.tried(); n < 55 || n > 100 {
			t.Errorf("%d tries in an hour; want about one a minute", n)
		}
		down.set(false, nil)
		b.sleep(2 * time.Minute)
		if len(down.got) != 60 {
			t.Fatalf("%d of 60 told after an hour", len(down.got))
		}
		for i, g := range down.got {
			if g.json["applied"] != float64(i) {
				t.Fatalf("delivery %d is of event %v", i, g.json["applied"])
			}
		}
		if s := b.log.String(); strings.Count(s, "webhook cannot be told") > 8 || strings.Count(s, "webhook answers again") != 1 {
			t.Errorf("log: %s", s)
		}
		b.addsUp()
	})
}

// It is down for longer than its queue lasts: the newest are kept, and what went is counted.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		r.set(false, func(int) (int, error) { return 0, errors.New("refused") })
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h"})
		for i := range maxQueue + 100 {
			b.publish(events.ConfigReloaded{Applied: i})
		}
		if n := b.ended(outcomeDropped); n != 100 {
			t.Errorf("%d dropped; want 100", n)
		}
		b.addsUp()
		b.sleep(25 * time.Hour)
		if n := b.ended(outcomeExpired); n != maxQueue {
			t.Errorf("%d expired after a day; want %d", n, maxQueue)
		}
		r.set(false, nil)
		b.publish(events.ConfigReloaded{})
		b.sleep(2 * time.Minute)
		if n := len(r.taken()); n != 1 {
			t.Errorf("%d told; want the one since", n)
		}
		b.addsUp()
	})
}

// A receiver that hangs costs its timeout and no more.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		r.set(true, nil)
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h", Timeout: 3 * time.Second})
		b.publish(events.ReplicaLost{})
		b.sleep(10 * time.Second)
		// 3 s, a rest of about 1 s, 3 s, about 2 s.
		if n := r.tried(); n < 2 || n > 3 {
			t.Errorf("%d tries in ten seconds", n)
		}
		if s := b.log.String(); !strings.Contains(s, "no answer within 3s") {
			t.Errorf("log %s", s)
		}
		r.set(false, nil)
		b.sleep(time.Minute)
		if n := len(r.taken()); n != 1 {
			t.Errorf("%d told; want 1", n)
		}

		// And a stop waits two seconds for it at most.
		r.set(true, nil)
		b.publish(events.ReplicaLost{}, events.ReplicaBack{})
		before := time.Now()
		b.stop()
		if took := time.Since(before); took > flushFor {
			t.Errorf("a stop took %v", took)
		}
		if n := b.ended(outcomeStopped); n != 2 {
			t.Errorf("%d counted as stopped; want 2", n)
		}
		b.addsUp()
	})
}

// 500 and 429 are tried again; one event that is always answered so does not keep others
// away. Redirects and 4xx are given up, and nobody else is asked.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h"})
		r.set(false, func(n int) (int, error) {
			if n < 3 {
				return []int{500, 429, 503}[n], nil
			}
			return 200, nil
		})
		b.publish(events.ReplicaLost{}, events.ReplicaBack{})
		b.sleep(time.Minute)
		if got := strings.Join(r.taken(), " "); got != "ReplicaBack ReplicaLost" {
			t.Errorf("told %s; want the second first, after three refusals of the first", got)
		}
		for _, code := range []int{301, 302, 307, 400, 404, 410} {
			before := r.tried()
			r.set(false, func(int) (int, error) { return code, nil })
			b.publish(events.ReplicaLost{})
			b.sleep(time.Hour)
			if n := r.tried() - before; n != 1 {
				t.Errorf("%d: %d tries; want 1", code, n)
			}
		}
		if n := b.ended(outcomeRejected); n != 6 {
			t.Errorf("%d rejected; want 6", n)
		}
		b.addsUp()
	})
}

// What is published as the sidecar ends is told still.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h"})
		b.publish(events.SidecarStarted{})
		b.stream.Publish("", events.SidecarStopping{})
		b.stop()
		if got := strings.Join(r.taken(), " "); got != "SidecarStarted SidecarStopping" {
			t.Errorf("told %q", got)
		}
		b.addsUp()
	})
}

// Hooks come, change and go while it runs.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, n := new(receiver), new(receiver)
		a.set(false, func(int) (int, error) { return 0, errors.New("refused") })
		b := start(t, map[string]*receiver{"a": a, "n": n}, Hook{Name: "a", Secret: "old"})
		b.publish(events.ReplicaLost{}, events.ReplicaBack{})

		a.set(false, nil)
		b.sender.Set([]Hook{whole(Hook{Name: "a", Secret: "new"}), whole(Hook{Name: "n"})})
		synctest.Wait()
		if got := strings.Join(a.taken(), " "); got != "ReplicaLost ReplicaBack" {
			t.Errorf("with its new secret %q was told; want what waited", got)
		}
		if got, want := a.got[0].header.Get(HeaderSignature), Sign("new", time.Now(), a.got[0].body); got != want {
			t.Errorf("signature %s; want that of the new secret", got)
		}
		if got := n.taken(); len(got) != 0 {
			t.Errorf("the new hook heard of the past: %v", got)
		}
		b.publish(events.RouteFenced{})
		if len(a.taken()) != 3 || len(n.taken()) != 1 {
			t.Errorf("told %v and %v", a.taken(), n.taken())
		}

		n.set(true, nil) // hangs as it goes
		b.publish(events.RouteFenced{})
		b.sender.Set([]Hook{whole(Hook{Name: "a", Secret: "new"})})
		synctest.Wait()
		b.publish(events.RouteFenced{})
		if len(a.taken()) != 5 || len(n.taken()) != 1 {
			t.Errorf("told %v and %v", a.taken(), n.taken())
		}
		if b.sender.counts["n"] != nil {
			t.Error("a hook that went is counted on")
		}
		b.sender.Set(nil)
		synctest.Wait()
		b.publish(events.RouteFenced{})
		if len(a.taken()) != 5 {
			t.Errorf("told %v", a.taken())
		}
	})
}

// A master that flaps faster than a receiver reads loses events, and that is told.
func TestSlowReceiverBehindAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		r.set(true, nil)
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h", Timeout: time.Second})
		for range 10_000 {
			b.stream.Publish("orders", events.RouteFenced{})
		}
		synctest.Wait()
		c := b.sender.counts["h"]
		if c.queued.Load() != maxQueue {
			t.Errorf("%d queued; want %d", c.queued.Load(), maxQueue)
		}
		b.addsUp()
	})
}

// Nothing that is secret is told: not the key, not the address, not what a receiver says.
func TestSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		b := start(t, map[string]*receiver{"h": r}, Hook{Name: "h", Secret: "hmac-key", URL: "https://user:pa55@hooks.example/T0PS3CRET"})
		for _, answer := range []func(int) (int, error){
			func(int) (int, error) {
				return 0, errors.New(`malformed HTTP response "/T0PS3CRET"`)
			},
			func(int) (int, error) { return 500, nil },
			func(int) (int, error) { return 302, nil },
		} {
			r.set(false, answer)
			b.publish(events.RouteFenced{})
			b.sleep(time.Hour)
		}
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(b.sender)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		told := b.log.String()
		for _, f := range families {
			told += f.String()
		}
		list, _ := b.stream.Since(0, 1000)
		j, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		told += string(j)
		for _, secret := range []string{"hmac-key", "T0PS3CRET", "pa55"} {
			if strings.Contains(told, secret) {
				t.Errorf("%s is told: %s", secret, told)
			}
		}
		if !strings.Contains(told, "webhook=h") {
			t.Errorf("nothing is told: %s", told)
		}
	})
}
