package outage

import (
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// Read is a command that does nothing but read the keys it names.
type Read struct {
	keys    func(args [][]byte) [][]byte // nil where they can't be told
	missing func(a answer) []byte        // nil result: not known for these arguments
	local   bool                         // its answer is of use on one node only
}

// answer is what a reply depends on.
type answer struct {
	args  [][]byte
	proto int // 2 or 3
}

// Keys returns the keys that a command with these arguments, its name included,
// reads; ok is false where they can't be told.
func (r *Read) Keys(args [][]byte) (keys [][]byte, ok bool) {
	keys = r.keys(args)
	return keys, len(keys) > 0
}

// Missing returns what Redis answers, in this version of the protocol, when none
// of the keys is there. ok is false where it would answer with an error, or where
// that is not known.
func (r *Read) Missing(args [][]byte, proto int) (reply []byte, ok bool) {
	if r.missing == nil {
		return nil, false
	}
	if keys, ok := r.Keys(args); !ok || len(keys) == 0 {
		return nil, false // not complete
	}
	reply = r.missing(answer{args, proto})
	return reply, reply != nil
}

// Reads returns what is known of every such command, by its name in upper case. A
// server of Redis 7.0 has confirmed each reply in a test.
func Reads() map[string]*Read {
	first, second, all := keyAt(1), keyAt(2), keysFrom(1)
	reads := map[string]*Read{
		"GET":      {keys: first, missing: null},
		"MGET":     {keys: all, missing: each(1, null)},
		"STRLEN":   {keys: first, missing: text(":0")},
		"GETRANGE": {keys: first, missing: exactly(4, text("$0\r\n"))},
		"SUBSTR":   {keys: first, missing: exactly(4, text("$0\r\n"))},
		"GETBIT":   {keys: first, missing: text(":0")},
		"BITCOUNT": {keys: first, missing: text(":0")},
		"BITPOS":   {keys: first, missing: bitPos},
		"LCS":      {keys: keysBetween(1, 3), missing: exactly(3, text("$0\r\n"))},
		"PFCOUNT":  {keys: all, missing: text(":0")},
		"BITFIELD_RO": {keys: first, missing: func(a answer) []byte {
			if (len(a.args)-2)%3 != 0 {
				return nil
			}
			return repeat((len(a.args)-2)/3, []byte(":0\r\n"))
		}},

		"EXISTS":          {keys: all, missing: text(":0")},
		"TOUCH":           {keys: all, missing: text(":0")},
		"TTL":             {keys: first, missing: text(":-2")},
		"PTTL":            {keys: first, missing: text(":-2")},
		"EXPIRETIME":      {keys: first, missing: text(":-2")},
		"PEXPIRETIME":     {keys: first, missing: text(":-2")},
		"TYPE":            {keys: first, missing: text("+none")},
		"DUMP":            {keys: first, missing: null},
		"OBJECT|ENCODING": {keys: second, missing: null},
		"OBJECT|IDLETIME": {keys: second, missing: null},
		"OBJECT|REFCOUNT": {keys: second, missing: null},
		"OBJECT|FREQ":     {keys: second},
		"MEMORY|USAGE":    {keys: second, missing: null},
		"SORT_RO":         {keys: sorted, missing: text("*0")},

		"HGET":       {keys: first, missing: exactly(3, null)},
		"HMGET":      {keys: first, missing: each(2, null)},
		"HGETALL":    {keys: first, missing: byProto("*0", "%0")},
		"HKEYS":      {keys: first, missing: text("*0")},
		"HVALS":      {keys: first, missing: text("*0")},
		"HLEN":       {keys: first, missing: text(":0")},
		"HEXISTS":    {keys: first, missing: exactly(3, text(":0"))},
		"HSTRLEN":    {keys: first, missing: exactly(3, text(":0"))},
		"HRANDFIELD": {keys: first, missing: counted(2, null, text("*0"))},
		"HSCAN":      {keys: first, missing: cursor, local: true},

		"LLEN":   {keys: first, missing: text(":0")},
		"LINDEX": {keys: first, missing: exactly(3, null)},
		"LRANGE": {keys: first, missing: exactly(4, text("*0"))},
		"LPOS":   {keys: first, missing: listPos},

		"SCARD":       {keys: first, missing: text(":0")},
		"SISMEMBER":   {keys: first, missing: exactly(3, text(":0"))},
		"SMISMEMBER":  {keys: first, missing: each(2, text(":0"))},
		"SMEMBERS":    {keys: first, missing: byProto("*0", "~0")},
		"SRANDMEMBER": {keys: first, missing: counted(2, null, text("*0"))},
		"SINTER":      {keys: all, missing: byProto("*0", "~0")},
		"SUNION":      {keys: all, missing: byProto("*0", "~0")},
		"SDIFF":       {keys: all, missing: byProto("*0", "~0")},
		"SINTERCARD":  {keys: keysCounted, missing: text(":0")},
		"SSCAN":       {keys: first, missing: cursor, local: true},

		"ZCARD":       {keys: first, missing: text(":0")},
		"ZCOUNT":      {keys: first, missing: exactly(4, text(":0"))},
		"ZLEXCOUNT":   {keys: first, missing: exactly(4, text(":0"))},
		"ZSCORE":      {keys: first, missing: exactly(3, null)},
		"ZMSCORE":     {keys: first, missing: each(2, null)},
		"ZRANK":       {keys: first, missing: exactly(3, null)},
		"ZREVRANK":    {keys: first, missing: exactly(3, null)},
		"ZRANDMEMBER": {keys: first, missing: counted(2, null, text("*0"))},
		"ZDIFF":       {keys: keysCounted, missing: text("*0")},
		"ZINTER":      {keys: keysCounted, missing: text("*0")},
		"ZUNION":      {keys: keysCounted, missing: text("*0")},
		"ZINTERCARD":  {keys: keysCounted, missing: text(":0")},
		"ZSCAN":       {keys: first, missing: cursor, local: true},

		"GEODIST":              {keys: first, missing: null},
		"GEOHASH":              {keys: first, missing: each(2, null)},
		"GEOPOS":               {keys: first, missing: each(2, byProto("*-1", "_"))},
		"GEOSEARCH":            {keys: first, missing: text("*0")},
		"GEORADIUS_RO":         {keys: first, missing: text("*0")},
		"GEORADIUSBYMEMBER_RO": {keys: first, missing: text("*0")},

		"XLEN":            {keys: first, missing: text(":0")},
		"XPENDING":        {keys: first},
		"XINFO|STREAM":    {keys: second},
		"XINFO|GROUPS":    {keys: second},
		"XINFO|CONSUMERS": {keys: second},
	}
	for _, name := range []string{
		"ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANGEBYLEX", "ZREVRANGEBYLEX", "XRANGE", "XREVRANGE",
	} {
		reads[name] = &Read{keys: first, missing: atLeast(4, text("*0"))}
	}
	// Newer than the server of that test: what they answer to a missing key is not
	// taken for known.
	for _, name := range []string{
		"DIGEST", "HEXPIRETIME", "HPEXPIRETIME", "HPTTL", "HTTL", "VCARD", "VDIM", "VEMB", "VGETATTR", "VINFO", "VISMEMBER",
		"VLINKS", "VRANDMEMBER", "VRANGE", "VSIM",
	} {
		reads[name] = &Read{keys: first}
	}
	return reads
}

func keyAt(i int) func([][]byte) [][]byte { return keysBetween(i, i+1) }

func keysFrom(i int) func([][]byte) [][]byte {
	return func(args [][]byte) [][]byte { return args[min(i, len(args)):] }
}

func keysBetween(from, to int) func([][]byte) [][]byte {
	return func(args [][]byte) [][]byte {
		if len(args) < to {
			return nil
		}
		return args[from:to]
	}
}

// keysCounted is for commands whose first argument says how many keys follow.
func keysCounted(args [][]byte) [][]byte {
	if len(args) < 3 {
		return nil
	}
	n, err := strconv.Atoi(string(args[1]))
	if err != nil || n < 1 || n > len(args)-2 {
		return nil
	}
	return args[2 : 2+n]
}

// sorted is for SORT_RO: BY and GET read keys that only the server can work out.
func sorted(args [][]byte) [][]byte {
	if len(args) < 2 {
		return nil
	}
	for _, a := range args[2:] {
		if strings.EqualFold(string(a), "by") || strings.EqualFold(string(a), "get") {
			return nil
		}
	}
	return args[1:2]
}

// missing makes a reply.
type missing = func(answer) []byte

// text is the same reply in both versions.
func text(s string) missing { return byProto(s, s) }

func byProto(two, three string) missing {
	return func(a answer) []byte {
		if a.proto == 3 {
			return []byte(three + "\r\n")
		}
		return []byte(two + "\r\n")
	}
}

func null(a answer) []byte { return byProto("$-1", "_")(a) }

// exactly knows the reply to n arguments, atLeast to n or more.
func exactly(n int, m missing) missing {
	return func(a answer) []byte {
		if len(a.args) != n {
			return nil
		}
		return m(a)
	}
}

func atLeast(n int, m missing) missing {
	return func(a answer) []byte {
		if len(a.args) < n {
			return nil
		}
		return m(a)
	}
}

// each replies with an array that has m for every argument from i on.
func each(i int, m missing) missing {
	return func(a answer) []byte {
		if len(a.args) <= i {
			return nil
		}
		return repeat(len(a.args)-i, m(a))
	}
}

// counted is for commands with an optional count behind n arguments.
func counted(n int, one, many missing) missing {
	return func(a answer) []byte {
		if len(a.args) == n {
			return one(a)
		}
		return many(a)
	}
}

func repeat(n int, reply []byte) []byte {
	b := resp.AppendArray(nil, n)
	for range n {
		b = append(b, reply...)
	}
	return b
}

func cursor(a answer) []byte {
	return atLeast(3, text("*2\r\n$1\r\n0\r\n*0"))(a)
}

// bitPos is for BITPOS: a missing string is all zeros.
func bitPos(a answer) []byte {
	if len(a.args) < 3 {
		return nil
	}
	switch string(a.args[2]) {
	case "0":
		return []byte(":0\r\n")
	case "1":
		return []byte(":-1\r\n")
	}
	return nil
}

// listPos is for LPOS: with COUNT it answers an array.
func listPos(a answer) []byte {
	if len(a.args) < 3 {
		return nil
	}
	for _, arg := range a.args[3:] {
		if strings.EqualFold(string(arg), "count") {
			return []byte("*0\r\n")
		}
	}
	return null(a)
}
