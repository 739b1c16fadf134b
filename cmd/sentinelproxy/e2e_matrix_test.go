package main

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// Programs of three client libraries reach one sidecar in every way that there is,
// and a failover passes through all of them at once: none sees an error, none loses
// or repeats an acknowledged write, no connection ends, messages and queues go on, and
// no cache serves what was replaced. Those in Sentinel mode are configured as their
// libraries mean it, and pointed at the endpoint.
func TestClientsThroughFailover(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	ca := certtest.MustCA(t)
	f := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{}))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	secure, socket, sentinel := freeAddr(t), filepath.Join(t.TempDir(), "s"), freeAddr(t)
	s := startRun(t, g, "--listen", "tls://"+secure, "--tls-cert-file", f.Cert, "--tls-key-file", f.Key,
		"--listen", "unix:"+socket, "--sentinel-listen", sentinel)
	var programs []*program
	for _, lib := range []struct {
		name string
		make func(testing.TB, *way) library
	}{{"go-redis", newGoRedis}, {"rueidis", newRueidis}, {"redigo", newRedigo}} {
		for _, w := range []*way{
			{name: "plain", network: "tcp", addr: s.addr},
			{name: "tls", network: "tcp", addr: secure, tls: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}},
			{name: "unix", network: "unix", addr: socket},
			{name: "sentinel", network: "tcp", sentinel: sentinel, master: g.Name()},
		} {
			programs = append(programs, startProgram(t, lib.name+"/"+w.name, w, lib.make))
		}
	}
	waitRounds(t, programs, 20)
	old := stable(t, g)
	ended, flushed := make(map[*program]int64), make(map[*program]int64)
	for _, p := range programs {
		ended[p] = p.way.ended.Load()
		if p.lib.flushed != nil {
			flushed[p] = p.lib.flushed.Load()
		}
	}
	watch := watchMajority(t, g, old)
	if err := g.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.result(t)
	watch.end()
	waitRounds(t, programs, 20)
	for _, p := range programs {
		if n := p.way.ended.Load() - ended[p]; n != 0 {
			t.Errorf("%s: %d connections ended; want none", p.name, n)
		}
		if p.lib.flushed != nil && p.lib.flushed.Load() == flushed[p] {
			t.Errorf("%s: the failover did not flush the cache", p.name)
		}
		p.stop()
	}
	master := stable(t, g)
	if master.Addr() == old.Addr() {
		t.Error("there was no failover")
	}
	for _, p := range programs {
		p.finish()
		p.check(master)
		t.Log(p)
	}
	if _, body := get(t, addrOf(s.admin), "/metrics"); !strings.Contains(body, "sentinelproxy_uncertain_replies_total{master_name=\""+g.Name()+"\"} 0") {
		t.Error("replies were uncertain")
	}
}
