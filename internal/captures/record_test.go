package captures

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

var update = flag.Bool("update", false, "record all sessions anew, into testdata")

const script = "return {KEYS[1], ARGV[1], 1, {ok='fine'}, false}"

// recorded are the sessions: each client talks as its users have it talk, to addr.
func recorded() map[string]func(tb testing.TB, addr string) {
	return map[string]func(testing.TB, string){
		"go-redis-resp2":        func(tb testing.TB, addr string) { tb.Helper(); goRedis(tb, addr, 2) },
		"go-redis-resp3":        func(tb testing.TB, addr string) { tb.Helper(); goRedis(tb, addr, 3) },
		"go-redis-pubsub-resp2": func(tb testing.TB, addr string) { tb.Helper(); goRedisPubSub(tb, addr, 2) },
		"go-redis-pubsub-resp3": func(tb testing.TB, addr string) { tb.Helper(); goRedisPubSub(tb, addr, 3) },
		"go-redis-big":          goRedisBig,
		"rueidis":               ofRueidis,
		"redigo":                ofRedigo,
		"redis-cli-resp2":       func(tb testing.TB, addr string) { tb.Helper(); cli(tb, addr, cliCommands) },
		"redis-cli-resp3":       func(tb testing.TB, addr string) { tb.Helper(); cli(tb, addr, cliCommands, "-3") },
		"redis-cli-command": func(tb testing.TB, addr string) {
			tb.Helper()
			cli(tb, addr, "COMMAND INFO GET EVAL CLIENT\nCOMMAND DOCS PING\n")
		},
		"redis-benchmark":        benchmark,
		"redis-benchmark-values": benchmarkValues,
		"inline":                 inline,
	}
}

// recordedSentinel are sessions with a Sentinel, which follows the named master.
func recordedSentinel(name string) map[string]func(tb testing.TB, addr string) {
	commands := strings.ReplaceAll(`PING
SENTINEL MASTERS
SENTINEL MASTER NAME
SENTINEL MASTER nobody
SENTINEL get-master-addr-by-name NAME
SENTINEL get-master-addr-by-name nobody
SENTINEL REPLICAS NAME
SENTINEL SENTINELS NAME
SENTINEL CKQUORUM NAME
SENTINEL MYID
INFO sentinel
ROLE
`, "NAME", name)
	return map[string]func(testing.TB, string){
		"sentinel-redis-cli":       func(tb testing.TB, addr string) { tb.Helper(); cli(tb, addr, commands) },
		"sentinel-redis-cli-resp3": func(tb testing.TB, addr string) { tb.Helper(); cli(tb, addr, commands, "-3") },
		"sentinel-go-redis": func(tb testing.TB, addr string) {
			tb.Helper()
			c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: name, SentinelAddrs: []string{addr}})
			defer c.Close()
			must(tb, c.Ping(tb.Context()).Err())
		},
		"sentinel-rueidis": func(tb testing.TB, addr string) {
			tb.Helper()
			c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, Sentinel: rueidis.SentinelOption{MasterSet: name}})
			must(tb, err)
			c.Close()
		},
	}
}

// The files in testdata hold what Redis and its clients said, whole commands and
// replies but for the end that MaxBytes cuts off, and nothing of the machine.
func TestSessions(t *testing.T) {
	if *update {
		record(t)
	}
	names := map[string]bool{}
	for name := range recorded() {
		names[name] = false
	}
	for name := range recordedSentinel("") {
		names[name] = false
	}
	for _, s := range read(t) {
		names[s.Name[:strings.LastIndexByte(s.Name, '-')]] = true
		var rq resp.Requests
		for b := s.Client(); len(b) > 0; {
			n, _, err := rq.Next(b)
			if err != nil && s.Name != "inline-2" {
				t.Errorf("%s: the client sent %.100q: %v", s.Name, b, err)
			}
			if n == 0 {
				break
			}
			b = b[n:]
		}
		var rp resp.Replies
		for b := s.Server(); len(b) > 0; {
			n, err := rp.Next(b)
			if err != nil {
				t.Errorf("%s: the server sent %.100q: %v", s.Name, b, err)
			}
			if n == 0 {
				break
			}
			b = b[n:]
		}
		for _, p := range s.Pieces {
			if bytes.Contains(p.Bytes, []byte(filepath.Clean(os.TempDir())+"/")) {
				t.Errorf("%s holds a path of a machine", s.Name)
			}
		}
		if again, err := parse(format(s.Pieces)); err != nil || !reflect.DeepEqual(again, s.Pieces) {
			t.Errorf("%s: written and read again it is another: %v", s.Name, err)
		}
	}
	for name, found := range names {
		if !found {
			t.Errorf("testdata has no session %s: go test ./internal/captures -update records it", name)
		}
	}
}

// read is All, or what was recorded just now.
func read(tb testing.TB) []Session {
	tb.Helper()
	if !*update {
		return All(tb)
	}
	paths, err := filepath.Glob("testdata/*.txt")
	must(tb, err)
	var out []Session
	for _, path := range paths {
		b, err := os.ReadFile(path)
		must(tb, err)
		pieces, err := parse(b)
		must(tb, err)
		out = append(out, Session{strings.TrimSuffix(filepath.Base(path), ".txt"), pieces})
	}
	return out
}

// record writes testdata.
func record(t *testing.T) {
	t.Helper()
	must(t, os.RemoveAll("testdata"))
	must(t, os.MkdirAll("testdata", 0o755)) //nolint:gosec // it is part of the repository
	node := redistest.Single(t, redistest.Options{})
	for name, talk := range recorded() {
		_, err := node.Do(t.Context(), "FLUSHALL")
		must(t, err)
		recordOne(t, name, string(node.Addr()), talk)
	}
	g := redistest.New(t, redistest.Options{Replicas: 1, Sentinels: 2, DownAfter: time.Minute})
	for name, talk := range recordedSentinel(g.Name()) {
		recordOne(t, name, string(g.SentinelAddrs()[0]), talk)
	}
}

func recordOne(t *testing.T, name, target string, talk func(testing.TB, string)) {
	t.Helper()
	tape := newTape(t, target)
	talk(t, tape.addr)
	for i, pieces := range tape.stop() {
		path := filepath.Join("testdata", fmt.Sprintf("%s-%d.txt", name, i+1))
		must(t, os.WriteFile(path, format(pieces), 0o644)) //nolint:gosec // it is part of the repository
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func goRedis(tb testing.TB, addr string, protocol int) {
	tb.Helper()
	ctx := tb.Context()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: protocol, PoolSize: 1, DB: 1, ClientName: "recorded"})
	defer c.Close()
	must(tb, c.Set(ctx, "a", "1", time.Minute).Err())
	must(tb, c.Get(ctx, "a").Err())
	if err := c.Get(ctx, "missing").Err(); !errors.Is(err, redis.Nil) {
		tb.Fatal(err)
	}
	if err := c.LPush(ctx, "a", "x").Err(); err == nil {
		tb.Fatal("LPUSH to a string")
	}
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, "h", "f", "v", "g", "\r\n\x00\xff")
		p.HGetAll(ctx, "h")
		p.ZAdd(ctx, "z", redis.Z{Score: 1.5, Member: "m"}, redis.Z{Score: -1e300, Member: "n"})
		p.ZRangeWithScores(ctx, "z", 0, -1)
		p.SAdd(ctx, "s", "b", "c")
		p.SMembers(ctx, "s")
		p.MGet(ctx, "a", "missing", "h")
		p.Scan(ctx, 0, "*", 10)
		p.XAdd(ctx, &redis.XAddArgs{Stream: "x", ID: "1-1", Values: []string{"k", "v"}})
		p.XRange(ctx, "x", "-", "+")
		p.LPosCount(ctx, "none", "x", 2, redis.LPosArgs{})
		p.Exists(ctx, "a", "b")
		p.ObjectEncoding(ctx, "a")
		return nil
	})
	must(tb, err)
	must(tb, c.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "a")
			p.Get(ctx, "missing")
			return nil
		})
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	}, "a"))
	for range 2 {
		must(tb, redis.NewScript(script).Run(ctx, c, []string{"k"}, "v").Err())
	}
	must(tb, c.RPush(ctx, "l", "e").Err())
	must(tb, c.BLPop(ctx, time.Second, "l").Err())
	if err := c.Do(ctx, "FOO", "bar").Err(); err == nil {
		tb.Fatal("FOO is a command")
	}
	must(tb, c.ClientList(ctx).Err())
}

func goRedisPubSub(tb testing.TB, addr string, protocol int) {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: protocol})
	defer c.Close()
	sub := c.Subscribe(tb.Context(), "news", "more")
	defer sub.Close()
	must(tb, sub.PSubscribe(tb.Context(), "n*"))
	must(tb, sub.SSubscribe(tb.Context(), "shard"))
	for range 4 {
		_, err := sub.Receive(tb.Context())
		must(tb, err)
	}
	must(tb, c.Publish(tb.Context(), "news", "hello").Err())
	must(tb, c.SPublish(tb.Context(), "shard", "\r\n").Err())
	must(tb, sub.Ping(tb.Context()))
	must(tb, sub.Unsubscribe(tb.Context(), "more"))
	for range 5 {
		_, err := sub.Receive(tb.Context())
		must(tb, err)
	}
}

func goRedisBig(tb testing.TB, addr string) {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1})
	defer c.Close()
	must(tb, c.Set(tb.Context(), "big", strings.Repeat("0123456789", 300_000), 0).Err())
	must(tb, c.Get(tb.Context(), "big").Err())
}

func ofRueidis(tb testing.TB, addr string) {
	tb.Helper()
	ctx := tb.Context()
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, ForceSingleClient: true, PipelineMultiplex: -1,
		DialCtxFn: func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", addr)
		},
	})
	must(tb, err)
	defer c.Close()
	for range 2 {
		must(tb, c.Do(ctx, c.B().Set().Key("a").Value("1").Build()).Error())
		must(tb, c.DoCache(ctx, c.B().Get().Key("a").Cache(), time.Minute).Error())
		for _, r := range c.DoMultiCache(ctx, rueidis.CT(c.B().Get().Key("a").Cache(), time.Minute), rueidis.CT(c.B().Hgetall().Key("h").Cache(), time.Minute)) {
			must(tb, r.Error())
		}
	}
	must(tb, c.Do(ctx, c.B().Flushall().Build()).Error()) // invalidates all
	must(tb, c.Dedicated(func(d rueidis.DedicatedClient) error {
		for _, r := range d.DoMulti(ctx, d.B().Watch().Key("a").Build(), d.B().Multi().Build(), d.B().Incr().Key("a").Build(), d.B().Exec().Build()) {
			if err := r.Error(); err != nil {
				return err
			}
		}
		return nil
	}))
	must(tb, rueidis.NewLuaScript(script).Exec(ctx, c, []string{"k"}, []string{"v"}).Error())
	listening, end := context.WithCancel(ctx)
	defer end()
	heard := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Receive(listening, c.B().Subscribe().Channel("news").Build(), func(m rueidis.PubSubMessage) {
			select {
			case heard <- m.Message:
			default:
			}
		})
	}()
	for waiting := true; waiting; {
		must(tb, c.Do(ctx, c.B().Publish().Channel("news").Message("hello").Build()).Error())
		select {
		case <-heard:
			waiting = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	end()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		tb.Errorf("a subscription that we ended: %v", err)
	}
}

func ofRedigo(tb testing.TB, addr string) {
	tb.Helper()
	c, err := redigo.DialContext(tb.Context(), "tcp", addr, redigo.DialDatabase(2), redigo.DialClientName("recorded"))
	must(tb, err)
	defer c.Close()
	do := func(cmd string, args ...any) {
		_, err := c.Do(cmd, args...)
		must(tb, err)
	}
	do("SET", "a", 1)
	do("WATCH", "a")
	for _, cmd := range []string{"MULTI", "PING", "TIME"} {
		must(tb, c.Send(cmd))
	}
	do("EXEC")
	_, err = redigo.NewScript(1, script).DoContext(tb.Context(), c, "k", "v")
	must(tb, err)
	if _, err := c.Do("GET"); err == nil {
		tb.Fatal("GET of nothing")
	}
	sub := redigo.PubSubConn{Conn: c}
	must(tb, sub.Subscribe("news"))
	must(tb, sub.PSubscribe("n*"))
	must(tb, sub.Ping("x"))
	must(tb, sub.Unsubscribe())
	must(tb, sub.PUnsubscribe())
	for range 5 {
		if err, failed := sub.ReceiveWithTimeout(time.Minute).(error); failed {
			tb.Fatal(err)
		}
	}
}

const cliCommands = `SET a "x\x00\r\ny"
GET a
GET missing
HSET h f v g 1.5
HGETALL h
ZADD z 1.5 a 2 b
ZRANGE z 0 -1 WITHSCORES
LPUSH a 1
AUTH nobody wrong
NOSUCH a b
MULTI
INCR n
GET a b
EXEC
MULTI
INCR n
HGETALL h
EXEC
EVAL "return {1, {2, {3, 'x'}}, redis.error_reply('E no')}" 0
EVALSHA 0000000000000000000000000000000000000000 0
CLIENT ID
CLIENT LIST
CLIENT INFO
CLIENT KILL ID 1
CLIENT NO-EVICT on
CLIENT TRACKINGINFO
CONFIG GET maxmemory*
INFO replication
ROLE
WAIT 0 0
OBJECT HELP
XADD x 1-1 f v
XREAD COUNT 1 STREAMS x 0
XREAD BLOCK 1 STREAMS x $
BLPOP none 0.01
GEOADD g 1 2 m
GEOPOS g m none
SCAN 0
MEMORY USAGE a
ACL WHOAMI
LOLWUT VERSION 5 0 0 0
DEBUG SLEEP
SELECT 99
RESET
HELLO 3 AUTH default x
`

// cli runs redis-cli with commands as its input.
func cli(tb testing.TB, addr, commands string, more ...string) {
	tb.Helper()
	host, port, err := net.SplitHostPort(addr)
	must(tb, err)
	cmd := exec.CommandContext(tb.Context(), "redis-cli", append([]string{"-h", host, "-p", port}, more...)...) //nolint:gosec // as the caller says
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("redis-cli: %v: %s", err, out)
	}
}

func benchmark(tb testing.TB, addr string) {
	tb.Helper()
	runBenchmark(tb, addr, "-t", "ping,set,get,incr,lpush,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset", "-n", "4", "-c", "1", "-P", "2")
}

func benchmarkValues(tb testing.TB, addr string) {
	tb.Helper()
	runBenchmark(tb, addr, "-t", "set,get", "-n", "20", "-c", "2", "-P", "4", "-d", "200", "-r", "10")
}

func runBenchmark(tb testing.TB, addr string, args ...string) {
	tb.Helper()
	host, port, err := net.SplitHostPort(addr)
	must(tb, err)
	cmd := exec.CommandContext(tb.Context(), "redis-benchmark", append([]string{"-q", "-h", host, "-p", port}, args...)...) //nolint:gosec // as the caller says
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("redis-benchmark: %v: %s", err, out)
	}
}

// inline types as people do with nc, and breaks the protocol.
func inline(tb testing.TB, addr string) {
	tb.Helper()
	for _, text := range []string{
		"PING\r\nSET a 'it\\'s' \nGET a\r\n\r\nSET b \"\\x00\\n\\\"\"\r\nGET b\r\nEXEC\r\nQUIT\r\n",
		"PING\r\nGET \"a\r\n",
	} {
		c, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
		must(tb, err)
		must(tb, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(c, text)
		must(tb, err)
		_, err = io.ReadAll(c)
		must(tb, err)
		_ = c.Close()
	}
}
