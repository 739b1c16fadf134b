package route

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Electable is what one Sentinel knows of one replica when it chooses whom to promote.
type Electable struct {
	Addr     topology.Addr
	RunID    string
	Priority int
	Offset   int64  // as of its last INFO, which may be ten seconds old
	Flags    string // as Sentinel prints them
	LinkDown time.Duration
	InfoAge  time.Duration
	PingAge  time.Duration // since it last answered a PING
}

// The limits of sentinelSelectSlave (sentinel.c) for a master that is up.
const (
	infoAgeMax  = 30 * time.Second
	pingAgeMax  = 5 * time.Second
	linkDownMax = 10 // times down-after
)

// fit reports whether Sentinel would consider e at all.
func (e Electable) fit(downAfter time.Duration) bool {
	for flag := range strings.SplitSeq(e.Flags, ",") {
		if flag == "s_down" || flag == "o_down" || flag == "disconnected" {
			return false
		}
	}
	return e.Priority > 0 && e.InfoAge <= infoAgeMax && e.PingAge <= pingAgeMax && e.LinkDown <= linkDownMax*downAfter
}

// Elect returns whom a Sentinel that knows this would promote: the lowest priority, of
// several the largest offset, then the lowest run id. ok is false if nobody is fit.
func Elect(all []Electable, downAfter time.Duration) (best topology.Addr, ok bool) {
	fit := slices.DeleteFunc(slices.Clone(all), func(e Electable) bool { return !e.fit(downAfter) })
	if len(fit) == 0 {
		return "", false
	}
	return slices.MinFunc(fit, func(a, b Electable) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Offset, a.Offset),
			strings.Compare(strings.ToLower(a.RunID), strings.ToLower(b.RunID)))
	}).Addr, true
}

// Prefer returns the priorities that must change so that Sentinel chooses to, whatever
// the offsets: none if it would already. priorities are those of all replicas that may
// be promoted.
func Prefer(to topology.Addr, priorities map[topology.Addr]int) map[topology.Addr]int {
	changes := make(map[topology.Addr]int)
	wins := true
	for a, p := range priorities {
		wins = wins && (a == to || p == 0 || priorities[to] < p)
	}
	if wins {
		return changes
	}
	if priorities[to] != 1 {
		changes[to] = 1
	}
	for a, p := range priorities {
		if a != to && p == 1 {
			changes[a] = 2
		}
	}
	return changes
}
