package sentineltest_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestReplicasShareData(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	m, r := dial(t, g.NodeAddrs()[0]), dial(t, g.NodeAddrs()[1])
	m.want("+OK", "SELECT", "3")
	m.want("+OK", "SET", "k", "v")
	r.want("+OK", "SELECT", "3")
	r.want("v", "GET", "k")
	r.want("*[subscribe ch :1]", "SUBSCRIBE", "ch")
	m.want(":0", "PUBLISH", "ch", "hi") // counts its own subscribers only
	if got := r.read().String(); got != "*[message ch hi]" {
		t.Errorf("replica's subscriber reads %q", got)
	}
}

func TestNodeAuthentication(t *testing.T) {
	t.Parallel()
	o := sentineltest.Fast()
	o.Password = "pw"
	o.Users = map[string]string{"app": "secret"}
	g := sentineltest.New(t, o)
	c := dial(t, g.NodeAddrs()[0])
	c.want("-NOAUTH Authentication required.", "GET", "k")
	if got := c.do("HELLO", "3").text; !strings.HasPrefix(got, "NOAUTH HELLO must") {
		t.Errorf("HELLO without a login: %q", got)
	}
	if got := c.do("HELLO", "3", "AUTH", "app", "secret").get("role"); got != "master" {
		t.Errorf("HELLO says role %q; want master", got)
	}
	if got := dial(t, g.NodeAddrs()[1]).do("HELLO", "2", "AUTH", "default", "pw").get("role"); got != "replica" {
		t.Errorf("HELLO says role %q; want replica", got)
	}
	c.want("_", "GET", "k")
	c.want("+RESET", "RESET")
	c.want("-NOAUTH Authentication required.", "PING")
}

func TestBlockingCalls(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	addr := g.NodeAddrs()[0]
	for name, tt := range map[string]struct {
		call  []string
		wake  []string
		reply string
	}{
		"list":       {[]string{"BLPOP", "l", "0"}, []string{"RPUSH", "l", "x"}, "*[l x]"},
		"move":       {[]string{"BLMOVE", "a", "b", "LEFT", "RIGHT", "0"}, []string{"RPUSH", "a", "x"}, "x"},
		"sorted set": {[]string{"BZPOPMIN", "z", "0"}, []string{"ZADD", "z", "1", "x"}, "*[z x 1]"},
		"stream":     {[]string{"XREAD", "BLOCK", "0", "STREAMS", "s", "$"}, []string{"XADD", "s", "1-1", "f", "v"}, "*[*[s *[*[1-1 *[f v]]]]]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, w := dial(t, addr), dial(t, addr)
			id := c.do("CLIENT", "ID").text
			c.send(tt.call...)
			waitFor(t, "the call to block", func() bool { return strings.Contains(w.do("CLIENT", "LIST").text, "id="+id+" ") && isBlocked(w, id) })
			w.do(tt.wake...)
			if got := c.read().String(); got != tt.reply {
				t.Errorf("%q answers %q; want %q", tt.call, got, tt.reply)
			}
		})
	}
}

// isBlocked looks at id's flags in CLIENT LIST.
func isBlocked(w *client, id string) bool {
	for line := range strings.Lines(w.do("CLIENT", "LIST").text) {
		if strings.HasPrefix(line, "id="+id+" ") {
			return strings.Contains(line, " flags=b ")
		}
	}
	return false
}

func TestBlockedCallEndsOtherwise(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	addr := g.NodeAddrs()[0]
	host, port := g.NodeAddrs()[1].Split()
	for name, tt := range map[string]struct {
		end   func(w *client, id string)
		reply string
	}{
		"unblocked":          {func(w *client, id string) { w.want(":1", "CLIENT", "UNBLOCK", id) }, "_"},
		"unblocked by error": {func(w *client, id string) { w.want(":1", "CLIENT", "UNBLOCK", id, "ERROR") }, "-UNBLOCKED client unblocked via CLIENT UNBLOCK"},
		"demoted": {func(w *client, _ string) {
			w.want("+OK", "REPLICAOF", host, itoa(port))
			w.want("+OK", "REPLICAOF", "NO", "ONE")
		}, "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"},
	} {
		t.Run(name, func(t *testing.T) {
			c, w := dial(t, addr), dial(t, addr)
			id := c.do("CLIENT", "ID").text
			c.send("BRPOP", "nolist", "0")
			waitFor(t, "the call to block", func() bool { return isBlocked(w, id) })
			tt.end(w, id)
			if got := c.read().String(); got != tt.reply {
				t.Errorf("got %q; want %q", got, tt.reply)
			}
			c.want("+PONG", "PING")
		})
	}
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	c, other := dial(t, g.NodeAddrs()[0]), dial(t, g.NodeAddrs()[0])
	c.want("+OK", "WATCH", "k")
	other.want("+OK", "SET", "k", "1")
	c.want("+OK", "MULTI")
	c.want("+QUEUED", "SET", "k", "2")
	c.want("_", "EXEC")
	other.want("1", "GET", "k")

	// What fences an old master comes as one transaction.
	host, port := g.NodeAddrs()[1].Split()
	c.want("+OK", "MULTI")
	c.want("+QUEUED", "REPLICAOF", host, itoa(port))
	c.want("+QUEUED", "CLIENT", "KILL", "TYPE", "normal")
	c.want("*[+OK :1]", "EXEC")
	other.wantClosed()
	c.want("-READONLY You can't write against a read only replica.", "SET", "k", "3")
}

// TestTransactionOverPromotion begins on a master and ends after another one
// has taken its data: nothing of it may reach the new master.
func TestTransactionOverPromotion(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	old, to := g.Nodes()[0], g.Nodes()[1]
	c := dial(t, old.Addr())
	c.want("+OK", "MULTI")
	c.want("+QUEUED", "SET", "k", "v")
	dial(t, to.Addr()).want("+OK", "REPLICAOF", "NO", "ONE")
	c.want("*[+OK]", "EXEC")
	if v, ok := old.Get("k"); v != "v" || !ok {
		t.Errorf("old master has %q, %t; want v", v, ok)
	}
	if v, ok := to.Get("k"); ok {
		t.Errorf("new master has %q; want nothing", v)
	}
}

func TestUnknownCommandsShow(t *testing.T) {
	t.Parallel()
	g := sentineltest.New(t, sentineltest.Fast())
	n := g.Nodes()[0]
	dial(t, n.Addr()).want("-ERR unknown command 'NOSUCH', with args beginning with: 'a' ", "NOSUCH", "a")
	if n.Calls("nosuch") != 1 || n.AllCalls()["NOSUCH"] != 1 {
		t.Errorf("calls %v; want NOSUCH once", n.AllCalls())
	}
}
