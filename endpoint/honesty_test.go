package endpoint

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// questions are asked of a real Sentinel too; the answers must have the same types,
// keys, order, nulls and errors. "{name}" stands for the group's name.
const questions = `
HELLO
HELLO 4
HELLO x
HELLO 3 AUTH a
HELLO 3 FOO
HELLO 3 AUTH default x
HELLO {proto} AUTH default x SETNAME me
CLIENT GETNAME
PING
PING x
PING x y
ECHO hi
ROLE
ROLE x
CLIENT
CLIENT ID
CLIENT ID x
CLIENT INFO
CLIENT SETNAME y
CLIENT GETNAME
CLIENT SETNAME
CLIENT FOO
CLIENT MAINT_NOTIFICATIONS ON
CLIENT NO-EVICT on
CLIENT CACHING YES
CLIENT TRACKING ON OPTIN
CLIENT CACHING YES
CLIENT CACHING NO
CLIENT GETREDIR
CLIENT TRACKING OFF
CLIENT GETREDIR
CLIENT TRACKING x
GET x
FOO a b
SELECT 0
MONITOR
PUBSUB CHANNELS
CONFIG GET x
ACL WHOAMI
AUTH
AUTH default x
AUTH a b c
PUBLISH a b
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
SENTINEL REPLICAS nope
SENTINEL SLAVES nope
SENTINEL SENTINELS nope
SENTINEL CKQUORUM {name}
SENTINEL CKQUORUM nope
SENTINEL PENDING-SCRIPTS
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *
SENTINEL SET
SENTINEL MONITOR
SENTINEL RESET
SUBSCRIBE
SSUBSCRIBE a
SUBSCRIBE a
PSUBSCRIBE b
GET x
PING
PING x
ROLE
UNSUBSCRIBE
UNSUBSCRIBE
PUNSUBSCRIBE b
PING`

// differ are the answers that are another than a real Sentinel's on purpose;
// docs/sentinel-endpoint.md says why.
const differ = `
AUTH x => +OK
AUTH u x => +OK
CLIENT SETINFO lib-name x => +OK
CLIENT NO-TOUCH on => +OK
COMMAND => *[]
SENTINEL SENTINELS {name} => *[]
SENTINEL REPLICAS {name} => *[]
SENTINEL GET-PRIMARY-ADDR-BY-NAME {name} => *[$ $ ]
SENTINEL FAILOVER {name} => -ERR 'SENTINEL FAILOVER' is refused by the proxy: ask a Sentinel itself (sentinelproxy)
SENTINEL DEBUG => -ERR 'SENTINEL DEBUG' is refused by the proxy: ask a Sentinel itself (sentinelproxy)
RESET => +RESET
QUIT => +OK`

func TestAnswersAsSentinelDoes(t *testing.T) {
	g := redistest.New(t, redistest.Options{Replicas: 1, DownAfter: patience})
	s := startServer(t, Options{Masters: []Master{{Name: g.Name(), Listeners: []net.Addr{tcp("127.0.0.1:6379")}}}})
	s.Observe(agreed(g.Name()))
	for _, proto := range []string{"2", "3"} {
		t.Run("resp"+proto, func(t *testing.T) {
			words := strings.NewReplacer("{name}", g.Name(), "{proto}", proto)
			redis, ours := dial(t, string(g.SentinelAddrs()[0])), dial(t, s.addr())
			redis.do("HELLO", proto)
			ours.do("HELLO", proto)
			for q := range strings.Lines(strings.TrimSpace(questions)) {
				args := strings.Fields(words.Replace(q))
				if args[0] == "HELLO" && len(args) > 1 && args[1] == "3" && proto == "2" {
					continue // it would change the protocol
				}
				if x, y := shape(redis.do(args...)), shape(ours.do(args...)); x != y {
					t.Errorf("%s:\nredis  %s\nours   %s", strings.TrimSpace(q), x, y)
				}
			}
			for line := range strings.Lines(strings.TrimSpace(differ)) {
				q, want, _ := strings.Cut(strings.TrimSpace(line), " => ")
				args := strings.Fields(words.Replace(q))
				got := shape(ours.do(args...))
				if got != want {
					t.Errorf("%s: %s; want %s", q, got, want)
				}
				if args[0] == "SENTINEL" && args[1] == "FAILOVER" {
					continue // there it would be done
				}
				if x := shape(redis.do(args...)); x == got {
					t.Errorf("%s: a real Sentinel answers %s too: it belongs to the questions", q, x)
				}
			}
			redis, ours = dial(t, string(g.SentinelAddrs()[0])), dial(t, s.addr())
			redis.do("HELLO", proto)
			ours.do("HELLO", proto)
			for _, section := range []string{"sentinel", "nope"} {
				x, y := infoKeys(string(redis.do("INFO", section).Str)), infoKeys(string(ours.do("INFO", section).Str))
				if !slices.Equal(x, y) {
					t.Errorf("INFO %s:\nredis  %q\nours   %q", section, x, y)
				}
			}
			all := infoKeys(string(redis.do("INFO").Str))
			for _, k := range infoKeys(string(ours.do("INFO").Str)) {
				if !slices.Contains(all, k) && k != "sentinelproxy" {
					t.Errorf("INFO shows %q, which a Sentinel does not", k)
				}
			}
		})
	}
}

// infoKeys returns an INFO reply's keys, in order, and what a master's line holds.
func infoKeys(text string) []string {
	var keys []string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key == "" {
			continue
		}
		keys = append(keys, key)
		if key == "master0" {
			for kv := range strings.SplitSeq(value, ",") {
				k, _, _ := strings.Cut(kv, "=")
				keys = append(keys, "master0."+k)
			}
		}
	}
	return keys
}
