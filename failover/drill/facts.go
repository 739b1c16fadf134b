package drill

import (
	"context"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Remote is a group that others run, and the sidecar before it.
type Remote struct {
	Group     string          // the master's name at the Sentinels
	Sentinels []topology.Addr // those that are configured; they name the rest
	// The drill's own accounts. That on the data nodes asks for roles; that of the
	// clients writes, reads back and cleans up.
	Redis, Sentinel, Clients Login
	Sidecar                  string // where clients connect: host:port or unix:/path
	// Status asks the sidecar whether it is ready, and whom it serves; nil where that
	// cannot be asked.
	Status func(ctx context.Context) (SidecarStatus, error)
	// Prefix begins all of the drill's keys and channels. Letters, digits and the
	// characters - _ . : only.
	Prefix string

	Supervised bool // something restarts what a drill ends
	// CutCmd and HealCmd are commands for sh that make and end a partition.
	CutCmd, HealCmd string
	// RiskData says that the data of the group may be lost.
	RiskData bool
}

// SidecarStatus is what a sidecar says of itself.
type SidecarStatus struct {
	Ready  bool
	Reason string // why it is not
	State  string // of the route
	Master topology.Addr
}

// Facts are what a survey found. They are a copy: nothing changes them later.
type Facts struct {
	Group     string
	Known     int // Sentinels that any Sentinel knows, itself included
	Sentinels []SentinelFact
	Nodes     []NodeFact // the master, if one is agreed on, is the first
	Sidecar   SidecarFact
	// Writes is what the workload may add to a node's memory, in bytes.
	Writes int64
}

// SentinelFact is what one Sentinel says.
type SentinelFact struct {
	Addr            topology.Addr
	Err             string // why it does not answer; all else is zero then
	RunID           string
	Master          topology.Addr
	Epoch           uint64 // of the configuration
	Flags           string // what it thinks of the master
	FailoverState   string // of one under way; "" for none
	Masters         int    // how many groups it watches
	Quorum          string // what SENTINEL CKQUORUM complains of; "" if it does not
	Tilt            bool
	DownAfter       time.Duration
	FailoverTimeout time.Duration
	Replicas        []ReplicaFact

	known int             // Sentinels that it knows, itself included
	peers []topology.Addr // the others
}

// ReplicaFact is what a Sentinel says of a replica.
type ReplicaFact struct {
	Addr     topology.Addr
	Flags    string
	Priority int
	LinkUp   bool
}

// NodeFact is what a data node says.
type NodeFact struct {
	Addr     topology.Addr
	Err      string // why it does not answer; all else is zero then
	RunID    string
	Version  string
	Role     topology.Role
	Loading  bool
	Priority int
	LinkUp   bool // of a replica
	// Behind is how long a replica took to read what the master had written when
	// it was asked; negative if it had not after patience.
	Behind      time.Duration
	Used, Limit int64 // bytes of memory; a Limit of 0 is none
	Evicts      string
	KeepsAll    bool   // an append-only file is on
	Debug       string // why DEBUG is refused; "" if it is not
}

// SidecarFact is what is seen through the sidecar.
type SidecarFact struct {
	Addr    string
	Err     string        // why clients are not served
	Serves  topology.Addr // the node that answered; zero if it is none of the group
	Refused []string      // what the workload's account may not do
	Status  *SidecarStatus
	// StatusErr is why the admin server cannot be asked: that is no finding.
	StatusErr string
}

// majority returns the master and the epoch that more than half of the known
// Sentinels name, and how many do.
func (f Facts) majority() (master topology.Addr, epoch uint64, support int) {
	type view struct {
		master topology.Addr
		epoch  uint64
	}
	votes := make(map[view]int)
	for _, s := range f.Sentinels {
		if s.Err != "" || s.Master == "" {
			continue
		}
		v := view{s.Master, s.Epoch}
		if votes[v]++; votes[v] > support {
			master, epoch, support = v.master, v.epoch, votes[v]
		}
	}
	return master, epoch, support
}

// Master returns whom most of the Sentinels name; zero if no majority agrees.
func (f Facts) Master() topology.Addr {
	master, _, support := f.majority()
	if 2*support <= f.Known {
		return ""
	}
	return master
}

// DownAfter returns the longest down-after of the Sentinels.
func (f Facts) DownAfter() time.Duration {
	return f.longest(func(s SentinelFact) time.Duration { return s.DownAfter })
}

// FailoverTimeout returns the longest failover-timeout of the Sentinels.
func (f Facts) FailoverTimeout() time.Duration {
	return f.longest(func(s SentinelFact) time.Duration { return s.FailoverTimeout })
}

func (f Facts) longest(of func(SentinelFact) time.Duration) time.Duration {
	longest := time.Duration(0)
	for _, s := range f.Sentinels {
		longest = max(longest, of(s))
	}
	return longest
}

// replicas returns the nodes that answer and are not the master.
func (f Facts) replicas() []NodeFact {
	var some []NodeFact
	for _, n := range f.Nodes {
		if n.Err == "" && n.Addr != f.Master() {
			some = append(some, n)
		}
	}
	return some
}

// node returns what the node of that address says.
func (f Facts) node(addr topology.Addr) (NodeFact, bool) {
	for _, n := range f.Nodes {
		if n.Addr == addr {
			return n, true
		}
	}
	return NodeFact{}, false
}
