package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// enable is set by scripts/docker-test, once the images are there. Without it these
// tests are skipped; with it nothing is.
const enable = "SENTINELPROXY_DOCKER_TEST"

// patience is how long a test waits for what must happen. Nothing is judged by it.
const patience = 2 * time.Minute

// demo is a project of docker-compose.yml under a name, a network and ports of its own.
type demo struct {
	compose    []string
	project    string
	environ    []string
	net        string
	gateway    string // host:port
	admin      string
	prometheus string
}

// newDemo chooses what no other project has. Nothing runs yet; everything is removed
// when the test ends.
func newDemo(t *testing.T) *demo {
	t.Helper()
	if os.Getenv(enable) == "" {
		t.Skipf("%s is not set: make docker-test does so, and needs a Docker engine", enable)
	}
	d := &demo{compose: []string{"docker", "compose"}}
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() != nil {
		d.compose = []string{"docker-compose"}
	}
	d.net = freeNet(t)
	ports := freePorts(t, 8)
	d.project = "sentinelproxy-test-" + ports[0]
	d.environ = append(os.Environ(), "COMPOSE_PROJECT_NAME="+d.project, "DEMO_NET="+d.net, "COMPOSE_PROFILES=")
	for i, name := range []string{
		"GATEWAY_PORT", "ADMIN_PORT", "GATEWAY_OPEN_PORT", "GATEWAY_HAPROXY_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "TYK_PORT",
	} {
		d.environ = append(d.environ, name+"="+ports[i])
	}
	d.gateway, d.admin, d.prometheus = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1], "127.0.0.1:"+ports[4]
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := d.command(context.WithoutCancel(t.Context()), nil, d.args("ps")...).CombinedOutput()
			logs, _ := d.command(context.WithoutCancel(t.Context()), nil, d.args("logs", "--tail", "15")...).CombinedOutput()
			t.Logf("%s\n%s", out, logs)
		}
		d.down(context.WithoutCancel(t.Context()), t, "-v", "-t", "1")
	})
	return d
}

// freeNet returns the first three numbers of a /24 that no Docker network has.
func freeNet(t *testing.T) string {
	t.Helper()
	ids := strings.Fields(docker(t, "network", "ls", "-q"))
	taken := docker(t, append([]string{"network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"}, ids...)...)
	for i := 240; i > 213; i-- {
		if n := fmt.Sprintf("172.30.%d", i); !strings.Contains(taken, n+".") {
			return n
		}
	}
	t.Fatalf("no network is free: %s", taken)
	return ""
}

// freePorts returns ports of loopback that were free a moment ago.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close() // only now: no two are alike
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

func (d *demo) args(args ...string) []string {
	return slices.Concat(d.compose, []string{"-f", "docker-compose.yml"}, args)
}

// command makes one that runs in the repository's root with the project's environment.
func (d *demo) command(ctx context.Context, more []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = "../..", append(slices.Clone(d.environ), more...)
	return cmd
}

// do runs a command of compose.
func (d *demo) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.command(t.Context(), nil, d.args(args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("compose %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (d *demo) up(t *testing.T) {
	t.Helper()
	began := time.Now()
	d.do(t, "up", "-d", "--no-build")
	d.served(t)
	t.Logf("up: the gateway answers 200 after %v", time.Since(began).Round(100*time.Millisecond))
}

func (d *demo) down(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	all := []string{"COMPOSE_PROFILES=observe,compare,fail-open,tyk,drill"}
	out, err := d.command(ctx, all, d.args(append([]string{"down", "--remove-orphans"}, args...)...)...).CombinedOutput()
	if err != nil {
		t.Errorf("compose down: %v\n%s", err, out)
	}
}

// served waits until the gateway answers 200.
func (d *demo) served(t *testing.T) {
	t.Helper()
	last := ""
	waitFor(t, "200 of the gateway", &last, func() bool {
		code, body := d.ask(t, "testkey")
		last = fmt.Sprint(code, " ", body)
		return code == http.StatusOK
	})
}

// ask asks the gateway; "" is no key, code 0 no answer.
func (d *demo) ask(t *testing.T, key string) (int, string) {
	t.Helper()
	return get(t, "http://"+d.gateway+"/any", key)
}

func get(t *testing.T, url, key string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if key != "" {
		req.Header.Set("Authorization", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// container returns the id of a service's container, started or not. The engine is
// asked: compose takes seconds for an answer on a busy machine.
func (d *demo) container(t *testing.T, service string) string {
	t.Helper()
	id := strings.TrimSpace(docker(t, "ps", "-a", "-q", "--no-trunc", "--filter", "label=com.docker.compose.oneoff=False",
		"--filter", "label=com.docker.compose.project="+d.project, "--filter", "label=com.docker.compose.service="+service))
	if id == "" || strings.Contains(id, "\n") {
		t.Fatalf("%s has the containers %q; want one", service, id)
	}
	return id
}

// try runs a program in a service's container, which may not run at this moment.
func (d *demo) try(t *testing.T, service string, args ...string) (string, error) {
	t.Helper()
	out, err := d.command(t.Context(), nil, append([]string{"docker", "exec", d.container(t, service)}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// redis sends a command to a node.
func (d *demo) redis(t *testing.T, service string, args ...string) string {
	t.Helper()
	return d.cli(t, service, "6379", args...)
}

// sentinel sends one of the commands SENTINEL … to a Sentinel.
func (d *demo) sentinel(t *testing.T, service string, args ...string) string {
	t.Helper()
	return d.cli(t, service, "26379", append([]string{"sentinel"}, args...)...)
}

func (d *demo) cli(t *testing.T, service, port string, args ...string) string {
	t.Helper()
	out, err := d.try(t, service, append([]string{"redis-cli", "-e", "-p", port}, args...)...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", service, args, err, out)
	}
	return out
}

// nodes are the data nodes' services, by their last number.
func nodes() map[string]string {
	return map[string]string{"11": "redis-a", "12": "redis-b", "13": "redis-c"}
}

func sentinels() []string { return []string{"sentinel-1", "sentinel-2", "sentinel-3"} }

// master returns the service that a majority of the Sentinels names and that says that
// it is master; "" while there is none.
func (d *demo) master(t *testing.T) string {
	t.Helper()
	votes := make(map[string]int)
	for _, s := range sentinels() {
		out, err := d.try(t, s, "redis-cli", "-e", "-p", "26379", "sentinel", "get-master-addr-by-name", "mymaster")
		if f := strings.Fields(out); err == nil && len(f) == 2 {
			votes[nodes()[strings.TrimPrefix(f[0], d.net+".")]]++
		}
	}
	for service, n := range votes {
		if n < 2 {
			continue
		}
		if out, err := d.try(t, service, "redis-cli", "-e", "role"); err == nil && strings.HasPrefix(out, "master") {
			return service
		}
	}
	return ""
}

// whole waits until every node but the master follows it, and returns the master.
func (d *demo) whole(t *testing.T) string {
	t.Helper()
	master, last := "", ""
	waitFor(t, "a master with two replicas", &last, func() bool {
		if master = d.master(t); master == "" {
			return false
		}
		out, err := d.try(t, master, "redis-cli", "-e", "info", "replication")
		last = master + ": " + out
		return err == nil && strings.Count(last, "state=online") == 2
	})
	return master
}

// moved waits until another than old is master.
func (d *demo) moved(t *testing.T, old string) {
	t.Helper()
	master := ""
	waitFor(t, "another master than "+old, &master, func() bool { master = d.master(t); return master != "" && master != old })
}

// failedElections counts how often Sentinels found no majority for a leader: three that
// notice a fault at the same moment may each vote for itself.
func (d *demo) failedElections(t *testing.T) int {
	t.Helper()
	n := 0
	for _, s := range sentinels() {
		n += strings.Count(docker(t, "logs", d.container(t, s)), "-failover-abort-not-elected")
	}
	return n
}

// announced returns when the first Sentinel announced a master since then: by the time
// that the engine keeps with each line of a log.
func (d *demo) announced(t *testing.T, since time.Time) time.Time {
	t.Helper()
	var first time.Time
	for _, s := range sentinels() {
		log := docker(t, "logs", "--timestamps", "--since", since.Format(time.RFC3339Nano), d.container(t, s))
		for line := range strings.Lines(log) {
			stamp, text, _ := strings.Cut(line, " ")
			if !strings.Contains(text, "+switch-master mymaster") {
				continue
			}
			at, err := time.Parse(time.RFC3339Nano, stamp)
			if err != nil {
				t.Fatalf("the log of %s: %v", s, err)
			}
			if first.IsZero() || at.Before(first) {
				first = at
			}
			break
		}
	}
	if first.IsZero() {
		t.Fatal("no Sentinel has announced a master")
	}
	return first
}

// elected runs a drill, and again if no leader was elected at first, or if the first
// announcement of a new master came when requests had waited as long as they may: what
// clients see then is how long the Sentinels took.
func (d *demo) elected(t *testing.T, drill func() report) report {
	t.Helper()
	for range 3 {
		d.whole(t)
		failed := d.failedElections(t)
		r := drill()
		announced := r.step("switch_master")
		if failed = d.failedElections(t) - failed; failed == 0 && announced < requestPatience {
			return r
		}
		t.Logf("again: %d failed elections, another master was announced after %v", failed, announced)
	}
	t.Fatal("the Sentinels took too long for a leader or a master, three times in a row")
	return report{}
}

// requestPatience is GATEWAY_REDIS_TIMEOUT of docker-compose.yml.
const requestPatience = 8 * time.Second

// step returns when after the fault something was seen first; 0 if it was not.
func (r report) step(name string) time.Duration {
	for _, f := range r.Rounds[0].Failovers {
		for _, s := range f.Steps {
			if s.Name == name {
				return time.Duration(s.AfterMS * float64(time.Millisecond))
			}
		}
	}
	return 0
}

// report is the part of a drill's report that is looked at.
type report struct {
	Verdict string
	Rounds  []struct {
		Columns []struct {
			Name         string
			Commands     int
			Errors       int
			Disconnects  int
			Acknowledged int
			Lost         struct{ Total int }
			Breaches     []string
		}
		Failovers []struct {
			Switched bool
			Steps    []struct {
				Name    string
				AfterMS float64 `json:"after_ms"`
			}
		}
		Probes []probe
	}
}

type probe struct {
	Name         string
	Requests     int
	Good, Bad    int
	ByStatus     map[string]int `json:"by_status"`
	LongestGapMS float64        `json:"longest_gap_ms"`
	FirstBad     string         `json:"first_bad"`
}

// drill runs scripts/demo, and returns the report.
func (d *demo) drill(t *testing.T, profiles, kind string, flags ...string) report {
	t.Helper()
	dir := t.TempDir()
	environ := []string{"COMPOSE_PROFILES=" + profiles, "DEMO_REPORTS=" + dir}
	if kind != "redis-down" { // it has a rate of its own
		environ = append(environ, fmt.Sprintf("DEMO_RATE=%d", d.rate(t)))
	}
	cmd := d.command(t.Context(), environ, append([]string{"scripts/demo", kind}, flags...)...)
	out, err := cmd.CombinedOutput()
	t.Logf("scripts/demo %s: %v\n%s", kind, err, out)
	b, rerr := os.ReadFile(dir + "/report.json")
	if rerr != nil {
		t.Fatalf("no report: %v, %v", rerr, err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 1 || len(r.Rounds[0].Probes) == 0 || len(r.Rounds[0].Columns) == 0 {
		t.Fatalf("the report has %d rounds", len(r.Rounds))
	}
	return r
}

// rate returns how many requests a second a drill is to send: 200, and fewer where
// others leave too little of the machine for that with nothing broken. Then requests
// would be late without a failover, and the drill would tell nothing of one.
func (d *demo) rate(t *testing.T) int {
	t.Helper()
	d.served(t)
	const most, least = 200, 25
	rate := most
	// Twice as many: the drill's own clients and a second gateway come on top.
	for rate > least && !d.carries(t, 2*rate) {
		rate /= 2
	}
	t.Logf("FIGURE the machine carries %d requests/s", rate)
	return rate
}

// carries asks the gateway rate times a second for two seconds, and reports whether
// each was answered 200 within one.
func (d *demo) carries(t *testing.T, rate int) bool {
	t.Helper()
	const long = 2
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.gateway+"/any", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "testkey")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: rate}, Timeout: time.Second}
	defer client.CloseIdleConnections()
	var late atomic.Int64
	var asked sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	began := time.Now()
	for range long * rate {
		<-tick.C // which leaves out what comes too fast for this process
		asked.Go(func() {
			resp, err := client.Do(req.Clone(ctx))
			if err != nil {
				late.Add(1)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				late.Add(1)
			}
		})
	}
	slow := time.Since(began) > (long+1)*time.Second
	asked.Wait()
	return late.Load() == 0 && !slow
}

// waitFor waits until ok, and fails the test with what is wanted, and what was seen,
// otherwise.
func waitFor(t *testing.T, want string, seen *string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s; last seen: %s", patience, want, *seen)
		case <-tick.C:
		}
	}
}

// docker runs its client and returns what it prints.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	// When the test ends it must still work: its context is over by then.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}
