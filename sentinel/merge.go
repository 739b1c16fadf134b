package sentinel

import (
	"cmp"
	"slices"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Merge says what the Sentinels of a group say together. It is pure, keeps
// nothing of views, and its result does not depend on their order.
//
// Beyond the comments on topology.Observation:
//   - Views of one RunID are one Sentinel reached by several addresses: only the
//     newest word of those that are Up counts. All of them stay in Views.
//   - Known is at least the number of distinct Sentinels in views, those aside
//     that answer and don't know the group: a Sentinel that has forgotten its
//     peers (SENTINEL RESET, an empty disk) must not be a majority of one while
//     we know of others that happen to be silent.
//   - A Sentinel in tilt is Known and answers, and its epoch fences, but it
//     supports nothing.
//   - DownAfter is the least of all last words, silent Sentinels' too, so that
//     a lease does not grow because the strictest Sentinel went away.
func Merge(group string, views []topology.View) topology.Observation {
	o := topology.Observation{Group: group, Views: slices.Clone(views)}
	slices.SortFunc(o.Views, func(a, b topology.View) int { return cmp.Compare(a.Sentinel, b.Sentinel) })

	var voters []topology.View
	for _, v := range distinct(o.Views) {
		if v.DownAfter > 0 && (o.DownAfter == 0 || v.DownAfter < o.DownAfter) {
			o.DownAfter = v.DownAfter
		}
		if !v.Up {
			o.Known++
			continue
		}
		o.Answering++
		if v.Master == "" {
			continue
		}
		o.Known++
		if !v.Tilt {
			voters = append(voters, v)
		}
	}
	noteNewest(&o)
	for _, v := range o.Views {
		if v.Up && v.Master != "" {
			o.Known = max(o.Known, v.OtherSentinel+1)
		}
	}

	o.Master, o.Epoch = favourite(voters)
	if o.Master == "" {
		return o
	}
	voters = slices.DeleteFunc(voters, func(v topology.View) bool { return !names(v, o.Master, o.Epoch) })
	majority := o.Known/2 + 1
	o.Support = len(voters)
	o.Agreed = o.Support >= majority
	o.Unanimous = o.Support == o.Answering
	if o.Agreed {
		o.AgreedAt = sentAt(voters, majority)
	}
	sayMaster := 0
	for _, v := range voters {
		if v.RoleReported == topology.RoleMaster {
			sayMaster++
		}
	}
	if sayMaster >= majority {
		o.RoleReported = topology.RoleMaster
	}
	o.Replicas = replicas(o.Master, voters, o.Views)
	return o
}

// distinct leaves one view per Sentinel. Of several with one RunID it keeps one
// that is Up rather than one that isn't, and the newest of those. Views without
// a RunID are taken for Sentinels of their own.
func distinct(sorted []topology.View) []topology.View {
	best := make(map[string]int, len(sorted))
	var out []topology.View
	for _, v := range sorted {
		i, seen := best[v.RunID]
		switch {
		case v.RunID == "":
			out = append(out, v)
		case !seen:
			best[v.RunID] = len(out)
			out = append(out, v)
		case v.Up && !out[i].Up, v.Up == out[i].Up && v.SentAt > out[i].SentAt:
			out[i] = v
		}
	}
	return out
}

// noteNewest sets MaxEpoch, MaxAddr and Conflict. It looks at every view that
// is Up, duplicates and tilted ones too: a fence may come from anyone.
func noteNewest(o *topology.Observation) {
	for _, v := range o.Views {
		switch {
		case !v.Up || v.Master == "":
		case o.MaxAddr == "" || v.Epoch > o.MaxEpoch:
			o.MaxEpoch, o.MaxAddr, o.Conflict = v.Epoch, v.Master, false
		case v.Epoch == o.MaxEpoch && v.Master != o.MaxAddr:
			o.Conflict = true
		}
	}
}

func names(v topology.View, master topology.Addr, epoch uint64) bool {
	return v.Master == master && v.Epoch == epoch
}

// favourite returns the pair that most voters name: on a tie the higher epoch,
// then the lower address, so that it is the same whatever the order.
func favourite(voters []topology.View) (topology.Addr, uint64) {
	type pair struct {
		master topology.Addr
		epoch  uint64
	}
	votes := make(map[pair]int, len(voters))
	var best pair
	for _, v := range voters {
		votes[pair{v.Master, v.Epoch}]++
	}
	for p, n := range votes {
		c := cmp.Or(cmp.Compare(n, votes[best]), cmp.Compare(p.epoch, best.epoch), cmp.Compare(best.master, p.master))
		if best.master == "" || c > 0 {
			best = p
		}
	}
	return best.master, best.epoch
}

// sentAt returns the kth newest SentAt, k counting from 1.
func sentAt(voters []topology.View, k int) time.Duration {
	times := make([]time.Duration, len(voters))
	for i, v := range voters {
		times[i] = v.SentAt
	}
	slices.Sort(times)
	return times[len(times)-k]
}

// recentlySilent is how much older than the newest voter's word a silent
// Sentinel's last word on replicas may be and still count.
const recentlySilent = 5 * time.Second

// replicas unites what voters list, the newest word first. A replica is down if
// more than half of those that list it say so: one Sentinel that is wrong must not
// take a witness away from the lease. Its Flags are in the words of one that says
// what holds.
//
// Among those that list it are Sentinels that named the same pair and fell silent a
// moment ago. Otherwise, of three Sentinels that die one after another, the second
// to last would tie with one that has not noticed a dead replica yet, and so call
// back a witness that can't speak, for as long as no majority says otherwise.
//
// The master itself is left out: a leader still lists it while it reconfigures.
func replicas(master topology.Addr, voters, all []topology.View) []topology.Replica {
	slices.SortStableFunc(voters, func(a, b topology.View) int { return cmp.Compare(b.SentAt, a.SentAt) })
	at := make(map[topology.Addr]int)
	var out []topology.Replica
	for _, v := range voters {
		for _, r := range v.Replicas {
			if r.Addr == master {
				continue
			}
			i, seen := at[r.Addr]
			if !seen {
				at[r.Addr] = len(out)
				out = append(out, r)
				continue
			}
			out[i].Offset = max(out[i].Offset, r.Offset)
		}
	}
	tallies := make([]tally, len(out))
	for _, v := range slices.Concat(voters, silentWith(voters, all)) {
		for _, r := range v.Replicas {
			if i, listed := at[r.Addr]; listed {
				tallies[i].add(r)
			}
		}
	}
	for i, t := range tallies {
		out[i].Up, out[i].Flags = t.verdict()
	}
	slices.SortFunc(out, func(a, b topology.Replica) int { return cmp.Compare(a.Addr, b.Addr) })
	return out
}

// tally counts what is said of one replica.
type tally struct {
	listed, down       int
	upFlags, downFlags string // of the first that says so
}

func (t *tally) add(r topology.Replica) {
	t.listed++
	if r.Up {
		t.upFlags = cmp.Or(t.upFlags, r.Flags)
		return
	}
	t.down++
	t.downFlags = cmp.Or(t.downFlags, r.Flags)
}

func (t *tally) verdict() (up bool, flags string) {
	if 2*t.down > t.listed {
		return false, t.downFlags
	}
	return true, t.upFlags
}

// silentWith returns the views of Sentinels that are no longer Up, named the same
// pair as voters in their last word, and gave it not long before voters did theirs.
// voters are sorted, the newest first, and not empty.
func silentWith(voters, all []topology.View) []topology.View {
	newest := voters[0]
	return slices.DeleteFunc(distinct(all), func(v topology.View) bool {
		return v.Up || v.Tilt || !names(v, newest.Master, newest.Epoch) || newest.SentAt-v.SentAt > recentlySilent
	})
}
