package failover

import (
	"testing"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestInbox(t *testing.T) {
	b := newInbox()
	if got := b.take(nil); len(got) != 0 {
		t.Errorf("an empty inbox gave %v", got)
	}
	for epoch := range uint64(3) {
		b.put(route.Observed{Observation: topology.Observation{Epoch: epoch}})
	}
	b.put(route.NodeClosed{Addr: "a:1"})
	b.put(route.NodeClosed{Addr: "b:1"})
	got := b.take(nil)
	if len(got) != 3 || got[0] != (route.NodeClosed{Addr: "a:1"}) || got[1] != (route.NodeClosed{Addr: "b:1"}) {
		t.Fatalf("took %+v; want both closings in order, then one observation", got)
	}
	if o, ok := got[2].(route.Observed); !ok || o.Epoch != 2 {
		t.Errorf("took %+v; want the latest observation", got[2])
	}
	select {
	case <-b.wake:
	default:
		t.Error("the reader was not woken")
	}
	if got := b.take(got); len(got) != 0 {
		t.Errorf("taken twice: %v", got)
	}
}

// TestInboxFull checks that what is dropped leaves a reason to hold.
func TestInboxFull(t *testing.T) {
	b := newInbox()
	for range inboxCap + 10 {
		b.put(route.Signed{})
	}
	got := b.take(nil)
	if len(got) != inboxCap+1 {
		t.Fatalf("took %d events; want %d", len(got), inboxCap+1)
	}
	if _, ok := got[inboxCap].(route.Missed); !ok {
		t.Errorf("the last event is %T; want route.Missed", got[inboxCap])
	}
	b.put(route.Signed{})
	if got := b.take(got); len(got) != 1 {
		t.Errorf("took %d events after the overflow; want 1", len(got))
	}
}
