package drill

import (
	"fmt"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// maxBehind is how far a replica may be behind for a drill.
const maxBehind = time.Second

// memoryShare is how much of maxmemory a drill may leave used.
const memoryShare = 0.95

// guard collects what speaks against a drill.
type guard struct {
	f   Facts
	r   Remote
	p   Plan
	out []string
}

// Findings returns what speaks against drilling p, each with what to change;
// nothing if nothing does.
func (f Facts) Findings(p Plan, r Remote) []string {
	g := &guard{f: f, r: r, p: p}
	g.sentinels()
	g.nodes()
	g.candidates()
	g.memory()
	g.sidecar()
	g.kind()
	return g.out
}

func (g *guard) find(format string, args ...any) { g.out = append(g.out, fmt.Sprintf(format, args...)) }

// sentinels checks that a failover can be led, and that none is.
func (g *guard) sentinels() {
	answering, fit := 0, 0
	for _, s := range g.f.Sentinels {
		if s.Err != "" {
			g.find("Sentinel %s: %s: make it reachable from here, or remove it with SENTINEL RESET", s.Addr, s.Err)
			continue
		}
		answering++
		switch {
		case s.Quorum != "":
			g.find("Sentinel %s: SENTINEL CKQUORUM: %s: start the Sentinels that are down", s.Addr, s.Quorum)
		case s.Tilt:
			g.find("Sentinel %s is in TILT mode: wait until it has left it (30s), and look at its clock", s.Addr)
		default:
			fit++
		}
		if s.FailoverState != "" && s.FailoverState != "none" || strings.Contains(s.Flags, "failover_in_progress") {
			g.find("Sentinel %s leads a failover (%s): wait until it is over", s.Addr, s.FailoverState)
		}
		if strings.Contains(s.Flags, "s_down") || strings.Contains(s.Flags, "o_down") {
			g.find("Sentinel %s calls the master down (%s): bring it back first", s.Addr, s.Flags)
		}
	}
	if 2*fit <= g.f.Known {
		g.find("%d of %d known Sentinels answer and have a quorum: want a majority", fit, g.f.Known)
	}
	master, epoch, support := g.f.majority()
	switch {
	case answering == 0:
	case 2*support <= g.f.Known:
		g.find("%d of %d known Sentinels name the same master (%s) at the same epoch (%d): want a majority; "+
			"wait until the last failover has reached them all", support, g.f.Known, master, epoch)
	case support < answering:
		g.find("%d of %d answering Sentinels name another master than %s or another epoch than %d: wait until they agree",
			answering-support, answering, master, epoch)
	}
}

// nodes checks that every node answers and does what the Sentinels think.
func (g *guard) nodes() {
	master := g.f.Master()
	for _, n := range g.f.Nodes {
		switch {
		case n.Err != "":
			g.find("node %s: %s: make it reachable from here with the account of --redis-user; it needs INFO and ROLE", n.Addr, n.Err)
		case n.Loading:
			g.find("node %s is loading its data: wait", n.Addr)
		case master != "" && n.Addr != master && n.Role != topology.RoleReplica:
			g.find("node %s is listed as a replica and says that it is %s: is it of another group? SENTINEL RESET forgets it; else wait", n.Addr, n.Role)
		case n.Addr == master && n.Role != topology.RoleMaster:
			g.find("node %s is named master and says that it is %s: wait until the Sentinels have put that right", n.Addr, n.Role)
		}
	}
}

// candidates checks that a replica is fit to be promoted.
func (g *guard) candidates() {
	var unfit []string
	for _, n := range g.f.replicas() {
		var why string
		switch {
		case n.Role != topology.RoleReplica:
			why = "it is not a replica"
		case !n.LinkUp:
			why = "its link to the master is down"
		case n.Priority == 0:
			why = "its replica-priority is 0"
		case n.Behind < 0:
			why = fmt.Sprintf("it has not read in %v what the master had written", lagPatience)
		case n.Behind > maxBehind:
			why = fmt.Sprintf("it is %v behind", n.Behind.Round(time.Millisecond))
		default:
			why = g.distrusted(n)
		}
		if why == "" {
			return
		}
		unfit = append(unfit, fmt.Sprintf("%s: %s", n.Addr, why))
	}
	if len(unfit) == 0 {
		g.find("no replica answers: start one that could be promoted")
		return
	}
	g.find("no replica could be promoted (%s): want one with its link up, a priority above 0, and less than %v behind",
		strings.Join(unfit, "; "), maxBehind)
}

// distrusted says why Sentinels would not promote n, or "".
func (g *guard) distrusted(n NodeFact) string {
	for _, s := range g.f.Sentinels {
		for _, r := range s.Replicas {
			switch {
			case r.Addr != n.Addr:
			case strings.Contains(r.Flags, "down") || strings.Contains(r.Flags, "disconnected"):
				return fmt.Sprintf("Sentinel %s says %s", s.Addr, r.Flags)
			case !r.LinkUp:
				return fmt.Sprintf("Sentinel %s says that its link is down", s.Addr)
			}
		}
	}
	return ""
}

// memory checks that every node has room for what the workload writes.
func (g *guard) memory() {
	for _, n := range g.f.Nodes {
		if n.Err != "" || n.Limit == 0 || float64(n.Used+g.f.Writes) < memoryShare*float64(n.Limit) {
			continue
		}
		what := "keys of others would be evicted"
		if n.Evicts == "noeviction" {
			what = "everyone's writes would be refused"
		}
		g.find("node %s uses %s of %s, and the drill may write %s: %s (maxmemory-policy %s); raise maxmemory, or use fewer --clients or a longer --pace",
			n.Addr, inBytes(n.Used), inBytes(n.Limit), inBytes(g.f.Writes), what, n.Evicts)
	}
}

// sidecar checks that clients are served by the right node, and may do what they
// must.
func (g *guard) sidecar() {
	s := g.f.Sidecar
	if s.Err != "" {
		g.find("the sidecar at %s: %s: start it, or name where clients connect with --via", s.Addr, s.Err)
		return
	}
	if master := g.f.Master(); master != "" && s.Serves != master {
		whom := "a node that is none of the group"
		if s.Serves != "" {
			whom = string(s.Serves)
		}
		g.find("the sidecar at %s serves %s, and the Sentinels name %s: is it for the master %q? Else wait", s.Addr, whom, master, g.f.Group)
	}
	for _, what := range s.Refused {
		g.find("the workload's account may not do all that it must: %s; give it the rights in docs/drills.md, or another account with --client-user", what)
	}
	if s.Status != nil && !s.Status.Ready {
		g.find("the sidecar is not ready: %s", s.Status.Reason)
	}
}

// kind checks what the plan itself needs.
func (g *guard) kind() {
	if g.p.Kind == KindSentinelLoss || g.p.Kind == KindLeaderLoss {
		for _, s := range g.f.Sentinels {
			if s.Err == "" && s.Masters > 1 {
				g.find("Sentinel %s watches %d masters, and %s would leave all of them without it: drill where the Sentinels are for this group alone",
					s.Addr, s.Masters, g.p.Kind)
			}
		}
	}
	n, ok := g.f.node(g.f.Master())
	if !ok || n.Err != "" {
		return
	}
	if g.p.Kind == KindOutage {
		for _, r := range g.f.replicas() {
			if r.Debug != "" {
				n = r // one refusal is enough to say
			}
		}
	}
	if g.p.Needs.Debug && n.Debug != "" {
		g.find("DEBUG SLEEP is refused by %s (%s): set enable-debug-command to yes, or local if the drill runs there, and restart the nodes; "+
			"the account needs +debug", n.Addr, n.Debug)
	}
	if g.p.Needs.Disk && !n.KeepsAll && !g.r.RiskData {
		g.find("the master %s has no append-only file: restarted within down-after it comes back with less data, its replicas copy that, "+
			"and the rest is lost; set appendonly to yes, or say --risk-data where that does not matter", n.Addr)
	}
}
