package sentinel

import (
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestParseInstance(t *testing.T) {
	for s, want := range map[string]instance{
		"master orders 10.0.0.1 6379": {
			kind: "master", name: "orders", at: endpoint{"10.0.0.1", 6379}, group: "orders", master: endpoint{"10.0.0.1", 6379},
		},
		"master orders 10.0.0.1 6379 #quorum 2/2": {
			kind: "master", name: "orders", at: endpoint{"10.0.0.1", 6379}, group: "orders", master: endpoint{"10.0.0.1", 6379}, tail: "#quorum 2/2",
		},
		"slave 10.0.0.2:6379 10.0.0.2 6379 @ orders 10.0.0.1 6379": {
			kind: "slave", name: "10.0.0.2:6379", at: endpoint{"10.0.0.2", 6379}, group: "orders", master: endpoint{"10.0.0.1", 6379},
		},
		"slave [fd00::2]:6379 fd00::2 6379 @ orders redis-0.redis 6379 new reported role is master": {
			kind: "slave", name: "[fd00::2]:6379", at: endpoint{"fd00::2", 6379}, group: "orders", master: endpoint{"redis-0.redis", 6379},
			tail: "new reported role is master",
		},
		"sentinel 0f1e 10.0.0.3 26379 @ orders 10.0.0.1 6379": {
			kind: "sentinel", name: "0f1e", at: endpoint{"10.0.0.3", 26379}, group: "orders", master: endpoint{"10.0.0.1", 6379},
		},
	} {
		got, ok := parseInstance(s)
		if !ok || got != want {
			t.Errorf("parseInstance(%q) = %+v, %v; want %+v", s, got, ok, want)
		}
		if got.String() != s {
			t.Errorf("parseInstance(%q) prints %q", s, got.String())
		}
	}
	for _, s := range []string{
		"", "master", "master orders 10.0.0.1", "master orders 10.0.0.1 x", "master orders 10.0.0.1 06379", "master orders 10.0.0.1 65536",
		"master orders 10.0.0.1 6379 ", "master  10.0.0.1 6379", "replica a b 1 @ orders c 2",
		"slave a b 1", "slave a b 1 orders c 2 d", "slave a b 1 @ orders c", "slave a b 1 @ orders c -2",
	} {
		if got, ok := parseInstance(s); ok {
			t.Errorf("parseInstance(%q) = %+v; want none", s, got)
		}
	}
}

func TestReadEvent(t *testing.T) {
	const (
		replica = "slave 10.0.0.2:6379 10.0.0.2 6379 @ orders 10.0.0.1 6379"
		master  = "master orders 10.0.0.1 6379"
		old     = topology.Addr("10.0.0.1:6379")
		next    = topology.Addr("10.0.0.2:6379")
	)
	rules := eventRules()
	for name, tt := range map[string]struct {
		channel, payload string
		ours             bool
		want             topology.Sign
		reach            reach
	}{
		"objectively down":       {"+odown", master + " #quorum 2/2", true, topology.Sign{Kind: topology.SignDown, Candidate: old}, reachAll},
		"up again":               {"-odown", master, true, topology.Sign{Kind: topology.SignUp, Candidate: old}, reachOne},
		"selected":               {"+selected-slave", replica, true, topology.Sign{Kind: topology.SignSelected, Candidate: next, Old: old}, reachAll},
		"selected, second event": {"+failover-state-send-slaveof-noone", replica, true, topology.Sign{Kind: topology.SignSelected, Candidate: next, Old: old}, reachAll},
		"promoting":              {"+failover-state-wait-promotion", replica, true, topology.Sign{Kind: topology.SignPromoting, Candidate: next, Old: old}, reachAll},
		"promoted":               {"+promoted-slave", replica, true, topology.Sign{Kind: topology.SignPromoted, Candidate: next, Old: old}, reachAll},
		"switched":               {"+switch-master", "orders 10.0.0.1 6379 10.0.0.2 6379", true, topology.Sign{Kind: topology.SignSwitched, Candidate: next, Old: old}, reachAll},
		"IPv6 switched":          {"+switch-master", "orders fd00::1 6379 FD00::2 6379", true, topology.Sign{Kind: topology.SignSwitched, Candidate: "[fd00::2]:6379", Old: "[fd00::1]:6379"}, reachAll},
		"told by a Sentinel":     {"+config-update-from", "sentinel 0f1e 10.0.0.3 26379 @ orders 10.0.0.1 6379", true, topology.Sign{Kind: topology.SignSwitched, Old: old}, reachAll},
		"demoted":                {"+convert-to-slave", "slave 10.0.0.1:6379 10.0.0.1 6379 @ orders 10.0.0.2 6379", true, topology.Sign{Kind: topology.SignDemoted, Candidate: old}, reachAll},
		"aborted":                {"-failover-abort-not-elected", master, true, topology.Sign{Kind: topology.SignAborted, Old: old}, reachAll},
		"aborted for the slave":  {"-failover-abort-slave-timeout", master, true, topology.Sign{Kind: topology.SignAborted, Old: old}, reachAll},
		"new epoch":              {"+new-epoch", "7", true, topology.Sign{Kind: topology.SignRepoll}, reachAll},
		"tilt":                   {"+tilt", "#tilt mode entered", true, topology.Sign{Kind: topology.SignRepoll}, reachOne},
		"monitor":                {"+monitor", master + " quorum 2", true, topology.Sign{Kind: topology.SignRepoll, Candidate: old}, reachAll},
		"subjectively down":      {"+sdown", replica, true, topology.Sign{Kind: topology.SignRepoll, Candidate: next}, reachOne},
		"new Sentinel":           {"+sentinel", "sentinel 0f1e 10.0.0.3 26379 @ orders 10.0.0.1 6379", true, topology.Sign{Kind: topology.SignRepoll}, reachOne},
		"hello":                  {helloChannel, "10.0.0.3,26379,0f1e,7,orders,10.0.0.2,6379,7", true, topology.Sign{Kind: topology.SignRepoll, Candidate: next}, reachOne},
		"unknown event":          {"+news", replica, true, topology.Sign{Kind: topology.SignRepoll}, reachOne},
		"garbled":                {"+selected-slave", "slave ? ? ?", true, topology.Sign{Kind: topology.SignRepoll}, reachAll},
		"garbled switch":         {"+switch-master", "orders", true, topology.Sign{Kind: topology.SignRepoll}, reachAll},

		"another group":                {"+odown", "master carts 10.0.0.1 6379", false, topology.Sign{}, 0},
		"another group's switch":       {"+switch-master", "carts 10.0.0.1 6379 10.0.0.2 6379", false, topology.Sign{}, 0},
		"another group's replica":      {"+selected-slave", "slave orders 10.0.0.2 6379 @ carts 10.0.0.1 6379", false, topology.Sign{}, 0},
		"another group's hello":        {helloChannel, "10.0.0.3,26379,0f1e,7,carts,10.0.0.2,6379,7", false, topology.Sign{}, 0},
		"unknown event of no group":    {"+news", "x", false, topology.Sign{}, 0},
		"unknown event, another group": {"+news", "master carts 10.0.0.1 6379", false, topology.Sign{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, r, ours := readEvent(rules, testGroup, tt.channel, tt.payload)
			if ours != tt.ours {
				t.Fatalf("ours = %v; want %v", ours, tt.ours)
			}
			if !ours {
				return
			}
			tt.want.Event, tt.want.Group = tt.channel, testGroup
			if got != tt.want {
				t.Errorf("sign = %+v\nwant   %+v", got, tt.want)
			}
			if r.reach != tt.reach {
				t.Errorf("reach = %v; want %v", r.reach, tt.reach)
			}
		})
	}
}

// FuzzParse holds every parser to: no panic, and what parses prints back the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"master orders 10.0.0.1 6379 #quorum 2/2",
		"slave [fd00::2]:6379 fd00::2 6379 @ orders redis-0 6379 tail  two",
		"sentinel 0f1e 10.0.0.3 26379 @ orders 10.0.0.1 6379",
		"orders 10.0.0.1 6379 10.0.0.2 6379",
		"10.0.0.3,26379,0f1e,7,orders,10.0.0.2,6379,7",
		"", " ", "@", "master  a 1", "a 0 1 2 3",
	} {
		f.Add("+selected-slave", s)
		f.Add("+switch-master", s)
		f.Add(helloChannel, s)
		f.Add("+other", s)
	}
	rules := eventRules()
	f.Fuzz(func(t *testing.T, channel, s string) {
		if in, ok := parseInstance(s); ok && in.String() != s {
			t.Errorf("instance %q prints %q", s, in)
		}
		if sw, ok := parseSwitched(s); ok && sw.String() != s {
			t.Errorf("switch %q prints %q", s, sw)
		}
		if h, ok := parseHello(s); ok && h.String() != s {
			t.Errorf("hello %q prints %q", s, h)
		}
		sign, _, ours := readEvent(rules, testGroup, channel, s)
		if ours && sign.Kind.String() == "invalid" {
			t.Errorf("event %q %q: invalid kind", channel, s)
		}
		for _, a := range []topology.Addr{sign.Candidate, sign.Old} {
			if host, port := a.Split(); a != "" && (port == 0 || host == "") && ours {
				// JoinAddr keeps odd host names; an address must still split.
				t.Errorf("event %q %q: address %q does not split", channel, s, string(a))
			}
		}
	})
}
