package proxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// diffSpec is a command as COMMAND and COMMAND DOCS describe it.
type diffSpec struct {
	words []string // the name, and the subcommand if it has one
	arity int      // as in COMMAND: negative for at least
	group string
	args  []diffArg
}

func (s *diffSpec) name() string { return strings.ToUpper(strings.Join(s.words, "|")) }

// diffArg is one argument as COMMAND DOCS describes it.
type diffArg struct {
	name, kind, token  string
	optional, multiple bool
	args               []diffArg // of a oneof or block
}

// diffSpecs asks a node for its commands.
func diffSpecs(tb testing.TB, node *redistest.Node) []diffSpec {
	tb.Helper()
	ask := func(words ...string) resp.Value {
		c := dialRaw(tb, "tcp", string(node.Addr()))
		c.send(string(resp.AppendCommand(nil, words...)) + "*1\r\n$4\r\nQUIT\r\n")
		var b []byte
		for {
			line, err := c.r.ReadBytes('\n')
			b = append(b, line...)
			if err != nil {
				break
			}
		}
		v, _, err := resp.Decode(b)
		if err != nil {
			tb.Fatalf("%v: %v", words, err)
		}
		return v
	}
	arity := map[string]int{}
	var note func(v resp.Value)
	note = func(v resp.Value) {
		arity[string(v.Elem[0].Str)] = int(v.Elem[1].Int())
		if len(v.Elem) > 9 {
			for _, sub := range v.Elem[9].Elem {
				note(sub)
			}
		}
	}
	for _, c := range ask("COMMAND").Elem {
		note(c)
	}
	var specs []diffSpec
	var read func(name string, docs resp.Value)
	read = func(name string, docs resp.Value) {
		specs = append(specs, diffSpec{
			words: strings.Split(name, "|"), arity: arity[name],
			group: string(docs.Lookup("group").Str), args: diffArgs(docs.Lookup("arguments")),
		})
		subs := docs.Lookup("subcommands").Elem
		for i := 0; i+1 < len(subs); i += 2 {
			read(string(subs[i].Str), subs[i+1])
		}
	}
	docs := ask("COMMAND", "DOCS")
	for i := 0; i+1 < len(docs.Elem); i += 2 {
		read(string(docs.Elem[i].Str), docs.Elem[i+1])
	}
	if len(specs) == 0 {
		tb.Skip("this Redis has no COMMAND DOCS")
	}
	slices.SortFunc(specs, func(a, b diffSpec) int { return strings.Compare(a.name(), b.name()) })
	return specs
}

func diffArgs(v resp.Value) []diffArg {
	var args []diffArg
	for _, a := range v.Elem {
		arg := diffArg{
			name: string(a.Lookup("name").Str), kind: string(a.Lookup("type").Str), token: string(a.Lookup("token").Str),
			args: diffArgs(a.Lookup("arguments")),
		}
		for _, f := range a.Lookup("flags").Elem {
			switch string(f.Str) {
			case "optional":
				arg.optional = true
			case "multiple":
				arg.multiple = true
			}
		}
		args = append(args, arg)
	}
	return args
}

// diffGen makes commands at random. The same seed makes the same ones.
type diffGen struct {
	*rand.Rand

	specs   []diffSpec
	stream  int  // number of the stream: names of channels and scripts are its own
	tx      bool // inside MULTI
	moved   bool // SELECT was called: not every user may follow
	exact   bool // only commands whose replies can be compared byte by byte
	scripts []string
	then    [][]string // what comes next
}

func (g *diffGen) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g *diffGen) one(n int) bool { return g.IntN(n) == 0 }

func (g *diffGen) key() string { return "k" + strconv.Itoa(g.IntN(12)) }

// value is what a key, field or member may hold.
func (g *diffGen) value() string {
	switch g.IntN(12) {
	case 0:
		return ""
	case 1:
		return strconv.Itoa(g.IntN(1000) - 500)
	case 2:
		return "1.5"
	case 3:
		return "a\r\nb \x00\xff"
	case 4:
		return strings.Repeat("x", g.IntN(300))
	case 5:
		if g.one(40) {
			return strings.Repeat("y", 20_000+g.IntN(100_000))
		}
	}
	return g.pick("a", "b", "c", "d", "foo", "bar", "10", "3")
}

func (g *diffGen) integer() string {
	return g.pick("0", "1", "2", "3", "-1", "-2", "5", "10", "100", "9223372036854775807", "-9223372036854775808", "x", "1.5", "", "05", "+5", "-0")
}

// small is a number that does what one expects of it, mostly.
func (g *diffGen) small() string {
	if g.one(10) {
		return g.integer()
	}
	return strconv.Itoa(g.IntN(5))
}

// arg makes the words of one argument.
func (g *diffGen) arg(spec *diffSpec, a *diffArg) []string {
	if a.optional && g.one(2) {
		return nil
	}
	n := 1
	if a.multiple {
		n += g.IntN(3)
	}
	var out []string
	for i := range n {
		if a.token != "" && (i == 0 || spec.group == "generic") {
			out = append(out, a.token)
			if a.kind == "pure-token" {
				break
			}
		}
		switch a.kind {
		case "oneof":
			if len(a.args) > 0 {
				b := a.args[g.IntN(len(a.args))]
				b.optional = false
				out = append(out, g.arg(spec, &b)...)
			}
		case "block":
			for j := range a.args {
				out = append(out, g.arg(spec, &a.args[j])...)
			}
		case "pure-token":
		default:
			out = append(out, g.word(spec, a))
		}
	}
	return out
}

// word makes one word of an argument's type. Times are so far away that nothing
// expires while a stream runs; those to wait are tiny.
func (g *diffGen) word(spec *diffSpec, a *diffArg) string {
	if a.name != "timeout" && g.one(60) { // a number would be waited for
		return g.value()
	}
	switch {
	case a.name == "timeout" && a.kind == "double":
		return g.pick("0.001", "0.002", "0.003", "-1", "x")
	case a.name == "timeout":
		return g.pick("1", "2", "3", "-1", "x")
	case a.name == "milliseconds" && spec.group == "stream":
		return g.pick("1", "2", "-1", "x")
	case a.name == "numkeys":
		return g.pick("1", "2", "1", "2", "3", "0", "-1", "x")
	case a.name == "cursor":
		return g.pick("0", "0", "0", "x", "")
	case a.name == "index" && spec.name() == "SELECT", strings.Contains(a.name, "db"):
		return g.pick("0", "1", "2", "3", "15", "16", "-1", "x")
	case strings.Contains(a.name, "seconds"), strings.Contains(a.name, "ttl"):
		return g.pick("1000000", "2000000", "-1", "0", "x")
	}
	switch a.kind {
	case "key":
		return g.key()
	case "integer":
		return g.small()
	case "double":
		return g.pick("1", "2.5", "-3", "0", "inf", "-inf", "nan", "x", "1e3")
	case "pattern":
		return g.pick("*", "k*", "k1", "[ab]*", "?", "nothing")
	case "unix-time":
		return g.pick("99999999999", "99999999999999", "1", "-1", "x")
	}
	if spec.group == "stream" && strings.Contains(a.name, "id") || a.name == "start" || a.name == "end" || a.name == "min" || a.name == "max" {
		switch spec.group {
		case "stream":
			return g.pick("0", "1-1", "2-1", "5-1", "7-3", "-", "+", ">", "$", "0-0", "9-x", strconv.Itoa(10+g.IntN(1000))+"-1")
		case "sorted-set":
			return g.pick("0", "1", "-1", "(1", "[a", "(b", "-", "+", "-inf", "+inf", "x", "5")
		}
	}
	switch a.name {
	case "longitude", "latitude":
		return g.pick("13.361389", "38.115556", "15.08", "37.5", "200", "x")
	case "channel", "shardchannel":
		return fmt.Sprintf("ch%d-%d", g.stream, g.IntN(3))
	case "group":
		return g.pick("g1", "g2")
	case "consumer":
		return g.pick("c1", "c2")
	case "unit", "units":
		return g.pick("m", "km", "ft")
	}
	return g.value()
}

// diffLeftOut lists commands whose effect is not the stream's alone, or that cannot
// be compared; those in diffByHand are made there.
func diffLeftOut() []string {
	return []string{
		// Refused by the sidecar.
		"SHUTDOWN", "REPLICAOF", "SLAVEOF", "FAILOVER", "SYNC", "PSYNC", "REPLCONF", "DEBUG", "CLIENT|PAUSE",
		// What they do depends on time, or outlasts the stream.
		"MONITOR", "BGSAVE", "BGREWRITEAOF", "SAVE", "CONFIG|SET", "CONFIG|REWRITE", "ACL|SETUSER", "ACL|DELUSER", "ACL|LOAD",
		"MODULE|LOAD", "MODULE|LOADEX", "MODULE|UNLOAD", "SCRIPT|DEBUG", "PFSELFTEST", "PFDEBUG", "SCRIPT|FLUSH", "SPOP",
		"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "FUNCTION|LOAD", "FUNCTION|RESTORE", "SCRIPT|LOAD",
		"MIGRATE", "RESTORE", "RESTORE-ASKING", "CLIENT|KILL", "CLIENT|UNBLOCK", "CLIENT|REPLY", "CLIENT|TRACKING", "CLIENT|CACHING",
		"MULTI", "EXEC", "DISCARD", "QUIT", "RESET", "HELLO", "AUTH",
		"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "XADD", "SWAPDB",
	}
}

// diffShape lists commands of whose replies only the kind is compared: time, ids, what
// is random, memory, connections.
func diffShape() []string {
	return []string{
		"TIME", "LASTSAVE", "INFO", "LOLWUT", "ROLE", "DUMP", "RANDOMKEY", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER",
		"OBJECT|IDLETIME", "MEMORY|STATS", "MEMORY|USAGE", "MEMORY|DOCTOR", "MEMORY|MALLOC-STATS", "SLOWLOG|GET", "SLOWLOG|LEN",
		"LATENCY|DOCTOR", "LATENCY|GRAPH", "LATENCY|HISTOGRAM", "LATENCY|HISTORY", "LATENCY|LATEST", "LATENCY|RESET",
		"CLIENT|ID", "CLIENT|INFO", "CLIENT|LIST", "ACL|GENPASS", "ACL|LOG", "XINFO|STREAM", "XINFO|CONSUMERS", "XPENDING",
		"TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "FUNCTION|STATS", "CONFIG|GET",
	}
}

// diffUnordered lists commands whose replies have no order.
func diffUnordered() []string {
	return []string{
		"SMEMBERS", "SUNION", "SDIFF", "SINTER", "HGETALL", "HKEYS", "HVALS", "KEYS",
		"SORT", "SORT_RO", "PUBSUB|CHANNELS", "PUBSUB|SHARDCHANNELS", "COMMAND", "COMMAND|LIST", "COMMAND|DOCS", "COMMAND|INFO",
	}
}

// diffHow says how the replies of a command are compared.
type diffHow uint8

const (
	howExact     diffHow = iota
	howUnordered         // sorted
	howCursor            // sorted, but for a cursor, which the sidecar marks
	howShape             // the kind of reply, and errors in full
)

// diffCmd is one command of a stream.
type diffCmd struct {
	words []string
	how   diffHow
}

func (g *diffGen) how(name string) diffHow {
	switch {
	case slices.Contains([]string{"SCAN", "HSCAN", "SSCAN", "ZSCAN"}, name):
		return howCursor
	case slices.Contains(diffShape(), name):
		return howShape
	case slices.Contains(diffUnordered(), name):
		return howUnordered
	}
	return howExact
}

// next makes one command.
func (g *diffGen) next() diffCmd {
	for {
		var c diffCmd
		switch {
		case len(g.then) > 0:
			c = diffCmd{words: g.then[0]}
			g.then = g.then[1:]
		case g.one(4):
			c = diffCmd{words: g.byHand()}
		case g.one(40):
			c = diffCmd{words: append([]string{g.pick("NOSUCH", "GETX", "CLIENT", "CONFIG", "OBJECT", "", "x y", "XINFO")}, g.junk()...)}
		default:
			spec := &g.specs[g.IntN(len(g.specs))]
			if slices.Contains(diffLeftOut(), spec.name()) {
				continue
			}
			c = diffCmd{words: slices.Clone(spec.words)}
			if g.one(12) { // any number of any words
				c.words = append(c.words, g.junk()...)
			} else {
				for i := range spec.args {
					c.words = append(c.words, g.arg(spec, &spec.args[i])...)
				}
			}
		}
		name := strings.ToUpper(c.words[0])
		if len(c.words) > 1 && slices.ContainsFunc(g.specs, func(s diffSpec) bool {
			return len(s.words) == 2 && strings.EqualFold(s.words[0], c.words[0])
		}) {
			name += "|" + strings.ToUpper(c.words[1])
		}
		c.how = g.how(name)
		if (g.exact || g.tx) && c.how != howExact {
			continue
		}
		if g.one(3) {
			c.words[0] = strings.ToLower(c.words[0])
		}
		return c
	}
}

// junk is any number of words of any kind.
func (g *diffGen) junk() []string {
	var out []string
	for range g.IntN(5) {
		out = append(out, g.pick(g.key(), g.value(), g.integer(), "help", "ex", "nx", "withscores", "limit", "count", "*", "-"))
	}
	return out
}

// byHand makes what COMMAND DOCS does not describe well enough.
func (g *diffGen) byHand() []string {
	k := g.key()
	if g.exact && g.one(2) {
		return g.connection()
	}
	if g.tx && g.one(4) {
		return []string{g.pick("EXEC", "EXEC", "EXEC", "DISCARD", "MULTI")}
	}
	switch g.IntN(26) {
	case 0, 1:
		return []string{"SET", k, g.value()}
	case 2:
		return []string{"RPUSH", k, g.value(), g.value(), "c"}
	case 3:
		return []string{"SADD", k, g.value(), g.value(), "d"}
	case 4:
		return []string{"ZADD", k, "1", "a", "2.5", "b", g.pick("3", "nan", "-1"), g.value()}
	case 5:
		return []string{"HSET", k, "a", g.value(), "b", "1", g.value(), "2"}
	case 6:
		return []string{"XADD", k, g.pick("1-1", "2-1", "7-3", "5", "x", strconv.Itoa(10+g.IntN(1000))+"-1", "5-*"), "f", g.value()}
	case 7:
		return append([]string{"XADD", k, "NOMKSTREAM", "MAXLEN", "~", "100", strconv.Itoa(2000+g.IntN(1000)) + "-1"}, g.junk()...)
	case 8:
		return append([]string{"SPOP", k}, g.pick("1000", "-1", "x"))
	case 9, 10:
		return g.script()
	case 11, 12, 13:
		return []string{"MULTI"}
	case 14:
		return []string{g.pick("EXEC", "DISCARD", "UNWATCH")}
	case 15:
		return []string{"RESTORE", k, g.pick("0", "1000000", "x"), g.pick("x", "\x00\x011\x0b\x00", "\x00\xc0\x0a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00")}
	case 16:
		return []string{"MIGRATE", "127.0.0.1", "1", "nosuchkey", "0", "10"}
	case 17:
		return append([]string{"CLIENT", "KILL"}, strings.Fields(g.pick("1.2.3.4:5", "ID 0", "ID 999999999", "ID x", "ID 05", "TYPE nosuch", "SKIPME maybe",
			"USER nosuch", "ADDR 1.2.3.4:5", "LADDR 1.2.3.4:5", "ID", "FOO 1", "ADDR 1.2.3.4:5 SKIPME no", "USER nosuch ID 7", ""))...)
	case 18:
		return append([]string{"CLIENT", "UNBLOCK"}, strings.Fields(g.pick("999999999", "999999999 TIMEOUT", "999999999 ERROR", "x", "05", "+5", "0", "1 FOO", ""))...)
	case 19:
		return append([]string{"AUTH"}, strings.Fields(g.pick("", "x", "default x", "nosuch x", "a b c"))...)
	case 20:
		if g.tx { // its id and what it says are the connection's
			return []string{"PING"}
		}
		if g.one(3) { // before 7.2 those before the wrong one have an effect
			options := g.pick("SETNAME her", "AUTH default x", "SETNAME her AUTH nosuch x", "SETNAME her AUTH default x")
			if !g.exact && !g.moved && g.one(3) {
				options = g.pick("AUTH limited secret", "AUTH limited secret AUTH default x", "SETNAME her AUTH limited secret SETNAME him")
			}
			options = "3 " + options + g.pick(" FOO", " SETNAME", " AUTH limited wrong", "")
			g.then = [][]string{{"CLIENT", "GETNAME"}, {"ACL", "WHOAMI"}}
			return append([]string{"HELLO"}, strings.Fields(options)...)
		}
		return append([]string{"HELLO"}, strings.Fields(g.pick("", "2", "3", "2 SETNAME me", "3 AUTH default x", "3 AUTH nosuch x", "4", "1", "x", "03", "+3",
			"3 SETNAME", "2 AUTH x", "2 FOO", "99999999999999999999"))...)
	case 21:
		if g.one(4) {
			return []string{"RESET"}
		}
		return []string{"RESET", "x"}
	case 22:
		if g.exact || g.tx || g.moved {
			return []string{"SWAPDB", g.pick("0", "1", "99", "x"), g.pick("0", "2", "x")}
		}
		return []string{"AUTH", "limited", g.pick("secret", "secret", "wrong")}
	case 23:
		return append([]string{"CONFIG", "SET"}, strings.Fields(g.pick("nosuch 1", "maxmemory", "slowlog-max-len 64", "slowlog-max-len x", "save x", "port 1 port 2"))...)
	case 24:
		return append([]string{"CLIENT"}, strings.Fields(g.pick("SETNAME me", "SETNAME", "GETNAME", "GETNAME x", "NO-EVICT on", "NO-EVICT x",
			"GETREDIR", "TRACKINGINFO", "NOSUCH", "CACHING x", "CACHING yes", "TRACKING x", "TRACKING off", "LIST TYPE x",
			"LIST ID", "LIST ID x", "LIST FOO", "REPLY x", "REPLY", "REPLY ON", "INFO x", "ID x", "HELP", "UNPAUSE"))...)
	}
	return []string{g.pick("GET", "LRANGE", "SMEMBERS", "HGETALL", "TYPE"), k}
}

// connection makes commands that change what the connection is.
func (g *diffGen) connection() []string {
	ch := func() string { return fmt.Sprintf("ch%d-%d", g.stream, g.IntN(3)) }
	switch g.IntN(12) {
	case 0:
		return []string{"SUBSCRIBE", ch()}
	case 1:
		return []string{"SUBSCRIBE", ch(), ch(), ch()}
	case 2:
		return []string{"PSUBSCRIBE", ch() + "*"}
	case 3:
		return []string{"UNSUBSCRIBE", ch()}
	case 4:
		return []string{g.pick("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE")}
	case 5:
		return []string{"SSUBSCRIBE", ch()}
	case 6, 7:
		return []string{g.pick("PUBLISH", "SPUBLISH"), ch(), g.value()}
	case 8:
		if g.tx {
			return []string{"PING"}
		}
		return []string{"CLIENT", "REPLY", g.pick("ON", "OFF", "SKIP")}
	case 9:
		return append([]string{"CLIENT", "TRACKING"}, strings.Fields(g.pick("ON", "ON NOLOOP", "ON OPTIN", "OFF", "ON OPTIN OPTOUT"))...)
	case 10:
		return []string{"CLIENT", "CACHING", g.pick("YES", "NO")}
	}
	return []string{"RESET"}
}

// script makes commands that carry code. Each stream has scripts of its own, since
// the sidecar remembers those that have passed.
func (g *diffGen) script() []string {
	tag := fmt.Sprintf("--[[%d]] ", g.stream)
	if g.one(4) && len(g.scripts) > 0 {
		return append([]string{g.pick("EVALSHA", "EVALSHA_RO"), g.scripts[g.IntN(len(g.scripts))]}, "1", g.key(), g.value())
	}
	switch g.IntN(8) {
	case 0:
		return []string{"EVALSHA", "0123456789012345678901234567890123456789", "0"}
	case 1:
		return []string{"FUNCTION", "LOAD", "REPLACE", fmt.Sprintf("#!lua name=lib%d\nredis.register_function('f%d', function(keys, args) return {keys, args} end)", g.IntN(2), g.IntN(3))}
	case 2:
		return []string{g.pick("FCALL", "FCALL_RO"), "f" + strconv.Itoa(g.IntN(3)), g.pick("0", "1", "x"), g.key(), g.value()}
	}
	body := tag + g.pick("return 1", "return redis.call('get', KEYS[1])", "return redis.call('set', KEYS[1], ARGV[1])", "return {1, 2.5, 'x', false, {1}}",
		"return redis.error_reply('MY error')", "return redis.call('nosuch')", "syntax (", "return redis.pcall('incr', KEYS[1])",
		"redis.setresp(3); return redis.call('hgetall', KEYS[1])", "return {ok='fine'}", "return redis.call('subscribe', 'x')")
	if g.one(4) {
		return []string{"SCRIPT", "LOAD", body}
	}
	return append([]string{g.pick("EVAL", "EVAL", "EVAL_RO"), body}, g.pick("1", "1", "1", "0", "2", "-1", "x"), g.key(), g.value())
}
