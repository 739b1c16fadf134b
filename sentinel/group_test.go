package sentinel

import (
	"slices"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// TestSimulatedGroup follows sentineltest's group through a failover, a
// Sentinel cut off with the old truth, and its return.
func TestSimulatedGroup(t *testing.T) {
	g := sentineltest.New(t, sentineltest.Options{Name: testGroup})
	f, r := follow(t, Options{Sentinels: g.SentinelAddrs()[:1]})
	before := r.waitMaster(t, "all three agree", any3)
	r.wait(t, "all are subscribed to", allSubscribed(3))
	f.SetFast(true)
	if err := g.Failover(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	after := r.waitMaster(t, "all three follow", func(o topology.Observation) bool { return o.Support == 3 && o.Master != before.Master })
	if after.Master != g.MasterAddr() || after.Epoch != g.Epoch() || after.Epoch <= before.Epoch {
		t.Errorf("agreed on %s; the group says %s@%d, before %s", brief(after), g.MasterAddr(), g.Epoch(), brief(before))
	}
	r.mu.Lock()
	for _, kind := range []topology.SignKind{topology.SignSelected, topology.SignPromoting, topology.SignPromoted, topology.SignSwitched} {
		if !slices.ContainsFunc(r.signs, func(s topology.Sign) bool { return s.Kind == kind && s.Candidate == after.Master }) {
			t.Errorf("no sign %s of %s among %+v", kind, after.Master, r.signs)
		}
	}
	r.mu.Unlock()

	g.Partition(0)
	if err := g.Failover(t.Context(), before.Master); err != nil {
		t.Fatal(err)
	}
	third := r.waitMaster(t, "the two agree without the third", func(o topology.Observation) bool {
		return o.Support == 2 && o.Master == before.Master
	})
	if third.Epoch <= after.Epoch || third.Unanimous || third.Known != 3 {
		t.Errorf("observation %s after %s", brief(third), brief(after))
	}
	g.Heal()
	r.waitMaster(t, "the third has learned", func(o topology.Observation) bool { return o.Support == 3 && o.Epoch == third.Epoch })

	// A Sentinel that comes back with an old truth changes nothing.
	g.Sentinel(2).SetMaster(after.Master, after.Epoch)
	r.wait(t, "one names the old pair", func(r *recorder) bool { return r.last.Support == 2 })
	o := r.waitMaster(t, "the agreement is renewed", func(o topology.Observation) bool { return o.AgreedAt > third.AgreedAt+50*time.Millisecond })
	if o.Master != third.Master || o.MaxEpoch != third.Epoch || o.Conflict {
		t.Errorf("observation %s; want %s undisturbed", brief(o), brief(third))
	}
}
