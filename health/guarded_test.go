package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

// password lets those through who name it.
func password(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "right" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A Guard is asked for every path but orders, which ask by themselves, and only after the
// Host header was looked at.
func TestGuardedPaths(t *testing.T) {
	ordered := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	_, addr := start(t, Options{
		Groups: []Group{&fakeGroup{name: "a"}}, Guard: password, PProf: true,
		Orders: map[string]http.Handler{"/api/v1/order": ordered},
		Private: func(http.Handler) http.Handler { // whom the Guard lets in sees clients, too
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		},
	})
	for _, path := range []string{"/", "/livez", "/readyz", "/startupz", "/metrics", "/api/v1/status", "/api/v1/clients", "/debug/pprof/", "/nonsense"} {
		want := http.StatusOK
		if path == "/nonsense" {
			want = http.StatusNotFound
		}
		for auth, want := range map[string]int{"": http.StatusUnauthorized, "wrong": http.StatusUnauthorized, "right": want} {
			if code, body, _ := ask(t, addr, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: "+auth+"\r\n\r\n"); code != want {
				t.Errorf("%s with %q: %d %s; want %d", path, auth, code, body, want)
			}
		}
	}
	for request, want := range map[string]int{
		"POST /api/v1/order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0":                               http.StatusNoContent,
		"POST //api/v1/order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0":                              http.StatusMethodNotAllowed,
		"GET /livez HTTP/1.1\r\nHost: evil.example\r\nAuthorization: right":                                 http.StatusMisdirectedRequest,
		"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nAuthorization: right\r\nContent-Length: 0": http.StatusMethodNotAllowed,
	} {
		if code, body, _ := ask(t, addr, request+"\r\n\r\n"); code != want {
			t.Errorf("%q: %d %s; want %d", request, code, body, want)
		}
	}
}

// With TLS a server goes by the name that the caller has asked for in the handshake, and
// found in the certificate.
func TestNamesOfTheCertificate(t *testing.T) {
	s := &Server{o: Options{Groups: []Group{&fakeGroup{name: "a"}}}}
	g := newGuard(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9180}, nil, http.HandlerFunc(s.livez))
	for name, tt := range map[string]struct {
		host, sni string // sni "-": no TLS
		want      int
	}{
		"the name":       {"Gateway.internal:9180", "gateway.internal", 200},
		"another name":   {"evil.example", "gateway.internal", 421},
		"without TLS":    {"gateway.internal", "-", 421},
		"no name at all": {"gateway.internal", "", 421},
	} {
		r := httptest.NewRequest(http.MethodGet, "/livez", nil)
		r.Host = tt.host
		if tt.sni != "-" {
			r.TLS = &tls.ConnectionState{ServerName: tt.sni}
		}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d; want %d", name, w.Code, tt.want)
		}
	}
}

// The listener for probes has the same codes and tells nothing of whom it serves.
func TestProbesForEverybody(t *testing.T) {
	listen := func() net.Listener {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	for name, admin := range map[string]net.Listener{"alone": nil, "beside the other": listen()} {
		t.Run(name, func(t *testing.T) {
			a, b := &fakeGroup{name: "secretive"}, &fakeGroup{name: "other"}
			probes := listen()
			o := Options{Probes: probes, Groups: []Group{a, b}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
			if admin != nil {
				o.Listener, o.Guard = admin, password
			}
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			check := func(request string, code int, body string) {
				t.Helper()
				gotCode, got, _ := ask(t, probes.Addr().String(), request+" HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n")
				if gotCode != code || got != body {
					t.Errorf("%s: %d %q; want %d %q", request, gotCode, got, code, body)
				}
			}
			for _, path := range []string{"/livez", "/readyz", "/startupz", "/readyz?verbose", "/readyz?master=other"} {
				check("GET "+path, 200, "ok\n")
			}
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", probes.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(idleTimeout / 2))
			_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: whatever\r\n\r\n")
			if b, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(b), "\r\n\r\nok\n") {
				t.Errorf("whoever comes may keep its connection: %q, %v", b, err)
			}
			check("HEAD /readyz", 200, "")
			check("GET /readyz?master=none", 404, "no such master\n")
			for _, path := range []string{"/", "/metrics", "/api/v1/status", "/api/v1/clients", "/debug/pprof/"} {
				check("GET "+path, 404, "404 page not found\n")
			}
			check("POST /livez", 405, "Method Not Allowed\n")
			a.set("holding: 10.0.0.1:6379 can't be reached", nil)
			check("GET /readyz", 503, "failed: route\n")
			check("GET /readyz?verbose", 503, "failed: route\n")
			check("GET /readyz?master=other", 200, "ok\n")
			check("GET /livez", 200, "ok\n")
			s.Drain()
			check("GET /readyz?master=other", 503, "failed: not_draining\n")
		})
	}
}

// One of two listeners that fails ends the server, and its error says which.
func TestRunEndsWithEitherListener(t *testing.T) {
	for _, broken := range []string{"listener", "probes"} {
		var lns [2]net.Listener
		for i := range lns {
			ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			lns[i] = ln
		}
		s, err := New(Options{Listener: lns[0], Probes: lns[1], Groups: []Group{&fakeGroup{}}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ln := lns[0]
		if broken == "probes" {
			ln = lns[1]
		}
		ln.Close()
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%s closed: %v; want %s named", broken, err, ln.Addr())
		}
	}
}

// The profiler is there on request alone, one profile at a time, and longer than answers
// may take otherwise.
func TestProfiler(t *testing.T) {
	if _, err := New(Options{PProf: true}); err == nil || !strings.Contains(err.Error(), "PProf without a Guard") {
		t.Errorf("New with an open profiler: %v", err)
	}
	open := func(next http.Handler) http.Handler { return next }
	_, off := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Guard: open})
	if code, _ := get(t, off, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("off: %d; want 404", code)
	}
	const short = 2 * time.Second // as long answers may take; a busy machine must not need it for a request
	_, addr := startWith(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Guard: open, PProf: true}, func(s *Server) {
		s.servers[0].ReadTimeout, s.servers[0].WriteTimeout = short, short
	})
	if code, body := get(t, addr, "/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("goroutines: %d %.100s", code, body)
	}
	for _, seconds := range []string{"0", "-1", "61", "many", "NaN"} {
		if code, _ := get(t, addr, "/debug/pprof/profile?seconds="+seconds); code != http.StatusBadRequest {
			t.Errorf("for %s seconds: %d; want 400", seconds, code)
		}
	}
	if code, _ := get(t, addr, "/debug/pprof/cmdline"); code != http.StatusNotFound {
		t.Errorf("the command line: %d; want 404", code)
	}

	// One at a time: whichever of the two comes second is refused, so each is asked for until it has been the first.
	var profile string
	var profileCode int
	var profileErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			profileCode, profile, _, profileErr = try(t.Context(), addr, "GET /debug/pprof/profile?seconds=3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if profileErr != nil || profileCode != http.StatusServiceUnavailable {
				return
			}
		}
	})
	deadline := time.After(time.Minute)
	for busy := false; !busy; {
		code, _ := get(t, addr, "/debug/pprof/heap")
		busy = code == http.StatusServiceUnavailable
		select {
		case <-deadline:
			t.Fatal("two profiles at once are made")
		default:
		}
	}
	wg.Wait()
	if profileErr != nil {
		t.Fatal(profileErr)
	}
	if profileCode != http.StatusOK || !strings.HasPrefix(profile, "\x1f\x8b") {
		t.Errorf("a profile of three seconds: %d, %d bytes", profileCode, len(profile))
	}
	if code, _ := get(t, addr, "/debug/pprof/heap"); code != http.StatusOK {
		t.Errorf("afterwards: %d", code)
	}
}

// slowCollector is a collector that takes until it is told.
type slowCollector struct{ release chan struct{} }

func (slowCollector) Describe(chan<- *prometheus.Desc) {}

func (c slowCollector) Collect(ch chan<- prometheus.Metric) {
	<-c.release
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("slow", "Slow.", nil, nil), prometheus.GaugeValue, 1)
}

// A storm of scrapes: three are made at a time, all others are answered at once, and
// probes are not felt to wait.
func TestScrapeStorm(t *testing.T) {
	release := make(chan struct{})
	reg := prometheus.NewRegistry()
	reg.MustRegister(slowCollector{release})
	s, addr := start(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Gatherer: reg})
	const storm = 200
	codes := make(chan int, storm)
	var wg sync.WaitGroup
	for range storm {
		wg.Go(func() {
			code, _ := get(t, addr, "/metrics")
			codes <- code
		})
	}
	for range storm - maxScrapes { // while the others are held up
		if code := <-codes; code != http.StatusServiceUnavailable {
			t.Errorf("a scrape beside %d others: %d; want 503", maxScrapes, code)
		}
	}
	if code, _ := get(t, addr, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz in the storm: %d", code)
	}
	close(release)
	wg.Wait()
	for range maxScrapes {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a scrape that was let in: %d", code)
		}
	}
	if code, _ := get(t, addr, "/metrics"); code != http.StatusOK {
		t.Errorf("after the storm: %d", code)
	}
	if n := s.refused.scrapes.Load(); n != storm-maxScrapes {
		t.Errorf("%d scrapes are counted as refused; want %d", n, storm-maxScrapes)
	}
}

// A listener of crypto/tls is served as any other, and who speaks plain HTTP there is told.
func TestServesTLS(t *testing.T) {
	ca := certtest.MustCA(t)
	pair := ca.MustIssue(t, certtest.Leaf{})
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Listener: tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}),
		Groups:   []Group{&fakeGroup{name: "a"}}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool}}
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("over TLS: %q", b)
	}
	if code, body, _ := ask(t, ln.Addr().String(), "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"); code != http.StatusBadRequest || !strings.Contains(body, "HTTPS") {
		t.Errorf("plain HTTP: %d %q", code, body)
	}
}
