package webhook

import (
	"fmt"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func held(master string, node topology.Addr) events.Event {
	return events.Event{Master: master, Body: events.RouteHeld{Master: node}}
}

func TestCooldown(t *testing.T) {
	start := time.Unix(0, 0)
	c := cooldown{length: time.Minute}
	for _, step := range []struct {
		at         time.Duration
		e          events.Event
		suppressed uint64
		ok         bool
	}{
		{0, held("a", "x:1"), 0, true},
		{0, held("b", "x:1"), 0, true}, // another master
		{0, held("a", "y:1"), 0, true}, // another node
		{0, events.Event{Master: "a", Body: events.RouteFenced{Master: "x:1"}}, 0, true},    // another kind
		{59 * time.Second, held("a", "x:1"), 0, false},                                      // too early
		{59 * time.Second, held("a", "x:1"), 0, false},                                      //
		{60 * time.Second, held("a", "x:1"), 2, true},                                       // and it says so
		{61 * time.Second, held("a", "x:1"), 0, false},                                      // counted anew
		{time.Hour, held("a", "x:1"), 1, true},                                              //
		{2 * time.Hour, events.Event{Master: "a", Body: events.ConfigReloaded{}}, 0, true},  //
		{2 * time.Hour, events.Event{Master: "a", Body: events.ConfigReloaded{}}, 0, false}, // no subject: one
	} {
		suppressed, ok := c.admit(start.Add(step.at), step.e)
		if suppressed != step.suppressed || ok != step.ok {
			t.Errorf("at %v %v: %d %v; want %d %v", step.at, step.e.Body, suppressed, ok, step.suppressed, step.ok)
		}
	}
	if _, ok := (&cooldown{}).admit(start, held("a", "x:1")); !ok {
		t.Error("no cooldown suppresses")
	}
}

// What a cooldown remembers is bounded, and never keeps back what is new.
func TestCooldownIsBounded(t *testing.T) {
	c := cooldown{length: time.Hour}
	now := time.Unix(0, 0)
	for i := range 5 * maxSubjects {
		now = now.Add(time.Millisecond)
		if _, ok := c.admit(now, held("a", topology.Addr(fmt.Sprintf("n:%d", i)))); !ok {
			t.Fatalf("the first event of subject %d is suppressed", i)
		}
		if len(c.seen) > maxSubjects {
			t.Fatalf("%d subjects remembered", len(c.seen))
		}
	}
	if _, ok := c.admit(now, held("a", topology.Addr(fmt.Sprintf("n:%d", 5*maxSubjects-1)))); ok {
		t.Error("the last one was forgotten")
	}
}

func TestQueue(t *testing.T) {
	now := time.Unix(1000, 0)
	var q queue
	if d, wait := q.due(now); d != nil || wait != 0 {
		t.Errorf("empty: %v %v", d, wait)
	}
	a, b := &delivery{id: "a", at: now}, &delivery{id: "b", at: now}
	q.add(a)
	q.add(b)

	// The receiver is away: the oldest stays first, however long.
	longest := time.Duration(0)
	for i := range 20 {
		d, wait := q.due(now)
		if d != a || wait != 0 {
			t.Fatalf("try %d: %v after %v; want a at once", i, d, wait)
		}
		q.failed(now, a, false)
		_, wait = q.due(now)
		if most := min(restMin<<i, restMax); wait > most || wait < most*3/4-1 {
			t.Fatalf("rest %v after %d tries; want three to four quarters of %v", wait, i+1, most)
		}
		longest = max(longest, wait)
		now = now.Add(wait)
	}
	if longest > restMax || longest < restMax/2 {
		t.Errorf("longest rest %v; want about %v", longest, restMax)
	}

	// The receiver is there and cannot take a: after three tries b comes first.
	for i := range turns {
		if d, _ := q.due(now); d != a {
			t.Fatalf("try %d: %v; want a", i, d)
		}
		q.failed(now, a, true)
		now = now.Add(restMax)
	}
	if d, _ := q.due(now); d != b {
		t.Errorf("%v; want b after %d refusals of a", d, turns)
	}
	if !q.done(b) {
		t.Error("b was not there")
	}
	if d, wait := q.due(now); d != a || wait != 0 {
		t.Errorf("%v %v; want a at once after a success", d, wait)
	}
	if n := q.expire(now.Add(maxAge)); n != 1 || len(q.waiting) != 0 {
		t.Errorf("%d expired; want a", n)
	}
}

func TestQueueIsBounded(t *testing.T) {
	var q queue
	dropped := 0
	first := &delivery{}
	q.add(first)
	for range 3 * maxQueue {
		dropped += q.add(&delivery{})
	}
	if len(q.waiting) != maxQueue || dropped != 2*maxQueue+1 {
		t.Errorf("%d wait, %d dropped", len(q.waiting), dropped)
	}
	if q.done(first) {
		t.Error("the oldest was not the one to go")
	}
}

func TestSign(t *testing.T) {
	// printf '12.{"a":1}' | openssl dgst -sha256 -hmac s3cret
	const want = "sha256=cf57a8c6dc1fe2666db6b23216b0882ec98c7c75cec7cf9a8d471688cdc4bf4c"
	if got := Sign("s3cret", time.Unix(12, 0), []byte(`{"a":1}`)); got != want {
		t.Errorf("signature %s; want %s", got, want)
	}
}
