package doctor

import (
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// judgeSentinels looks at who answers, what they say, and whether they could elect.
func judgeSentinels(n *notes, o Options, f Facts) {
	name := o.Master.Name
	for _, s := range f.Sentinels {
		switch {
		case s.Configured && strings.HasPrefix(s.Err, "ERR unknown command"):
			n.add(Error, "sentinel-is-none", string(s.Addr), "name the port of its Sentinel, often 26379", "it is no Sentinel, perhaps a data node: %s", s.Err)
		case s.Err != "" && s.Configured:
			n.add(Warning, "sentinel-unreachable", string(s.Addr), "start it, correct its address, login or TLS, or take it out of the configuration", "it does not answer: %s", s.Err)
		case s.Unknown:
			n.add(severityIf(s.Configured, Error, Warning), "sentinel-unknown-master", string(s.Addr), "correct the name here, or SENTINEL MONITOR it there", "it watches no master of the name %q", name)
		}
		if s.Tilt {
			n.add(Warning, "sentinel-tilt", string(s.Addr), "look at its machine's clock and load", "it is in TILT mode: it acts on nothing until its clock is steady")
		}
	}
	up, known := f.answering(), f.known()
	if len(up) == 0 {
		n.add(Error, "sentinel-majority", "", "see the findings about each", "no Sentinel answers for %q: no master can be found", name)
		return
	}
	judgeMajority(n, f, len(up), known)
	judgeEntries(n, f, name)
	configured := 0
	for _, s := range f.Sentinels {
		if s.Configured {
			configured++
		} else if s.Err == "" {
			n.add(Info, "sentinel-not-configured", string(s.Addr), "name it in the configuration too", "it was found through the others; at a start only those configured are asked")
		}
	}
	if configured == 1 && known > 1 {
		n.add(Warning, "sentinel-single", "", "name all Sentinels, or three of them", "one Sentinel is configured: without it no sidecar can start")
	}
}

func severityIf(yes bool, s, otherwise Severity) Severity { //nolint:revive // it is what an if would be
	if yes {
		return s
	}
	return otherwise
}

// judgeMajority looks at votes: of the quorum to call a master down, and of the majority
// that elects.
func judgeMajority(n *notes, f Facts, up, known int) {
	need := known/2 + 1
	master, support := f.agreed()
	switch {
	case up < need:
		n.add(Error, "sentinel-majority", "", "bring Sentinels back, or remove those that are gone for good: SENTINEL RESET NAME on each of the others", "%d of %d Sentinels answer and %d are needed: no failover is possible", up, known, need)
	case support < need:
		n.add(Error, "sentinel-agreement", "", "wait if a failover is under way; else look at the Sentinels' logs", "no majority names one master: %s has %d of %d", master, support, known)
	case support < up:
		n.add(Warning, "sentinel-agreement", "", "wait if a failover is under way; else look at the log of those that differ", "%d of %d Sentinels name %s, %d another", support, known, master, up-support)
	default:
		n.add(Info, "sentinel-agreement", "", "", "%d of %d Sentinels answer and name %s", up, known, master)
	}
	if up == need && up < known {
		n.add(Warning, "sentinel-spare", "", "bring the others back, or remove those that are gone for good", "%d of %d Sentinels answer: with one fewer no failover is possible", up, known)
	}
	switch {
	case known < 3:
		n.add(Warning, "sentinel-count", "", "run three, on machines of their own", "%d Sentinels: without one of them no failover is possible", known)
	case known%2 == 0:
		n.add(Info, "sentinel-count", "", "an odd number costs one machine less for the same", "%d Sentinels bear the loss of no more than %d would", known, known-1)
	}
	quorums := make(map[int]bool)
	epochs := make(map[uint64]bool)
	highest := 0
	for _, s := range f.answering() {
		quorums[s.Quorum], highest = true, max(highest, s.Quorum)
		if s.Master == master {
			epochs[s.Epoch] = true
		}
	}
	const set = "SENTINEL SET NAME quorum N on every Sentinel"
	switch {
	case highest > known:
		n.add(Error, "sentinel-quorum", "", set, "the quorum is %d of %d Sentinels: no master is ever called down", highest, known)
	case highest > up:
		n.add(Error, "sentinel-quorum", "", "bring Sentinels back, or "+set, "the quorum is %d and %d Sentinels answer: no master would be called down", highest, up)
	case len(quorums) > 1:
		n.add(Warning, "sentinel-quorum", "", set, "the Sentinels differ in their quorum")
	}
	if len(epochs) > 1 {
		n.add(Warning, "sentinel-epoch", "", "wait if a failover was a moment ago; else look at the Sentinels' logs", "the Sentinels name %s with different config epochs", master)
	}
}

// judgeEntries looks at the other Sentinels that each lists: the dead count for the
// majority, and a wrong address keeps them from hearing each other.
func judgeEntries(n *notes, f Facts, name string) {
	lists, down := make(map[topology.Addr]int), make(map[topology.Addr]int)
	public := false
	for _, s := range f.answering() {
		public = public || !loopback(s.Addr)
		for _, p := range s.Peers {
			if p.Addr == "" {
				continue
			}
			lists[p.Addr]++
			if p.Down {
				down[p.Addr]++
			}
		}
	}
	errs := make(map[topology.Addr]string)
	for _, s := range f.Sentinels {
		errs[s.Addr] = s.Err
	}
	for _, a := range sortedKeys(lists) {
		err := errs[a]
		switch {
		case err == "":
		case down[a]*2 > lists[a]:
			n.add(Warning, "sentinel-dead-entry", string(a), "start it; if it is gone for good, SENTINEL RESET "+name+" on each of the others, one after the other, 30 s apart, with the master and its replicas up",
				"%d Sentinels list it and it is dead: it counts for the majority still", lists[a])
		case public && loopback(a):
			n.add(Error, "announce-loopback", string(a), "sentinel announce-ip in its configuration", "a Sentinel is known by an address of loopback: nobody on another machine can reach it")
		default:
			n.add(Warning, "announce-unreachable", string(a), "sentinel announce-ip and announce-port, NAT, network policies, login or TLS", "the others hear that Sentinel, and from here it does not answer: %s", err)
		}
	}
}
