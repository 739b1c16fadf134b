package proxy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

var (
	oddRounds = flag.Int("neighbours.rounds", 100, "odd clients of the neighbours test")
	oddSeed   = flag.Uint64("neighbours.seed", 0, "seed of the neighbours test; 0: one by the clock")
)

// TestNeighbours has clients send what is odd, and come and go, beside others on the
// same connections whose every reply is checked.
func TestNeighbours(t *testing.T) {
	t.Run("undisturbed", func(t *testing.T) { neighbours(t, false) })
	t.Run("cut off from Redis", func(t *testing.T) { neighbours(t, true) })
}

// neighbours is TestNeighbours. With cuts Redis also ends all connections now and then, and
// the neighbours do only what may be sent again.
func neighbours(t *testing.T, cuts bool) {
	t.Helper()
	seed := *oddSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	node := redistest.Single(t, redistest.Options{RedisConfig: []string{"enable-debug-command yes"}})
	r := startServer(t, node, func(o *Options) {
		o.Loops = 1
		o.DenyCommands = []string{"SHUTDOWN", "REPLICAOF", "SLAVEOF", "FAILOVER"}
	})
	var ns []*neighbour
	for i := range 3 {
		n := &neighbour{raw: r.raw(), tag: fmt.Sprint("n", i), db: i}
		n.send(frames(fmt.Sprint("SELECT ", i), fmt.Sprint("SET db ", i)))
		n.expect("+OK\r\n+OK\r\n")
		ns = append(ns, n)
	}
	killer := dialRaw(t, "tcp", string(node.Addr()))
	for round := range *oddRounds {
		rnd := rand.New(rand.NewPCG(seed, uint64(round)))
		odd := r.raw()
		said := ""
		for range 1 + rnd.IntN(3) {
			more := oddCommands(rnd)
			said += more
			_, _ = odd.Write([]byte(more)) // it may have been cut off
			if cuts && rnd.IntN(2) == 0 {
				_ = killer.SetDeadline(time.Now().Add(testWait))
				killer.send("CLIENT KILL TYPE normal SKIPME yes\r\n")
				killer.line()
			}
			for _, n := range ns {
				how := rnd.IntN(5)
				if cuts {
					how = 4
				}
				n.check(how, func() string { return fmt.Sprintf("seed %d, round %d: %q", seed, round, said) })
			}
		}
		_ = odd.Close()
	}
	t.Logf("seed %d: %d odd clients", seed, *oddRounds)
}

// neighbour is a client that does nothing odd.
type neighbour struct {
	*raw

	tag string
	db  int
	n   int
}

// check has it use a shared connection and, as how says, one of its own.
func (n *neighbour) check(how int, what func() string) {
	n.tb.Helper()
	n.n++
	word := fmt.Sprint(n.tag, "-", n.n)
	bulk := string(resp.AppendBulk(nil, word))
	say := []string{"ECHO " + word}
	want := bulk
	switch how {
	case 0:
		say = append(say, "RPUSH l:"+word+" 1", "BLPOP l:"+word+" 0") // a timeout is noticed late
		want += ":1\r\n*2\r\n" + string(resp.AppendBulk(nil, "l:"+word)) + "$1\r\n1\r\n"
	case 1:
		say = append(say, "MULTI", "GET db", "ACL WHOAMI", "ECHO "+word, "EXEC")
		want += "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n" + string(resp.AppendBulk(nil, fmt.Sprint(n.db))) + "$7\r\ndefault\r\n" + bulk
	case 2:
		say = append(say, "SUBSCRIBE "+word, "UNSUBSCRIBE "+word)
		want += confirmation(word, 1) + "*3\r\n$11\r\nunsubscribe\r\n" + bulk + ":0\r\n"
	case 3:
		say = append(say, "WATCH "+word, "MULTI", "SET "+word+" 1 PX 100", "EXEC")
		want += "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"
	}
	say, want = append(say, "GET db"), want+string(resp.AppendBulk(nil, fmt.Sprint(n.db)))
	_ = n.SetDeadline(time.Now().Add(testWait))
	n.send(frames(say...))
	if got, err := n.read(len(want)); got != want {
		n.tb.Fatalf("%s\n%s got %q (%v); want %q", what(), n.tag, got, err, want)
	}
}

// oddCommands returns some commands of which each, or a word of it, may be odd.
func oddCommands(rnd *rand.Rand) string {
	var b []byte
	for range 1 + rnd.IntN(12) {
		line := oddLines[rnd.IntN(len(oddLines))]
		if rnd.IntN(8) == 0 {
			b = append(b, line+"\r\n"...)
			continue
		}
		var words []string
		for w := range strings.FieldsSeq(strings.ReplaceAll(line, "#", fmt.Sprint(4+rnd.IntN(200)))) {
			switch rnd.IntN(24) {
			case 0:
				w = fmt.Sprintf("%s\x00%d", w, rnd.IntN(4096))
			case 1:
				w = strings.ToLower(w)
			case 2:
				w = ""
			case 3:
				words = append(words, w)
			}
			words = append(words, w)
		}
		b = resp.AppendCommand(b, words...)
	}
	return string(b)
}

// oddLines are commands that change their connection, answer often or never, or wait. A #
// stands for the id of a client, of none that is checked.
var oddLines = []string{
	"HELLO", "HELLO 2", "HELLO 3", "HELLO 3 AUTH default x SETNAME n", "HELLO 4", "AUTH x", "AUTH default x", "AUTH nosuch x", "RESET", "RESET x", "QUIT",
	"SELECT 1", "SELECT 5", "SELECT 01", "SELECT -1", "SELECT 1 2", "CLIENT SETNAME n", "CLIENT GETNAME", "CLIENT SETINFO lib-name n",
	"CLIENT REPLY ON", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "CLIENT REPLY", "CLIENT ID", "CLIENT INFO", "CLIENT LIST ID #", "CLIENT KILL ID #",
	"CLIENT UNBLOCK #", "CLIENT UNBLOCK # ERROR", "CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON", "CLIENT PAUSE 1 WRITE", "CLIENT UNPAUSE", "CLIENT CACHING YES",
	"CLIENT TRACKING ON", "CLIENT TRACKING ON BCAST", "CLIENT TRACKING ON REDIRECT #", "CLIENT TRACKING ON BCAST REDIRECT # PREFIX a",
	"CLIENT TRACKING OFF", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT", "CLIENT|LIST",
	"SUBSCRIBE a", "SUBSCRIBE a b a", "SUBSCRIBE", "PSUBSCRIBE a* b*", "SSUBSCRIBE a b", "UNSUBSCRIBE", "UNSUBSCRIBE a", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PUBLISH a x",
	"SPUBLISH a x", "MULTI", "MULTI x", "EXEC", "EXEC x", "DISCARD", "WATCH a b", "WATCH", "UNWATCH", "MONITOR", "PING", "PING x", "ECHO x", "NOSUCH x", "GET a", "SET a 1",
	"SET a", "INCR b", "LPUSH q 1", "DEL q", "BLPOP q 0.001", "BLPOP q 0", "BLPOP q x", "BLMOVE q q LEFT LEFT 0.001", "XREAD BLOCK 1 STREAMS s $", "XREAD STREAMS s $",
	"XREADGROUP GROUP streams block BLOCK 1 STREAMS s >", "WAIT 0 0", "WAIT 1 1", "KEYS none*", "SCAN 0", "SCRIPT DEBUG NO", "SCRIPT LOAD return", "SCRIPT KILL", "FUNCTION STATS",
	"EVAL return{'subscribe','a',1} 0", "EVAL redis.setresp(3);return{map={a=1}} 0", "EVAL return{ok='x'} 0", "EVAL return{err='x'} 0", "EVAL return{'message','a','x'} 0",
	"DEBUG PROTOCOL push", "DEBUG PROTOCOL attrib", "DEBUG PROTOCOL map", "DEBUG PROTOCOL null", "DEBUG SLEEP 0", "DEBUG OBJECT a", "DEBUG", "REPLCONF GETACK *", "REPLCONF ACK 0",
	"REPLCONF listening-port 1", "ASKING", "READONLY", "COMMAND COUNT", "CONFIG GET none", "ACL WHOAMI", "SORT q BY none", "OBJECT HELP", "SHUTDOWN",
}
