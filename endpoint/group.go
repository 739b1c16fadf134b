package endpoint

import (
	"crypto/sha1" // for an id of Redis' shape, no secret
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What a Sentinel has by default and the sidecar does not learn.
const (
	failoverTimeout = 180 * time.Second
	parallelSyncs   = 1
)

// group is one master: what is fixed, and what the others last said of it.
type group struct {
	Master

	id    string        // where Redis shows the master's run id; it outlives failovers, since for a client nothing changed
	since time.Duration // when we began, since boot
	now   func() time.Duration

	observed atomic.Pointer[topology.Observation] // nil until the first
	route    atomic.Pointer[topology.Route]       // nil until the first
}

// fields are what SENTINEL MASTER shows at host:port, in Sentinel's order. The
// master that a client sees is the sidecar, which is up: during a failover it holds
// commands, and clients that saw a down flag here would give up instead.
func (g *group) fields(host string, port int) []string {
	var epoch uint64
	if r := g.route.Load(); r != nil {
		epoch = r.Epoch
	}
	quorum, downAfter := 0, time.Duration(0)
	if o := g.observed.Load(); o != nil {
		quorum, downAfter = quorumOf(o), o.DownAfter
	}
	return []string{
		"name", g.Name, "ip", host, "port", itoa(port), "runid", g.id, "flags", "master",
		"link-pending-commands", "0", "link-refcount", "1",
		"last-ping-sent", "0", "last-ok-ping-reply", "0", "last-ping-reply", "0",
		"down-after-milliseconds", itoa(downAfter.Milliseconds()),
		"info-refresh", "0",
		"role-reported", "master", "role-reported-time", itoa((g.now() - g.since).Milliseconds()),
		"config-epoch", itoa(epoch),
		"num-slaves", "0", "num-other-sentinels", "0",
		"quorum", itoa(quorum),
		"failover-timeout", itoa(failoverTimeout.Milliseconds()),
		"parallel-syncs", itoa(parallelSyncs),
	}
}

// quorumOf is the most that any Sentinel asks for.
func quorumOf(o *topology.Observation) int {
	q := 0
	for _, v := range o.Views {
		if v.Up {
			q = max(q, v.Quorum)
		}
	}
	return q
}

// ckquorum says whether the real Sentinels could fail the master over, in
// Sentinel's words. ok is false for those of an error.
func (g *group) ckquorum() (text string, ok bool) {
	o := g.observed.Load()
	if o == nil {
		o = &topology.Observation{}
	}
	usable := 0
	for _, v := range o.Views {
		if v.Up && v.Master != "" {
			usable++
		}
	}
	var lacks []string
	if usable == 0 || usable < quorumOf(o) {
		lacks = append(lacks, "Not enough available Sentinels to reach the specified quorum for this master")
	}
	if usable < o.Known/2+1 {
		lacks = append(lacks, "Not enough available Sentinels to reach the majority and authorize a failover")
	}
	if len(lacks) > 0 {
		return fmt.Sprintf("NOQUORUM %d usable Sentinels. %s", usable, strings.Join(lacks, ". ")), false
	}
	return fmt.Sprintf("OK %d usable Sentinels. Quorum and failover authorization can be reached", usable), true
}

// directory is all that sessions know of the world. Everything in it is fixed but
// for what groups were told last.
type directory struct {
	id     string // MYID and run_id: forty hexadecimal digits
	port   int    // where we listen
	groups []*group
	now    func() time.Duration // since boot
	since  time.Duration
}

// find returns the group of that name, or nil.
func (d *directory) find(name string) *group {
	for _, g := range d.groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// names returns every master's name, in order of the configuration.
func (d *directory) names() []string {
	names := make([]string, len(d.groups))
	for i, g := range d.groups {
		names[i] = g.Name
	}
	return names
}

// located is a group that a client can be sent to.
type located struct {
	*group

	host string
	port int
}

// located returns the groups that a client which reached us at local can be sent to.
func (d *directory) located(local netip.Addr) []located {
	var list []located
	for _, g := range d.groups {
		if host, port, ok := g.address(local); ok {
			list = append(list, located{g, host, port})
		}
	}
	return list
}

// idOf makes forty hexadecimal digits of words, always the same ones.
func idOf(words ...string) string {
	sum := sha1.Sum([]byte(strings.Join(words, "\n")))
	return hex.EncodeToString(sum[:])
}
