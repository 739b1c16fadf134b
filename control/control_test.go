package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGroup does with a request what the test says.
type fakeGroup struct {
	name string
	do   func(ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) topology.SwitchoverResult

	mu   sync.Mutex // guards got
	got  []topology.SwitchoverRequest
	busy sync.Mutex // held while one is under way
}

func (g *fakeGroup) Name() string { return g.name }

func (g *fakeGroup) Switchover(
	ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep),
) (topology.SwitchoverResult, error) {
	if !g.busy.TryLock() {
		r := topology.SwitchoverResult{Outcome: topology.SwitchoverBusy, Err: "another one is under way"}
		return r, errors.New(r.Err)
	}
	defer g.busy.Unlock()
	g.mu.Lock()
	g.got = append(g.got, req)
	g.mu.Unlock()
	r := g.do(ctx, req, tell)
	if !r.OK() {
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (g *fakeGroup) requests() []topology.SwitchoverRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got
}

// done is a switchover that works.
func done(_ context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) topology.SwitchoverResult {
	tell(topology.SwitchoverStep{Name: topology.StepPreflight, Status: topology.StepOK, Took: 1500 * time.Microsecond, Detail: "fine"})
	return topology.SwitchoverResult{
		Outcome: topology.SwitchoverDone, From: "a:1", To: req.To, Epoch: 7, Pause: 250 * time.Millisecond,
	}
}

var quiet = slog.New(slog.DiscardHandler)

// serve runs the API on a Unix socket until the test ends or stop is called.
func serve(t *testing.T, groups ...Group) (path string, stop func() error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "c.sock")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(ln, NewAPI(groups, quiet), quiet).Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return path, stop
}

func TestSwitchoverOverTheSocket(t *testing.T) {
	g := &fakeGroup{name: "orders", do: done}
	path, _ := serve(t, g)
	c := NewUnixClient(path)
	defer c.Close()
	var steps []topology.SwitchoverStep
	want := topology.SwitchoverRequest{Master: "orders", To: "b:2", Strict: true, DryRun: true, MaxPause: 1500 * time.Millisecond}
	asked := want
	asked.Master = "" // there is one
	r, err := c.Switchover(t.Context(), asked, func(s topology.SwitchoverStep) { steps = append(steps, s) })
	if err != nil {
		t.Fatal(err)
	}
	if got := g.requests(); len(got) != 1 || got[0] != want {
		t.Errorf("asked for %+v; want %+v", got, want)
	}
	if r != (topology.SwitchoverResult{Outcome: topology.SwitchoverDone, From: "a:1", To: "b:2", Epoch: 7, Pause: 250 * time.Millisecond}) {
		t.Errorf("result %+v", r)
	}
	if len(steps) != 1 || steps[0] != (topology.SwitchoverStep{Name: "preflight", Status: "ok", Took: 1500 * time.Microsecond, Detail: "fine"}) {
		t.Errorf("steps %+v", steps)
	}
}

// TestStepsAreToldAtOnce checks that a line is written when its step ends, not later.
func TestStepsAreToldAtOnce(t *testing.T) {
	heard := make(chan struct{})
	g := &fakeGroup{name: "a", do: func(ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) topology.SwitchoverResult {
		r := done(ctx, req, tell)
		select {
		case <-heard:
		case <-time.After(time.Minute):
			r.Outcome = topology.SwitchoverFailed
		}
		return r
	}}
	path, _ := serve(t, g)
	c := NewUnixClient(path)
	defer c.Close()
	r, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, func(topology.SwitchoverStep) { close(heard) })
	if err != nil || !r.OK() {
		t.Errorf("%+v %v", r, err)
	}
}

// untilCalledOff tells one step and then waits for its context.
func untilCalledOff(began chan<- struct{}) func(context.Context, topology.SwitchoverRequest, func(topology.SwitchoverStep)) topology.SwitchoverResult {
	return func(ctx context.Context, _ topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) topology.SwitchoverResult {
		tell(topology.SwitchoverStep{Name: topology.StepHold, Status: topology.StepOK})
		began <- struct{}{}
		<-ctx.Done()
		return topology.SwitchoverResult{Outcome: topology.SwitchoverAborted, Err: "called off"}
	}
}

func TestCallerGoesAway(t *testing.T) {
	began := make(chan struct{}, 1)
	g := &fakeGroup{name: "a", do: untilCalledOff(began)}
	path, _ := serve(t, g)
	c := NewUnixClient(path)
	defer c.Close()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-began; leave() }()
	if _, err := c.Switchover(ctx, topology.SwitchoverRequest{}, func(topology.SwitchoverStep) {}); !errors.Is(err, ErrBroken) {
		t.Errorf("error %v; want ErrBroken", err)
	}
	g.busy.Lock() // it was called off
	defer g.busy.Unlock()
}

func TestStopCallsOff(t *testing.T) {
	began := make(chan struct{}, 1)
	g := &fakeGroup{name: "a", do: untilCalledOff(began)}
	path, stop := serve(t, g)
	c := NewUnixClient(path)
	defer c.Close()
	stopped := make(chan error, 1)
	go func() { <-began; stopped <- stop() }()
	r, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, func(topology.SwitchoverStep) {})
	if err != nil || r.Outcome != topology.SwitchoverAborted {
		t.Errorf("%+v %v; want to be told that it was called off", r, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestOneAtATime(t *testing.T) {
	began, release := make(chan struct{}, 1), make(chan struct{})
	g := &fakeGroup{name: "a", do: func(ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) topology.SwitchoverResult {
		began <- struct{}{}
		<-release
		return done(ctx, req, tell)
	}}
	path, _ := serve(t, g)
	c := NewUnixClient(path)
	defer c.Close()
	first := make(chan topology.SwitchoverResult, 1)
	go func() {
		r, _ := c.Switchover(t.Context(), topology.SwitchoverRequest{}, func(topology.SwitchoverStep) {})
		first <- r
	}()
	<-began
	r, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, func(topology.SwitchoverStep) {})
	if err != nil || r.Outcome != topology.SwitchoverBusy || !strings.Contains(r.Err, "under way") {
		t.Errorf("%+v %v; want busy", r, err)
	}
	close(release)
	if r := <-first; !r.OK() {
		t.Errorf("the first: %+v", r)
	}
}

func TestClientErrors(t *testing.T) {
	t.Run("no sidecar", func(t *testing.T) {
		c := NewUnixClient(filepath.Join(t.TempDir(), "none"))
		defer c.Close()
		if _, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, nil); !errors.Is(err, ErrUnreachable) {
			t.Errorf("error %v; want ErrUnreachable", err)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"step":"hold","status":"ok","took_ms":1}`+"\n")
		}))
		defer srv.Close()
		c := NewClient(srv.Listener.Addr().String(), "t", nil)
		defer c.Close()
		n := 0
		if _, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, func(topology.SwitchoverStep) { n++ }); !errors.Is(err, ErrBroken) || n != 1 {
			t.Errorf("error %v after %d steps; want ErrBroken after 1", err, n)
		}
	})
	// A handshake that the sidecar ends: in TLS 1.3 that comes when the request is on its way.
	t.Run("no certificate", func(t *testing.T) {
		ca := certtest.MustCA(t)
		pair := ca.MustIssue(t, certtest.Leaf{})
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca.PEM)
		for version := range map[uint16]bool{tls.VersionTLS12: true, tls.VersionTLS13: true} {
			here, there := net.Pipe()
			ended := make(chan error, 1)
			go func() {
				ended <- tls.Server(there, &tls.Config{
					Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: version, MaxVersion: version,
				}).Handshake()
			}()
			secure := tls.Client(here, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12})
			_, err := secure.Read(make([]byte, 1))
			if err := new(Client).broken(err); !errors.Is(err, ErrUnreachable) {
				t.Errorf("%s: %v; want ErrUnreachable", tls.VersionName(version), err)
			}
			here.Close()
			if <-ended == nil {
				t.Error("the handshake went well")
			}
		}
		later := &net.OpError{Op: "remote error", Err: tls.AlertError(20)} // bad_record_mac
		if err := new(Client).broken(later); !errors.Is(err, ErrBroken) {
			t.Errorf("later: %v; want ErrBroken", err)
		}
	})
	t.Run("another master", func(t *testing.T) {
		path, _ := serve(t, &fakeGroup{name: "a", do: done}, &fakeGroup{name: "b", do: done})
		c := NewUnixClient(path)
		defer c.Close()
		for master, want := range map[string]string{"": "which master? This sidecar serves a, b", "c": `no master "c", but a, b`} {
			if _, err := c.Switchover(t.Context(), topology.SwitchoverRequest{Master: master}, nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("master %q: error %v; want %q", master, err, want)
			}
		}
	})
}

// TestRequests checks who is let in, and what is taken for a request.
func TestRequests(t *testing.T) {
	const token = "0123456789abcdef"
	g := &fakeGroup{name: "a", do: done}
	h := WithToken(func() string { return token }, NewAPI([]Group{g}, quiet))
	for name, tt := range map[string]struct {
		method, auth, kind, path, body string
		code                           int
		says                           string
	}{
		"good":             {"POST", "Bearer " + token, "application/json", PathSwitchover, `{"to":"b:1"}`, 200, `"ok":true`},
		"scheme's case":    {"POST", "bearer " + token, "application/json; charset=utf-8", PathSwitchover, `{}`, 200, `"ok":true`},
		"empty body":       {"POST", "Bearer " + token, "application/json", PathSwitchover, ``, 200, `"ok":true`},
		"no token":         {"POST", "", "application/json", PathSwitchover, `{}`, 401, "needs the control token"},
		"basic":            {"POST", "Basic " + token, "application/json", PathSwitchover, `{}`, 401, "needs the control token"},
		"wrong token":      {"POST", "Bearer 0123456789abcdeg", "application/json", PathSwitchover, `{}`, 403, "not the control token"},
		"no word":          {"POST", "Bearer ", "application/json", PathSwitchover, `{}`, 403, "not the control token"},
		"get":              {"GET", "Bearer " + token, "", PathSwitchover, ``, 405, "use POST"},
		"preflight":        {"OPTIONS", "Bearer " + token, "", PathSwitchover, ``, 405, "use POST"},
		"a form":           {"POST", "Bearer " + token, "text/plain", PathSwitchover, `{}`, 415, "application/json"},
		"elsewhere":        {"POST", "Bearer " + token, "application/json", "/api/v1/other", `{}`, 404, ""},
		"misspelt":         {"POST", "Bearer " + token, "application/json", PathSwitchover, `{"dryrun":true}`, 400, "dryrun"},
		"two":              {"POST", "Bearer " + token, "application/json", PathSwitchover, `{}{}`, 400, "more than one"},
		"no address":       {"POST", "Bearer " + token, "application/json", PathSwitchover, `{"to":"b"}`, 400, "to:"},
		"negative pause":   {"POST", "Bearer " + token, "application/json", PathSwitchover, `{"max_pause_ms":-1}`, 400, "max_pause_ms"},
		"endless":          {"POST", "Bearer " + token, "application/json", PathSwitchover, `{"to":"` + strings.Repeat("b", maxBody) + `"}`, 400, "too large"},
		"a master unknown": {"POST", "Bearer " + token, "application/json", PathSwitchover, `{"master":"b"}`, 404, "no master"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(g.requests())
			r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.kind)
			if tt.auth != "" {
				r.Header.Set("Authorization", tt.auth)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("%d %q; want %d with %q", w.Code, w.Body.String(), tt.code, tt.says)
			}
			if asked := len(g.requests()) > before; asked != (tt.code == 200) {
				t.Errorf("asked the group: %v", asked)
			}
			if strings.Contains(w.Body.String(), token) {
				t.Error("the answer holds the token")
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("another site may call it")
			}
		})
	}
}

// TestTokenIsNotLogged checks what is logged of a request.
func TestTokenIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	const token = "0123456789abcdef"
	h := WithToken(func() string { return token }, NewAPI([]Group{&fakeGroup{name: "a", do: done}}, slog.New(slog.NewTextHandler(&log, nil))))
	r := httptest.NewRequestWithContext(t.Context(), "POST", PathSwitchover, strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	h.ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(log.String(), "switchover asked for") || strings.Contains(log.String(), token) {
		t.Errorf("log %q", log.String())
	}
}

// No token is no way in.
func TestEmptyToken(t *testing.T) {
	h := WithToken(func() string { return "" }, NewAPI(nil, quiet))
	r := httptest.NewRequestWithContext(t.Context(), "POST", PathSwitchover, http.NoBody)
	r.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d; want 403", w.Code)
	}
}

// A switchover may take longer than the timeouts of the server that it is asked of: the
// admin server's are for scrapes.
func TestOutlastsTheServersTimeouts(t *testing.T) {
	const short = 2 * time.Second // and yet longer than a busy machine keeps a request from being read
	g := &fakeGroup{name: "a", do: func(ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) topology.SwitchoverResult {
		r := done(ctx, req, tell)
		select {
		case <-ctx.Done():
			return topology.SwitchoverResult{Outcome: topology.SwitchoverAborted, Err: "called off"}
		case <-time.After(short + short/4):
		}
		tell(topology.SwitchoverStep{Name: topology.StepHold, Status: topology.StepOK})
		return r
	}}
	srv := httptest.NewUnstartedServer(WithToken(func() string { return "t" }, NewAPI([]Group{g}, quiet)))
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = short, short
	srv.Start()
	defer srv.Close()
	c := NewClient(srv.Listener.Addr().String(), "t", nil)
	defer c.Close()
	steps := 0
	r, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, func(topology.SwitchoverStep) { steps++ })
	if err != nil || !r.OK() || steps != 2 {
		t.Errorf("%+v %v after %d steps; want it done after 2", r, err, steps)
	}
}
