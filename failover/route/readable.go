package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// readable returns the replicas that could answer a read while nothing is served:
// each has said lately that it is one. The one with most of the master's data comes
// first. While a master is served, or without Policy.OfferReplicas, there is none.
func (m *Machine) readable(now time.Duration) []topology.Addr {
	if m.state == topology.Serving || !m.policy.OfferReplicas {
		return nil
	}
	var nodes []NodeSeen
	for _, a := range m.watched {
		if n, ok := m.answered(a, now-recent); ok && n.Role == topology.RoleReplica && !m.isMaster(a) {
			nodes = append(nodes, n)
		}
	}
	slices.SortStableFunc(nodes, func(a, b NodeSeen) int { return cmp.Compare(b.Offset, a.Offset) })
	var addrs []topology.Addr
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}

// offerReplicas publishes the route again when its replicas have changed.
func (m *Machine) offerReplicas(now time.Duration) {
	if rs := m.readable(now); !slices.Equal(rs, m.replicas) {
		m.replicas = rs
		m.publish()
	}
}
