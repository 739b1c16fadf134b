package endpoint

import (
	"fmt"
	"strings"
	"testing"
)

const (
	ok       = "+OK"
	notFound = "-ERR No such master with that name"
)

// TestReplies asks every command in both protocols. Each case is a conversation of
// its own: lines to say, the reply to the last, in RESP2 and RESP3 ("" is the same).
func TestReplies(t *testing.T) {
	master := func(head, epoch, quorum, downAfter string) string {
		keys := []string{
			"name", "orders", "ip", "10.0.0.1", "port", "6379", "runid", idOf("orders"), "flags", "master", "link-pending-commands", "0",
			"link-refcount", "1", "last-ping-sent", "0", "last-ok-ping-reply", "0", "last-ping-reply", "0", "down-after-milliseconds", downAfter,
			"info-refresh", "0", "role-reported", "master", "role-reported-time", "60000", "config-epoch", epoch, "num-slaves", "0",
			"num-other-sentinels", "0", "quorum", quorum, "failover-timeout", "180000", "parallel-syncs", "1",
		}
		for _, k := range keys {
			head += fmt.Sprintf(" $%d %s", len(k), k)
		}
		return head
	}
	refused := func(what string) string {
		return "-ERR '" + what + "' is refused by the proxy: ask a Sentinel itself (sentinelproxy)"
	}
	for _, tt := range []struct{ say, resp2, resp3 string }{
		{"PING", "+PONG", ""},
		{"ping hi", "$2 hi", ""},
		{"PING a b", "-ERR wrong number of arguments for 'ping' command", ""},
		{"AUTH secret", ok, ""},
		{"AUTH app secret", ok, ""},
		{"AUTH", "-ERR wrong number of arguments for 'auth' command", ""},
		{"AUTH a b c", "-ERR syntax error", ""},
		{"AUTH app secret;ACL WHOAMI", "$3 app", ""},
		{"ACL WHOAMI", "$7 default", ""},
		{"ACL SETUSER x", "-ERR unknown subcommand 'SETUSER'. Try ACL HELP.", ""},
		{"HELLO 2 AUTH app secret SETNAME me;CLIENT GETNAME", "$2 me", ""},
		{"HELLO", "*12 $6 server $5 redis $7 version $6 7.0.15 $5 proto :2 $2 id :4 $4 mode $8 sentinel $7 modules *0", "%6 $6 server $5 redis $7 version $6 7.0.15 $5 proto :3 $2 id :4 $4 mode $8 sentinel $7 modules *0"},
		{"HELLO 4", "-NOPROTO unsupported protocol version", ""},
		{"HELLO 03", "-ERR Protocol version is not an integer or out of range", ""},
		{"HELLO +3", "-ERR Protocol version is not an integer or out of range", ""},
		{"CLIENT TRACKING ON REDIRECT +5", "-ERR value is not an integer or out of range", ""},
		{"HELLO x", "-ERR Protocol version is not an integer or out of range", ""},
		{"HELLO 3 SETNAME me AUTH app secret FOO;CLIENT GETNAME", "$2 me", ""},
		{"HELLO 2 AUTH app secret SETNAME;ACL WHOAMI", "$3 app", ""},
		{"HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'", ""},
		{"HELLO 3 SETNAME \x01", "-" + strings.TrimPrefix(badName, "-"), ""},
		{"CLIENT SETNAME " + strings.Repeat("n", maxName) + ";CLIENT GETNAME", fmt.Sprintf("$%d ", maxName) + strings.Repeat("n", maxName), ""},
		{"CLIENT SETNAME " + strings.Repeat("n", maxName+1), "-" + longName, ""},
		{"CLIENT SETNAME " + strings.Repeat("n", maxName+1) + ";CLIENT GETNAME", "$-1", "_"},
		{"HELLO 3 SETNAME " + strings.Repeat("n", maxName+1), "-" + longName, ""},
		{"HELLO 3 AUTH " + strings.Repeat("u", maxName+1) + " x", "-" + noUser, ""},
		{"AUTH " + strings.Repeat("u", maxName+1) + " x", "-" + noUser, ""},
		{"AUTH " + strings.Repeat("u", maxName+1) + " x;ACL WHOAMI", "$7 default", ""},
		{"AUTH " + strings.Repeat("p", maxName+1), ok, ""}, // of a password nothing is kept
		{"CLIENT ID", ":4", ""},
		{"CLIENT GETNAME", "$-1", "_"},
		{"CLIENT SETNAME me;CLIENT GETNAME", "$2 me", ""},
		{"CLIENT SETINFO LIB-NAME go-redis", ok, ""},
		{"CLIENT SETINFO lib-ver 9", ok, ""},
		{"CLIENT SETINFO x y", "-ERR Unrecognized option 'x'", ""},
		{"CLIENT SETINFO x", "-ERR wrong number of arguments for 'client|setinfo' command", ""},
		{"CLIENT TRACKING ON OPTIN", ok, ""},
		{"CLIENT TRACKING ON BCAST PREFIX a NOLOOP", ok, ""},
		{"CLIENT TRACKING ON FOO", "-ERR syntax error", ""},
		{"CLIENT TRACKING MAYBE", "-ERR syntax error", ""},
		{"CLIENT CACHING YES", "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled", ""},
		{"CLIENT TRACKING ON OPTIN;CLIENT CACHING YES", ok, ""},
		{"CLIENT TRACKING ON OPTIN;CLIENT GETREDIR", ":0", ""},
		{"CLIENT TRACKING ON;CLIENT TRACKING OFF;CLIENT GETREDIR", ":-1", ""},
		{"CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type auto", "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.", ""},
		{"CLIENT NO-TOUCH ON", ok, ""},
		{"CLIENT NO-EVICT off", ok, ""},
		{"CLIENT KILL ID 1", "-ERR unknown subcommand 'KILL'. Try CLIENT HELP.", ""},
		{"CLIENT", "-ERR wrong number of arguments for 'client' command", ""},
		{"ROLE", "*2 $8 sentinel *3 $6 orders $8 sessions $6 hidden", ""},
		{"ROLE x", "-ERR wrong number of arguments for 'role' command", ""},
		{"COMMAND", "*0", ""},
		{"COMMAND COUNT", ":0", ""},
		{"COMMAND DOCS", "*0", "%0"},
		{"COMMAND INFO get", "*1 *-1", "*1 _"},
		{"GET a", "-ERR unknown command 'GET', with args beginning with: 'a'", ""},
		{"FOO", "-ERR unknown command 'FOO', with args beginning with:", ""},
		{"FOO " + strings.Repeat("y", 200) + " z", "-ERR unknown command 'FOO', with args beginning with: '" + strings.Repeat("y", 128) + "'", ""},
		{"PUBLISH a b", "-ERR Only HELLO messages are accepted by Sentinel instances.", ""},
		{"PUBLISH __sentinel__:hello b", refused("PUBLISH __sentinel__:hello"), ""},
		{"SHUTDOWN", refused("SHUTDOWN"), ""},
		{"QUIT", ok, ""},
		{"CLIENT SETNAME me;RESET", "+RESET", ""},
		{"CLIENT SETNAME me;RESET;CLIENT GETNAME", "$-1", "$-1"},

		{"SENTINEL", "-ERR wrong number of arguments for 'sentinel' command", ""},
		{"SENTINEL FOO", "-ERR unknown subcommand 'FOO'. Try SENTINEL HELP.", ""},
		{"SENTINEL MYID", "$40 " + idOf("test"), ""},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME orders", "*2 $8 10.0.0.1 $4 6379", ""},
		{"sentinel get-master-addr-by-name sessions", "*2 $8 10.0.0.1 $4 6380", ""},
		{"SENTINEL GET-PRIMARY-ADDR-BY-NAME orders", "*2 $8 10.0.0.1 $4 6379", ""},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME nope", "*-1", "_"},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME hidden", "-ERR master 'hidden' has no TCP listener to send clients to; set sentinel_announce to host:port (sentinelproxy)", ""},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME", "-ERR wrong number of arguments for 'sentinel|get-master-addr-by-name' command", ""},
		{"SENTINEL MASTER orders", master("*40", "0", "0", "0"), master("%20", "0", "0", "0")},
		{"observe;SENTINEL MASTER orders", master("*40", "7", "2", "5000"), master("%20", "7", "2", "5000")},
		{"SENTINEL MASTER nope", notFound, ""},
		{"SENTINEL MASTER hidden", "-ERR master 'hidden' has no TCP listener to send clients to; set sentinel_announce to host:port (sentinelproxy)", ""},
		{"SENTINEL REPLICAS orders", "*0", ""},
		{"SENTINEL SLAVES orders", "*0", ""},
		{"SENTINEL REPLICAS nope", notFound, ""},
		{"SENTINEL SENTINELS orders", "*0", ""},
		{"SENTINEL SENTINELS nope", notFound, ""},
		{"SENTINEL CKQUORUM nope", notFound, ""},
		{"SENTINEL CKQUORUM orders", "-NOQUORUM 0 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master. Not enough available Sentinels to reach the majority and authorize a failover", ""},
		{"observe;SENTINEL CKQUORUM orders", "+OK 3 usable Sentinels. Quorum and failover authorization can be reached", ""},
		{"observe;lose 1;SENTINEL CKQUORUM orders", "+OK 2 usable Sentinels. Quorum and failover authorization can be reached", ""},
		{"observe;lose 2;SENTINEL CKQUORUM orders", "-NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master. Not enough available Sentinels to reach the majority and authorize a failover", ""},
		{"SENTINEL PENDING-SCRIPTS", "*0", ""},
		{"SENTINEL IS-MASTER-DOWN-BY-ADDR 10.9.9.9 06379 1 *", "-ERR value is not an integer or out of range", ""},
		{"SENTINEL IS-MASTER-DOWN-BY-ADDR 10.9.9.9 6379 x *", "-ERR value is not an integer or out of range", ""},
		{"SENTINEL IS-MASTER-DOWN-BY-ADDR 10.9.9.9 6379 1 *", "*3 :0 $1 * :0", ""},
		{"SENTINEL FAILOVER orders", refused("SENTINEL FAILOVER"), ""},
		{"SENTINEL RESET *", refused("SENTINEL RESET"), ""},
		{"SENTINEL SET orders quorum 3", refused("SENTINEL SET"), ""},
		{"SENTINEL MONITOR a b 1 2", refused("SENTINEL MONITOR"), ""},

		{"SUBSCRIBE +switch-master +sdown", "*3 $9 subscribe $14 +switch-master :1 *3 $9 subscribe $6 +sdown :2", ">3 $9 subscribe $14 +switch-master :1 >3 $9 subscribe $6 +sdown :2"},
		{"PSUBSCRIBE *", "*3 $10 psubscribe $1 * :1", ">3 $10 psubscribe $1 * :1"},
		{"SUBSCRIBE a;PSUBSCRIBE a", "*3 $10 psubscribe $1 a :2", ">3 $10 psubscribe $1 a :2"},
		{"SUBSCRIBE a;SUBSCRIBE a", "*3 $9 subscribe $1 a :1", ">3 $9 subscribe $1 a :1"},
		{"SUBSCRIBE", "-ERR wrong number of arguments for 'subscribe' command", ""},
		{"SUBSCRIBE a;PING", "*2 $4 pong $0", "+PONG"},
		{"SUBSCRIBE a;PING x", "*2 $4 pong $1 x", "$1 x"},
		{"SUBSCRIBE a;ROLE", "-ERR Can't execute 'role': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", "*2 $8 sentinel *3 $6 orders $8 sessions $6 hidden"},
		{"SUBSCRIBE a;GET x", "-ERR unknown command 'GET', with args beginning with: 'x'", ""},
		{"UNSUBSCRIBE", "*3 $11 unsubscribe $-1 :0", ">3 $11 unsubscribe _ :0"},
		{"SUBSCRIBE a b;UNSUBSCRIBE", "*3 $11 unsubscribe $1 a :1 *3 $11 unsubscribe $1 b :0", ">3 $11 unsubscribe $1 a :1 >3 $11 unsubscribe $1 b :0"},
		{"PSUBSCRIBE a b;PUNSUBSCRIBE b", "*3 $12 punsubscribe $1 b :1", ">3 $12 punsubscribe $1 b :1"},
		{"SUBSCRIBE a;UNSUBSCRIBE a;ROLE", "*2 $8 sentinel *3 $6 orders $8 sessions $6 hidden", ""},
		{"SSUBSCRIBE a", "-ERR unknown command 'SSUBSCRIBE', with args beginning with: 'a'", ""},
	} {
		for _, resp3 := range []bool{false, true} {
			want := tt.resp2
			if resp3 && tt.resp3 != "" {
				want = tt.resp3
			}
			t.Run(fmt.Sprintf("%s resp3=%v", tt.say, resp3), func(t *testing.T) {
				s := testSession()
				s.resp3 = resp3
				got := ""
				for line := range strings.SplitSeq(tt.say, ";") {
					if !stage(s, line) {
						got = ask(s, line)
					}
				}
				if got != want {
					t.Errorf("answers\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

// stage changes the world behind s, if line says so.
func stage(s *session, line string) bool {
	g := s.dir.find("orders")
	switch word, arg, _ := strings.Cut(line, " "); word {
	case "observe":
		o := agreed("orders")
		g.observed.Store(&o)
		r := routeAt(7)
		g.route.Store(&r)
	case "lose":
		o := agreed("orders")
		for i := range int(arg[0] - '0') {
			o.Views[i].Up = false
		}
		g.observed.Store(&o)
	default:
		return false
	}
	return true
}

// Every master is listed, each at its own listener; one that nobody can be sent to
// is left out.
func TestSeveralMasters(t *testing.T) {
	s := testSession()
	got := ask(s, "SENTINEL MASTERS")
	if !strings.HasPrefix(got, "*2 *40 $4 name $6 orders") || !strings.Contains(got, "$4 name $8 sessions $2 ip $8 10.0.0.1 $4 port $4 6380") {
		t.Errorf("SENTINEL MASTERS: %s", got)
	}
	info := ask(s, "INFO sentinel")
	for _, want := range []string{
		"# Sentinel sentinel_masters:2 ", "master0:name=orders,status=ok,address=10.0.0.1:6379,slaves=0,sentinels=1",
		"master1:name=sessions,status=ok,address=10.0.0.1:6380,slaves=0,sentinels=1",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("INFO sentinel: %s\nwant %s", info, want)
		}
	}
	if all := ask(s, "INFO"); !strings.Contains(all, "redis_mode:sentinel") || !strings.Contains(all, "run_id:"+idOf("test")) || !strings.Contains(all, "# Sentinel") {
		t.Errorf("INFO: %s", all)
	}
	if none := ask(s, "INFO nope"); none != "$0" {
		t.Errorf("INFO nope: %s", none)
	}
}

// One client's subscriptions have a limit, by number and by size.
func TestSubscriptionsAreBounded(t *testing.T) {
	s := testSession()
	for i := range 3 * maxNames {
		ask(s, fmt.Sprintf("SUBSCRIBE c%d", i))
		ask(s, fmt.Sprintf("PSUBSCRIBE p%d", i))
	}
	if n := s.listening(); n != maxNames {
		t.Errorf("%d subscriptions; want %d", n, maxNames)
	}
	if got := ask(s, "SUBSCRIBE more"); got != "-ERR too many subscriptions of one client (sentinelproxy)" {
		t.Errorf("one more: %s", got)
	}
	s = testSession()
	long := strings.Repeat("x", maxNameBytes/2)
	ask(s, "SUBSCRIBE "+long+"a")
	ask(s, "SUBSCRIBE "+long+"b")
	if n := s.listening(); n != 1 {
		t.Errorf("%d long names; want 1", n)
	}
	ask(s, "UNSUBSCRIBE")
	if s.channels.bytes != 0 {
		t.Errorf("%d bytes counted of no names", s.channels.bytes)
	}
}
