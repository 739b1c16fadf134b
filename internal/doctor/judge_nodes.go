package doctor

import (
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Lags from which a replica counts as behind.
const (
	lagBytes   = 16 << 20
	lagSeconds = 10
)

// node returns what is known of one; a zero Node if nothing is.
func (f Facts) node(a topology.Addr) Node {
	for _, n := range f.Nodes {
		if n.Addr == a {
			return n
		}
	}
	return Node{}
}

// replicas are those that a Sentinel lists beside master: down if most of those who list
// it say so.
func (f Facts) replicas(master topology.Addr) map[topology.Addr]Entry {
	all := make(map[topology.Addr]Entry)
	votes := make(map[topology.Addr]int)
	for _, s := range f.answering() {
		if s.Master != master {
			continue
		}
		for _, r := range s.Replicas {
			if r.Addr == "" || r.Addr == master {
				continue
			}
			if r.Down {
				votes[r.Addr]++
			} else {
				votes[r.Addr]--
			}
			all[r.Addr] = Entry{r.Addr, votes[r.Addr] > 0, r.Priority}
		}
	}
	return all
}

// judgeNodes looks at the master and its replicas, as the Sentinels announce them.
func judgeNodes(n *notes, _ config.Master, f Facts) {
	addr, _ := f.agreed()
	if addr == "" {
		return
	}
	master := f.node(addr)
	switch {
	case master.Err != "":
		judgeUnreachable(n, f, Error, "master-unreachable", addr, master.Err)
	case master.Role == topology.RoleReplica:
		n.add(Error, "master-role", string(addr), "wait if a failover is under way; else look at the Sentinels' logs", "the Sentinels name it master, and it says that it is a replica of %s", master.Master)
	}
	replicas := f.replicas(addr)
	if len(replicas) == 0 {
		n.add(Error, "replicas", "", "add replicas", "%s has no replica: nothing can be promoted", addr)
		return
	}
	usable, zero := 0, 0
	for _, a := range sortedKeys(replicas) {
		if replicas[a].Priority == 0 {
			zero++
		}
		if judgeReplica(n, f, master, replicas[a]) && replicas[a].Priority > 0 {
			usable++
		}
	}
	switch {
	case zero == len(replicas):
		n.add(Error, "replica-priority", "", "CONFIG SET replica-priority 100 on those that may become master", "replica-priority is 0 on all %d replicas: none is ever promoted", zero)
	case usable == 0:
		n.add(Error, "replicas", "", "see the findings about each", "none of %d replicas could be promoted now", len(replicas))
	case zero > 0:
		n.add(Info, "replica-priority", "", "", "replica-priority is 0 on %d of %d replicas: those are never promoted", zero, len(replicas))
	}
}

func judgeUnreachable(n *notes, f Facts, s Severity, check string, a topology.Addr, err string) {
	if loopback(a) {
		for _, sentinel := range f.answering() {
			if !loopback(sentinel.Addr) {
				n.add(Error, "announce-loopback", string(a), "replica-announce-ip on the node, and SENTINEL MONITOR with an address that everybody can reach", "the Sentinels announce an address of loopback: nobody on another machine can reach it (%s)", err)
				return
			}
		}
	}
	remedy := "replica-announce-ip, NAT, network policies, or start it"
	switch {
	case strings.Contains(err, "DENIED"):
		remedy = "protected-mode no with a password or ACL, or bind the address that is announced"
	case strings.HasPrefix(err, "WRONGPASS"), strings.HasPrefix(err, "NOAUTH"):
		remedy = "redis.user and redis.password_file; without an account the sidecar trusts a majority of the Sentinels for the role"
		if strings.HasPrefix(err, "NOAUTH") {
			s = min(s, Warning)
		}
	case strings.HasPrefix(err, "LOADING"):
		remedy = "wait until it has loaded its data"
	}
	n.add(s, check, string(a), remedy, "as the Sentinels announce it, it can't be used from here: %s", err)
}

// judgeReplica reports whether a replica could be promoted now.
func judgeReplica(n *notes, f Facts, master Node, e Entry) bool {
	node := f.node(e.Addr)
	subject := string(e.Addr)
	switch {
	case node.Err != "" && e.Down:
		n.add(Warning, "replica-down", subject, "start it; if it is gone for good, SENTINEL RESET the master's name on each Sentinel, one after the other", "the Sentinels call it down, and it does not answer: %s", node.Err)
		return false
	case node.Err != "":
		judgeUnreachable(n, f, Error, "replica-unreachable", e.Addr, node.Err)
		return true // the Sentinels would: that is what is wrong
	case node.Role == topology.RoleMaster:
		n.add(Error, "two-masters", subject, "wait some 10 s after a failover; else REPLICAOF it to the master", "it says that it is a master, beside %s", master.Addr)
		return false
	case node.Role == topology.RoleUnknown:
		return !e.Down
	case node.Master != master.Addr && master.Addr != "":
		n.add(Warning, "replica-of", subject, "wait if a failover was a moment ago; else REPLICAOF it to the master", "it follows %s and not %s", node.Master, master.Addr)
	}
	if !node.LinkUp {
		n.add(Warning, "replica-link", subject, "look at its log", "its link to the master is down: it misses what is written")
		return false
	}
	if behind := master.Offset - node.Offset; master.Role == topology.RoleMaster && behind > lagBytes {
		n.add(Warning, "replica-lag", subject, "look at its load and at the network", "it is %d MiB behind the master: so much is lost if it is promoted", behind>>20)
	}
	for _, l := range master.Lags {
		if l.Addr == e.Addr && l.Seconds > lagSeconds {
			n.add(Warning, "replica-lag", subject, "look at its load and at the network", "the master has not heard from it for %d s", l.Seconds)
		}
	}
	return !e.Down
}
