package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// infoReply is the answer to INFO server of a run of a node.
func infoReply(run string) string {
	return string(resp.AppendBulk(nil, "# Server\r\nredis_version:7.0.15\r\nrun_id:"+run+"\r\ntcp_port:6379\r\n"))
}

func scanReply(cursor uint64) string {
	return "*2\r\n" + string(resp.AppendBulk(nil, strconv.FormatUint(cursor, 10))) + "*1\r\n$1\r\nk\r\n"
}

// begin has c see a cursor 17 of a run called one, and returns it as c got it.
func begin(c *fakeClient, b *backend) string {
	c.wire.r.t.Helper()
	c.send("SCAN 0")
	b.expect("INFO server")
	b.expectNothing()
	b.reply(infoReply("one"))
	b.expect("SCAN 0")
	b.reply(scanReply(17))
	want := runOf("one")<<cursorBits | 17
	c.expect(scanReply(want))
	return strconv.FormatUint(want, 10)
}

func TestCursorIsCarriedOn(t *testing.T) {
	for name, tt := range map[string]struct {
		next string // CURSOR stands for the one of begin
		want string
	}{
		"scan":                   {"SCAN CURSOR MATCH a* COUNT 5", "SCAN 17 MATCH a* COUNT 5"},
		"of a key":               {"HSCAN h CURSOR", "HSCAN h 17"},
		"another run's":          {"SCAN " + strconv.FormatUint(runOf("two")<<cursorBits|17, 10), "SCAN 0"},
		"not from us":            {"SSCAN s 99", "SSCAN s 99"},
		"too long to be ours":    {"ZSCAN z 9007199254740993", "ZSCAN z 9007199254740993"},
		"not a number":           {"SCAN x", "SCAN x"},
		"not as Redis writes it": {"SCAN 007", "SCAN 007"},
		"none":                   {"SCAN", "SCAN"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			cursor := begin(c, b)
			c.send(strings.ReplaceAll(tt.next, "CURSOR", cursor))
			b.expect(tt.want)
			b.expectNothing()
		})
	}
}

func TestCursorBeginsAnewOnANewMaster(t *testing.T) {
	for name, tt := range map[string]struct {
		info  string
		want  string
		epoch uint64
	}{
		"another run":            {infoReply("two"), "SCAN 0", 2},
		"the same run":           {infoReply("one"), "SCAN 17", 2},
		"a run that is not told": {"-NOPERM this user has no permissions to run the 'info' command\r\n", "SCAN 0", 2},
	} {
		for _, inFlight := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in flight %v", name, inFlight), func(t *testing.T) {
				r := serving(t)
				c := r.client()
				b := warm(r, c)
				cursor := begin(c, b)
				if inFlight {
					c.send("SCAN " + cursor)
					b.expect("SCAN 17")
				}
				r.hold(doubt)
				r.serve(nodeB, tt.epoch)
				if !inFlight {
					c.send("SCAN " + cursor)
				}
				b = r.backend()
				b.expect("INFO server")
				b.reply(tt.info)
				b.expect(tt.want)
				b.reply(scanReply(0))
				c.expect(scanReply(0))
			})
		}
	}
}

func TestCursorWithoutRights(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SCAN 0", "PING")
	b.expect("INFO server")
	b.reply("-NOPERM this user has no permissions to run the 'info' command\r\n")
	b.expect("SCAN 0", "PING")
	b.reply(scanReply(4) + "+PONG\r\n")
	marked := runOf("a:6379 1")<<cursorBits | 4
	c.expect(scanReply(marked) + "+PONG\r\n")
	c.send(fmt.Sprintf("SCAN %d", marked))
	b.expect("SCAN 4")
}

func TestCursorOfALargeReply(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	begin(c, b)
	c.send("SCAN 0 COUNT 9999999")
	b.expect("SCAN 0")
	big := strings.Repeat("x", 2*defaultLargeCommand)
	tail := "*1\r\n" + string(resp.AppendBulk(nil, big))
	b.reply("*2\r\n$2\r\n17\r\n" + tail[:defaultLargeCommand/2])
	b.reply(tail[defaultLargeCommand/2:])
	c.expect("*2\r\n" + string(resp.AppendBulk(nil, strconv.FormatUint(runOf("one")<<cursorBits|17, 10))) + tail)
}

// A node whose cursors leave no room for a mark keeps them as they are.
func TestLongCursors(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	begin(c, b)
	const long = 1<<40 + 5
	c.send("SCAN 0")
	b.expect("SCAN 0")
	b.reply(scanReply(long))
	c.expect(scanReply(long))
	c.send(fmt.Sprintf("SCAN %d", long))
	b.expect(fmt.Sprintf("SCAN %d", long))
}

// In a transaction a cursor is taken back; what EXEC answers has none of ours.
func TestCursorInTransaction(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	cursor := begin(c, b)
	c.send("MULTI")
	own := r.ownBackend()
	own.expect("MULTI")
	own.reply("+OK\r\n")
	c.send("SCAN " + cursor)
	own.expect("SCAN 0") // whose run its own connection cannot ask for now
	own.reply("+QUEUED\r\n")
	c.expect("+OK\r\n+QUEUED\r\n")
	own.wire.peerReset()
	own = r.ownBackend()
	own.expect("MULTI", "SCAN 0")
}

func FuzzMarkReply(f *testing.F) {
	f.Add([]byte(scanReply(17)))
	f.Add([]byte("*2\r\n$1\r\n0\r\n*0\r\n"))
	f.Add([]byte("*2\r\n$\r\n\r\n"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		p := &pipe{w: &worker{}, run: 5}
		head, n := p.markReply(reply)
		if n > len(reply) || (n == 0) != (head == nil) {
			t.Fatalf("%q stands for %d bytes of %d", head, n, len(reply))
		}
	})
}

// TestScanAcrossMasters iterates over the keys of two nodes that hold the same,
// changing from one to the other after each step.
func TestScanAcrossMasters(t *testing.T) {
	const keys = 3000
	nodes := []*redistest.Node{redistest.Single(t, redistest.Options{}), redistest.Single(t, redistest.Options{})}
	for _, n := range nodes {
		direct := redis.NewClient(&redis.Options{Addr: string(n.Addr())})
		t.Cleanup(func() { _ = direct.Close() })
		if _, err := direct.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := range keys {
				p.Set(t.Context(), "key:"+strconv.Itoa(i), i, 0)
				p.HSet(t.Context(), "hash", "field:"+strconv.Itoa(i), i)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	r := startServer(t, nodes[0])
	c := r.client()
	for name, step := range map[string]func(cursor uint64) ([]string, uint64, error){
		"SCAN": func(cur uint64) ([]string, uint64, error) {
			return c.Scan(t.Context(), cur, "key:*", 50).Result()
		},
		"HSCAN": func(cur uint64) ([]string, uint64, error) {
			return c.HScan(t.Context(), "hash", cur, "", 50).Result()
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen, cursor := map[string]bool{}, uint64(0)
			for i := 0; ; i++ {
				found, next, err := step(cursor)
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range found {
					seen[k] = true
				}
				if cursor = next; cursor == 0 {
					break
				}
				if cursor >= 1<<markBits {
					t.Fatalf("cursor %d is no number in JavaScript", cursor)
				}
				if i == 10 || i == 30 { // a sixth and a half of the way
					r.setRoute(topology.Route{State: topology.Serving, Master: nodes[1-i/20].Addr(), Epoch: r.gen + 1})
				}
			}
			n := 0
			for k := range seen {
				if strings.Contains(k, ":") {
					n++
				}
			}
			if n != keys {
				t.Errorf("saw %d of %d", n, keys)
			}
		})
	}
}

// A hold reaches a scan that waits to know whose cursors it gets.
func TestHoldWhileTheRunIsAsked(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("SCAN 0")
	b.expect("INFO server")
	r.hold()
	r.advance(7 * time.Second)
	c.expectError("MASTERDOWN", "")
	r.checkHeld(0, 1, 0, 0)
}
