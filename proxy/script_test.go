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
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
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
