package docker_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
)

// lone is a sidecar in a container of its own, on the demo's network, with mistakes.
type lone struct {
	id string
	d  *demo
}

// run starts one: options are docker run's, args those of `sentinelproxy run`.
func (d *demo) run(t *testing.T, options, args []string) *lone {
	t.Helper()
	all := []string{"run", "-d", "--restart", "unless-stopped", "--read-only", "--cap-drop", "ALL"}
	all = append(all, options...)
	all = append(all, "sentinelproxy:demo", "run")
	l := &lone{strings.TrimSpace(docker(t, append(all, args...)...)), d}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.log(t))
		}
		l.remove(t)
	})
	return l
}

// sentinelFlags are the flags that name the demo's.
func (d *demo) sentinelFlags() []string {
	return []string{"--sentinel", d.net + ".21:26379", "--sentinel", d.net + ".22:26379", "--sentinel", d.net + ".23:26379"}
}

// network is the option that joins the demo's network.
func (d *demo) network(t *testing.T) []string {
	t.Helper()
	name := docker(t, "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}}{{end}}", d.container(t, "sentinelproxy"))
	return []string{"--network", strings.TrimSpace(name)}
}

func (l *lone) remove(t *testing.T) {
	t.Helper()
	if l.id != "" {
		docker(t, "rm", "-f", l.id)
		l.id = ""
	}
}

func (l *lone) log(t *testing.T) string {
	t.Helper()
	out, _ := l.d.command(context.WithoutCancel(t.Context()), nil, "docker", "logs", l.id).CombinedOutput()
	return string(out)
}

// health returns what `sentinelproxy healthcheck` says, on one line, and whether that
// is yes.
func (l *lone) health(t *testing.T, args ...string) (bool, string) {
	t.Helper()
	out, err := l.d.command(t.Context(), nil, append([]string{"docker", "exec", l.id, "/sentinelproxy", "healthcheck"}, args...)...).CombinedOutput()
	return err == nil, strings.TrimSpace(string(out))
}

// unready waits until it says so, in one line that matches.
func (l *lone) unready(t *testing.T, pattern string) {
	t.Helper()
	want, said := regexp.MustCompile(pattern), ""
	waitFor(t, "not ready: "+pattern, &said, func() bool {
		ok, line := l.health(t)
		said = line
		return !ok && !strings.Contains(line, "\n") && want.MatchString(line)
	})
	t.Logf("it says: %s", said)
}

// ready waits until it is.
func (l *lone) ready(t *testing.T, args ...string) {
	t.Helper()
	said := ""
	waitFor(t, "readiness", &said, func() bool {
		ok, line := l.health(t, args...)
		said = line
		return ok
	})
}

// says waits for a line of the log that matches, and fails if that takes several.
func (l *lone) says(t *testing.T, pattern string) {
	t.Helper()
	want, log := regexp.MustCompile(pattern), ""
	waitFor(t, "a line "+pattern, &log, func() bool { log = l.log(t); return want.MatchString(log) })
	for line := range strings.Lines(log) {
		if want.MatchString(line) {
			t.Logf("it says: %s", strings.TrimSpace(line))
			return
		}
	}
	t.Errorf("no single line matches %s:\n%s", pattern, log)
}

// What is wrong is said in one line, the container stays unready, and serves by itself
// when the cause is gone.
func (d *demo) testBadInput(t *testing.T) {
	d.whole(t)
	t.Run("the master's name is wrong", func(t *testing.T) {
		l := d.run(t, d.network(t), append(d.sentinelFlags(), "--master", "nosuch"))
		l.unready(t, `none of the 3 Sentinels that answer knows this master.*nosuch`)
		addr := strings.Fields(d.sentinel(t, "sentinel-1", "get-master-addr-by-name", "mymaster"))
		for _, s := range sentinels() {
			d.sentinel(t, s, "monitor", "nosuch", addr[0], "6379", "2")
			defer d.sentinel(t, s, "remove", "nosuch")
		}
		l.ready(t)
	})
	t.Run("the Sentinel's name is wrong", func(t *testing.T) {
		l := d.run(t, d.network(t), []string{"--sentinel", "late:26379"})
		l.unready(t, `no Sentinel answers.*late`)
		side := strings.TrimSpace(docker(t, "network", "create", d.project+"-side")) // where there is one of that name
		defer docker(t, "network", "rm", side)
		docker(t, "network", "connect", side, l.id)
		defer l.remove(t)
		sentinel := d.container(t, "sentinel-1")
		docker(t, "network", "connect", "--alias", "late", side, sentinel)
		defer docker(t, "network", "disconnect", side, sentinel)
		l.ready(t)
	})
	t.Run("the password is wrong", func(t *testing.T) {
		volume := strings.TrimSpace(docker(t, "volume", "create"))
		defer docker(t, "volume", "rm", "-f", volume)
		write(t, volume, "password", "wrong")
		l := d.run(t, append(d.network(t), "-v", volume+":/run/secrets"),
			append(d.sentinelFlags(), "--auth", "none", "--redis-user", "someone", "--redis-password-file", "/run/secrets/password"))
		defer l.remove(t) // before its volume
		l.unready(t, `(?i)password|auth|login`)
		for _, node := range nodes() { // the cause goes: that is the password now
			d.redis(t, node, "acl", "setuser", "someone", "on", ">wrong", "~*", "&*", "+@all")
			defer d.redis(t, node, "acl", "deluser", "someone")
		}
		l.ready(t)
	})
	t.Run("the port is taken", func(t *testing.T) {
		holder := d.run(t, d.network(t), append(d.sentinelFlags(), "--listen", ":6379"))
		holder.ready(t)
		shared := []string{"--network", "container:" + holder.id}
		other := d.run(t, shared, append(d.sentinelFlags(), "--listen", ":6380", "--admin", "127.0.0.1:9181"))
		other.ready(t, "--admin", "127.0.0.1:9181")
		l := d.run(t, shared, append(d.sentinelFlags(), "--listen", ":6380", "--admin", "127.0.0.1:9182"))
		l.says(t, `^sentinelproxy: cannot listen on :6380: bind: address already in use`)
		other.remove(t)
		l.ready(t, "--admin", "127.0.0.1:9182")
	})
	t.Run("the token is missing", func(t *testing.T) {
		volume := strings.TrimSpace(docker(t, "volume", "create"))
		defer docker(t, "volume", "rm", "-f", volume)
		l := d.run(t, append(d.network(t), "-v", volume+":/run/secrets"), append(d.sentinelFlags(), "--control-token-file", "/run/secrets/token"))
		defer l.remove(t) // before its volume
		l.says(t, `^sentinelproxy: --control-token-file: .*/run/secrets/token`)
		write(t, volume, "token", "0123456789abcdef")
		l.ready(t)
	})
}

func (d *demo) testUnreachable(t *testing.T) {
	d.whole(t)
	d.do(t, "stop", "-t", "5", "redis-a", "redis-b", "redis-c")
	l := d.run(t, d.network(t), d.sentinelFlags())
	l.unready(t, `mymaster: .* does not answer: `)
	if code, _ := get(t, "http://"+d.gateway+"/hello", ""); code != 200 {
		t.Errorf("/hello: %d; want 200: the gateway lives", code)
	}
	d.do(t, "start", "redis-a", "redis-b", "redis-c")
	l.ready(t)
	d.served(t)
	d.whole(t)
}

// write puts a file into a volume.
func write(t *testing.T, volume, name, text string) {
	t.Helper()
	docker(t, "run", "--rm", "--user", "0", "--entrypoint", "/bin/sh", "-v", volume+":/v", "sentinelproxy-drill:demo",
		"-c", "chmod 755 /v; echo "+text+" > /v/"+name+"; chmod 644 /v/"+name)
}
