package sentinel

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	nodeA = topology.Addr("a:1")
	nodeB = topology.Addr("b:1")
	nodeC = topology.Addr("c:1")
)

// vote is a view of a Sentinel that answers, of a group of three.
func vote(n int, master topology.Addr, epoch uint64, edit ...func(*topology.View)) topology.View {
	v := topology.View{
		Sentinel: topology.Addr(fmt.Sprintf("s%d:26379", n)), RunID: fmt.Sprintf("id%d", n),
		Up: true, Subscribed: true, SentAt: time.Duration(n) * time.Second,
		Master: master, Epoch: epoch, RoleReported: topology.RoleMaster, OtherSentinel: 2, DownAfter: time.Second,
	}
	for _, e := range edit {
		e(&v)
	}
	return v
}

func down(v *topology.View)   { v.Up = false }
func tilted(v *topology.View) { v.Tilt = true }
func silent(v *topology.View) { *v = topology.View{Sentinel: v.Sentinel} }

func stranger(v *topology.View) {
	*v = topology.View{Sentinel: v.Sentinel, RunID: v.RunID, Up: true, SentAt: v.SentAt}
}

func others(n int) func(*topology.View) { return func(v *topology.View) { v.OtherSentinel = n } }

func runID(s string) func(*topology.View) { return func(v *topology.View) { v.RunID = s } }

func sent(d time.Duration) func(*topology.View) { return func(v *topology.View) { v.SentAt = d } }

func TestMerge(t *testing.T) {
	type views = []topology.View
	for name, tt := range map[string]struct {
		views views
		want  string
	}{
		"nobody": {nil, "none@0 agreed=false support=0 known=0 answering=0 max=none@0 conflict=false unanimous=false"},
		"all": {
			views{vote(1, nodeA, 1), vote(2, nodeA, 1), vote(3, nodeA, 1)},
			"a:1@1 agreed=true support=3 known=3 answering=3 max=a:1@1 conflict=false unanimous=true",
		},
		"majority beside an old word": {
			views{vote(1, nodeA, 2), vote(2, nodeA, 2), vote(3, nodeB, 1)},
			"a:1@2 agreed=true support=2 known=3 answering=3 max=a:1@2 conflict=false unanimous=false",
		},
		"the leader alone is early: it fences, the majority stays": {
			views{vote(1, nodeB, 2), vote(2, nodeA, 1), vote(3, nodeA, 1)},
			"a:1@1 agreed=true support=2 known=3 answering=3 max=b:1@2 conflict=false unanimous=false",
		},
		"silence is not assent": {
			views{vote(1, nodeA, 1), vote(2, nodeA, 1, down), vote(3, nodeA, 1, down)},
			"a:1@1 agreed=false support=1 known=3 answering=1 max=a:1@1 conflict=false unanimous=true",
		},
		"nobody answers any more": {
			views{vote(1, nodeA, 1, down), vote(2, nodeA, 1, down), vote(3, nodeA, 1, down)},
			"none@0 agreed=false support=0 known=3 answering=0 max=none@0 conflict=false unanimous=false",
		},
		"a tie goes to the higher epoch, unagreed": {
			views{vote(1, nodeA, 1), vote(2, nodeB, 2)},
			"b:1@2 agreed=false support=1 known=3 answering=2 max=b:1@2 conflict=false unanimous=false",
		},
		"same address, epochs differ": {
			views{vote(1, nodeA, 1), vote(2, nodeA, 2), vote(3, nodeA, 3)},
			"a:1@3 agreed=false support=1 known=3 answering=3 max=a:1@3 conflict=false unanimous=false",
		},
		"two addresses at one epoch": {
			views{vote(1, nodeA, 2), vote(2, nodeA, 2), vote(3, nodeB, 2)},
			"a:1@2 agreed=true support=2 known=3 answering=3 max=a:1@2 conflict=true unanimous=false",
		},
		"no conflict below the highest epoch": {
			views{vote(1, nodeA, 1), vote(2, nodeB, 1), vote(3, nodeC, 2)},
			"c:1@2 agreed=false support=1 known=3 answering=3 max=c:1@2 conflict=false unanimous=false",
		},
		"dead entries make a majority harder": {
			views{vote(1, nodeA, 1, others(5)), vote(2, nodeA, 1), vote(3, nodeA, 1)},
			"a:1@1 agreed=false support=3 known=6 answering=3 max=a:1@1 conflict=false unanimous=true",
		},
		"a tilted Sentinel supports nothing": {
			views{vote(1, nodeA, 1), vote(2, nodeA, 1, tilted), vote(3, nodeA, 1, silent)},
			"a:1@1 agreed=false support=1 known=3 answering=2 max=a:1@1 conflict=false unanimous=false",
		},
		"a tilted Sentinel still fences": {
			views{vote(1, nodeA, 1), vote(2, nodeA, 1), vote(3, nodeB, 2, tilted)},
			"a:1@1 agreed=true support=2 known=3 answering=3 max=b:1@2 conflict=false unanimous=false",
		},
		"one Sentinel at two addresses": {
			views{vote(1, nodeA, 1), vote(2, nodeA, 1, runID("id1"))},
			"a:1@1 agreed=false support=1 known=3 answering=1 max=a:1@1 conflict=false unanimous=true",
		},
		"of two addresses the newest word counts": {
			views{vote(1, nodeA, 1), vote(2, nodeB, 2, runID("id1")), vote(3, nodeB, 2)},
			"b:1@2 agreed=true support=2 known=3 answering=2 max=b:1@2 conflict=false unanimous=true",
		},
		"of two addresses the one that answers counts": {
			views{vote(1, nodeA, 1), vote(2, nodeB, 2, runID("id1"), down), vote(3, nodeA, 1)},
			"a:1@1 agreed=true support=2 known=3 answering=2 max=a:1@1 conflict=false unanimous=true",
		},
		"who forgot its peers is no majority of one": {
			views{vote(1, nodeB, 0, others(0)), vote(2, nodeA, 1, down), vote(3, nodeA, 1, silent)},
			"b:1@0 agreed=false support=1 known=3 answering=1 max=b:1@0 conflict=false unanimous=true",
		},
		"a group of one": {
			views{vote(1, nodeA, 0, others(0))},
			"a:1@0 agreed=true support=1 known=1 answering=1 max=a:1@0 conflict=false unanimous=true",
		},
		"who does not know the group has no vote": {
			views{vote(1, nodeA, 1, others(1)), vote(2, nodeA, 1, others(1)), vote(3, nodeA, 1, stranger)},
			"a:1@1 agreed=true support=2 known=2 answering=3 max=a:1@1 conflict=false unanimous=false",
		},
		"an even group needs more than half": {
			views{vote(1, nodeA, 1, others(3)), vote(2, nodeA, 1, others(3)), vote(3, nodeB, 2, others(3)), vote(4, nodeB, 2, others(3))},
			"b:1@2 agreed=false support=2 known=4 answering=4 max=b:1@2 conflict=false unanimous=false",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Merge(testGroup, tt.views)
			if brief(got) != tt.want {
				t.Errorf("got  %s\nwant %s", brief(got), tt.want)
			}
		})
	}
}

func TestMergeAgreedAt(t *testing.T) {
	for name, tt := range map[string]struct {
		views []topology.View
		want  time.Duration
	}{
		"second newest of three":       {[]topology.View{vote(1, nodeA, 1, sent(10)), vote(2, nodeA, 1, sent(30)), vote(3, nodeA, 1, sent(20))}, 20},
		"a hung one does not hold it":  {[]topology.View{vote(1, nodeA, 1, sent(1)), vote(2, nodeA, 1, sent(30)), vote(3, nodeA, 1, sent(20))}, 20},
		"older of two":                 {[]topology.View{vote(1, nodeA, 1, sent(10)), vote(2, nodeA, 1, sent(30)), vote(3, nodeB, 0, sent(40))}, 10},
		"third newest of five":         {[]topology.View{vote(1, nodeA, 1, sent(1), others(4)), vote(2, nodeA, 1, sent(2)), vote(3, nodeA, 1, sent(3)), vote(4, nodeA, 1, sent(4)), vote(5, nodeA, 1, sent(5))}, 3},
		"not agreed":                   {[]topology.View{vote(1, nodeA, 1, sent(10))}, 0},
		"a dead entry costs freshness": {[]topology.View{vote(1, nodeA, 1, sent(10), others(3)), vote(2, nodeA, 1, sent(30)), vote(3, nodeA, 1, sent(20))}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Merge(testGroup, tt.views).AgreedAt; got != tt.want {
				t.Errorf("AgreedAt = %d; want %d", got, tt.want)
			}
		})
	}
}

func TestMergeDetails(t *testing.T) {
	replicas := func(rs ...topology.Replica) func(*topology.View) {
		return func(v *topology.View) { v.Replicas = rs }
	}
	upB := topology.Replica{Addr: nodeB, Up: true, Flags: "slave", Offset: 5}
	o := Merge(testGroup, []topology.View{
		vote(1, nodeA, 1, replicas(upB, topology.Replica{Addr: nodeC, Up: false, Flags: "slave,s_down"}), func(v *topology.View) { v.DownAfter = 3 * time.Second }),
		vote(2, nodeA, 1, replicas(topology.Replica{Addr: nodeA, Up: true}, topology.Replica{Addr: nodeB, Up: true, Flags: "slave", Offset: 9}, topology.Replica{Addr: nodeC, Up: true, Flags: "slave"}),
			func(v *topology.View) { v.DownAfter = 2 * time.Second }),
		vote(3, nodeB, 0, replicas(topology.Replica{Addr: "stale:1", Up: true}), func(v *topology.View) { v.RoleReported = topology.RoleReplica }),
		vote(4, nodeA, 1, silent),
	})
	// One of two calls c down: a single Sentinel's word takes no witness away.
	want := []topology.Replica{{Addr: nodeB, Up: true, Flags: "slave", Offset: 9}, {Addr: nodeC, Up: true, Flags: "slave"}}
	if !reflect.DeepEqual(o.Replicas, want) {
		t.Errorf("replicas = %+v\nwant       %+v", o.Replicas, want)
	}
	if o.DownAfter != time.Second {
		t.Errorf("down-after = %v; want the least, 1s", o.DownAfter)
	}
	if o.Known != 4 || o.RoleReported != topology.RoleUnknown {
		t.Errorf("known %d, role %v; want 4 and unknown: two of four is no majority", o.Known, o.RoleReported)
	}
	o = Merge(testGroup, []topology.View{vote(1, nodeA, 1), vote(2, nodeA, 1), vote(3, nodeA, 1, func(v *topology.View) { v.RoleReported = topology.RoleReplica })})
	if o.RoleReported != topology.RoleMaster {
		t.Errorf("role = %v; want master: two of three say so", o.RoleReported)
	}
}

// TestMergeProperties draws views at random and checks what must always hold.
func TestMergeProperties(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	masters := []topology.Addr{"", nodeA, nodeB, nodeC}
	draw := func(n int) topology.View {
		v := vote(n, masters[rnd.IntN(len(masters))], rnd.Uint64N(3), others(rnd.IntN(5)), sent(time.Duration(rnd.IntN(100))))
		v.Up, v.Tilt = rnd.IntN(4) > 0, rnd.IntN(6) == 0
		if rnd.IntN(4) == 0 {
			v.RunID = fmt.Sprintf("id%d", rnd.IntN(3))
		}
		return v
	}
	for range 20_000 {
		var views []topology.View
		for n := range rnd.IntN(7) {
			views = append(views, draw(n))
		}
		o := Merge(testGroup, views)
		shuffled := slices.Clone(views)
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := Merge(testGroup, shuffled); !sameVerdict(o, again) {
			t.Fatalf("seed %d: order matters: %s and %s of %+v", seed, brief(o), brief(again), views)
		}
		if o.Agreed && (2*o.Support <= o.Known || o.AgreedAt > newest(views)) {
			t.Fatalf("seed %d: agreed without a majority, or before it was asked: %s of %+v", seed, brief(o), views)
		}
		if o.Support > o.Answering || o.Epoch > o.MaxEpoch {
			t.Fatalf("seed %d: impossible: %s of %+v", seed, brief(o), views)
		}
		if !o.Agreed {
			continue
		}
		// One more view, whatever it says, never agrees on another pair; nor
		// does a Sentinel of the group that goes silent.
		more := draw(50)
		if p := Merge(testGroup, append(slices.Clone(views), more)); p.Agreed && !names(more, p.Master, p.Epoch) && (p.Master != o.Master || p.Epoch != o.Epoch) {
			t.Fatalf("seed %d: a view of %s@%d turned %s into %s", seed, more.Master, more.Epoch, brief(o), brief(p))
		}
		stale := vote(51, nodeC, 0, others(0), runID("stale"))
		if o.Epoch == 0 && o.Master == nodeC {
			continue
		}
		if p := Merge(testGroup, append(slices.Clone(views), stale)); p.Agreed && (p.Master != o.Master || p.Epoch != o.Epoch) {
			t.Fatalf("seed %d: a stale view turned %s into %s", seed, brief(o), brief(p))
		}
	}
}

func sameVerdict(a, b topology.Observation) bool {
	// MaxAddr is any of several in a conflict.
	return brief(topology.Observation{Master: a.Master, Epoch: a.Epoch, Agreed: a.Agreed, Support: a.Support, Known: a.Known, Answering: a.Answering, MaxEpoch: a.MaxEpoch, Conflict: a.Conflict}) ==
		brief(topology.Observation{Master: b.Master, Epoch: b.Epoch, Agreed: b.Agreed, Support: b.Support, Known: b.Known, Answering: b.Answering, MaxEpoch: b.MaxEpoch, Conflict: b.Conflict}) &&
		a.AgreedAt == b.AgreedAt
}

func newest(views []topology.View) time.Duration {
	var d time.Duration
	for _, v := range views {
		d = max(d, v.SentAt)
	}
	return d
}

// A replica is down when most of those that list it say so.
func TestMergeReplicaDown(t *testing.T) {
	says := func(id int, up bool) topology.View {
		flags := "slave"
		if !up {
			flags = "slave,s_down"
		}
		return vote(id, nodeA, 1, func(v *topology.View) {
			v.Replicas = []topology.Replica{{Addr: nodeC, Up: up, Flags: flags}}
		})
	}
	gone := func(v topology.View) topology.View { v.Up = false; return v }
	late := func(v topology.View) topology.View { v.SentAt += recentlySilent + 1; return v }
	for name, tt := range map[string]struct {
		views []topology.View
		want  topology.Replica
	}{
		// Three Sentinels die one after another; the last has not noticed yet that
		// the replica was dead before them.
		"one of two, a third just fell silent":   {[]topology.View{gone(says(1, false)), says(2, false), says(3, true)}, topology.Replica{Addr: nodeC, Flags: "slave,s_down"}},
		"one of two, a third is silent for long": {[]topology.View{gone(says(1, false)), late(says(2, false)), late(says(3, true))}, topology.Replica{Addr: nodeC, Up: true, Flags: "slave"}},
		"silence alone takes no witness away":    {[]topology.View{gone(says(1, false)), says(2, true), says(3, true)}, topology.Replica{Addr: nodeC, Up: true, Flags: "slave"}},
		"one of three":                           {[]topology.View{says(1, false), says(2, true), says(3, true)}, topology.Replica{Addr: nodeC, Up: true, Flags: "slave"}},
		"two of three":                           {[]topology.View{says(1, false), says(2, true), says(3, false)}, topology.Replica{Addr: nodeC, Flags: "slave,s_down"}},
		"all":                                    {[]topology.View{says(1, false), says(2, false)}, topology.Replica{Addr: nodeC, Flags: "slave,s_down"}},
		"the only voter":                         {[]topology.View{says(1, false)}, topology.Replica{Addr: nodeC, Flags: "slave,s_down"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Merge(testGroup, tt.views).Replicas; len(got) != 1 || got[0] != tt.want {
				t.Errorf("replicas %+v; want %+v", got, tt.want)
			}
		})
	}
}
