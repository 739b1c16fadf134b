package route

import (
	"slices"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What Sentinels say is told for whoever reads /readyz.
func TestDegradedBySentinels(t *testing.T) {
	for name, tt := range map[string]struct {
		obs  topology.Observation
		want []string
	}{
		"nobody was asked":  {want: []string{"no Sentinel has been asked yet"}},
		"all are silent":    {obs: topology.Observation{Group: "g", Known: 3}, want: []string{"no Sentinel answers"}},
		"the name is wrong": {obs: topology.Observation{Group: "g", Answering: 3}, want: []string{"none of the 3 Sentinels that answer knows this master"}},
		"no majority": {
			obs:  topology.Observation{Group: "g", Known: 5, Answering: 3, Support: 2, Master: "a:1", Epoch: 4},
			want: []string{"no majority: 2 of 5 known Sentinels name a:1 at epoch 4"},
		},
		"one is silent": {
			obs:  topology.Observation{Group: "g", Known: 3, Answering: 2, Support: 2, Agreed: true, Master: "a:1"},
			want: []string{"2 of 3 known Sentinels answer"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := New("g", Policy{}, Saved{})
			m.Step(0, Observed{tt.obs})
			if got := m.Degraded(); !slices.Equal(got, tt.want) {
				t.Errorf("degraded %q; want %q", got, tt.want)
			}
		})
	}
}

// Of several nodes that are silent the master is why nothing is served.
func TestDegradedTellsOfTheMasterFirst(t *testing.T) {
	m := New("g", Policy{}, Saved{})
	m.Step(0, Observed{topology.Observation{
		Group: "g", Known: 1, Answering: 1, Support: 1, Agreed: true, Master: "b:1", Replicas: []topology.Replica{{Addr: "a:1"}, {Addr: "c:1"}},
	}})
	for _, a := range []topology.Addr{"a:1", "b:1", "c:1"} {
		m.Step(0, NodeSeen{Addr: a, Err: "timeout"})
	}
	want := []string{"b:1 does not answer: timeout", "a:1 does not answer: timeout", "c:1 does not answer: timeout"}
	if got := m.Degraded(); !slices.Equal(got, want) {
		t.Errorf("degraded %q; want %q", got, want)
	}
}
