package doctor

import (
	"slices"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// judgeRights looks at what the sidecar's accounts were refused. Questions that only this
// check asks are told as what it could not see.
func judgeRights(n *notes, o Options, f Facts) {
	const page = "ACL SETUSER with the rights in docs/operations.md"
	for _, s := range f.Sentinels {
		var needed, planned []string
		for _, d := range s.Denied {
			switch d {
			case "+sentinel|failover", "+sentinel|ckquorum":
				planned = append(planned, d)
			case "+psubscribe":
				n.add(Warning, "rights-sentinel", string(s.Addr), page, "the account lacks %s: failovers are found out by polling alone", d)
			default:
				needed = append(needed, d)
			}
		}
		if len(needed) > 0 {
			n.add(Error, "rights-sentinel", string(s.Addr), page, "the account lacks %s", strings.Join(needed, " "))
		}
		if len(planned) > 0 {
			n.add(Warning, "rights-sentinel", string(s.Addr), page, "the account lacks %s, which a switchover needs", strings.Join(planned, " "))
		}
	}
	for _, node := range f.Nodes {
		judgeNodeRights(n, o, node, page)
	}
}

func judgeNodeRights(n *notes, o Options, node Node, page string) {
	demotes := o.Master.Follow == config.FollowFast || o.Master.Demote == config.DemoteAuto
	var needed, orders, unseen []string
	for _, d := range node.Denied {
		switch d {
		case "+role":
			needed = append(needed, d)
		case "+replicaof", "+client|kill", "+multi", "+exec":
			if demotes {
				needed = append(needed, d)
			} else {
				orders = append(orders, d)
			}
		case "+config|set":
			orders = append(orders, d)
		case "+command":
			n.add(Info, "rights-redis", string(node.Addr), page, "the account lacks +command: modules' commands get a connection of their own")
		default:
			unseen = append(unseen, d)
		}
		if d == "+config|get" && o.Orders {
			orders = append(orders, d)
		}
	}
	slices.Sort(needed)
	if len(needed) > 0 {
		n.add(Error, "rights-redis", string(node.Addr), page, "the account lacks %s", strings.Join(needed, " "))
	}
	if len(orders) > 0 {
		n.add(Warning, "rights-redis", string(node.Addr), page, "the account lacks %s, which a switchover may need", strings.Join(orders, " "))
	}
	if len(unseen) > 0 {
		n.add(Info, "not-seen", string(node.Addr), "", "the account may not ask (%s), and the sidecar need not: settings and lag in seconds were not looked at", strings.Join(unseen, " "))
	}
}
