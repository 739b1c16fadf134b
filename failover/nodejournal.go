package failover

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// When something about a node is told.
const (
	// lostAfter is how long a replica must not have answered. A restart of one with little
	// data takes less.
	lostAfter = 5 * time.Second
	// secondMasterAfter is how long another node must have said master, and
	// oldMasterAfter how long one must that was replaced: until Sentinel demotes it, which
	// takes some ten seconds in every failover (sentinelRefreshInstanceInfo in
	// redis/src/sentinel.c waits four publish periods, and it is called at the next INFO).
	secondMasterAfter = 2 * time.Second
	oldMasterAfter    = 15 * time.Second
	// A replica lags from laggingFrom on, and until it is within caughtUpAt.
	laggingFrom = 10 * time.Second
	caughtUpAt  = 3 * time.Second
	// samples of the master's offset reach back further than laggingFrom, a second apart.
	samplesMax  = 32
	sampleEvery = time.Second
)

// nodeJournal tells what changes about data nodes, from their probes. It is pure: not safe
// for concurrent use, and the time is an argument. The controller's Run owns it.
type nodeJournal struct {
	master  topology.Addr // served now or last
	nodes   map[topology.Addr]*nodeEntry
	samples []sample // of master's offset, oldest first
	out     []events.Body
}

// sample is what the master had at a time.
type sample struct {
	at     time.Duration
	offset int64
}

// nodeEntry is what is known and was told of one node.
type nodeEntry struct {
	replica   bool          // it has said replica, and not master since
	silent    time.Duration // since when it has not answered; 0: it does
	lost      bool          // told
	rival     time.Duration // since when it says master though another is served; 0: it does not
	rivalTold bool
	deposed   bool          // it was the master, and has not said replica since
	follows   time.Duration // since when it says replica
	lagging   time.Duration // since when it was told to lag; 0: it was not
	clientID  int64         // of the last connection; 0: not known
	offset    int64         // that it last told as master
	isMaster  bool          // its last answer was master
	lag       *lag          // of its last answer; nil: it is no replica of the master, or not known
}

// lag is how far a replica is behind the master.
type lag struct {
	bytes int64
	late  time.Duration // bounded by what the samples reach back
}

func newNodeJournal() *nodeJournal {
	return &nodeJournal{nodes: make(map[topology.Addr]*nodeEntry)}
}

// watch forgets the nodes that are watched no more.
func (j *nodeJournal) watch(addrs []topology.Addr) {
	keep := make(map[topology.Addr]bool, len(addrs))
	for _, a := range addrs {
		keep[a] = true
	}
	for a := range j.nodes {
		if !keep[a] {
			delete(j.nodes, a)
		}
	}
}

// seen takes the outcome of one probe while master is the one that is served or was last,
// and returns what is to be told.
func (j *nodeJournal) seen(master topology.Addr, serving bool, ev route.NodeSeen) []events.Body {
	j.out = nil
	if master != j.master {
		if old := j.nodes[j.master]; old != nil {
			old.deposed = true
		}
		j.master, j.samples = master, nil
		for _, n := range j.nodes {
			n.lag = nil
		}
	}
	n := j.nodes[ev.Addr]
	if n == nil {
		n = &nodeEntry{}
		j.nodes[ev.Addr] = n
	}
	n.lag = nil
	if ev.Role == topology.RoleUnknown {
		if !ev.NoAuth {
			j.silent(n, ev)
		}
		return j.out
	}
	j.answered(n, ev)
	switch ev.Role {
	case topology.RoleMaster:
		j.saysMaster(n, serving, ev)
	case topology.RoleReplica:
		if !n.replica {
			n.follows = ev.At
		}
		n.replica, n.isMaster, n.rival, n.rivalTold, n.deposed = true, false, 0, false, false
		if ev.Master == master && len(j.samples) > 0 {
			j.behind(n, ev)
		}
	case topology.RoleUnknown:
	}
	return j.out
}

// lags returns how far each replica is behind, of those of which it is known.
func (j *nodeJournal) lags() map[topology.Addr]lag {
	all := make(map[topology.Addr]lag, len(j.nodes))
	for a, n := range j.nodes {
		if n.lag != nil {
			all[a] = *n.lag
		}
	}
	return all
}

func (j *nodeJournal) silent(n *nodeEntry, ev route.NodeSeen) {
	if n.silent == 0 {
		n.silent = ev.At
	}
	if n.replica && !n.lost && ev.Addr != j.master && ev.At-n.silent >= lostAfter {
		n.lost = true
		j.out = append(j.out, events.ReplicaLost{Replica: ev.Addr, Err: events.Text(ev.Err)})
	}
}

func (j *nodeJournal) answered(n *nodeEntry, ev route.NodeSeen) {
	if n.lost {
		j.out = append(j.out, events.ReplicaBack{Replica: ev.Addr, Away: events.Millis(ev.At - n.silent)})
	}
	n.silent, n.lost = 0, false
	if ev.Client > 0 && ev.Client < n.clientID && n.isMaster && ev.Role == topology.RoleMaster && ev.Offset >= n.offset {
		j.restarted(n, ev)
	}
	if ev.Client > 0 {
		n.clientID = ev.Client
	}
}

func (j *nodeJournal) saysMaster(n *nodeEntry, serving bool, ev route.NodeSeen) { //nolint:revive // as above
	fell := ev.Offset < n.offset
	if n.isMaster && fell {
		j.restarted(n, ev)
	}
	n.isMaster, n.replica, n.offset, n.lagging = true, false, ev.Offset, 0
	if ev.Addr == j.master {
		n.rival, n.rivalTold, n.deposed = 0, false, false
		j.sample(ev)
		return
	}
	if !serving || j.master == "" {
		n.rival = 0
		return
	}
	if n.rival == 0 {
		n.rival = ev.At
	}
	patience := secondMasterAfter
	if n.deposed {
		patience = oldMasterAfter
	}
	if !n.rivalTold && ev.At-n.rival >= patience {
		n.rivalTold = true
		j.out = append(j.out, events.TwoMastersSeen{Master: j.master, Other: ev.Addr, For: events.Millis(ev.At - n.rival)})
	}
}

// restarted tells of a restart, which a lower offset shows, or else a lower id of our next
// connection: those grow for as long as a process runs.
func (j *nodeJournal) restarted(n *nodeEntry, ev route.NodeSeen) {
	n.clientID = 0 // it is told once
	if ev.Addr != j.master {
		return
	}
	j.samples = nil
	j.out = append(j.out, events.MasterRestarted{Master: ev.Addr, Before: n.offset, After: ev.Offset, Fell: ev.Offset < n.offset})
}

// sample keeps the master's offset once a second.
func (j *nodeJournal) sample(ev route.NodeSeen) {
	if k := len(j.samples); k > 0 && ev.At-j.samples[k-1].at < sampleEvery {
		return
	}
	if len(j.samples) == samplesMax {
		j.samples = append(j.samples[:0], j.samples[1:]...)
	}
	j.samples = append(j.samples, sample{ev.At, ev.Offset})
}

// behind compares a replica's offset with what the master had and when.
func (j *nodeJournal) behind(n *nodeEntry, ev route.NodeSeen) {
	newest := j.samples[len(j.samples)-1]
	behind := newest.offset - ev.Offset
	var late time.Duration
	if behind > 0 {
		// It has all that the master had at the newest sample that it has reached; with
		// none, it is behind by more than we remember.
		since := j.samples[0].at
		for _, s := range j.samples {
			if s.offset <= ev.Offset {
				since = s.at
			}
		}
		late = ev.At - since
	}
	n.lag = &lag{max(0, behind), late}
	switch {
	case n.lagging == 0 && late >= laggingFrom && ev.At-n.follows >= laggingFrom: // one that was just demoted has it all to copy
		n.lagging = ev.At
		j.out = append(j.out, events.ReplicaLagging{Replica: ev.Addr, Lag: events.Millis(late), Bytes: behind, LinkUp: ev.LinkUp})
	case n.lagging != 0 && late <= caughtUpAt:
		j.out = append(j.out, events.ReplicaCaughtUp{Replica: ev.Addr, After: events.Millis(ev.At - n.lagging)})
		n.lagging = 0
	}
}
