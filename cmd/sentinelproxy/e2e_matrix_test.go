package main

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// Programs of three client libraries reach one sidecar in every way that there is,
// and a failover passes through all of them at once: none sees an error, none loses
// or repeats an acknowledged write, no connection ends, messages and queues go on, and
// no cache serves what was replaced. Those in Sentinel mode are configured as their
// libraries mean it, and pointed at the endpoint.
//
// Where somebody was late in the failover some may be told -UNCERTAIN, and what was
// acknowledged before the sidecar heard of it may be lost, as in unharmed: then there is one
// more, of programs with keys of their own.
func TestClientsThroughFailover(t *testing.T) {
	g := quickGroup(t, redistest.Options{})
	ca := certtest.MustCA(t)
	f := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{}))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	secure, socket, sentinel := freeAddr(t), filepath.Join(t.TempDir(), "s"), freeAddr(t)
	s := startRun(t, g, patiently("--listen", "tls://"+secure, "--tls-cert-file", f.Cert, "--tls-key-file", f.Key,
		"--listen", "unix:"+socket, "--sentinel-listen", sentinel)...)
	ways := func() []*way {
		return []*way{
			{name: "plain", network: "tcp", addr: s.addr},
			{name: "tls", network: "tcp", addr: secure, tls: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}},
			{name: "unix", network: "unix", addr: socket},
			{name: "sentinel", network: "tcp", sentinel: sentinel, master: g.Name()},
		}
	}
	strain := g.WatchStrain(t)
	first, told := clientsThroughFailover(t, g, s, "", ways)
	if len(told) > 0 && first.late(strain) > disturbed {
		t.Logf("somebody was %v late, and clients were told %v: again", first.late(strain), told)
		_, told = clientsThroughFailover(t, g, s, "again/", ways)
	}
	for _, err := range told {
		t.Error(err)
	}
}

// clientsThroughFailover runs the programs through one failover and checks them. It returns
// what was told that may be for lateness. A program that was told so has no more to say.
func clientsThroughFailover(
	t *testing.T, g *redistest.Group, s *started, prefix string, ways func() []*way,
) (f ordered, told []error) {
	t.Helper()
	const uncertain = `sentinelproxy_uncertain_replies_total{master_name="mymaster"}`
	uncertainBefore := metric(t, s.admin, uncertain)
	var mu sync.Mutex // guards told
	fail := func(err error) {
		if !mayBeLate(err) {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		told = append(told, err)
	}
	var programs []*program
	for _, lib := range []struct {
		name string
		make func(testing.TB, *way) library
	}{{"go-redis", newGoRedis}, {"rueidis", newRueidis}, {"redigo", newRedigo}} {
		for _, w := range ways() {
			programs = append(programs, startProgram(t, prefix+lib.name+"/"+w.name, w, lib.make, fail))
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
	f = failOver(t, g, watch)
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
		if !p.failed() {
			p.check(master)
		}
		t.Log(p)
	}
	if n := metric(t, s.admin, uncertain) - uncertainBefore; n > 0 && len(told) == 0 {
		t.Errorf("%v replies were uncertain", n)
	}
	return f, told
}
