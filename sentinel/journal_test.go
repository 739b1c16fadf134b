package sentinel

import (
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// TestJournal: a failover's short disagreement is one line, a lasting one a
// warning, and nothing is told twice.
func TestJournal(t *testing.T) {
	var book logBook
	now := time.Minute
	var told []string
	j := newJournal(book.logger(), testGroup, func() time.Duration { return now }, func(b events.Body) { told = append(told, string(events.KindOf(b))) })
	merged := func(votes ...topology.View) topology.Observation { return Merge(testGroup, votes) }
	expect := func(msg string, want int) {
		t.Helper()
		if got := book.count(msg); got != want {
			t.Errorf("%d lines %q; want %d: %q", got, msg, want, book.lines)
		}
	}
	for range 3 {
		j.observation(merged(vote(1, nodeA, 1), vote(2, nodeA, 1), vote(3, nodeA, 1)))
	}
	expect("sentinels agree", 1)

	j.observation(merged(vote(1, nodeB, 2), vote(2, nodeA, 1), vote(3, nodeA, 1)))
	j.observation(merged(vote(1, nodeB, 2), vote(2, nodeA, 1), vote(3, nodeA, 1, down)))
	now += disagreeAfter / 2
	j.observation(merged(vote(1, nodeB, 2), vote(2, nodeB, 2), vote(3, nodeA, 1)))
	expect("sentinels agree", 2)
	expect("no majority", 0)

	for range 3 {
		j.observation(merged(vote(1, nodeB, 2), vote(2, nodeC, 3), vote(3, nodeA, 1)))
		now += disagreeAfter
	}
	expect("no majority", 1)
	j.observation(merged(vote(1, nodeB, 2), vote(2, nodeB, 2), vote(3, nodeA, 1)))
	expect("sentinels agree", 3) // the pair is the old one, but it was in doubt

	for range 2 { // all gone is told per Sentinel, not as a disagreement
		j.observation(merged(vote(1, nodeB, 2, down), vote(2, nodeB, 2, down)))
		now += time.Hour
	}
	expect("no majority", 1)

	for _, up := range []bool{true, false, false, true, true} {
		v := vote(1, nodeB, 2)
		v.Up = up
		j.view(viewed{view: v, knows: up})
		now += 3 * time.Second
	}
	expect("sentinel lost", 1)
	expect("sentinel back", 1)
	expect("away=6s", 1)
	// What is published is the graver part, in the same order, and as often.
	if got, want := strings.Join(told, " "), "SentinelsDisagree SentinelsAgree SentinelLost SentinelBack"; got != want {
		t.Errorf("published %s; want %s", got, want)
	}
}
