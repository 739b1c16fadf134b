package proxy

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestLongPipelineIsSentBeforeTheFirstRead(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	for name, tt := range map[string]struct {
		command string
		reply   func(i int) string
	}{
		"set":  {"SET k 0123456789012345678901234567890123456789", func(int) string { return "+OK" }},
		"incr": {"INCR n", func(i int) string { return ":" + strconv.Itoa(i+1) }},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 100000
			r := *r
			r.tb = t
			c := r.raw()
			c.send(strings.Repeat(frames(tt.command), n))
			for i := range n {
				if got := c.line(); got != tt.reply(i) {
					t.Fatalf("reply %d is %q; want %q", i, got, tt.reply(i))
				}
			}
		})
	}
}

// Redis keeps all replies to a client that sends a million commands before it reads the
// first; the sidecar reads the commands ahead instead. Neither may wait for the other.
func TestMillionCommandsBeforeTheFirstRead(t *testing.T) {
	node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			const n = 1_000_000
			c := r.raw()
			_ = c.SetDeadline(time.Now().Add(10 * testWait))
			c.send(frames("SET n 0"))
			c.expect("+OK\r\n")
			c.send(strings.Repeat(frames("INCR n"), n))
			for i := range n {
				if got := c.line(); got != ":"+strconv.Itoa(i+1) {
					t.Fatalf("reply %d is %q", i, got)
				}
			}
		})
	}
}

// A reply may be far larger than what is kept of it, on shared and own pipes.
func TestLargeValues(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	c := r.client(func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = 6*testWait, 6*testWait }) // 64 MiB, encrypted twice
	for _, size := range []int{1 << 10, 64 << 10, 1<<20 - 50, 1 << 20, 1<<20 + 1, 5<<20 + 3, 64 << 20} {
		value := make([]byte, size)
		src := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
		_, _ = src.Read(value)
		for i := 0; i < size; i += 7 {
			value[i] = '>' // looks like a push wherever a piece happens to begin
		}
		if err := c.Set(t.Context(), "big", value, 0).Err(); err != nil {
			t.Fatalf("SET of %d bytes: %v", size, err)
		}
		cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Get(t.Context(), "big")
			p.Echo(t.Context(), "x")
			p.Get(t.Context(), "big")
			return nil
		})
		if err != nil {
			t.Fatalf("GET of %d bytes: %v", size, err)
		}
		for _, i := range []int{0, 2} {
			if got, _ := cmds[i].(*redis.StringCmd).Bytes(); !bytes.Equal(got, value) { //nolint:forcetypeassert // built above
				t.Errorf("%d bytes came back as %d others", size, len(got))
			}
		}
	}
	eventually(t, "retired pipes closed", func() (bool, string) {
		n, _ := r.node.Do(t.Context(), "INFO", "clients")
		s, _ := n.(string)
		_, after, _ := strings.Cut(s, "connected_clients:")
		num, _, _ := strings.Cut(after, "\r\n")
		i, _ := strconv.Atoi(num)
		return i > 0 && i <= 6, s
	})
}

func TestUnixSocket(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	c := dialRaw(t, "unix", r.unix)
	c.send("PING\r\n")
	c.expect("+PONG\r\n")
}

// printf 'PING\r\n' | nc sends and closes its half at once.
func TestHalfClosedClientGetsItsReplies(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t), Password: "secret"}))
	for name, tt := range map[string]struct{ send, want string }{
		"login":                   {"AUTH secret\r\nSET a 1\r\nGET a\r\n", "+OK\r\n+OK\r\n$1\r\n1\r\n"},
		"pinned":                  {"AUTH secret\r\nMULTI\r\nSET p 1\r\nEXEC\r\nKEYS p\r\n", "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n*1\r\n$1\r\np\r\n"},
		"half":                    {"AUTH secret\r\nPING\r\nGET", "+OK\r\n+PONG\r\n"},
		"only login":              {"AUTH secret\r\n", "+OK\r\n"},
		"refused":                 {"PING\r\n", "-NOAUTH Authentication required.\r\n"},
		"blocked":                 {"AUTH secret\r\nPING\r\nBLPOP nothing 0\r\n", "+OK\r\n+PONG\r\n"},
		"half of a large command": {"AUTH secret\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000000\r\nxxx", "+OK\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.tb = t
			c := r.raw()
			c.send(tt.send)
			c.closeWrite()
			c.expect(tt.want)
			c.expectEnd()
		})
	}
	r.waitClients(0)
}

func TestManyClients(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	var wg sync.WaitGroup
	for i := range 512 {
		c := r.raw()
		wg.Go(func() {
			for range 20 {
				c.send(frames("INCR n", "ECHO "+strconv.Itoa(i)))
				c.line() // INCR's
				c.line() // the length
				if c.line() != strconv.Itoa(i) {
					t.Errorf("client %d got somebody else's reply", i)
					return
				}
			}
		})
	}
	wg.Wait()
	if n, err := r.client().Get(t.Context(), "n").Int(); err != nil || n != 512*20 {
		t.Errorf("counted %d, %v; want %d", n, err, 512*20)
	}
	if st := r.status(); st.BackendConnections > 8 {
		t.Errorf("%d backend connections for 512 clients", st.BackendConnections)
	}
}

func TestIdleConnectionsCostLittle(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	const n = 2000
	before := heap()
	for range n {
		r.raw()
	}
	r.waitClients(n)
	if perClient := (heap() - before) / n; perClient > 70<<10 { // the test's own 64 KiB buffer included
		t.Errorf("%d bytes for each idle client", perClient)
	}
	if st := r.status(); st.BackendConnections != 0 {
		t.Errorf("%d backend connections for idle clients", st.BackendConnections)
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestMaxClients(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}), func(o *Options) { o.MaxClients = 2 })
	a, b := r.raw(), r.raw()
	a.send("PING\r\n")
	a.expect("+PONG\r\n")
	b.send("PING\r\n")
	b.expect("+PONG\r\n")
	c := r.raw()
	c.expect("-ERR max number of clients reached\r\n")
	c.expectEnd()
	_ = a.Close()
	r.waitClients(1)
	d := r.raw()
	d.send("PING\r\n")
	d.expect("+PONG\r\n")
}

func TestDrain(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	idle, busy, sub, tx := r.raw(), r.raw(), r.raw(), r.raw()
	idle.send("PING\r\n")
	idle.expect("+PONG\r\n")
	sub.send("SUBSCRIBE ch\r\n")
	sub.expect("*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n")
	tx.send("MULTI\r\n")
	tx.expect("+OK\r\n")
	busy.send("BLPOP queue 0\r\n")
	c := r.client()
	waitBlocked(t, r.node)
	_ = c.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	idle.expectEnd()
	sub.expectEnd()
	tx.send("SET a 1\r\nEXEC\r\n")
	tx.expect("+QUEUED\r\n*1\r\n+OK\r\n")
	tx.expectEnd()
	if _, err := r.node.Do(t.Context(), "RPUSH", "queue", "x"); err != nil {
		t.Fatal(err)
	}
	busy.expect("*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n")
	busy.expectEnd()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainTimeoutEndsTheRest(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}), func(o *Options) { o.DrainTimeout = 50 * time.Millisecond })
	c := r.raw()
	c.send("BLPOP queue 0\r\n")
	waitBlocked(t, r.node)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	c.expect("-ERR the proxy is shutting down (sentinelproxy)\r\n")
	c.expectEnd()
}

func waitBlocked(tb testing.TB, node *redistest.Node) {
	tb.Helper()
	eventually(tb, "a blocked client", func() (bool, string) {
		v, err := node.Do(tb.Context(), "INFO", "clients")
		s := fmt.Sprint(v, err)
		return strings.Contains(s, "blocked_clients:1"), s
	})
}

// A client that never reads is not allowed to fill our memory.
func TestMemoryOfAClientThatNeverReads(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	if err := r.client().Set(t.Context(), "k", strings.Repeat("x", 100<<10), 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := heap()
	c := r.raw()
	c.send(strings.Repeat(frames("GET k"), 10))
	eventually(t, "ten answers", func() (bool, string) {
		n := r.status().Commands
		return n >= 11, fmt.Sprint(n)
	})
	c.send(strings.Repeat(frames("GET k"), 20000)) // 2 GB of replies
	eventually(t, "everything stopped", func() (bool, string) {
		a := r.status()
		return a.CommandsInFlight == 0, fmt.Sprint(a)
	})
	if grown := heap() - before; grown > 2*defaultNormalHard+(16<<20) {
		t.Errorf("%d MiB for a client that does not read", grown>>20)
	}
	other := r.client()
	if err := other.Get(t.Context(), "k").Err(); err != nil {
		t.Errorf("another client: %v", err)
	}
}

func TestPassthroughLogin(t *testing.T) {
	node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t), Password: "secret", RedisConfig: []string{
		"user alice on >wonder ~* &* +@all", "user bob on >builder ~bob:* +@all -@admin -@dangerous",
	}})
	r := startServer(t, node)
	c := r.raw()
	c.send(frames("SET a 1", "FOOBAR", "HELLO 3", "SUBSCRIBE x", "MULTI"))
	c.expect(strings.Repeat("-NOAUTH Authentication required.\r\n", 2))
	if got := c.line(); !strings.HasPrefix(got, "-NOAUTH HELLO must be called with the client already authenticated") {
		t.Error(got)
	}
	c.expect(strings.Repeat("-NOAUTH Authentication required.\r\n", 2))
	c.send(frames("AUTH wrong", "AUTH alice wonder", "ACL WHOAMI", "AUTH bob wrong", "ACL WHOAMI"))
	c.expect("-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n$5\r\nalice\r\n" +
		"-WRONGPASS invalid username-password pair or user is disabled.\r\n$5\r\nalice\r\n")
	c.send(frames("SELECT 3", "SET k 3", "AUTH bob builder", "GET k", "GET bob:k", "ROLE"))
	c.expect("+OK\r\n+OK\r\n+OK\r\n")
	for _, want := range []string{"-NOPERM", "$-1", "-NOPERM"} {
		if got := c.line(); !strings.HasPrefix(got, want) {
			t.Errorf("got %q; want %s", got, want)
		}
	}
	c.send(frames("RESET", "GET a"))
	c.expect("+RESET\r\n-NOAUTH Authentication required.\r\n")
	c.send(frames("HELLO 3 AUTH default secret SETNAME me", "CLIENT GETNAME", "GET none"))
	if got := c.line(); got != "%7" {
		t.Errorf("HELLO 3 answered %q", got)
	}
	for range 26 {
		if c.line() == "*0" {
			break
		}
	}
	c.expect("$2\r\nme\r\n_\r\n")
	if v, err := node.Do(t.Context(), "EXISTS", "a"); err != nil || v != int64(0) {
		t.Errorf("a command of an unauthenticated client was forwarded: %v, %v", v, err)
	}
}

func TestOwnAccount(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t), Password: "secret"}), func(o *Options) {
		o.Auth, o.Password = AuthNone, "secret"
	})
	c := r.raw()
	c.send(frames("SET a 1", "AUTH x", "AUTH default x", "AUTH eve x", "SELECT 99", "SELECT 1", "GET a"))
	c.expect("+OK\r\n")
	for _, want := range []string{"-ERR AUTH <password> called without any password", "+OK", "-WRONGPASS", "-ERR DB index is out of range", "+OK", "$-1"} {
		if got := c.line(); !strings.HasPrefix(got, want) {
			t.Errorf("got %q; want %s", got, want)
		}
	}
}

func TestRedisCLI(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	host, port, _ := strings.Cut(r.addr, ":")
	cli := func(stdin string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testWait)
		defer cancel()
		cmd := exec.CommandContext(ctx, "redis-cli", append([]string{"-h", host, "-p", port}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := cli("", "-n", "2", "SET", "a", "1"); got != "OK" {
		t.Error(got)
	}
	if got := cli("", "-3", "-n", "2", "GET", "a"); got != "1" {
		t.Error(got)
	}
	if got := cli("MULTI\nINCR n\nEXEC\nBLPOP none 0.01\n"); !strings.Contains(got, "QUEUED") {
		t.Error(got)
	}
	var mass []byte
	for i := range 20000 {
		mass = resp.AppendCommand(mass, "SET", "mass:"+strconv.Itoa(i), strconv.Itoa(i))
	}
	if got := cli(string(mass), "--pipe"); !strings.Contains(got, "errors: 0, replies: 20000") {
		t.Error(got)
	}
	if got := cli("", "DBSIZE"); got != "20001" {
		t.Errorf("DBSIZE says %s", got)
	}
}

func TestHoldKeepsClientsWaiting(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}))
	c := r.client()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.setRoute(topology.Route{State: topology.Holding, Master: r.node.Addr(), Epoch: 1})
	done := make(chan error, 1)
	go func() { done <- c.Set(t.Context(), "a", 1, 0).Err() }()
	eventually(t, "a held command", func() (bool, string) {
		st := r.status()
		return st.CommandsHeld == 1, fmt.Sprint(st)
	})
	select {
	case err := <-done:
		t.Fatalf("answered while held: %v", err)
	default:
	}
	r.serve()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
