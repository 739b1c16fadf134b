package drill

import (
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// fitFacts are those of a group that may be drilled: master a:1, replica b:1,
// three Sentinels.
func fitFacts() Facts {
	f := Facts{Group: "orders", Known: 3, Writes: 10 << 20}
	for _, addr := range []topology.Addr{"s:1", "s:2", "s:3"} {
		f.Sentinels = append(f.Sentinels, SentinelFact{
			Addr: addr, RunID: string(addr), Master: "a:1", Epoch: 7, Flags: "master",
			DownAfter: 5 * time.Second, FailoverTimeout: time.Minute,
			Replicas: []ReplicaFact{{Addr: "b:1", Flags: "slave", Priority: 100, LinkUp: true}},
		})
	}
	f.Nodes = []NodeFact{
		{Addr: "a:1", RunID: "a", Role: topology.RoleMaster, Used: 1 << 20, KeepsAll: true},
		{Addr: "b:1", RunID: "b", Role: topology.RoleReplica, Priority: 100, LinkUp: true, Behind: 3 * time.Millisecond, Used: 1 << 20, KeepsAll: true},
	}
	f.Sidecar = SidecarFact{Addr: "127.0.0.1:6379", Serves: "a:1", Status: &SidecarStatus{Ready: true}}
	return f
}

func TestFindings(t *testing.T) {
	for name, tt := range map[string]struct {
		kind   string
		remote Remote
		spoil  func(f *Facts)
		want   []string // one of each finding
	}{
		"fit":             {"failover", Remote{}, func(*Facts) {}, nil},
		"fit for a hang":  {"hang", Remote{}, func(*Facts) {}, nil},
		"fit for a crash": {"crash", Remote{}, func(*Facts) {}, nil},
		"no admin server is no finding": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sidecar.Status, f.Sidecar.StatusErr = nil, "refused" }, nil,
		},
		"a listed node of somebody else's": {
			"rolling-restart",
			Remote{Supervised: true},
			func(f *Facts) {
				f.Nodes = append(f.Nodes, NodeFact{Addr: "x:1", RunID: "x", Role: topology.RoleMaster, KeepsAll: true})
			},
			[]string{"node x:1 is listed as a replica and says that it is master"},
		},
		"Sentinels of several groups": {
			"sentinel-loss",
			Remote{Supervised: true},
			func(f *Facts) { f.Sentinels[1].Masters = 2 },
			[]string{"Sentinel s:2 watches 2 masters"},
		},
		"a Sentinel does not answer": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sentinels[2] = SentinelFact{Addr: "s:3", Err: "refused"} },
			[]string{"Sentinel s:3: refused"},
		},
		"no majority answers": {
			"failover",
			Remote{},
			func(f *Facts) { f.Known = 7 },
			[]string{"3 of 7 known Sentinels answer", "3 of 7 known Sentinels name the same master"},
		},
		"no quorum": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sentinels[0].Quorum = "NOQUORUM 1 usable" },
			[]string{"s:1: SENTINEL CKQUORUM: NOQUORUM 1 usable"},
		},
		"another epoch": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sentinels[1].Epoch = 8 },
			[]string{"1 of 3 answering Sentinels name another master than a:1 or another epoch than 7"},
		},
		"a failover is under way": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sentinels[1].FailoverState = "reconf_slaves" },
			[]string{"s:2 leads a failover (reconf_slaves)"},
		},
		"the master is down": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sentinels[1].Flags = "s_down,master" },
			[]string{"s:2 calls the master down"},
		},
		"tilt": {
			"failover", Remote{}, func(f *Facts) { f.Sentinels[1].Tilt = true }, []string{"TILT"},
		},
		"a node does not answer": {
			"failover",
			Remote{},
			func(f *Facts) { f.Nodes = append(f.Nodes, NodeFact{Addr: "c:1", Err: "NOPERM"}) },
			[]string{"node c:1: NOPERM"},
		},
		"no replica": {
			"failover", Remote{}, func(f *Facts) { f.Nodes = f.Nodes[:1] }, []string{"no replica answers"},
		},
		"priority 0": {
			"failover", Remote{}, func(f *Facts) { f.Nodes[1].Priority = 0 }, []string{"replica-priority is 0"},
		},
		"link down": {
			"failover", Remote{}, func(f *Facts) { f.Nodes[1].LinkUp = false }, []string{"its link to the master is down"},
		},
		"link down, says a Sentinel": {
			"failover",
			Remote{},
			func(f *Facts) { f.Sentinels[2].Replicas[0].LinkUp = false },
			[]string{"Sentinel s:3 says that its link is down"},
		},
		"behind": {
			"failover", Remote{}, func(f *Facts) { f.Nodes[1].Behind = 1200 * time.Millisecond }, []string{"it is 1.2s behind"},
		},
		"far behind": {
			"failover", Remote{}, func(f *Facts) { f.Nodes[1].Behind = -1 }, []string{"it has not read in 2s"},
		},
		"one fit replica is enough": {
			"failover",
			Remote{},
			func(f *Facts) {
				f.Nodes = append(f.Nodes, NodeFact{Addr: "c:1", Role: topology.RoleReplica, LinkUp: true})
			}, nil,
		},
		"memory, and writes would be refused": {
			"failover",
			Remote{},
			func(f *Facts) { f.Nodes[0].Limit, f.Nodes[0].Evicts = 8<<20, "noeviction" },
			[]string{"everyone's writes would be refused (maxmemory-policy noeviction)"},
		},
		"memory of a replica, and keys would go": {
			"failover",
			Remote{},
			func(f *Facts) { f.Nodes[1].Limit, f.Nodes[1].Evicts = 8<<20, "allkeys-lru" },
			[]string{"node b:1 uses 1024 KiB of 8192 KiB, and the drill may write 10 MiB: keys of others would be evicted"},
		},
		"no sidecar": {
			"failover", Remote{}, func(f *Facts) { f.Sidecar = SidecarFact{Addr: "x:1", Err: "refused"} }, []string{"the sidecar at x:1: refused"},
		},
		"a sidecar of others": {
			"failover", Remote{}, func(f *Facts) { f.Sidecar.Serves = "" }, []string{"serves a node that is none of the group, and the Sentinels name a:1"},
		},
		"a sidecar behind the times": {
			"failover", Remote{}, func(f *Facts) { f.Sidecar.Serves = "b:1" }, []string{"serves b:1, and the Sentinels name a:1"},
		},
		"not ready": {
			"failover", Remote{}, func(f *Facts) { f.Sidecar.Status = &SidecarStatus{Reason: "holding"} }, []string{"not ready: holding"},
		},
		"rights": {
			"failover", Remote{}, func(f *Facts) { f.Sidecar.Refused = []string{"SET: NOPERM"} }, []string{"SET: NOPERM; give it the rights"},
		},
		"debug is refused": {
			"hang", Remote{}, func(f *Facts) { f.Nodes[0].Debug = "ERR not allowed" }, []string{"set enable-debug-command to yes"},
		},
		"debug is not needed": {"failover", Remote{}, func(f *Facts) { f.Nodes[0].Debug = "ERR not allowed" }, nil},
		"nothing on disk": {
			"crash", Remote{}, func(f *Facts) { f.Nodes[0].KeepsAll = false }, []string{"a:1 has no append-only file"},
		},
		"nothing on disk, and nobody minds": {
			"crash", Remote{RiskData: true}, func(f *Facts) { f.Nodes[0].KeepsAll = false }, nil,
		},
		"all at once": {
			"hang",
			Remote{},
			func(f *Facts) {
				f.Sentinels[0].Quorum = "NOQUORUM"
				f.Nodes[1].Priority = 0
				f.Nodes[0].Debug = "ERR"
				f.Sidecar.Serves = "b:1"
			},
			[]string{"NOQUORUM", "replica-priority", "serves b:1", "enable-debug-command"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := fitFacts()
			tt.spoil(&f)
			p, err := PlanOf(tt.kind, Variant{})
			if err != nil {
				t.Fatal(err)
			}
			got := f.Findings(p, tt.remote)
			if len(got) != len(tt.want) {
				t.Fatalf("found %q; want %d", got, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("found %q; want it to say %q", got[i], want)
				}
			}
		})
	}
}

// A plan names the nodes, what is expected and the worst case, and leaves no blank.
func TestDescribe(t *testing.T) {
	r := Remote{Group: "orders", Sidecar: "127.0.0.1:6379", Prefix: "drill:x:", CutCmd: "cut it", HealCmd: "heal it"}
	for _, p := range append(Plans(), variants(t)...) {
		if p.Needs.Own {
			continue
		}
		got := p.Describe(fitFacts(), r, p.Times, p.Expected(16, 5*time.Second))
		for _, want := range []string{
			"drill " + string(p.Kind) + ` of "orders"`, "a:1", "b:1", "127.0.0.1:6379", "drill:x:*",
			"down-after 5s", "steps", "1. ", "takes", "expected", "no ", "duplicated", "worst case",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the plan does not say %q:\n%s", p.Kind, want, got)
			}
		}
		if strings.ContainsAny(got, "{}") {
			t.Errorf("%s: the plan has a blank:\n%s", p.Kind, got)
		}
	}
	p, err := PlanOf("failover", Variant{})
	if err != nil {
		t.Fatal(err)
	}
	f := fitFacts()
	f.Sidecar.Status, f.Sidecar.StatusErr = nil, "refused"
	const want = `drill failover of "orders": a planned failover
  master     a:1
  replicas   b:1
  Sentinels  3 of 3, down-after 5s, failover-timeout 1m0s
  clients    through 127.0.0.1:6379, keys and channels drill:x:*, about 10 MiB
             the sidecar's admin server does not answer (refused): its route will not be in the timeline
  steps      1. SENTINEL FAILOVER: a replica of a:1 is promoted
             2. wait until the group is whole: a:1 is a replica some 10s later
             2 times
  takes      about 30s
  expected   pause at most 2000 ms; no errors, disconnects
  worst case Clients that do not go through a sidecar may write to the old master for some 10s more, and lose that
`
	slo := SLO{maxErrors: 0, maxDisconnects: 0, maxPause: 2000}
	if got := p.Describe(f, r, 2, slo); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestValidPrefix(t *testing.T) {
	for prefix, ok := range map[string]bool{"drill:": true, "a.b-c_d:": true, "": false, "a*": false, "a b": false, "x[1]": false} {
		if err := ValidPrefix(prefix); (err == nil) != ok {
			t.Errorf("%q: %v; want it accepted: %v", prefix, err, ok)
		}
	}
}

// Losses behind the losing side of a partition are excused for as long as a lease
// lasts, each with how far the promoted node was behind.
func TestLossesWithinTheLease(t *testing.T) {
	const s = time.Second
	ops := []Op{
		{Kind: OpWrite, Arg: 1, Begin: 10 * s, End: 10*s + s/2, Outcome: OK},
		{Kind: OpWrite, Arg: 2, Begin: 11 * s, End: 11 * s, Outcome: OK},
	}
	p, err := PlanOf("partition", Variant{Side: SideMinority})
	if err != nil {
		t.Fatal(err)
	}
	marks := []Mark{{At: 10 * s, What: MarkFault}, {At: 12 * s, What: MarkMaster, LagBytes: 70}}
	f := Final{Present: []map[int64]bool{{}}, Counters: []int64{0}, Lists: [][]int64{{}}}
	got := Check(History{Clients: [][]Op{ops}}, f, p.switches(marks, s))
	if got.Lost.Lag != 1 || got.Lost.Unexplained() != 1 {
		t.Errorf("lost %+v; want one within the lease excused, and one after it not", got.Lost)
	}
	if l := got.Losses; len(l) != 2 || l[0].LagBytes == nil || *l[0].LagBytes != 70 || l[1].LagBytes != nil {
		t.Errorf("losses %+v; want the first with 70 bytes of lag", got.Losses)
	}
}

// HAProxy's check logs in where the nodes want it, and never with what its
// configuration would read as something else.
func TestHAProxyLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		login Login
		want  string
		ok    bool
	}{
		"none":     {Login{}, "", true},
		"password": {Login{Password: "hush"}, "    tcp-check send AUTH\\ hush\\r\\n\n    tcp-check expect string +OK\n", true},
		"user":     {Login{"me", "hush"}, "    tcp-check send AUTH\\ me\\ hush\\r\\n\n    tcp-check expect string +OK\n", true},
		"a space":  {Login{Password: "two words"}, "", false},
		"a line":   {Login{Password: "a\nb"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := haproxyLogin(tt.login); got != tt.want || (err == nil) != tt.ok {
				t.Errorf("found %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
