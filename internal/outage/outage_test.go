package outage

import (
	"bufio"
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// samples has calls of every command that Reads knows a reply for, as words.
func samples() []string {
	return []string{
		"GET k", "MGET k", "MGET k k2 k3", "STRLEN k", "GETRANGE k 0 5", "SUBSTR k 0 5", "GETBIT k 7",
		"BITCOUNT k", "BITCOUNT k 0 -1", "BITPOS k 0", "BITPOS k 1", "BITPOS k 1 2 3", "LCS k k2", "PFCOUNT k", "PFCOUNT k k2",
		"BITFIELD_RO k", "BITFIELD_RO k GET u8 0", "BITFIELD_RO k GET u8 0 GET i16 3",
		"EXISTS k", "EXISTS k k2", "TOUCH k k2", "TTL k", "PTTL k", "EXPIRETIME k", "PEXPIRETIME k", "TYPE k", "DUMP k",
		"OBJECT ENCODING k", "OBJECT IDLETIME k", "OBJECT REFCOUNT k", "MEMORY USAGE k", "MEMORY USAGE k SAMPLES 5",
		"SORT_RO k", "SORT_RO k ALPHA LIMIT 0 5",
		"HGET k f", "HMGET k f", "HMGET k f g", "HGETALL k", "HKEYS k", "HVALS k", "HLEN k", "HEXISTS k f", "HSTRLEN k f",
		"HRANDFIELD k", "HRANDFIELD k 3", "HRANDFIELD k 3 WITHVALUES", "HSCAN k 0", "HSCAN k 0 MATCH a*",
		"LLEN k", "LINDEX k 0", "LRANGE k 0 -1", "LPOS k a", "LPOS k a RANK 1", "LPOS k a COUNT 2",
		"SCARD k", "SISMEMBER k a", "SMISMEMBER k a b", "SMEMBERS k", "SRANDMEMBER k", "SRANDMEMBER k 3", "SINTER k", "SINTER k k2",
		"SUNION k k2", "SDIFF k k2", "SINTERCARD 2 k k2", "SINTERCARD 1 k LIMIT 3", "SSCAN k 0",
		"ZCARD k", "ZCOUNT k 0 1", "ZLEXCOUNT k - +", "ZSCORE k a", "ZMSCORE k a b", "ZRANK k a", "ZREVRANK k a",
		"ZRANDMEMBER k", "ZRANDMEMBER k 3", "ZRANDMEMBER k 3 WITHSCORES", "ZDIFF 2 k k2", "ZDIFF 2 k k2 WITHSCORES", "ZINTER 1 k",
		"ZUNION 2 k k2 WITHSCORES", "ZINTERCARD 2 k k2", "ZSCAN k 0",
		"ZRANGE k 0 -1", "ZRANGE k 0 -1 WITHSCORES", "ZREVRANGE k 0 -1", "ZRANGEBYSCORE k 0 1 WITHSCORES",
		"ZREVRANGEBYSCORE k 1 0", "ZRANGEBYLEX k - +", "ZREVRANGEBYLEX k + -", "XRANGE k - +", "XREVRANGE k + - COUNT 2",
		"GEODIST k a b", "GEOHASH k a b", "GEOPOS k a", "GEOPOS k a b", "GEOSEARCH k FROMLONLAT 1 1 BYRADIUS 1 km",
		"GEORADIUS_RO k 1 1 1 km", "GEORADIUSBYMEMBER_RO k a 1 km", "XLEN k",
	}
}

// A missing key's reply is what a real Redis answers, byte for byte, and the keys
// are where Redis says they are.
func TestMissingIsWhatRedisAnswers(t *testing.T) {
	g := redistest.New(t, redistest.Options{Replicas: redistest.None, Sentinels: redistest.None})
	known := Reads()
	left := map[string]bool{}
	for name, r := range known {
		if r.missing != nil {
			left[name] = true
		}
	}
	for _, proto := range []int{2, 3} {
		c := dial(t, g, proto)
		for _, sample := range samples() {
			args := words(sample)
			name := strings.ToUpper(string(args[0]))
			if known[name] == nil {
				name += "|" + strings.ToUpper(string(args[1]))
			}
			delete(left, name)
			want := c.do(sample)
			got, ok := known[name].Missing(args, proto)
			if !ok || string(got) != want {
				t.Errorf("%s in RESP%d: %q, %v; Redis answers %q", sample, proto, got, ok, want)
			}
			if proto == 3 {
				continue
			}
			keys, ok := known[name].Keys(args)
			wantKeys, err := replies(c.do("COMMAND GETKEYS " + sample))
			if err != nil || !ok || !slices.Equal(texts(keys), wantKeys) {
				t.Errorf("%s: keys %q, %v; Redis says %q, %v", sample, keys, ok, wantKeys, err)
			}
		}
	}
	for name := range left {
		t.Errorf("no sample of %s", name)
	}
}

// What has no known reply fails: on Redis it is an error, or depends on more.
func TestMissingIsNotGuessed(t *testing.T) {
	known := Reads()
	for _, sample := range []string{
		"GET", "MGET", "HMGET k", "GETRANGE k 0", "HGET k", "HGET k f g", "ZRANK k a WITHSCORE", "SINTERCARD 3 k k2", "SINTERCARD x k",
		"ZUNION 0 k", "ZUNION -1 k", "BITPOS k", "BITPOS k 2", "LPOS k", "LCS k k2 LEN", "LCS k", "BITFIELD_RO k GET u8", "XPENDING k g",
		"SORT_RO k BY w_*", "SORT_RO", "HSCAN k", "ZRANGE k 0",
	} {
		args := words(sample)
		if got, ok := known[string(args[0])].Missing(args, 2); ok {
			t.Errorf("%s: %q; want none", sample, got)
		}
	}
}

func TestMatchIsRedisMatch(t *testing.T) {
	g := redistest.New(t, redistest.Options{Replicas: redistest.None, Sentinels: redistest.None})
	c := dial(t, g, 2)
	keys := []string{
		"a", "b", "ab", "ba", "abc", "aab", "apikey-1", "apikey-", "apikey", "rate-limit-x", `a\b`, "a*b", "a?", "[a]", "a-c", "^a",
		"-", "]", "a]", `\`, "aaaaaaaaaaab", "quota-é", "x\ny",
	}
	for _, k := range keys {
		c.do("SET", k, "1")
	}
	for _, p := range []string{
		"*", "a", "a*", "*b", "*a*", "?", "??", "a?c", "a**c", "[ab]", "[a-c]*", "[^a]*", "[c-a]*", "[a", "[", "[^", "[]", "[]]", "[a-", "[a-]*",
		`\*`, `a\*b`, `a\\b`, `\`, `a\`, `[\]]`, `[\^a]*`, "[^a-b]*", "apikey-*", "a*a*a*a*b", "*-*", "", "**", "?*", "*?", "[^]", "[a]b", "quota-*",
		"[-]", "[a-]c", `[\\]*`, `*\\*`, "a[*]b", "a[?]", "x?y",
	} {
		want, err := replies(c.do("KEYS", p))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if got := Match(p, k); got != slices.Contains(want, k) {
				t.Errorf("Match(%q, %q) = %v; Redis says otherwise", p, k, got)
			}
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*[b-d]?\\*", "aabcx*")
	f.Add("[^", "x")
	f.Add("***", "")
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern)*len(key) > 1<<12 {
			return // the comparison takes as many steps
		}
		if got, want := Match(pattern, key), slowMatch(pattern, key); got != want && key != "" {
			t.Errorf("Match(%q, %q) = %v; want %v", pattern, key, got, want)
		}
		if !Match("*", key) {
			t.Errorf("* does not match %q", key)
		}
	})
}

// slowMatch is Match as its definition reads, each pair of rests looked at once.
func slowMatch(pattern, key string) bool {
	known := make(map[[2]int]bool)
	var match func(p, k string) bool
	match = func(p, k string) (found bool) {
		at := [2]int{len(p), len(k)}
		if answer, ok := known[at]; ok {
			return answer
		}
		defer func() { known[at] = found }()
		switch {
		case p == "":
			return k == ""
		case p[0] == '*':
			return match(p[1:], k) || k != "" && match(p, k[1:])
		case k == "":
			return false
		}
		n, ok := matchOne(p, k[0])
		return ok && match(p[n:], k[1:])
	}
	return match(pattern, key)
}

func TestParseRule(t *testing.T) {
	for in, want := range map[string]string{
		"read:apikey-*=stale":         "read:apikey-*=stale",
		" GET, hgetall:rate-*=nil":    "GET,HGETALL:rate-*=nil",
		"write=error":                 "write=error",
		"any:session-*=error":         "any:session-*=error",
		"object encoding:a=b=stale":   "OBJECT|ENCODING:a=b=stale",
		"READ:a:b*=NIL":               "read:a:b*=nil",
		"HSCAN=nil":                   "HSCAN=nil",
		"":                            "!the answer is missing",
		"read":                        "!the answer is missing",
		"read=":                       `!want "error", "stale" or "nil"`,
		"read=open":                   `!want "error", "stale" or "nil"`,
		"read:=nil":                   "!pattern behind the colon is empty",
		"write=stale":                 "!a write can only fail",
		"write:a*=nil":                "!a write can only fail",
		"any:a*=nil":                  `!did you mean "read:a*=nil"?`,
		"SET=stale":                   "!SET is no command that only reads",
		"INCR:a=nil":                  "!INCR is no command that only reads",
		"GTE=error":                   "!GTE is no command that only reads",
		"GET,,TTL=nil":                "!name is missing",
		"=nil":                        "!name is missing",
		"SSCAN=stale":                 "!good for one node",
		"XPENDING=nil":                "!answers a missing key with an error",
		"EVAL_RO=stale":               "!EVAL_RO is no command that only reads",
		"PING=nil":                    "!PING is no command that only reads",
		"GET:quota-*=stale=something": `!answer "something"`,
	} {
		r, err := ParseRule(in)
		switch fail, bad := strings.CutPrefix(want, "!"); {
		case bad && (err == nil || !strings.Contains(err.Error(), fail)):
			t.Errorf("ParseRule(%q): %v, %v; want an error with %q", in, r, err, fail)
		case !bad && (err != nil || r.String() != want):
			t.Errorf("ParseRule(%q) = %q, %v; want %q", in, r, err, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	var p Policy
	for _, s := range []string{"any:apikey-secret*=error", "read:apikey-*=stale", "GET,MGET:rate-*=nil", "TTL=nil", "any=error", "read=nil"} {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		p = append(p, r)
	}
	reads := Reads()
	for call, want := range map[string]Answer{
		"GET apikey-1":               Stale,
		"GET apikey-secret":          Fail,
		"HGETALL apikey-1":           Stale,
		"MGET apikey-1 apikey-2":     Stale,
		"MGET apikey-1 other":        Fail, // not every key
		"MGET apikey-1 rate-1":       Fail,
		"MGET rate-1 rate-2":         Nil,
		"HGET rate-1 f":              Fail,
		"TTL anything":               Nil,
		"HSCAN apikey-1 0":           Fail, // a cursor is never stale
		"SINTERCARD 1 apikey-1":      Stale,
		"SINTERCARD x apikey-1":      Fail, // no keys can be found
		"SORT_RO apikey-1 BY weight": Fail,
		"SET apikey-1 v":             Fail,
		"PING":                       Fail,
	} {
		args := words(call)
		if got := p.For(string(args[0]), reads[string(args[0])], args); got != want {
			t.Errorf("%s: %v; want %v", call, got, want)
		}
	}
	if !p.Softens() || (Policy{{What: "any"}}).Softens() {
		t.Error("Softens is wrong")
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add("GET, hgetall:rate-*=nil")
	f.Add("read:a:b=c=stale")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q is written as %q, which reads as %q, %v", s, r, again, err)
		}
	})
}

// conn speaks to a real Redis.
type conn struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
}

func dial(t *testing.T, g *redistest.Group, proto int) *conn {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", string(g.Nodes()[0].DirectAddr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	c := &conn{t, nc, bufio.NewReader(nc)}
	if proto == 3 {
		c.do("HELLO 3")
	}
	return c
}

// do returns the reply's bytes. One argument alone is split at spaces.
func (c *conn) do(args ...string) string {
	c.t.Helper()
	if len(args) == 1 {
		args = strings.Fields(args[0])
	}
	if _, err := c.nc.Write(resp.AppendCommand(nil, args...)); err != nil {
		c.t.Fatal(err)
	}
	var r resp.Replies
	var got []byte
	for {
		b, err := c.br.ReadByte()
		if err != nil {
			c.t.Fatal(err)
		}
		got = append(got, b)
		if n, err := r.Next(got); err != nil || n > 0 {
			return string(got)
		}
	}
}

func replies(s string) ([]string, error) {
	v, _, err := resp.Decode([]byte(s))
	var out []string
	for _, e := range v.Elem {
		out = append(out, string(e.Str))
	}
	return out, err
}

func words(s string) [][]byte {
	var out [][]byte
	for w := range strings.FieldsSeq(s) {
		out = append(out, []byte(w))
	}
	return out
}

func texts(bs [][]byte) []string {
	out := make([]string, len(bs))
	for i, b := range bs {
		out[i] = string(b)
	}
	return out
}
