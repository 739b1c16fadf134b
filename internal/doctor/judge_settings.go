package doctor

import (
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// judgeSettings looks at what the nodes' own configuration means for us. Each may be the
// master one day.
func judgeSettings(n *notes, m config.Master, f Facts) {
	addr, _ := f.agreed()
	count := len(f.replicas(addr))
	versions := make(map[string]bool)
	for _, node := range f.Nodes {
		if node.Err != "" {
			continue
		}
		if node.Version != "" {
			versions[node.Version] = true
		}
		judgeMinReplicas(n, node, addr, count)
		judgeClients(n, m, node)
		subject := string(node.Addr)
		if node.Role == topology.RoleReplica && node.Config["replica-read-only"] == "no" {
			n.add(Warning, "replica-read-only", subject, "CONFIG SET replica-read-only yes", "it is a replica that takes writes, which are lost")
		}
		if v := number(node.Config["timeout"]); v > 0 {
			n.add(Info, "timeout", subject, "", "it closes connections that are idle for %d s, also those that the sidecar keeps ready", v)
		}
	}
	if len(versions) > 1 {
		n.add(Warning, "versions", "", "bring all nodes to one version", "the nodes run %d versions of Redis: an older one may not read what a newer one sends", len(versions))
	}
}

// judgeMinReplicas looks at min-replicas-to-write, now and after a failover, when the old
// master is missing among the replicas.
func judgeMinReplicas(n *notes, node Node, master topology.Addr, replicas int) {
	v, told := node.Config["min-replicas-to-write"]
	if !told {
		return
	}
	subject, least := string(node.Addr), number(v)
	const set = "CONFIG SET min-replicas-to-write"
	switch {
	case least == 0:
		if node.Addr == master {
			n.add(Info, "min-replicas-to-write", subject, set+" 1 where a lost write is worse than a refused one", "it is 0: a master that is cut off from its replicas takes writes from clients that do not come through a sidecar")
		}
	case node.Addr == master && node.LagKnown && len(node.Lags) < least:
		n.add(Error, "min-replicas-to-write", subject, set+" lower, or bring replicas back", "it is %d and %d replicas are connected: writes are refused", least, len(node.Lags))
	case replicas > 0 && least > replicas:
		n.add(Error, "min-replicas-to-write", subject, set+" lower", "it is %d and there are %d replicas: as a master it would refuse writes", least, replicas)
	case replicas > 0 && least > replicas-1:
		n.add(Warning, "min-replicas-to-write", subject, set+" lower, or add a replica", "it is %d of %d replicas: after a failover writes are refused until the old master is back", least, replicas)
	}
}

// judgeClients looks at what a node allows its clients, of whom we are one that has many.
func judgeClients(n *notes, m config.Master, node Node) {
	subject := string(node.Addr)
	if limit := number(node.Config["maxclients"]); limit > 0 {
		const full = 90 // percent
		switch {
		case node.Clients*100 >= limit*full:
			n.add(Warning, "maxclients", subject, "CONFIG SET maxclients higher, or find who holds the connections (CLIENT LIST)", "%d of %d clients are connected", node.Clients, limit)
		case m.Dedicated && limit < m.MaxClients:
			n.add(Warning, "maxclients", subject, "CONFIG SET maxclients higher, or max_clients lower", "it takes %d clients, and with multiplex: false one sidecar may bring %d", limit, m.MaxClients)
		case limit < 128:
			n.add(Warning, "maxclients", subject, "CONFIG SET maxclients higher", "it takes %d clients: subscribers, blocking calls and transactions need a connection each", limit)
		}
	}
	class, hard, soft := "", "", ""
	for i, w := range strings.Fields(node.Config["client-output-buffer-limit"]) {
		switch i % 4 {
		case 0:
			class = w
		case 1:
			hard = w
		case 2:
			soft = w
		case 3:
			if class == "normal" && (hard != "0" || soft != "0") {
				n.add(Warning, "client-output-buffer-limit", subject, "CONFIG SET client-output-buffer-limit \"normal 0 0 0\"; output_buffer_limit of the sidecar bounds each client",
					"it cuts normal clients off at %s or %s bytes: many clients share one connection, and lose it together", hard, soft)
			}
			if class == "slave" && hard != "0" {
				judgeReplicaBuffer(n, node, hard)
			}
		}
	}
}

// judgeReplicaBuffer looks at a limit that ends a replica's link before the backlog does.
func judgeReplicaBuffer(n *notes, node Node, hard string) {
	limit, err := strconv.Atoi(hard)
	backlog := number(node.Config["repl-backlog-size"])
	if err == nil && backlog > 0 && limit < backlog {
		n.add(Info, "client-output-buffer-limit", string(node.Addr), "", "for replicas it is %d bytes, below repl-backlog-size (%d), which Redis takes instead", limit, backlog)
	}
}
