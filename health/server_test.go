package health

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGroup is a group whose readiness the test sets.
type fakeGroup struct {
	name   string
	remark string // on readiness

	mu     sync.Mutex // guards the fields below
	reason string     // "" is ready
	status any
	since  time.Time // of the route; zero: it does not say
}

func (g *fakeGroup) Name() string { return g.name }

func (g *fakeGroup) Checks() []topology.Check {
	g.mu.Lock()
	defer g.mu.Unlock()
	return []topology.Check{
		{Name: "route", OK: g.reason == "", Reason: g.reason, Since: g.since},
		{Name: "degraded", OK: g.remark == "", Reason: g.remark, Advice: true},
	}
}

func (g *fakeGroup) Status(context.Context) any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status
}

func (*fakeGroup) Clients(_ context.Context, limit int) any { return map[string]int{"limit": limit} }

func (g *fakeGroup) set(reason string, status any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason, g.status = reason, status
}

// start runs a server on loopback until the test ends.
func start(tb testing.TB, o Options) (*Server, string) {
	tb.Helper()
	return startWith(tb, o, func(*Server) {})
}

// startWith is start, and changes the server before it runs.
func startWith(tb testing.TB, o Options, change func(*Server)) (*Server, string) {
	tb.Helper()
	ln, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	o.Listener = ln
	o.Log = slog.New(slog.DiscardHandler)
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	change(s)
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	return s, ln.Addr().String()
}

// ask sends one request on its own connection and returns code and body.
func ask(tb testing.TB, addr, request string) (int, string, http.Header) {
	tb.Helper()
	code, body, h, err := try(tb.Context(), addr, request)
	if err != nil {
		tb.Fatalf("%q: %v", request, err)
	}
	return code, body, h
}

// try is ask for goroutines that cannot end the test.
func try(ctx context.Context, addr, request string) (code int, body string, h http.Header, err error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, "", nil, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return 0, "", nil, err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header, err
}

func get(tb testing.TB, addr, path string) (int, string) {
	tb.Helper()
	code, body, _ := ask(tb, addr, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, addr))
	return code, body
}

func TestReadyz(t *testing.T) {
	a, b := &fakeGroup{name: "a"}, &fakeGroup{name: "b"}
	s, addr := start(t, Options{Groups: []Group{a, b}})
	check := func(path string, wantCode int, wantBody string) {
		t.Helper()
		if code, body := get(t, addr, path); code != wantCode || body != wantBody {
			t.Errorf("%s: %d %q; want %d %q", path, code, body, wantCode, wantBody)
		}
	}
	check("/readyz", 200, "ok\n")
	b.set("no Sentinel answers:\ns1 refuses", nil)
	check("/readyz", 503, "not ready\nb: no Sentinel answers: s1 refuses\n")
	check("/readyz?master=a", 200, "ok\n")
	check("/readyz?master=b", 503, "not ready\nb: no Sentinel answers: s1 refuses\n")
	check("/readyz?master=c", 404, "no master \"c\" is configured\n")
	a.set("held", nil)
	check("/readyz", 503, "not ready\na: held\nb: no Sentinel answers: s1 refuses\n")
	a.set("", nil)
	b.set("", nil)
	check("/readyz", 200, "ok\n")
	s.Drain()
	check("/readyz", 503, "not ready\ndraining: the process is about to stop\n")
	check("/readyz?master=a", 503, "not ready\ndraining: the process is about to stop\n")
	check("/livez", 200, "ok\n")
}

func TestReadyzTellsWhatIsDegraded(t *testing.T) {
	_, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a", remark: "no Sentinel answers"}, &fakeGroup{name: "b"}}})
	if code, body := get(t, addr, "/readyz"); code != 200 || body != "ok\na: no Sentinel answers\n" {
		t.Errorf("/readyz: %d %q; want 200 with the remark", code, body)
	}
}

func TestLivez(t *testing.T) {
	_, addr := start(t, Options{
		Groups: []Group{&fakeGroup{name: "a"}},
		Alive:  func() (bool, string) { return false, "a: an event loop stands still" },
	})
	if code, body := get(t, addr, "/livez"); code != 503 || body != "not alive: a: an event loop stands still\n" {
		t.Errorf("/livez: %d %q", code, body)
	}
}

// The start is over once the event loops have turned, and stays over.
func TestStartupz(t *testing.T) {
	var turn atomic.Bool
	_, addr := start(t, Options{
		Groups: []Group{&fakeGroup{name: "a", reason: "no master"}},
		Alive:  func() (bool, string) { return turn.Load(), "a: an event loop stands still" },
	})
	check := func(code int, body string) {
		t.Helper()
		if c, b := get(t, addr, "/startupz"); c != code || b != body {
			t.Errorf("/startupz: %d %q; want %d %q", c, b, code, body)
		}
	}
	check(503, "starting: a: an event loop stands still\n")
	turn.Store(true)
	check(200, "ok\n")
	turn.Store(false)
	check(200, "ok\n")
}

// The end of the start is noticed when it comes, whoever asks and when.
func TestStartupIsWatched(t *testing.T) {
	var stuck atomic.Bool
	s, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Alive: func() (bool, string) {
		return !stuck.Load(), "a: an event loop stands still"
	}})
	for end := time.Now().Add(time.Minute); !s.up.Load(); {
		if time.Now().After(end) {
			t.Fatal("nobody has noticed that the event loops turn")
		}
		time.Sleep(time.Millisecond)
	}
	stuck.Store(true)
	if code, body := get(t, addr, "/startupz"); code != 200 {
		t.Errorf("/startupz after the start: %d %q", code, body)
	}
}

func TestStatus(t *testing.T) {
	before := time.Now()
	g := &fakeGroup{name: "a"}
	g.set("held", map[string]int{"epoch": 7})
	_, addr := start(t, Options{Groups: []Group{g}, Build: Build{Version: "v1", Revision: "abc", GoVersion: "go1"}})
	code, body := get(t, addr, "/api/v1/status")
	var got struct {
		Version, Revision string
		GoVersion         string    `json:"go_version"`
		StartedAt         time.Time `json:"started_at"`
		At                time.Time
		Live, Ready       bool
		Masters           []struct {
			Name, Reason string
			Ready        bool
			Status       struct{ Epoch int }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%d %q: %v", code, body, err)
	}
	if code != 200 || got.Version != "v1" || got.Revision != "abc" || got.GoVersion != "go1" || !got.Live || got.Ready {
		t.Errorf("%d %s", code, body)
	}
	if got.StartedAt.Before(before) || got.StartedAt.After(got.At) {
		t.Errorf("started at %v, between %v and %v", got.StartedAt, before, got.At)
	}
	if m := got.Masters; len(m) != 1 || m[0].Name != "a" || m[0].Ready || m[0].Reason != "held" || m[0].Status.Epoch != 7 {
		t.Errorf("masters in %s", body)
	}
	g.set("", func() {}) // no JSON
	if code, body := get(t, addr, "/api/v1/status"); code != 500 || strings.Contains(body, "{") {
		t.Errorf("what can't be encoded: %d %q; want 500", code, body)
	}
}

// badCollector fails at each scrape.
type badCollector struct{}

func (badCollector) Describe(chan<- *prometheus.Desc) {}

func (badCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("bad", "bad", nil, nil), errors.New("broken"))
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(Build{Version: "v1", Revision: "abc", GoVersion: "go1"}.Collector(), badCollector{})
	_, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Gatherer: reg})
	code, body := get(t, addr, "/metrics")
	want := `sentinelproxy_build_info{goversion="go1",revision="abc",version="v1"} 1`
	if code != 200 || !strings.Contains(body, want) {
		t.Errorf("/metrics: %d %q; want %s despite a broken collector", code, body, want)
	}
}

func TestGuard(t *testing.T) {
	_, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Hosts: []string{"Gateway-0"}})
	_, port, _ := net.SplitHostPort(addr)
	for name, tt := range map[string]struct {
		request string
		want    int
	}{
		"as bound":             {"GET /livez HTTP/1.1\r\nHost: " + addr, 200},
		"localhost":            {"GET /livez HTTP/1.1\r\nHost: LocalHost:" + port, 200},
		"localhost with a dot": {"GET /livez HTTP/1.1\r\nHost: localhost.", 200},
		"another loopback":     {"GET /livez HTTP/1.1\r\nHost: 127.9.9.9", 200},
		"IPv6 loopback":        {"GET /livez HTTP/1.1\r\nHost: [::1]:" + port, 200},
		"a name given":         {"GET /livez HTTP/1.1\r\nHost: gateway-0:9180", 200},
		"HTTP/1.0 without any": {"GET /livez HTTP/1.0", 200},
		"HTTP/1.1 without any": {"GET /livez HTTP/1.1", 400},
		"a rebound name":       {"GET /livez HTTP/1.1\r\nHost: evil.example:" + port, 421},
		"looks like loopback":  {"GET /livez HTTP/1.1\r\nHost: 127.0.0.1.evil.example", 421},
		"another address":      {"GET /livez HTTP/1.1\r\nHost: 10.0.0.1", 421},
		"HEAD":                 {"HEAD /readyz HTTP/1.1\r\nHost: localhost", 200},
		"POST":                 {"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405},
		"DELETE":               {"DELETE /api/v1/status HTTP/1.1\r\nHost: localhost", 405},
		"index":                {"GET / HTTP/1.1\r\nHost: localhost", 200},
		"no such page":         {"GET /debug/pprof HTTP/1.1\r\nHost: localhost", 404},
	} {
		t.Run(name, func(t *testing.T) {
			code, body, h := ask(t, addr, tt.request+"\r\n\r\n")
			if code != tt.want {
				t.Errorf("%q: %d %q; want %d", tt.request, code, body, tt.want)
			}
			if code == 405 && h.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", h.Get("Allow"))
			}
			if code != 400 && h.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control: %q; want no-store", h.Get("Cache-Control"))
			}
		})
	}
}

func TestNewRefusesWhatIsMissing(t *testing.T) {
	_, err := New(Options{})
	for _, want := range []string{"Listener", "Gatherer", "Log", "Groups"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v; want %s named", err, want)
		}
	}
}

func TestRunEndsWithItsListener(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: ln, Groups: []Group{&fakeGroup{}}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run on a closed listener: %v; want net.ErrClosed", err)
	}
}

func TestClients(t *testing.T) {
	s, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}, &fakeGroup{name: "b"}}})
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/api/v1/clients":                  {200, `{"masters":[{"name":"a","clients":{"limit":10000}},{"name":"b","clients":{"limit":10000}}]}`},
		"/api/v1/clients?master=b&limit=7": {200, `{"masters":[{"name":"b","clients":{"limit":7}}]}`},
		"/api/v1/clients?master=c":         {404, `no master "c" is configured`},
		"/api/v1/clients?limit=0":          {400, `limit: found "0"; want a number from 1 to 100000`},
		"/api/v1/clients?limit=many":       {400, `limit: found "many"; want a number from 1 to 100000`},
	} {
		if code, body := get(t, addr, path); code != want.code || body != want.body+"\n" {
			t.Errorf("%s: %d %q; want %d %q", path, code, body, want.code, want.body)
		}
	}
	s.listing <- struct{}{}
	if code, _ := get(t, addr, "/api/v1/clients"); code != http.StatusServiceUnavailable {
		t.Errorf("beside another list: %d; want 503", code)
	}
	<-s.listing
}

// From another machine the clients are shown to whom Private lets through.
func TestClientsArePrivate(t *testing.T) {
	for name, tt := range map[string]struct {
		from  string
		token bool // whether there is one
		auth  string
		code  int
	}{
		"this machine":           {"127.0.0.1:1", false, "", 200},
		"this machine, IPv6":     {"[::1]:1", true, "", 200},
		"this machine, mapped":   {"[::ffff:127.0.0.1]:1", true, "", 200},
		"elsewhere, no token":    {"192.0.2.1:1", false, "right", 403},
		"elsewhere, wrong token": {"192.0.2.1:1", true, "wrong", 401},
		"elsewhere, right token": {"192.0.2.1:1", true, "right", 200},
		"nowhere":                {"@", true, "", 401},
	} {
		s := &Server{o: Options{Groups: []Group{&fakeGroup{name: "a"}}}, listing: make(chan struct{}, 1)}
		if tt.token {
			s.o.Private = func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "right" {
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					next.ServeHTTP(w, r)
				})
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/api/v1/clients", nil)
		r.RemoteAddr = tt.from
		r.Header.Set("Authorization", tt.auth)
		w := httptest.NewRecorder()
		s.private(http.HandlerFunc(s.clients)).ServeHTTP(w, r)
		if w.Code != tt.code {
			t.Errorf("%s: %d %s; want %d", name, w.Code, w.Body, tt.code)
		}
	}
}
