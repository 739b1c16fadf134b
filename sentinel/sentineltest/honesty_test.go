package sentineltest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The questions that a real server and ours must answer alike. "{name}" stands
// for the group's name.
const sentinelQuestions = `
HELLO
HELLO 4
HELLO x
HELLO 3 AUTH a
HELLO 3 FOO
PING
PING x
PING x y
ECHO hi
ROLE
ROLE x
CLIENT
CLIENT ID
CLIENT ID x
CLIENT GETNAME
CLIENT SETNAME x
CLIENT GETNAME
CLIENT FOO
CLIENT SETNAME
GET x
FOO a b
QUIT
SELECT 0
AUTH x
AUTH u x
SENTINEL
SENTINEL FOO
SENTINEL MYID
SENTINEL MYID x
SENTINEL GET-MASTER-ADDR-BY-NAME {name}
SENTINEL GET-MASTER-ADDR-BY-NAME nope
SENTINEL GET-MASTER-ADDR-BY-NAME
SENTINEL MASTER
SENTINEL MASTER {name}
SENTINEL MASTER nope
SENTINEL MASTERS
SENTINEL REPLICAS {name}
SENTINEL SLAVES {name}
SENTINEL REPLICAS nope
SENTINEL SENTINELS {name}
SENTINEL SENTINELS nope
SENTINEL CKQUORUM {name}
SENTINEL CKQUORUM nope
SENTINEL FAILOVER nope
SENTINEL RESET nope
PUBLISH a b
PUBLISH __sentinel__:hello b
SUBSCRIBE
SUBSCRIBE a
PSUBSCRIBE b
PING
PING x
ROLE
UNSUBSCRIBE
UNSUBSCRIBE
PUNSUBSCRIBE b
PING`

const masterQuestions = `
HELLO
PING
ROLE
CLIENT ID
CLIENT UNBLOCK 99
CLIENT UNBLOCK 99 X
CLIENT KILL TYPE x
CLIENT NO-EVICT ON
SELECT 1
SELECT 16
SELECT x
SET k v
GET k
GET nope
FOO a
MULTI
SET k w
ROLE
CLIENT ID
EXEC
EXEC
MULTI
FOO
EXEC
MULTI
BLPOP nolist 0
EXEC
BLPOP nolist 0.01
XREAD BLOCK 5 STREAMS nostream $
PUBLISH a b
SUBSCRIBE a
PING
UNSUBSCRIBE a
READONLY
REPLICAOF a
WAIT 0 1
RESET
PING`

const replicaQuestions = `
HELLO
ROLE
GET k
SET k v
MULTI
SET k v
EXEC
SUBSCRIBE a
GET k
UNSUBSCRIBE
PUBLISH a b
PING`

// TestAnswersAsRedisDoes compares both protocols, key by key.
func TestAnswersAsRedisDoes(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t, redistest.Options{DownAfter: 10 * time.Second}) // a node that is down has other keys
	fake := sentineltest.New(t, sentineltest.Fast())
	for name, tt := range map[string]struct {
		questions  string
		real, fake topology.Addr
	}{
		"sentinel": {sentinelQuestions, redis.SentinelAddrs()[0], fake.SentinelAddrs()[0]},
		"master":   {masterQuestions, redis.Nodes()[0].Addr(), fake.NodeAddrs()[0]},
		"replica":  {replicaQuestions, redis.Nodes()[1].Addr(), fake.NodeAddrs()[1]},
	} {
		for _, proto := range []string{"2", "3"} {
			t.Run(name+"/resp"+proto, func(t *testing.T) {
				a, b := dial(t, tt.real), dial(t, tt.fake)
				if x, y := a.do("HELLO", proto).shape(), b.do("HELLO", proto).shape(); x != y {
					t.Errorf("HELLO %s:\nredis  %s\nfake   %s", proto, x, y)
				}
				for q := range strings.Lines(strings.TrimSpace(tt.questions)) {
					args := strings.Fields(strings.ReplaceAll(q, "{name}", fake.Name()))
					if x, y := a.do(args...).shape(), b.do(args...).shape(); x != y {
						t.Errorf("%s:\nredis  %s\nfake   %s", strings.TrimSpace(q), x, y)
					}
				}
				for _, section := range []string{"sentinel", "replication"} {
					x, y := infoKeys(a.do("INFO", section)), infoKeys(b.do("INFO", section))
					if !slices.Equal(x, y) {
						t.Errorf("INFO %s:\nredis  %q\nfake   %q", section, x, y)
					}
				}
			})
		}
	}
}

// infoKeys returns an INFO reply's type and keys, in order.
func infoKeys(v value) []string {
	keys := []string{string(v.kind)}
	for line := range strings.Lines(v.text) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key != "" && !strings.HasPrefix(key, "txt") {
			keys = append(keys, key)
		}
	}
	return keys
}

// compared are the events of a failover whose order does not hang on a timer.
var compared = []string{
	"+new-epoch", "+try-failover", "+vote-for-leader", "+elected-leader", "+failover-state-select-slave", "+selected-slave",
	"+failover-state-send-slaveof-noone", "+failover-state-wait-promotion", "+promoted-slave", "+failover-state-reconf-slaves",
	"+slave-reconf-sent", "+slave-reconf-inprog", "+slave-reconf-done", "+failover-end", "+config-update-from", "+switch-master", "+slave",
}

// TestEventsAsSentinelSends compares a failover's events, on the leader and on
// another Sentinel, payloads included.
func TestEventsAsSentinelSends(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t, redistest.Options{Replicas: 1, DownAfter: 10 * time.Second, FailoverTimeout: 10 * time.Second})
	o := sentineltest.Fast()
	o.Replicas = 1
	fake := sentineltest.New(t, o)

	var nodes []topology.Addr
	for _, n := range redis.Nodes() {
		nodes = append(nodes, n.Addr())
	}
	want := failoverEvents(t, redis.SentinelAddrs(), nodes)
	got := failoverEvents(t, fake.SentinelAddrs(), fake.NodeAddrs())
	for i, who := range []string{"leader", "other"} {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("events of the %s:\nredis\n\t%s\nfake\n\t%s", who, strings.Join(want[i], "\n\t"), strings.Join(got[i], "\n\t"))
		}
	}
}

func failoverEvents(t *testing.T, sentinels, nodes []topology.Addr) [2][]string {
	t.Helper()
	recorders := [2]*recorder{record(t, sentinels[0]), record(t, sentinels[1])}
	c := dial(t, sentinels[0])
	leaderID := c.do("SENTINEL", "MYID").text
	c.want("+OK", "SENTINEL", "FAILOVER", "mymaster")
	var lists [2][]string
	names := strings.NewReplacer(leaderID, "LEADER", spaced(sentinels[0]), "LEADER-ADDR",
		string(nodes[0]), "OLD", spaced(nodes[0]), "OLD-ADDR", string(nodes[1]), "NEW", spaced(nodes[1]), "NEW-ADDR")
	for i, r := range recorders {
		for _, e := range r.until("+slave ", 1) {
			if name, _, _ := strings.Cut(e, " "); slices.Contains(compared, name) {
				lists[i] = append(lists[i], names.Replace(e))
			}
		}
	}
	return lists
}

func spaced(a topology.Addr) string { return strings.Replace(string(a), ":", " ", 1) }
