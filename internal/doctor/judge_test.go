package doctor

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// healthy is a group of three Sentinels, a master and two replicas, as a test may break it.
func healthy() (Options, Facts) {
	sentinels := []topology.Addr{"10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"}
	o := Options{Master: config.Master{
		Name: "m", Sentinels: sentinels, MaxClients: 10_000,
		Follow: config.FollowMajority, Demote: config.DemoteOff, Hold: config.Hold{Timeout: config.Wait{Auto: true}},
	}}
	f := Facts{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, a := range sentinels {
		s := Sentinel{
			Addr: a, Configured: true, Master: "10.0.1.1:6379", Epoch: 7, Quorum: 2, Others: 2, DownAfter: 5 * time.Second,
			Replicas: []Entry{{Addr: "10.0.1.2:6379", Priority: 100}, {Addr: "10.0.1.3:6379", Priority: 100}},
			Clock:    Clock{Known: true, Ahead: time.Second},
		}
		for _, p := range sentinels {
			if p != a {
				s.Peers = append(s.Peers, Entry{Addr: p})
			}
		}
		f.Sentinels = append(f.Sentinels, s)
	}
	settings := func() map[string]string {
		return map[string]string{
			"min-replicas-to-write": "1", "replica-read-only": "yes", "maxclients": "10000", "timeout": "0",
			"client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", "repl-backlog-size": "1048576",
		}
	}
	f.Nodes = []Node{
		{Addr: "10.0.1.1:6379", Role: topology.RoleMaster, Offset: 1 << 30, LagKnown: true, Lags: []Lag{{Addr: "10.0.1.2:6379"}, {Addr: "10.0.1.3:6379"}}, Version: "7.0.15", Config: settings()},
	}
	for _, a := range []topology.Addr{"10.0.1.2:6379", "10.0.1.3:6379"} {
		f.Nodes = append(f.Nodes, Node{Addr: a, Role: topology.RoleReplica, Master: "10.0.1.1:6379", LinkUp: true, Offset: 1<<30 - 100, Version: "7.0.15", Config: settings()})
	}
	return o, f
}

// told is what a healthy group is told of, for people to know.
var told = []string{"info down-after", "info sentinel-agreement"}

// findings returns each as "severity check subject", without what a healthy group is told.
func findings(list []Finding) []string {
	var all []string
	for _, f := range list {
		if s := strings.TrimSpace(f.Severity.String() + " " + f.Check + " " + f.Subject); !slices.Contains(told, s) {
			all = append(all, s)
		}
	}
	return all
}

// A healthy group is told how long a failover takes, and on whom the Sentinels agree.
func TestJudgeHealthy(t *testing.T) {
	o, f := healthy()
	var got []string
	for _, one := range Judge(o, f, 30) {
		got = append(got, strings.TrimSpace(one.Severity.String()+" "+one.Check+" "+one.Subject))
	}
	if !slices.Equal(got, told) {
		t.Errorf("got %q; want %q", got, told)
	}
}

// Each breaks a healthy group in one way; the findings that it must lead to, and no other.
func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		breaks func(o *Options, f *Facts)
		want   []string
	}{
		"healthy": {func(*Options, *Facts) {}, nil},
		"one sentinel is gone": {func(_ *Options, f *Facts) {
			f.Sentinels[2] = Sentinel{Addr: "10.0.0.3:26379", Configured: true, Err: "refused"}
			f.Sentinels[0].Peers[1].Down, f.Sentinels[1].Peers[1].Down = true, true
		}, []string{"warning sentinel-dead-entry 10.0.0.3:26379", "warning sentinel-spare", "warning sentinel-unreachable 10.0.0.3:26379"}},
		"two are gone": {func(_ *Options, f *Facts) {
			for i := 1; i < 3; i++ {
				f.Sentinels[i] = Sentinel{Addr: f.Sentinels[i].Addr, Configured: true, Err: "refused"}
				f.Sentinels[0].Peers[i-1].Down = true
			}
		}, []string{
			"error sentinel-majority", "error sentinel-quorum", "warning sentinel-dead-entry 10.0.0.2:26379", "warning sentinel-dead-entry 10.0.0.3:26379",
			"warning sentinel-unreachable 10.0.0.2:26379", "warning sentinel-unreachable 10.0.0.3:26379",
		}},
		"dead entries outnumber": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Others = 5
			}
		}, []string{"error sentinel-majority", "info sentinel-count"}},
		"none answers": {func(_ *Options, f *Facts) {
			f.Nodes = nil
			f.Sentinels = []Sentinel{{Addr: "10.0.0.1:26379", Configured: true, Err: "refused"}}
		}, []string{"error sentinel-majority", "warning sentinel-unreachable 10.0.0.1:26379", "info clock"}},
		"unknown name": {func(_ *Options, f *Facts) {
			f.Sentinels[0] = Sentinel{Addr: "10.0.0.1:26379", Configured: true, Unknown: true}
		}, []string{"error sentinel-unknown-master 10.0.0.1:26379", "warning sentinel-spare"}},
		"one names another": {func(_ *Options, f *Facts) { f.Sentinels[0].Master = "10.0.1.2:6379" }, []string{"warning sentinel-agreement"}},
		"no majority names one": {func(_ *Options, f *Facts) {
			f.Sentinels[0].Master, f.Sentinels[1].Master = "10.0.1.2:6379", "10.0.1.3:6379"
			f.Sentinels[2].Epoch = 9
		}, []string{"error sentinel-agreement"}},
		"epochs":          {func(_ *Options, f *Facts) { f.Sentinels[0].Epoch = 6 }, []string{"warning sentinel-epoch"}},
		"quorum too high": {func(_ *Options, f *Facts) { f.Sentinels[0].Quorum = 4 }, []string{"error sentinel-quorum"}},
		"quorums differ":  {func(_ *Options, f *Facts) { f.Sentinels[0].Quorum = 1 }, []string{"warning sentinel-quorum"}},
		"a data node for a sentinel": {func(_ *Options, f *Facts) {
			f.Sentinels[2].Err = "ERR unknown command 'SENTINEL', with args beginning with: 'MASTER' 'm'"
		}, []string{"error sentinel-is-none 10.0.0.3:26379", "warning announce-unreachable 10.0.0.3:26379", "warning sentinel-spare"}},
		"tilt": {func(_ *Options, f *Facts) { f.Sentinels[0].Tilt = true }, []string{"warning sentinel-tilt 10.0.0.1:26379"}},
		"one configured": {func(_ *Options, f *Facts) {
			f.Sentinels[1].Configured, f.Sentinels[2].Configured = false, false
		}, []string{"warning sentinel-single", "info sentinel-not-configured 10.0.0.2:26379", "info sentinel-not-configured 10.0.0.3:26379"}},
		"a sentinel's address": {func(_ *Options, f *Facts) {
			f.Sentinels[0].Peers[0].Addr = "127.0.0.1:26379"
			f.Sentinels = append(f.Sentinels, Sentinel{Addr: "127.0.0.1:26379", Err: "refused"})
		}, []string{"error announce-loopback 127.0.0.1:26379"}},
		"a sentinel out of reach": {func(_ *Options, f *Facts) {
			f.Sentinels[2].Err, f.Sentinels[2].Configured = "timeout", false
		}, []string{"warning announce-unreachable 10.0.0.3:26379", "warning sentinel-spare"}},
		"down-after long": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].DownAfter = 30 * time.Second
			}
		}, []string{"warning down-after"}},
		"down-after differs": {func(_ *Options, f *Facts) { f.Sentinels[0].DownAfter = 6 * time.Second }, []string{"warning down-after"}},
		"hold too short":     {func(o *Options, _ *Facts) { o.Master.Hold.Timeout = config.Wait{For: time.Second} }, []string{"warning hold-timeout"}},
		"master out of reach": {func(_ *Options, f *Facts) {
			f.Nodes[0] = Node{Addr: f.Nodes[0].Addr, Err: "timeout"}
		}, []string{"error master-unreachable 10.0.1.1:6379"}},
		"protected": {func(_ *Options, f *Facts) {
			f.Nodes[1] = Node{Addr: f.Nodes[1].Addr, Err: "DENIED Redis is running in protected mode"}
		}, []string{"error replica-unreachable 10.0.1.2:6379"}},
		"no account": {func(_ *Options, f *Facts) {
			for i := range f.Nodes {
				f.Nodes[i] = Node{Addr: f.Nodes[i].Addr, Err: "NOAUTH Authentication required."}
			}
		}, []string{"warning master-unreachable 10.0.1.1:6379", "warning replica-unreachable 10.0.1.2:6379", "warning replica-unreachable 10.0.1.3:6379"}},
		"loopback master": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Master = "127.0.0.1:6379"
			}
			f.Nodes[0] = Node{Addr: "127.0.0.1:6379", Err: "refused"}
			f.Nodes[1].Master, f.Nodes[2].Master = "127.0.0.1:6379", "127.0.0.1:6379"
		}, []string{"error announce-loopback 127.0.0.1:6379"}},
		"no replicas": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Replicas = nil
			}
			f.Nodes = f.Nodes[:1]
		}, []string{"error replicas"}},
		"priorities": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Replicas[0].Priority, f.Sentinels[i].Replicas[1].Priority = 0, 0
			}
		}, []string{"error replica-priority"}},
		"links": {func(_ *Options, f *Facts) {
			f.Nodes[1].LinkUp, f.Nodes[2].LinkUp = false, false
		}, []string{"error replicas", "warning replica-link 10.0.1.2:6379", "warning replica-link 10.0.1.3:6379"}},
		"a dead replica": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Replicas[0].Down = true
			}
			f.Nodes[1] = Node{Addr: f.Nodes[1].Addr, Err: "refused"}
		}, []string{"warning replica-down 10.0.1.2:6379"}},
		"lag":               {func(_ *Options, f *Facts) { f.Nodes[1].Offset -= 64 << 20 }, []string{"warning replica-lag 10.0.1.2:6379"}},
		"silence":           {func(_ *Options, f *Facts) { f.Nodes[0].Lags[0].Seconds = 40 }, []string{"warning replica-lag 10.0.1.2:6379"}},
		"two masters":       {func(_ *Options, f *Facts) { f.Nodes[1].Role = topology.RoleMaster }, []string{"error two-masters 10.0.1.2:6379"}},
		"a chain":           {func(_ *Options, f *Facts) { f.Nodes[1].Master = "10.0.1.3:6379" }, []string{"warning replica-of 10.0.1.2:6379"}},
		"writable replica":  {func(_ *Options, f *Facts) { f.Nodes[2].Config["replica-read-only"] = "no" }, []string{"warning replica-read-only 10.0.1.3:6379"}},
		"min replicas of 2": {func(_ *Options, f *Facts) { f.Nodes[1].Config["min-replicas-to-write"] = "2" }, []string{"warning min-replicas-to-write 10.0.1.2:6379"}},
		"min replicas of 3": {func(_ *Options, f *Facts) { f.Nodes[0].Config["min-replicas-to-write"] = "3" }, []string{"error min-replicas-to-write 10.0.1.1:6379"}},
		"full":              {func(_ *Options, f *Facts) { f.Nodes[0].Clients = 9500 }, []string{"warning maxclients 10.0.1.1:6379"}},
		"dedicated": {func(o *Options, f *Facts) {
			o.Master.Dedicated, f.Nodes[0].Config["maxclients"] = true, "5000"
		}, []string{"warning maxclients 10.0.1.1:6379"}},
		"output limit": {func(_ *Options, f *Facts) {
			f.Nodes[0].Config["client-output-buffer-limit"] = "normal 1048576 0 0 slave 0 0 0 pubsub 0 0 0"
		}, []string{"warning client-output-buffer-limit 10.0.1.1:6379"}},
		"versions":         {func(_ *Options, f *Facts) { f.Nodes[0].Version = "6.2.0" }, []string{"warning versions"}},
		"polling":          {func(_ *Options, f *Facts) { f.Sentinels[0].Denied = []string{"+psubscribe"} }, []string{"warning rights-sentinel 10.0.0.1:26379"}},
		"sentinel rights":  {func(_ *Options, f *Facts) { f.Sentinels[0].Denied = []string{"+sentinel|replicas"} }, []string{"error rights-sentinel 10.0.0.1:26379"}},
		"orders":           {func(_ *Options, f *Facts) { f.Sentinels[0].Denied = []string{"+sentinel|failover"} }, []string{"warning rights-sentinel 10.0.0.1:26379"}},
		"minimal account":  {func(_ *Options, f *Facts) { f.Nodes[0].Denied = []string{"+info", "+config|get", "+command"} }, []string{"info not-seen 10.0.1.1:6379", "info rights-redis 10.0.1.1:6379"}},
		"no right to role": {func(_ *Options, f *Facts) { f.Nodes[0].Denied = []string{"+role"} }, []string{"error rights-redis 10.0.1.1:6379"}},
		"no right to demote": {func(o *Options, f *Facts) {
			o.Master.Demote, f.Nodes[2].Denied = config.DemoteAuto, []string{"+replicaof"}
		}, []string{"error rights-redis 10.0.1.3:6379"}},
		"clock": {func(_ *Options, f *Facts) {
			f.Nodes[0].Clock = Clock{Known: true, Ahead: -time.Minute}
			f.Nodes[1].Clock = Clock{Known: true, Ahead: 3 * time.Second, Error: 2 * time.Second} // too far to tell
		}, []string{"warning clock 10.0.1.1:6379"}},
		"a sentinel's clock":   {func(_ *Options, f *Facts) { f.Sentinels[1].Clock.Ahead = 1100 * time.Millisecond }, []string{"warning clock 10.0.0.2:26379"}},
		"as far as is allowed": {func(_ *Options, f *Facts) { f.Sentinels[1].Clock = Clock{Known: true, Ahead: -time.Second} }, nil},
		"our clock": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Clock.Ahead = 90 * time.Second
			}
			f.Nodes[0].Clock = Clock{Known: true, Ahead: 91 * time.Second}
		}, []string{"warning clock"}},
		"each another way": {func(_ *Options, f *Facts) {
			f.Sentinels[0].Clock.Ahead, f.Sentinels[1].Clock.Ahead, f.Sentinels[2].Clock.Known = time.Minute, -time.Minute, false
		}, []string{"warning clock 10.0.0.1:26379", "warning clock 10.0.0.2:26379"}},
		"no clock": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Clock = Clock{}
			}
		}, []string{"info clock"}},
		"certificates": {func(_ *Options, f *Facts) {
			end := func(d time.Duration) *x509.Certificate { return &x509.Certificate{NotAfter: f.At.Add(d)} }
			f.Chains = []Chain{{"10.0.1.1:6379", []*x509.Certificate{end(1000 * time.Hour), end(240 * time.Hour)}}, {"10.0.1.2:6379", []*x509.Certificate{end(10000 * time.Hour)}}}
			f.Files = []File{{Leg: "tls", Path: "/crt", Ends: f.At.Add(-time.Hour)}, {Leg: "tls", Path: "/key", Err: "is no key"}}
		}, []string{"error tls-expiry /crt", "error tls-file /key", "warning tls-expiry 10.0.1.1:6379", "info tls-expiry 10.0.1.2:6379"}},
		"the master is a replica": {func(_ *Options, f *Facts) {
			f.Nodes[0].Role, f.Nodes[0].Master, f.Nodes[0].LinkUp = topology.RoleReplica, "10.0.1.2:6379", true
		}, []string{"error master-role 10.0.1.1:6379"}},
		"two sentinels": {func(_ *Options, f *Facts) {
			f.Sentinels = f.Sentinels[:2]
			for i := range f.Sentinels {
				f.Sentinels[i].Others, f.Sentinels[i].Peers = 1, []Entry{{Addr: f.Sentinels[1-i].Addr}}
			}
		}, []string{"warning sentinel-count"}},
		"four sentinels": {func(_ *Options, f *Facts) {
			fourth := f.Sentinels[2]
			fourth.Addr = "10.0.0.4:26379"
			f.Sentinels = append(f.Sentinels, fourth)
			for i := range f.Sentinels {
				f.Sentinels[i].Others = 3
			}
		}, []string{"info sentinel-count"}},
		"one is not configured": {func(_ *Options, f *Facts) { f.Sentinels[2].Configured = false }, []string{"info sentinel-not-configured 10.0.0.3:26379"}},
		"some are never promoted": {func(_ *Options, f *Facts) {
			for i := range f.Sentinels {
				f.Sentinels[i].Replicas[0].Priority = 0
			}
		}, []string{"info replica-priority"}},
		"no hold": {func(o *Options, _ *Facts) { o.Master.Hold.Timeout = config.Wait{} }, []string{"info hold-timeout"}},
		"nothing to see": {func(_ *Options, f *Facts) {
			f.Nodes[1].Denied = []string{"+info", "+config|get", "+time"}
		}, []string{"info not-seen 10.0.1.2:6379"}},
		"late": {func(_ *Options, f *Facts) { f.Late = true }, []string{"warning deadline"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := healthy()
			tt.breaks(&o, &f)
			list := Judge(o, f, 30)
			if got := findings(list); !slices.Equal(got, tt.want) {
				t.Errorf("got %q; want %q", got, tt.want)
			}
			for _, one := range list {
				if one.Reason == "" || one.Severity > Info && one.Remedy == "" {
					t.Errorf("%s has reason %q and remedy %q", one.Check, one.Reason, one.Remedy)
				}
			}
		})
	}
}

// A clock is read from INFO or TIME, at best to half of the way there and back.
func TestClockOf(t *testing.T) {
	asked := time.Unix(1_700_000_000, 0)
	came := asked.Add(200 * time.Millisecond)
	ahead := Clock{Known: true, Ahead: 3 * time.Second, Error: 100 * time.Millisecond}
	there := asked.Add(100*time.Millisecond + 3*time.Second)
	for name, tt := range map[string]struct{ got, want Clock }{
		"INFO":           {clockOf(map[string]string{"server_time_usec": "1700000003100000"}, asked, came), ahead},
		"INFO, old":      {clockOf(map[string]string{}, asked, came), Clock{}},
		"TIME":           {clockOfTime(answer{v: []any{"1700000003", "100000"}}, asked, came), ahead},
		"TIME, denied":   {clockOfTime(answer{err: errSpent}, asked, came), Clock{}},
		"TIME, nonsense": {clockOfTime(answer{v: []any{"x", "1"}}, asked, came), Clock{}},
		"both alike":     {clockAt(there, asked, came), ahead},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %+v; want %+v", name, tt.got, tt.want)
		}
	}
}
