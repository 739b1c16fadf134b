package proxy

import (
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

const (
	noScriptReply = "-NOSCRIPT No matching script. Please use EVAL.\r\n"
	return1       = "return(1)"
	return1SHA    = "930269f31393d0be681588b6ab08dccee7d6bb67"
)

func TestUnknownScriptIsSentWithItsBody(t *testing.T) {
	for name, tt := range map[string]struct {
		teach string // how the body passed by
		send  []string
		reply string
		again []string // at once
		then  string
		want  string
	}{
		"by EVAL":         {"EVAL return(1) 0", []string{"EVALSHA NAME 1 k"}, noScriptReply, []string{"EVAL return(1) 1 k"}, ":1\r\n", ":1\r\n"},
		"by SCRIPT LOAD":  {"SCRIPT LOAD return(1)", []string{"evalsha_ro NAME 0"}, noScriptReply, []string{"EVAL_RO return(1) 0"}, ":1\r\n", ":1\r\n"},
		"a pipeline":      {"EVAL return(1) 0", []string{"EVALSHA NAME 0", "GET a", "EVALSHA NAME 0"}, noScriptReply + "$1\r\nx\r\n" + noScriptReply, []string{"EVAL return(1) 0", "GET a", "EVAL return(1) 0"}, ":1\r\n$1\r\nx\r\n:1\r\n", ":1\r\n$1\r\nx\r\n:1\r\n"},
		"a later write":   {"EVAL return(1) 0", []string{"EVALSHA NAME 0", "INCR a"}, noScriptReply + ":7\r\n", nil, "", noScriptReply + ":7\r\n"},
		"nobody sent it":  {"EVAL return(2) 0", []string{"EVALSHA NAME 0"}, noScriptReply, nil, "", noScriptReply},
		"an error of its": {"EVAL return(1) 0", []string{"EVALSHA NAME 0"}, "-ERR NOSCRIPT of another kind\r\n", nil, "", "-ERR NOSCRIPT of another kind\r\n"},
		"not that either": {"EVAL return(1) 0", []string{"EVALSHA NAME 0"}, noScriptReply, []string{"EVAL return(1) 0"}, "-ERR no\r\n", "-ERR no\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			c.send(tt.teach)
			b.expect(tt.teach)
			b.reply("$-1\r\n")
			c.expect("$-1\r\n")
			for i := range tt.send {
				tt.send[i] = strings.Replace(tt.send[i], "NAME", strings.ToUpper(return1SHA), 1)
			}
			c.send(tt.send...)
			for range tt.send {
				b.next()
			}
			b.reply(tt.reply)
			b.expect(tt.again...)
			b.expectNothing()
			b.reply(tt.then)
			c.expect(tt.want)
		})
	}
}

// SCRIPT FLUSH means it: what was remembered on every loop is forgotten.
func TestScriptFlushForgetsBodies(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	for _, flush := range []struct{ reply, then string }{{"-NOPERM no\r\n", ":1\r\n"}, {"+OK\r\n", noScriptReply}} {
		c.send("EVAL return(1) 0", "SCRIPT FLUSH")
		b.expect("EVAL return(1) 0", "SCRIPT FLUSH")
		b.reply(":1\r\n" + flush.reply)
		c.expect(":1\r\n" + flush.reply)
		c.send("EVALSHA " + return1SHA + " 0")
		b.expect("EVALSHA " + return1SHA + " 0")
		b.reply(noScriptReply)
		if flush.then != noScriptReply {
			b.expect("EVAL return(1) 0")
			b.reply(flush.then)
		}
		c.expect(flush.then)
	}
	c.send("EVAL return(1) 0")
	b.expect("EVAL return(1) 0")
	b.reply(":1\r\n")
	c.expect(":1\r\n")
	c.send("MULTI", "SCRIPT FLUSH", "EXEC")
	own := r.ownBackend()
	own.expect("MULTI", "SCRIPT FLUSH", "EXEC")
	own.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	c.expect("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	c.send("EVALSHA " + return1SHA + " 0")
	b.expect("EVALSHA " + return1SHA + " 0")
	b.reply(noScriptReply)
	c.expect(noScriptReply)
}

// In a transaction Redis has queued the call by name, and its answer is EXEC's.
func TestUnknownScriptInTransaction(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("EVAL return(1) 0")
	b.reply(":1\r\n")
	c.expect(":1\r\n")
	c.send("MULTI", "EVALSHA "+return1SHA+" 0", "EXEC")
	own := r.ownBackend()
	answer := "+OK\r\n+QUEUED\r\n*1\r\n" + noScriptReply
	own.reply(answer)
	c.expect(answer)
}

func TestScriptsAreBounded(t *testing.T) {
	var c scripts
	c.add([]byte(return1))
	for i := range 2 * maxScripts {
		c.add([]byte("return " + strconv.Itoa(i)))
		if _, ok := c.body([]byte(return1SHA)); !ok {
			t.Fatalf("the one in use is gone after %d others", i)
		}
	}
	big := strings.Repeat("x", maxScriptBody)
	for i := range 2 * maxScriptBytes / maxScriptBody {
		c.add([]byte(strconv.Itoa(i) + big[10:]))
	}
	c.add([]byte(big + "x"))
	if n := c.recent.Len(); n != len(c.bySHA) || n != len(c.byBody) || n > maxScripts || c.bytes > maxScriptBytes {
		t.Errorf("%d scripts, %d and %d indexed, %d bytes", n, len(c.bySHA), len(c.byBody), c.bytes)
	}
}

// TestScriptsOnRedis calls scripts by name after Redis has forgotten them.
func TestScriptsOnRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	c := r.client()
	for i := range 3 {
		body := "return ARGV[1] .. " + strconv.Itoa(i)
		sha := c.ScriptLoad(t.Context(), body).Val()
		if _, err := node.Do(t.Context(), "SCRIPT", "FLUSH"); err != nil {
			t.Fatal(err)
		}
		cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for j := range 100 {
				p.EvalSha(t.Context(), sha, []string{"k"}, strconv.Itoa(j)+":")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for j, cmd := range cmds {
			if got, want := cmd.(*redis.Cmd).Val(), strconv.Itoa(j)+":"+strconv.Itoa(i); got != want { //nolint:forcetypeassert // built above
				t.Fatalf("call %d answered %v; want %s", j, got, want)
			}
		}
	}
}

// A script that never ends is killed by a client that shares its connection, in whatever
// database, and a transaction that it disturbed is not executed in part.
func TestScriptIsKilledThroughTheSidecar(t *testing.T) {
	for _, db := range []string{"0", "9"} {
		t.Run(db, func(t *testing.T) {
			node := redistest.Single(t, redistest.Options{})
			r := startServer(t, node, func(o *Options) { o.Loops = 1 })
			busy, killer, queues := r.raw(), r.raw(), r.raw()
			for _, c := range []*raw{busy, killer, queues} {
				c.send("SELECT " + db + "\r\n")
				c.expect("+OK\r\n")
			}
			killer.send("CONFIG SET busy-reply-threshold 50\r\nSET a 1\r\n")
			killer.expect("+OK\r\n+OK\r\n")
			busy.send("EVAL \"redis.call('get', 'a') while true do end\" 0\r\n")
			stuck := func() bool {
				_, err := node.Do(t.Context(), "PING")
				return err != nil && strings.HasPrefix(err.Error(), "BUSY")
			}
			eventually(t, "busy", func() (bool, string) { return stuck(), "no BUSY" })
			queues.send("MULTI\r\nINCR a\r\n")
			queues.expect("+OK\r\n")
			if got := queues.line(); !strings.HasPrefix(got, "-BUSY") {
				t.Errorf("a command in MULTI gets %q", got)
			}
			killer.send("SCRIPT KILL\r\n")
			killer.expect("+OK\r\n")
			if got := busy.line(); !strings.Contains(got, "Script killed by user") {
				t.Errorf("the script's client gets %q", got)
			}
			eventually(t, "queued", func() (bool, string) {
				queues.send("INCR a\r\n")
				got := queues.line()
				return got == "+QUEUED", got
			})
			queues.send("EXEC\r\nGET a\r\n")
			queues.expect("-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\n1\r\n")
		})
	}
}
