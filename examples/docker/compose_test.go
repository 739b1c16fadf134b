// Package docker_test runs docker-compose.yml, as it is, on a real Docker engine.
package docker_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// The whole demo, in the order in which people try it. The parts share one project:
// starting it takes longer than most of them.
func TestCompose(t *testing.T) {
	d := newDemo(t)
	d.up(t)
	t.Run("answers", d.testAnswers)
	t.Run("confined", d.testConfined)
	t.Run("failover beside HAProxy", d.testFailover)
	t.Run("docker kill", d.testKill)
	t.Run("docker pause", d.testPause)
	t.Run("docker network disconnect", d.testPartition)
	t.Run("bad input", d.testBadInput)
	if testing.Short() { // make docker-test
		return
	}
	t.Run("observe", d.testObserve)
	t.Run("DEBUG SLEEP 30 beside HAProxy", d.testSleep)
	t.Run("Redis down", d.testRedisDown)
	t.Run("down and up", d.testDownUp)
	t.Run("Redis is unreachable", d.testUnreachable)
}

func (d *demo) testAnswers(t *testing.T) {
	for key, want := range map[string]int{"testkey": http.StatusOK, "": http.StatusUnauthorized, "wrong": http.StatusForbidden} {
		if code, body := d.ask(t, key); code != want {
			t.Errorf("key %q: %d %q; want %d", key, code, body, want)
		}
	}
	for _, url := range []string{"http://" + d.gateway + "/hello", "http://" + d.admin + "/readyz"} {
		if code, body := get(t, url, ""); code != http.StatusOK {
			t.Errorf("%s: %d %q; want 200", url, code, body)
		}
	}
	if found := d.redis(t, d.whole(t), "exists", "apikey-testkey"); found != "1" {
		t.Errorf("the key is not in Redis: %q", found)
	}
}

// inspected is what docker inspect says of a container.
type inspected struct {
	Name  string
	State struct{ Health struct{ Status string } }

	Config struct {
		User   string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapDrop        []string
		SecurityOpt    []string
		Privileged     bool
	}
}

func (d *demo) testConfined(t *testing.T) {
	ids := strings.Fields(d.do(t, "ps", "-q"))
	var all []inspected
	sick := ""
	waitFor(t, "every container to be healthy", &sick, func() bool { // the gateway answers before its first check
		all, sick = nil, ""
		if err := json.Unmarshal([]byte(docker(t, append([]string{"inspect"}, ids...)...)), &all); err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if s := c.State.Health.Status; s != "healthy" {
				sick += c.Name + " is " + s + " "
			}
		}
		return sick == ""
	})
	if want := 9; len(all) != want {
		t.Errorf("%d containers; want %d", len(all), want)
	}
	for _, c := range all {
		user := c.Config.User
		if user == "" || user == "0" || strings.HasPrefix(user, "root") || strings.HasPrefix(user, "0:") {
			t.Errorf("%s runs as %q; want another than root", c.Name, user)
		}
		h := c.HostConfig
		if !h.ReadonlyRootfs || h.Privileged || !slices.Equal(h.CapDrop, []string{"ALL"}) || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: %+v; want a read-only root, no capabilities and no new privileges", c.Name, h)
		}
	}
}

// beside tells what both gateways' clients saw, and fails unless the sidecar's saw
// nothing.
func beside(t *testing.T, r report) {
	t.Helper()
	round := r.Rounds[0]
	if len(round.Failovers) == 0 || !round.Failovers[0].Switched {
		t.Errorf("nothing was promoted: %+v", round.Failovers)
	}
	for _, p := range round.Probes {
		t.Logf("FIGURE %s: %d requests, %d not 200 (%v), longest without a 200: %.0f ms", p.Name, p.Requests, p.Bad, p.ByStatus, p.LongestGapMS)
	}
	for _, c := range round.Columns {
		t.Logf("FIGURE %s: %d commands, %d errors, %d disconnects, %d of %d acknowledged writes lost", c.Name, c.Commands, c.Errors, c.Disconnects, c.Lost.Total, c.Acknowledged)
	}
	if p := round.Probes[0]; p.Name != "gateway" || p.Bad != 0 || p.Good == 0 {
		t.Errorf("through the sidecar %d of %d requests were not answered 200, the first: %s", p.Bad, p.Requests, p.FirstBad)
	}
	if r.Verdict != "pass" {
		t.Errorf("verdict %s: %q", r.Verdict, round.Columns[0].Breaches)
	}
}

// How long a pause is depends on who else uses the machine: it is told, not judged.
const anyPause = "--slo=max-pause=any"

func (d *demo) testFailover(t *testing.T) {
	r := d.drill(t, "compare", "failover", anyPause)
	if len(r.Rounds[0].Probes) != 2 || len(r.Rounds[0].Columns) != 2 {
		t.Fatalf("%d probes, %d columns; want those of HAProxy, too", len(r.Rounds[0].Probes), len(r.Rounds[0].Columns))
	}
	beside(t, r)
	d.without(t, "haproxy", "gateway-haproxy")
}

func (d *demo) testSleep(t *testing.T) {
	beside(t, d.elected(t, func() report { return d.drill(t, "compare", "sleep", anyPause) }))
	d.without(t, "haproxy", "gateway-haproxy")
}

// without removes services of a profile: they would only cost processor time from here on.
func (d *demo) without(t *testing.T, services ...string) {
	t.Helper()
	for _, s := range services {
		docker(t, "rm", "-f", d.container(t, s))
	}
}

// struck breaks the master, sees that requests are answered all the same, and mends it.
func (d *demo) struck(t *testing.T, strike, mend func(container string)) {
	t.Helper()
	old := d.whole(t)
	id := d.container(t, old)
	failed, began := d.failedElections(t), time.Now()
	strike(id)
	code, body := d.ask(t, "testkey") // it waits for the new master
	answered := time.Now()
	d.moved(t, old)
	d.served(t)
	announced := d.announced(t, began)
	t.Logf("struck: %d after %v; another master after %v, %d failed elections", code, answered.Sub(began), announced.Sub(began), d.failedElections(t)-failed)
	switch {
	case code == http.StatusOK:
	case announced.After(answered): // until then nobody could know of a new master
		t.Logf("%d %q: no Sentinel had announced a master by then", code, body)
	default:
		t.Errorf("%d %q while the master is away; want 200", code, body)
	}
	mend(id)
	if now := d.whole(t); now == old {
		t.Errorf("%s is master again; want it to follow the new one", old)
	}
	if code, body := d.ask(t, "testkey"); code != http.StatusOK {
		t.Errorf("%d %q afterwards; want 200", code, body)
	}
}

func (d *demo) testKill(t *testing.T) {
	d.struck(t, func(id string) { docker(t, "kill", id) }, func(id string) { docker(t, "start", id) })
}

func (d *demo) testPause(t *testing.T) {
	d.struck(t, func(id string) { docker(t, "pause", id) }, func(id string) { docker(t, "unpause", id) })
}

func (d *demo) testPartition(t *testing.T) {
	beside(t, d.elected(t, func() report { return d.drill(t, "", "partition", anyPause) }))
}

func (d *demo) testRedisDown(t *testing.T) {
	d.whole(t)
	r := d.drill(t, "fail-open", "redis-down", "--slo=max-recovery=any")
	byName := make(map[string]probe)
	for _, p := range r.Rounds[0].Probes {
		byName[p.Name] = p
		t.Logf("FIGURE %s: %d requests, %d not 200 (%v)", p.Name, p.Requests, p.Bad, p.ByStatus)
	}
	if closed := byName["gateway"]; closed.ByStatus["503"] == 0 || closed.ByStatus["503"] != closed.Bad {
		t.Errorf("the gateway that fails closed answered %v; want some 503, and nothing else that is bad", closed.ByStatus)
	}
	if open := byName["gateway-open"]; open.Bad != 0 || open.Good == 0 {
		t.Errorf("the gateway that fails open answered %v; want 200 alone", open.ByStatus)
	}
	if r.Verdict != "pass" {
		t.Errorf("verdict %s: %q", r.Verdict, r.Rounds[0].Columns[0].Breaches)
	}
	d.without(t, "gateway-open")
}

// After a failover the project is as ready by `up` alone as at first: with the master
// that the Sentinels have elected, and its data.
func (d *demo) testDownUp(t *testing.T) {
	old := d.whole(t)
	if old == "redis-a" { // the one of a cold start
		d.sentinel(t, "sentinel-1", "failover", "mymaster")
		d.moved(t, old)
		old = d.whole(t)
	}
	d.redis(t, old, "set", "kept", "yes")
	d.down(t.Context(), t)
	d.up(t)
	if now := d.whole(t); now != old {
		t.Errorf("the master is %s; want %s as before", now, old)
	}
	if got := d.redis(t, old, "get", "kept"); got != "yes" {
		t.Errorf("found %q; want what was written before", got)
	}
}

// The image is what its page says.
func TestImage(t *testing.T) {
	if os.Getenv(enable) == "" {
		t.Skipf("%s is not set: make docker-test does so, and needs a Docker engine", enable)
	}
	const image = "sentinelproxy:demo"
	var all []struct {
		Config struct {
			User        string
			Labels      map[string]string
			Healthcheck struct{ Test []string }
			Entrypoint  []string
		}
	}
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", image)), &all); err != nil {
		t.Fatal(err)
	}
	c := all[0].Config
	if c.User != "65532:65532" || c.Labels["org.opencontainers.image.licenses"] != "Apache-2.0" || c.Labels["org.opencontainers.image.source"] == "" {
		t.Errorf("found %+v", c)
	}
	if got := strings.Join(c.Healthcheck.Test, " "); got != "CMD /sentinelproxy healthcheck" {
		t.Errorf("HEALTHCHECK %q", got)
	}
	if out := docker(t, "run", "--rm", image, "version"); !strings.HasPrefix(out, "sentinelproxy ") {
		t.Errorf("version says %q", out)
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "run", "--rm", "--entrypoint", "/bin/sh", image).CombinedOutput(); err == nil {
		t.Errorf("the image has a shell: %s", out)
	}
	size := compressed(t, image)
	t.Logf("FIGURE the image: %.1f MB compressed", float64(size)/1e6)
	if size >= 15e6 {
		t.Errorf("%d bytes compressed; want less than 15 MB", size)
	}
}

// compressed returns the size of an image as registries keep it.
func compressed(t *testing.T, image string) int64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", "save", image)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := new(counter)
	z := gzip.NewWriter(n)
	if _, err := io.Copy(z, pipe); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return int64(*n)
}

// counter counts what is written to it.
type counter int64

// Write counts.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// Every profile is one that compose understands, those whose images are not here too.
func TestComposeConfig(t *testing.T) {
	d := newDemo(t)
	all := []string{"COMPOSE_PROFILES=observe,compare,fail-open,tyk,drill"}
	out, err := d.command(t.Context(), all, d.args("config")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, service := range []string{"prometheus", "grafana", "haproxy", "gateway-haproxy", "gateway-open", "tyk", "drill"} {
		if !strings.Contains(string(out), "\n  "+service+":\n") {
			t.Errorf("%s is missing", service)
		}
	}
}
