package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// idempotentCases has commands of class I1 and what Redis holds before them.
func idempotentCases() map[string][]string {
	return map[string][]string{ // by a command that prepares; its commands
		"SET a before EX 100": {
			"SET a 1", "SET a 1 EX 100", "SET a 1 px 100000", "SETEX a 100 1", "PSETEX a 100000 1", "MSET a 1 b 2",
			"EXPIRE a 1000", "PEXPIRE a 1000000", "SETRANGE a 3 xyz", "HMSET a f v", "BITOP NOT d a", "BITOP AND d a b",
		},
		"SADD s 1 2 3":             {"SUNIONSTORE d s t", "SINTERSTORE d s s", "SDIFFSTORE d s t", "SORT s STORE d", "SORT s", "SORT s DESC LIMIT 0 1 STORE d"},
		"ZADD z 1 a 2 b":           {"ZUNIONSTORE d 2 z s AGGREGATE MAX", "ZINTERSTORE d 1 z WEIGHTS 2", "ZDIFFSTORE d 2 z y", "ZRANGESTORE d z 0 0"},
		"GEOADD g 13 38 p 15 37 q": {"GEOSEARCHSTORE d g FROMMEMBER p BYRADIUS 300 km", "GEORADIUS g 15 37 200 km STORE d", "GEORADIUSBYMEMBER g p 300 km STOREDIST d", "GEORADIUS g 15 37 200 km"},
		"PFADD h x y":              {"PFMERGE d h i"},
		"RPUSH l a b":              {"LSET l 1 c", "LSET l 9 c", "SORT l ALPHA STORE d"},
		"HSET f g h":               {"HMSET f g i", "SCRIPT LOAD return(1)"},
	}
}

// notIdempotentCases look like class I1 and are not, or need not be.
func notIdempotentCases() []string {
	return []string{
		"SET a 1 NX", "SET a 1 XX", "SET a 1 GET", "SET a 1 EX 10 NX", "SET a 1 KEEPTTL", "SET a 1 IFEQ 2", "SET a",
		"MSETEX 1 a 1 NX", "MSETEX 1 a 1 KEEPTTL", "MSETEX 9 a 1", "MSETEX x a 1",
		"EXPIRE a 100 NX", "EXPIRE a 100 GT", "EXPIRE a 5", "EXPIRE a -1", "EXPIRE a x", "PEXPIRE a 60000",
		"BITOP NOT a a", "SUNIONSTORE d s d", "SDIFFSTORE d d s", "SINTERSTORE d s d", "PFMERGE d d",
		"ZUNIONSTORE d 2 z d", "ZINTERSTORE d 9 z", "ZDIFFSTORE d x z", "ZRANGESTORE z z 0 1", "GEOSEARCHSTORE g g FROMMEMBER p BYRADIUS 1 km",
		"GEORADIUS g 15 37 200 km STORE g", "GEORADIUSBYMEMBER g p 300 km STOREDIST g", "SORT l STORE l",
		"SORT l BY w_* STORE d", "SORT l GET v_* STORE d",
	}
}

// mayRepeat asks the table about a command.
func mayRepeat(cmds *commands, command string) bool {
	frame := resp.AppendCommand(nil, strings.Fields(command)...)
	cmd := cmds.find(frame)
	if cmd.again == nil {
		return false
	}
	_, ok := cmd.again.writes(resp.Args(nil, frame), 66*time.Second)
	return ok
}

func TestIdempotentArguments(t *testing.T) {
	cmds := newCommands(DefaultDenied())
	seen := map[string]bool{"MSETEX": true} // Redis 8.4
	for _, list := range idempotentCases() {
		for _, c := range list {
			if !mayRepeat(cmds, c) {
				t.Errorf("%s may not run twice; want it may", c)
			}
			seen[cmds.find(resp.AppendCommand(nil, strings.Fields(c)...)).name] = true
		}
	}
	for _, c := range notIdempotentCases() {
		if mayRepeat(cmds, c) {
			t.Errorf("%s may run twice; want it may not", c)
		}
	}
	if !mayRepeat(cmds, "MSETEX 2 a 1 b 2 EX 100") {
		t.Error("MSETEX may not run twice")
	}
	for name := range sharedSameReply() {
		if !seen[name] {
			t.Errorf("no case runs %s on Redis", name)
		}
	}
}

// TestIdempotentOnRedis runs each case twice and wants the same reply and the same
// data as after once.
func TestIdempotentOnRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	c := redis.NewClient(&redis.Options{Addr: string(node.Addr()), MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	run := func(command string) string {
		var args []any
		for w := range strings.FieldsSeq(command) {
			args = append(args, w)
		}
		v, err := c.Do(t.Context(), args...).Result()
		var refused redis.Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		return fmt.Sprint(v, err)
	}
	data := func() string {
		keys := c.Keys(t.Context(), "*").Val()
		slices.Sort(keys)
		var b strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&b, "%s %q %v\n", k, c.Dump(t.Context(), k).Val(), c.TTL(t.Context(), k).Val().Round(100*time.Second))
		}
		return b.String()
	}
	cases := idempotentCases()
	for _, before := range slices.Sorted(maps.Keys(cases)) {
		for _, command := range cases[before] {
			t.Run(command, func(t *testing.T) {
				run("FLUSHALL")
				run(before)
				first := run(command)
				once := data()
				if second := run(command); second != first {
					t.Errorf("answered %s, then %s", first, second)
				}
				if twice := data(); twice != once {
					t.Errorf("left\n%sthen\n%s", once, twice)
				}
			})
		}
	}
}
