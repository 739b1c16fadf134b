package sentineltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/match"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const noSuchMaster = "ERR No such master with that name"

// sentinel answers SENTINEL and its subcommands.
func (s *Sentinel) sentinel(r *reply, args []string) {
	if len(args) < 2 {
		r.wrongArity("sentinel")
		return
	}
	sub := upper(args[1])
	switch sub {
	case "MYID", "MASTERS":
		if len(args) != 2 {
			r.wrongArity("sentinel|" + strings.ToLower(sub))
			return
		}
	case "GET-MASTER-ADDR-BY-NAME", "MASTER", "REPLICAS", "SLAVES", "SENTINELS", "CKQUORUM", "FAILOVER", "RESET":
		if len(args) != 3 {
			r.wrongArity("sentinel|" + strings.ToLower(sub))
			return
		}
	default:
		s.log.Warn("unknown command", "command", "SENTINEL "+sub, "sentinel", s.Addr())
		r.unknownSub("SENTINEL", args[1])
		return
	}
	if sub == "FAILOVER" && args[2] == s.g.o.Name {
		s.failover(r)
		return
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	switch sub {
	case "MYID":
		r.bulk(s.runID)
		return
	case "MASTERS":
		r.array(1)
		r.pairs(s.masterFields()...)
		return
	case "RESET":
		s.reset(r, args[2])
		return
	}
	known := args[2] == s.g.o.Name
	switch {
	case !known && sub == "GET-MASTER-ADDR-BY-NAME":
		r.nullArray()
	case !known:
		r.err(noSuchMaster)
	case sub == "GET-MASTER-ADDR-BY-NAME":
		host, port := s.view.master.Split()
		r.array(2)
		r.bulk(host)
		r.bulk(strconv.Itoa(port))
	case sub == "MASTER":
		r.pairs(s.masterFields()...)
	case sub == "CKQUORUM":
		s.ckquorum(r)
	case sub == "SENTINELS":
		r.array(len(s.g.sentinels) - 1)
		for _, other := range s.g.sentinels {
			if other != s {
				r.pairs(s.sentinelFields(other)...)
			}
		}
	default: // REPLICAS, SLAVES
		list := s.replicas()
		r.array(len(list))
		for _, n := range list {
			r.pairs(s.replicaFields(n)...)
		}
	}
}

// failover answers SENTINEL FAILOVER: it begins one, and does not wait for it.
func (s *Sentinel) failover(r *reply) {
	f, err := s.g.begin(s, "", true)
	switch {
	case errors.Is(err, ErrInProgress):
		r.err("INPROG Failover already in progress")
	case err != nil:
		r.err("NOGOODSLAVE No suitable replica to promote")
	default:
		s.g.spawn(func(ctx context.Context) {
			if err := f.perform(ctx); err != nil {
				s.g.log.Warn("failover failed", "err", err)
			}
		})
		r.simple("OK")
	}
}

// reset answers SENTINEL RESET: the Sentinel forgets who is down. The list of
// nodes and Sentinels stays, as if they were found again at once.
func (s *Sentinel) reset(r *reply, pattern string) {
	if !match.Match(s.g.o.Name, pattern) {
		r.integer(0)
		return
	}
	s.view.set(s.view.master, s.view.config)
	s.emit("+reset-master", s.masterPayload(s.view.master))
	r.integer(1)
}

func (s *Sentinel) ckquorum(r *reply) {
	usable := len(s.g.sentinels) - len(s.view.lost)
	var lacks []string
	if usable < s.g.o.Quorum {
		lacks = append(lacks, "Not enough available Sentinels to reach the specified quorum for this master")
	}
	if usable < s.g.majority() {
		lacks = append(lacks, "Not enough available Sentinels to reach the majority and authorize a failover")
	}
	if len(lacks) > 0 {
		r.err(fmt.Sprintf("NOQUORUM %d usable Sentinels. %s", usable, strings.Join(lacks, ". ")))
		return
	}
	r.simple(fmt.Sprintf("OK %d usable Sentinels. Quorum and failover authorization can be reached", usable))
}

func (g *Group) majority() int { return len(g.sentinels)/2 + 1 }

// replicas are all nodes but the one that SENTINEL MASTER shows.
func (s *Sentinel) replicas() []*Node {
	var list []*Node
	for _, n := range s.g.nodes {
		if n.Addr() != s.view.listed {
			list = append(list, n)
		}
	}
	return list
}

func (s *Sentinel) masterFields() []string {
	v := &s.view
	n := s.g.Node(v.listed)
	flags := s.flags(n, "master", v.listed)
	if v.state != "" {
		flags += ",failover_in_progress"
	}
	if v.forced {
		flags += ",force_failover"
	}
	f := s.instanceFields(instance{name: s.g.o.Name, addr: v.listed, runID: runID(n), flags: flags, state: v.state})
	if !v.odown.IsZero() {
		f = append(f, "o-down-time", millis(v.odown))
	}
	f = append(f, s.downAfter()...)
	f = append(f, roleFields(n, "master", v.since)...)
	return append(f,
		"config-epoch", itoa(v.config),
		"num-slaves", itoa(len(s.replicas())),
		"num-other-sentinels", itoa(len(s.g.sentinels)-1),
		"quorum", itoa(s.g.o.Quorum),
		"failover-timeout", "180000",
		"parallel-syncs", "1")
}

func (s *Sentinel) replicaFields(n *Node) []string {
	v := &s.view
	addr := n.Addr()
	flags := s.flags(n, "slave", addr)
	switch {
	case addr == v.promoted:
		flags += ",promoted"
	case v.reconf != "" && n.Alive():
		flags += "," + v.reconf
	}
	st := n.state.Load()
	host, port := st.master.Split()
	link, down := "ok", "0"
	if !n.linked() {
		link = "err"
	}
	if st.role == topology.RoleMaster {
		host = "?"
	}
	f := s.instanceFields(instance{name: string(addr), addr: addr, runID: n.runID, flags: flags})
	f = append(f, s.downAfter()...)
	f = append(f, roleFields(n, "slave", v.since)...)
	return append(f,
		"master-link-down-time", down,
		"master-link-status", link,
		"master-host", host,
		"master-port", itoa(port),
		"slave-priority", "100",
		"slave-repl-offset", itoa(st.data.offset.Load()),
		"replica-announced", "1")
}

func (s *Sentinel) sentinelFields(other *Sentinel) []string {
	flags := "sentinel"
	if _, lost := s.view.lost[other.index]; lost {
		flags = "s_down,sentinel,disconnected"
	}
	voted, epoch := other.view.votedFor, other.view.votedEpoch
	f := s.instanceFields(instance{name: other.runID, addr: other.Addr(), runID: other.runID, flags: flags})
	f = append(f, s.downAfter()...)
	return append(f,
		"last-hello-message", "500",
		"voted-leader", voted,
		"voted-leader-epoch", itoa(epoch))
}

// instance is what the three lists have in common.
type instance struct {
	name, runID, flags string
	addr               topology.Addr
	state              string // failover-state, left out if empty
}

func (s *Sentinel) instanceFields(in instance) []string {
	host, port := in.addr.Split()
	f := []string{
		"name", in.name, "ip", host, "port", itoa(port), "runid", in.runID, "flags", in.flags,
		"link-pending-commands", "0", "link-refcount", "1",
	}
	if in.state != "" {
		f = append(f, "failover-state", in.state)
	}
	f = append(f, "last-ping-sent", "0", "last-ok-ping-reply", "100", "last-ping-reply", "100")
	if at, down := s.view.sdown[in.addr]; down {
		f = append(f, "s-down-time", millis(at))
	}
	return f
}

func (s *Sentinel) downAfter() []string {
	return []string{"down-after-milliseconds", itoa(s.g.o.DownAfter.Milliseconds())}
}

// roleFields say what a node last reported; expected stands in for one that the
// group does not have.
func roleFields(n *Node, expected string, since time.Time) []string {
	role := expected
	switch {
	case n == nil:
	case n.Role() == topology.RoleMaster:
		role = "master"
	default:
		role = "slave"
	}
	return []string{"info-refresh", "500", "role-reported", role, "role-reported-time", millis(since)}
}

func runID(n *Node) string {
	if n == nil {
		return ""
	}
	return n.runID
}

// flags are what a list shows of a node, in Sentinel's order. A killed node is
// disconnected at once, and down later.
func (s *Sentinel) flags(n *Node, kind string, addr topology.Addr) string {
	flags := kind
	if n == nil || !n.Alive() {
		flags += ",disconnected"
	}
	if addr == s.view.listed && !s.view.odown.IsZero() {
		flags = "o_down," + flags
	}
	if _, down := s.view.sdown[addr]; down {
		flags = "s_down," + flags
	}
	return flags
}

func millis(since time.Time) string { return itoa(time.Since(since).Milliseconds()) }

// info answers INFO with the sections that followers of a Sentinel read.
func (s *Sentinel) info(r *reply, args []string) {
	var b strings.Builder
	if wantsSection(args[1:], "server") {
		_, port := s.Addr().Split()
		fmt.Fprintf(&b, "# Server\r\nredis_version:%s\r\nredis_mode:sentinel\r\nprocess_id:%d\r\nrun_id:%s\r\ntcp_port:%d\r\n", version, os.Getpid(), s.runID, port)
	}
	if wantsSection(args[1:], "sentinel") {
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(s.infoSentinel())
	}
	r.bulk(b.String()) // not verbatim in RESP3, unlike a data node's
}

func (s *Sentinel) infoSentinel() string {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	status := "ok"
	if _, down := s.view.sdown[s.view.listed]; down {
		status = "sdown"
	}
	if !s.view.odown.IsZero() {
		status = "odown"
	}
	return fmt.Sprintf("# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\nsentinel_running_scripts:0\r\n"+
		"sentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\nmaster0:name=%s,status=%s,address=%s,slaves=%d,sentinels=%d\r\n",
		s.g.o.Name, status, s.view.master, len(s.replicas()), len(s.g.sentinels))
}
