package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" || slices.Contains(os.Args, deadmanName) {
		main() // ends the process
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen. A Sentinel that was kept from
// running for two seconds does nothing for thirty (TILT).
const patience = time.Minute

// journal is what happened, in order. It is safe for concurrent use.
type journal struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// fakePart is every part of a group at once: it runs until told, and notes
// what is called.
type fakePart struct {
	name string
	j    *journal
	hold chan struct{} // if not nil, Run ends only after this is closed
	fail chan error    // Run returns what comes here

	mu       sync.Mutex // guards the fields below
	password string
	outage   string // the last policy it was given
	allowed  string // the last networks
	reason   string // why not Ready; "" is ready
	stuck    bool   // not Alive
}

func newFake(name string, j *journal) *fakePart {
	return &fakePart{name: name, j: j, fail: make(chan error, 1)}
}

func (f *fakePart) Run(ctx context.Context) error {
	f.j.add(f.name + " runs")
	var err error
	select {
	case <-ctx.Done():
		f.j.add(f.name + " is asked to end")
	case err = <-f.fail:
	}
	if f.hold != nil {
		<-f.hold
	}
	f.j.add(f.name + " ends")
	return err
}

func (f *fakePart) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, ch) }

func (f *fakePart) Collect(ch chan<- prometheus.Metric) {
	d := prometheus.NewDesc("sentinelproxy_fake_"+f.name, "Fake.", nil, nil)
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, 1)
}

func (f *fakePart) Poll()                        { f.j.add("poll") }
func (f *fakePart) SetFast(bool)                 { f.j.add("fast") }
func (f *fakePart) Observe(topology.Observation) { f.j.add("observe") }
func (f *fakePart) Sign(topology.Sign)           { f.j.add("sign") }
func (f *fakePart) Report(topology.Report)       { f.j.add("report") }
func (f *fakePart) SetRoute(topology.Route)      { f.j.add("route") }
func (f *fakePart) Status(context.Context) any   { return map[string]string{"fake": f.name} }

func (f *fakePart) SetSentinelLogin(config.Login) { f.j.add("sentinel login") }

func (f *fakePart) Drained(context.Context, uint64) error { return nil }

func (f *fakePart) Switchover(
	ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep),
) (topology.SwitchoverResult, error) {
	f.j.add("switchover")
	if req.To == "never:1" {
		<-ctx.Done()
		f.j.add("switchover called off: " + context.Cause(ctx).Error())
		return topology.SwitchoverResult{Outcome: topology.SwitchoverAborted, Err: "called off"}, ctx.Err()
	}
	tell(topology.SwitchoverStep{Name: topology.StepPreflight, Status: topology.StepOK})
	return topology.SwitchoverResult{Outcome: topology.SwitchoverReady, To: req.To}, nil
}

func (f *fakePart) Ready() (bool, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reason == "", f.reason
}

func (f *fakePart) Checks() []topology.Check {
	ok, reason := f.Ready()
	return []topology.Check{{Name: "route", OK: ok, Reason: reason}}
}

func (f *fakePart) Alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.stuck
}

func (f *fakePart) SetLogin(l config.Login) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.password = l.Password.Reveal()
	return nil
}

func (f *fakePart) SetOutage(o config.Outage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outage = o.After.String() + " " + o.Policy.String()
}

func (*fakePart) Clients(context.Context, int) any { return nil }

func (f *fakePart) SetAllow(l allow.List) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = l.String()
}

func (f *fakePart) networks() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.allowed
}

func (f *fakePart) Patience() (time.Duration, bool) { return 0, false }

func (f *fakePart) outagePolicy() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.outage
}

func (f *fakePart) login() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.password
}

// fakes are one group's parts, and the hooks that they were given.
type fakes struct {
	j                            journal
	follower, controller, server *fakePart

	fh followerHooks
	ch controllerHooks
	sh serverHooks
}

func newFakes() *fakes {
	f := &fakes{}
	f.follower, f.controller, f.server = newFake("sentinel", &f.j), newFake("failover", &f.j), newFake("proxy", &f.j)
	return f
}

func (f *fakes) parts() parts {
	return parts{
		follower: func(_ config.Master, h followerHooks, _ *slog.Logger) (loginFollower, error) {
			f.fh = h
			return f.follower, nil
		},
		controller: func(_ config.Master, h controllerHooks, _ *slog.Logger) (controller, error) {
			f.ch = h
			return f.controller, nil
		},
		server: func(_ config.Master, h serverHooks, _ *slog.Logger) (server, error) {
			f.sh = h
			return f.server, nil
		},
	}
}

// testConfig serves one master on free ports of loopback.
func testConfig() config.Config {
	return config.Config{
		Admin:        config.Admin{Listen: "127.0.0.1:0"},
		DrainTimeout: time.Second,
		Masters: []config.Master{{
			Name: "a", Listen: []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}},
			Sentinels: []topology.Addr{"127.0.0.1:1"}, Auth: config.AuthPassthrough, Fence: config.FenceLease, MaxClients: 100,
			Follow: config.FollowMajority, Demote: config.DemoteOff, RetryWrites: config.RetryNever,
			Hold: config.Hold{Timeout: config.Wait{Auto: true}, Max: config.Wait{Auto: true}},
		}},
	}
}

// buffer is an io.Writer that several goroutines may use.
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

// waitFor waits until ok, and fails the test with what is wanted otherwise.
func waitFor(tb testing.TB, want string, ok func() bool) {
	tb.Helper()
	waitWithin(tb, patience, want, ok)
}

// waitWithin is waitFor with a patience of its own.
func waitWithin(tb testing.TB, patience time.Duration, want string, ok func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			tb.Fatalf("waited %v for %s", patience, want)
		case <-tick.C:
		}
	}
}

// get asks the admin server; code 0 is no answer.
func get(tb testing.TB, addr net.Addr, path string) (int, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+addr.String()+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// page is get, and asks until there is an answer: a busy machine may leave one out.
func page(tb testing.TB, addr net.Addr, path string) (body string) {
	tb.Helper()
	waitFor(tb, "an answer to "+path, func() (ok bool) {
		var code int
		code, body = get(tb, addr, path)
		return code != 0
	})
	return body
}

// oneLine fails the test unless s is a single line that holds want.
func oneLine(tb testing.TB, s, want string) {
	tb.Helper()
	if strings.Count(s, "\n") != 1 || !strings.Contains(s, want) {
		tb.Errorf("got %q; want one line with %q", s, want)
	}
}

// needTool returns the path of a program. Without it the test is skipped, but in CI it
// fails.
func needTool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		tb.Fatalf("%s is not installed: scripts/need %s", name, name)
	default:
		tb.Skipf("%s is not installed", name)
	}
	return path
}
