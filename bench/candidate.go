package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Names of the candidates, as --candidates takes them.
const (
	nameDirect    = "direct"
	nameHAProxy   = "haproxy"
	nameHAProxyAA = "haproxy-again" // the A/A row
	nameHAProxy1  = "haproxy-1thread"
	nameTwemproxy = "twemproxy"
	nameSidecar   = "sentinelproxy"
	nameUnscraped = "sentinelproxy-unscraped" // what being watched costs; measured only where it is asked for
)

// defaultProxyArgs start the sidecar as the README does: nothing but where to
// listen and whom to follow.
const defaultProxyArgs = "run --listen {listen} --admin {admin} --master {master} {sentinels}"

// spec says how to start one candidate.
type spec struct {
	name    string
	program string // looked up on PATH; "" where none is needed
	about   string // how it is set up, for the report
	// prepare writes what the candidate needs and returns the arguments that
	// make it listen on listen. nil means no process: Redis itself.
	prepare func(l *lab, name string, listen, admin topology.Addr) (args []string, err error)
}

// specs returns every candidate, in the order of the report's rows.
func specs() []spec {
	return []spec{
		{name: nameDirect, about: "clients connected to the master itself"},
		{
			name: nameHAProxy, program: "haproxy", prepare: haproxyArgs(""),
			about: "TCP mode, tcp-check role:master every second, its default threads (one per core)",
		},
		{
			name: nameHAProxyAA, program: "haproxy", prepare: haproxyArgs(""),
			about: "a second process set up as the first: the A/A row",
		},
		{
			name: nameHAProxy1, program: "haproxy", prepare: haproxyArgs("nbthread 1"),
			about: "the same with nbthread 1",
		},
		{
			name: nameTwemproxy, program: "nutcracker", prepare: twemproxyArgs,
			about: "pointed at the master, which it cannot follow",
		},
		{name: nameSidecar, prepare: sidecarArgs, about: "default configuration, following the group, /metrics scraped every second"},
		{name: nameUnscraped, prepare: sidecarArgs, about: "the same, and nobody scrapes it"},
	}
}

// candidateNames are those that are measured beside each other unless told otherwise.
func candidateNames() []string {
	return slices.DeleteFunc(namesOf(specs()), func(name string) bool { return name == nameUnscraped })
}

// besideHAProxy names the candidates that are compared with HAProxy alone.
func besideHAProxy() []string {
	return []string{nameDirect, nameHAProxy, nameHAProxyAA, nameHAProxy1, nameSidecar}
}

func namesOf(specs []spec) []string {
	var names []string
	for _, s := range specs {
		names = append(names, s.name)
	}
	return names
}

// specs returns the candidates that can be asked for.
func (o *options) specs() []spec {
	if o.cmd == cmdTLS {
		return tlsSpecs()
	}
	return specs()
}

// candidate is one running competitor.
type candidate struct {
	spec

	addr    topology.Addr // where clients connect
	metrics string        // URL to scrape, "" for none
	proc    *process      // nil for direct
	before  int64         // bytes resident before the first run
}

// start runs the candidate and returns when it answers. A port that was taken
// between choosing and listening is replaced by another.
func (s spec) start(ctx context.Context, l *lab) (*candidate, error) {
	if s.prepare == nil {
		return &candidate{spec: s, addr: l.masterAddr()}, nil
	}
	var lastErr error
	for range portTries {
		c, err := s.tryStart(ctx, l)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, errEndedEarly) || ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		lastErr = err
	}
	return nil, fmt.Errorf("%s: %w", s.name, lastErr)
}

func (s spec) tryStart(ctx context.Context, l *lab) (*candidate, error) {
	listen, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	adminAddr, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	args, err := s.prepare(l, s.name, listen, adminAddr)
	if err != nil {
		return nil, err
	}
	path := l.sidecar
	if s.program != "" {
		if path, err = findProgram(s.program); err != nil {
			return nil, err
		}
	}
	p, err := startProcess(l.dir, s.name, path, args...)
	if err != nil {
		return nil, err
	}
	c := &candidate{spec: s, addr: listen, proc: p}
	if s.name == nameSidecar && l.options.scrapes() {
		c.metrics = "http://" + string(adminAddr) + "/metrics"
	}
	if err := p.waitReady(ctx, listen, l.tls.clientConfig()); err != nil {
		p.stop()
		return nil, err
	}
	return c, nil
}

// stop ends the candidate's process, if it has one.
func (c *candidate) stop() {
	if c.proc != nil {
		c.proc.stop()
	}
}

// haproxyConfig is the recipe every guide to Redis Sentinel behind HAProxy
// gives: whoever says role:master is the backend.
const haproxyConfig = `global
    maxconn %[1]d
    %[2]s
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
frontend redis
    bind %[3]s%[4]s
    default_backend master
backend master
    option tcp-check
    tcp-check connect
    tcp-check send PING\r\n
    tcp-check expect string +PONG
    tcp-check send info\ replication\r\n
    tcp-check expect string role:master
    tcp-check send QUIT\r\n
    tcp-check expect string +OK
`

// haproxyMaxConn returns the maxconn line's number: enough for the idle test,
// but HAProxy needs two descriptors for each connection and a few more, and
// refuses to start where it cannot have them.
func haproxyMaxConn(fileLimit uint64) uint64 {
	const most, others = 12_000, 200
	return min(most, (fileLimit-others)/2)
}

func haproxyArgs(global string) func(*lab, string, topology.Addr, topology.Addr) ([]string, error) {
	return func(l *lab, name string, listen, _ topology.Addr) ([]string, error) {
		var b strings.Builder
		bind := ""
		if l.tls != nil {
			bind = " ssl crt " + l.tls.bundle
		}
		fmt.Fprintf(&b, haproxyConfig, haproxyMaxConn(l.files), global, listen, bind)
		for i, node := range l.group.Nodes() {
			fmt.Fprintf(&b, "    server redis%d %s check inter 1s\n", i+1, node.Addr())
		}
		path := filepath.Join(l.dir, name+".cfg")
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			return nil, err
		}
		return []string{"-db", "-f", path}, nil
	}
}

const twemproxyConfig = `redis:
  listen: %s
  redis: true
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  servers:
    - %s:1
`

func twemproxyArgs(l *lab, name string, listen, stats topology.Addr) ([]string, error) {
	path := filepath.Join(l.dir, name+".yml")
	if err := os.WriteFile(path, fmt.Appendf(nil, twemproxyConfig, listen, l.masterAddr()), 0o600); err != nil {
		return nil, err
	}
	host, port := stats.Split()
	return []string{"-c", path, "-a", host, "-s", fmt.Sprint(port)}, nil
}

func sidecarArgs(l *lab, _ string, listen, adminAddr topology.Addr) ([]string, error) {
	return expandArgs(l.options.proxyArgs, map[string]string{
		"{listen}": string(listen),
		"{admin}":  string(adminAddr),
		"{master}": l.group.Name(),
		"{redis}":  string(l.masterAddr()),
	}, l.group.SentinelAddrs()), nil
}

// expandArgs fills in the placeholders of --proxy-args. An argument that is
// {sentinels} becomes --sentinel ADDR for each of them.
func expandArgs(args []string, values map[string]string, sentinels []topology.Addr) []string {
	var out []string
	for _, arg := range args {
		if arg == "{sentinels}" {
			for _, s := range sentinels {
				out = append(out, "--sentinel", string(s))
			}
			continue
		}
		for placeholder, value := range values {
			arg = strings.ReplaceAll(arg, placeholder, value)
		}
		out = append(out, arg)
	}
	return out
}

// buildSidecar builds the program the README tells people to build.
func buildSidecar(ctx context.Context, root, dir string) (string, error) {
	path := filepath.Join(dir, "sentinelproxy")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/sentinelproxy")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/sentinelproxy: %w: %s", err, out)
	}
	return path, nil
}
