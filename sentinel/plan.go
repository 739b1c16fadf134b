package sentinel

import (
	"cmp"
	"slices"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// maxSentinels bounds how many Sentinels of one group are followed, and so the
// series of every metric that names one. Groups have 3 to 7; the rest is room
// for dead entries.
const maxSentinels = 32

// peer is one entry of SENTINEL SENTINELS.
type peer struct {
	addr  topology.Addr
	runID string
	dead  bool // its namer can't reach it either
}

// member is one followed Sentinel, as far as the plan needs to know it.
type member struct {
	addr       topology.Addr
	configured bool
	runID      string
	up         bool   // its last poll was answered
	knows      bool   // and it knows the group
	peers      []peer // what it last named
}

// plan says which named Sentinels to follow from now on and which discovered
// ones to forget. Configured ones are never forgotten. It is pure; the results
// are sorted.
//
// A peer is not followed a second time when a Sentinel of its run id is already
// configured or answers at another address: it was reached by a host name, or
// through NAT, and the announced address adds nothing.
//
// A discovered Sentinel is forgotten once no Sentinel that answers names it and
// it doesn't answer for the group itself. While nobody answers none is
// forgotten: they may be our way back.
func plan(members []member) (follow, forget []topology.Addr) {
	byAddr := make(map[topology.Addr]bool, len(members))
	byRunID := make(map[string]bool, len(members))
	named := make(map[topology.Addr]string)
	heard := false
	for _, m := range members {
		byAddr[m.addr] = true
		if m.runID != "" && (m.configured || m.up) {
			byRunID[m.runID] = true
		}
		if m.up && m.knows {
			heard = true
			for _, p := range m.peers {
				named[p.addr] = p.runID
			}
		}
	}
	for _, m := range members {
		_, isNamed := named[m.addr]
		if heard && !m.configured && !isNamed && (!m.up || !m.knows) {
			forget = append(forget, m.addr)
		}
	}
	for addr, runID := range named {
		if addr != "" && !byAddr[addr] && !byRunID[runID] {
			follow = append(follow, addr)
		}
	}
	slices.SortFunc(follow, cmp.Compare)
	slices.SortFunc(forget, cmp.Compare)
	room := max(0, maxSentinels-(len(members)-len(forget)))
	return follow[:min(len(follow), room)], forget
}
