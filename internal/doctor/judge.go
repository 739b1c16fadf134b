package doctor

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Judge returns what the facts of one master mean for a sidecar with this configuration,
// the worst first. warnDays is how long before a certificate's end it is told.
func Judge(o Options, f Facts, warnDays int) []Finding {
	n := &notes{master: o.Master.Name}
	if f.Late {
		n.add(Warning, "deadline", "", "run it again, or look at the network from here",
			"not everything answered in time: what follows may lack something")
	}
	judgeSentinels(n, o, f)
	judgePause(n, o.Master, f)
	judgeNodes(n, o.Master, f)
	judgeSettings(n, o.Master, f)
	judgeRights(n, o, f)
	judgeClocks(n, f)
	judgeTLS(n, f, warnDays)
	Sort(n.list)
	return n.list
}

// answering are the Sentinels that know the master.
func (f Facts) answering() []Sentinel {
	var all []Sentinel
	for _, s := range f.Sentinels {
		if s.Err == "" && s.Master != "" {
			all = append(all, s)
		}
	}
	return all
}

// known is how many Sentinels count for a majority: the most that any knows of, itself
// included, and no fewer than are configured or were found.
func (f Facts) known() int {
	most := 0
	for _, s := range f.Sentinels {
		if s.Configured || s.Err == "" {
			most++
		}
	}
	for _, s := range f.answering() {
		most = max(most, s.Others+1)
	}
	return most
}

// agreed is the master that most Sentinels name, and how many do; the highest epoch
// decides between equals.
func (f Facts) agreed() (master topology.Addr, support int) {
	type vote struct {
		n     int
		epoch uint64
	}
	votes := make(map[topology.Addr]vote)
	for _, s := range f.answering() {
		v := votes[s.Master]
		votes[s.Master] = vote{v.n + 1, max(v.epoch, s.Epoch)}
	}
	var best vote
	for _, a := range sortedKeys(votes) {
		if v := votes[a]; cmp.Or(cmp.Compare(v.n, best.n), cmp.Compare(v.epoch, best.epoch)) > 0 {
			master, best = a, v
		}
	}
	return master, best.n
}

func sortedKeys[V any](m map[topology.Addr]V) []topology.Addr {
	keys := make([]topology.Addr, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// judgePause says how long a failover takes, and whether commands wait as long.
func judgePause(n *notes, m config.Master, f Facts) {
	least, most := time.Duration(0), time.Duration(0)
	for _, s := range f.answering() {
		if s.DownAfter == 0 {
			continue
		}
		if least == 0 || s.DownAfter < least {
			least = s.DownAfter
		}
		most = max(most, s.DownAfter)
	}
	if least == 0 {
		return
	}
	const set = "SENTINEL SET NAME down-after-milliseconds N on every Sentinel"
	if least != most {
		n.add(Warning, "down-after", "", set, "the Sentinels differ: down-after-milliseconds is %v on one and %v on another; the master is called down when a quorum is over it", least, most)
	}
	const (
		election = 2 * time.Second // vote, promotion and news of it, mostly
		long     = 15 * time.Second
		short    = 500 * time.Millisecond
	)
	pause := most + election
	switch {
	case most >= long:
		n.add(Warning, "down-after", "", set+"; 5000 suits most networks", "when the master dies, commands wait some %v: down-after-milliseconds is %v", pause, most)
	case least < short:
		n.add(Warning, "down-after", "", set+", 1000 or more", "down-after-milliseconds is %v: a master that is busy for a moment is taken for dead", least)
	default:
		n.add(Info, "down-after", "", "", "when the master dies, commands wait some %v: down-after-milliseconds is %v", pause, most)
	}
	w := m.Hold.Timeout
	switch {
	case w.Auto:
	case w.For == 0:
		n.add(Info, "hold-timeout", "", "", "hold.timeout is off: commands fail at once while no master is served")
	case w.For < pause:
		n.add(Warning, "hold-timeout", "", "hold.timeout: auto, or more than that pause", "hold.timeout is %v, but a failover takes some %v: commands that wait for it fail before its end", w.For, pause)
	}
}

// loopback reports whether an address is this machine's own to whoever reads it.
func loopback(a topology.Addr) bool {
	host, _ := a.Split()
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
