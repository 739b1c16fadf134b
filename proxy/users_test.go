package proxy

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// Users are changed on a real Redis while their clients are connected, and the clients
// see what Redis' own would see (acl.c: ACLFreeUserAndKillClients).
func TestUsersChangeAsOnRedis(t *testing.T) {
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			do := func(args ...any) {
				t.Helper()
				if _, err := node.Do(t.Context(), args...); err != nil {
					t.Fatalf("%v: %v", args, err)
				}
			}
			login := func(user, password string) *raw {
				c := r.raw()
				c.send("AUTH " + user + " " + password + "\r\n")
				c.expect("+OK\r\n")
				return c
			}
			for _, u := range []string{"ann", "bob"} {
				do("ACL", "SETUSER", u, "on", ">old", "allchannels", "allkeys", "allcommands")
			}

			// Rights act at once, on connections that are open.
			ann := login("ann", "old")
			ann.send("SET k 1\r\n")
			ann.expect("+OK\r\n")
			do("ACL", "SETUSER", "ann", "-set")
			ann.send("SET k 2\r\n")
			if got := ann.line(); !strings.HasPrefix(got, "-NOPERM") {
				t.Errorf("without the right to SET: %q", got)
			}
			do("ACL", "SETUSER", "ann", "+set")
			ann.send("SET k 2\r\n")
			ann.expect("+OK\r\n")

			// A changed password leaves who is logged in alone.
			do("ACL", "SETUSER", "ann", ">new")
			login("ann", "old")
			do("ACL", "SETUSER", "ann", "<old")
			ann.send("GET k\r\n")
			ann.expect("$1\r\n2\r\n")
			late := r.raw()
			late.send("AUTH ann old\r\n")
			if got := late.line(); !strings.HasPrefix(got, "-WRONGPASS") {
				t.Errorf("a login with the old password: %q", got)
			}
			late.send("AUTH ann new\r\n")
			late.expect("+OK\r\n")
			late.send("GET k\r\n")
			late.expect("$1\r\n2\r\n")

			// A user that is switched off keeps its connections.
			do("ACL", "SETUSER", "ann", "off")
			ann.send("GET k\r\n")
			ann.expect("$1\r\n2\r\n")
			do("ACL", "SETUSER", "ann", "on")

			// A deleted user's clients are disconnected, whatever they do, and no other's.
			bob, idle, other := login("bob", "old"), login("bob", "old"), login("ann", "new")
			sub, blocked, queued := login("bob", "old"), login("bob", "old"), login("bob", "old")
			bob.send("GET k\r\n")
			bob.expect("$1\r\n2\r\n")
			idle.send("SELECT 3\r\n")
			idle.expect("+OK\r\n")
			sub.send("SUBSCRIBE x\r\n")
			sub.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n")
			queued.send("MULTI\r\nSET k 3\r\n")
			queued.expect("+OK\r\n+QUEUED\r\n")
			blocked.send("BLPOP q 0\r\n")
			eventually(t, "blocked", func() (bool, string) {
				n, err := node.Do(t.Context(), "INFO", "clients")
				text, _ := n.(string)
				return err == nil && strings.Contains(text, "blocked_clients:1"), text
			})
			do("ACL", "DELUSER", "bob")
			for who, c := range map[string]*raw{"plain": bob, "idle": idle, "subscriber": sub, "transaction": queued} {
				b, err := c.r.Peek(1)
				if err == nil {
					t.Errorf("%s: got %q after its user was deleted; want the end", who, b)
				}
			}
			for { // what was blocked may be told first that its call is over
				if _, err := blocked.r.ReadByte(); err != nil {
					break
				}
			}
			other.send("GET k\r\n")
			other.expect("$1\r\n2\r\n")
			again := r.raw()
			again.send("AUTH bob old\r\n")
			if got := again.line(); !strings.HasPrefix(got, "-WRONGPASS") {
				t.Errorf("a login of the deleted user: %q", got)
			}
		})
	}
}

// The default user is closed and opened again while clients that do not log in are
// there: those who are in stay, those who come have to log in.
func TestDefaultUserChangesAsOnRedis(t *testing.T) {
	closing := map[string][2][]any{
		"requirepass":  {{"CONFIG", "SET", "requirepass", "secret"}, {"CONFIG", "SET", "requirepass", ""}},
		"switched off": {{"ACL", "SETUSER", "default", "off"}, {"ACL", "SETUSER", "default", "on"}},
	}
	for name, change := range closing {
		t.Run(name, func(t *testing.T) {
			node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
			r := startServer(t, node)
			admin := redis.NewClient(&redis.Options{Addr: string(node.Addr()), MaxRetries: -1, PoolSize: 1})
			defer func() { _ = admin.Close() }()
			do := func(args []any) {
				t.Helper()
				if err := admin.Do(t.Context(), args...).Err(); err != nil {
					t.Fatalf("%v: %v", args, err)
				}
			}
			do([]any{"SET", "k", "1"})
			in := r.raw()
			in.send(frames("GET k", "BLPOP none 0.01")) // which leaves an idle connection of its own
			in.expect("$1\r\n1\r\n*-1\r\n")

			do(change[0])
			says := func(want string, words ...string) {
				t.Helper()
				eventually(t, want, func() (bool, string) {
					c := r.raw()
					c.send(frames(words...))
					got := c.line()
					return strings.HasPrefix(got, want), got
				})
			}
			says("-NOAUTH Authentication required.", "GET k")
			says("-NOAUTH HELLO must be called", "HELLO 3")
			says("-NOAUTH Authentication required.", "BLPOP none 0.01")
			says("-NOAUTH Authentication required.", "SELECT 1")
			in.send(frames("GET k", "SET k 2", "GET k"))
			in.expect("$1\r\n1\r\n+OK\r\n$1\r\n2\r\n")
			out := r.raw()
			out.send(frames("GET k"))
			out.expect("-NOAUTH Authentication required.\r\n")

			do(change[1])
			says("$1", "GET k")
			eventually(t, "let in", func() (bool, string) {
				out.send(frames("GET k"))
				got := out.line()
				if got == "$1" {
					out.expect("2\r\n")
				}
				return got == "$1", got
			})
		})
	}
}

// A user who may not SELECT stays in the database in which it logs in.
func TestLoginWithoutSelectOnRedis(t *testing.T) {
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			if _, err := node.Do(t.Context(), "ACL", "SETUSER", "ann", "on", ">pw", "allkeys", "+@all", "-select"); err != nil {
				t.Fatal(err)
			}
			c := r.raw()
			c.send("SELECT 3\r\nSET k three\r\nAUTH ann pw\r\nGET k\r\nMULTI\r\nGET k\r\nEXEC\r\nSELECT 0\r\nACL WHOAMI\r\n")
			c.expect("+OK\r\n+OK\r\n+OK\r\n$5\r\nthree\r\n+OK\r\n+QUEUED\r\n*1\r\n$5\r\nthree\r\n" + noSelect + "$3\r\nann\r\n")
		})
	}
}

// A client that deletes its own user is answered first.
func TestUserDeletesItself(t *testing.T) {
	node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
	r := startServer(t, node)
	if _, err := node.Do(t.Context(), "ACL", "SETUSER", "ann", "on", ">pw", "allkeys", "allcommands"); err != nil {
		t.Fatal(err)
	}
	c := r.client(func(o *redis.Options) { o.Username, o.Password = "ann", "pw" })
	if err := c.Set(t.Context(), "k", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	ann := r.raw()
	ann.send("AUTH ann pw\r\n")
	ann.expect("+OK\r\n")
	ann.send("ACL DELUSER ann\r\n")
	ann.expect(":1\r\n")
	ann.expectEnd()
}
