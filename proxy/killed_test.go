package proxy

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// helloAs is the greeting to a connection that has this id.
func helloAs(id int) string {
	return strings.Replace(helloMaster, ":7\r\n", ":"+strconv.Itoa(id)+"\r\n", 1)
}

// What Redis closes while it serves on is closed for the client, too; what a master closes
// that stops, dies or is started again is set up anew.
func TestConnectionClosedByRedis(t *testing.T) {
	for name, tt := range map[string]struct {
		next  func(r *rig) *backend // the connection after the one that was closed
		ended bool
	}{
		"and it serves on": {func(r *rig) *backend {
			b := r.accept()
			b.reply(helloAs(8))
			return b
		}, true},
		"and it was started again": {func(r *rig) *backend {
			b := r.accept()
			b.reply(helloAs(5))
			return b
		}, false},
		"and it did not listen for a moment": {func(r *rig) *backend {
			d := r.dials[0]
			r.dials = r.dials[1:]
			d.done(nil, errors.New("connection refused"))
			r.advance(redialMax)
			b := r.accept()
			b.reply(helloAs(8))
			return b
		}, false},
		"and it loaded for a moment": {func(r *rig) *backend {
			r.accept().reply("-LOADING Redis is loading the dataset in memory\r\n")
			r.advance(redialMax)
			b := r.accept()
			b.reply(helloAs(8))
			return b
		}, false},
		"and others are turned away": {func(r *rig) *backend {
			b := r.accept()
			r.w.turnedAway = r.w.now() // as a master that dies does to one of thousands first
			b.reply(helloAs(8))
			return b
		}, false},
		"and another master is served": {func(r *rig) *backend {
			r.serve(nodeB, 2)
			b := r.accept()
			for b.addr != nodeB {
				b = r.accept()
			}
			b.reply(helloAs(8))
			return b
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			r.subscribed(c).wire.peerEOF()
			b := tt.next(r)
			if !tt.ended {
				b.expect("HELLO", "SUBSCRIBE ch")
				b.reply(subscribedRESP2 + "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n")
				c.expect("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nx\r\n")
			}
			if got := r.w.stats.endedByRedis; c.s.closing != tt.ended || got == 1 != tt.ended {
				t.Errorf("ended: %v, %d counted; want %v", c.s.closing, got, tt.ended)
			}
		})
	}
}

// A client that can't go on at once, since it does not read, is no less kept for that.
func TestConnectionClosedByRedisOfASlowClient(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := r.subscribed(c)
	c.wire.blocked = true
	b.reply("*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2000000\r\n" + strings.Repeat("x", 2000000) + "\r\n")
	c.send("PING") // waits until it reads
	b.wire.peerEOF()
	r.serve(nodeB, 2)
	c.wire.blocked = false
	c.wire.h.Wrote(0)
	r.turn()
	n := r.accept()
	for n.addr != nodeB {
		n = r.accept()
	}
	n.reply(helloAs(8))
	n.expect("HELLO", "SUBSCRIBE ch")
	if c.s.closing || r.w.stats.endedByRedis > 0 {
		t.Error("a failover has ended it")
	}
}

// With a connection for each client all end with their master: none for Redis' word.
func TestDedicatedClientsOutliveTheirMaster(t *testing.T) {
	r := dedicated(t)
	var clients []*fakeClient
	var backends []*backend
	for range 5 {
		c := r.client()
		c.send("PING")
		b := r.ownBackend()
		b.expect("PING")
		b.reply("+PONG\r\n")
		c.expect("+PONG\r\n")
		clients, backends = append(clients, c), append(backends, b)
	}
	for i, b := range backends {
		b.wire.peerEOF()
		if i == 0 { // it does not listen yet
			d := r.dials[0]
			r.dials = r.dials[1:]
			d.done(nil, errors.New("connection refused"))
			continue
		}
		b := r.accept() // and now it does
		b.reply(helloAs(100 + i))
	}
	for i, c := range clients {
		if c.s.closing {
			t.Errorf("client %d is ended", i)
		}
	}
}

// Of a client that keeps nothing on a connection the next command goes over another one.
func TestConnectionClosedByRedisKeptNothing(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("BLPOP q 0")
	b := r.ownBackend()
	b.expect("BLPOP q 0")
	b.reply("*-1\r\n")
	c.expect("*-1\r\n")
	b.wire.peerEOF()
	c.send("PING")
	shared := r.accept()
	shared.expect("HELLO")
	shared.reply(helloAs(8))
	shared.expect("PING")
	shared.reply("+PONG\r\n")
	c.expect("+PONG\r\n")
}

// On real Redis: CLIENT KILL, and the limit of what a subscriber may leave unread.
func TestKilledByRedis(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	for name, multiplex := range map[string]bool{"multiplexed": true, "dedicated": false} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = !multiplex })
			for what, killed := range map[string]func(victim, other *raw){
				"a subscriber": func(victim, _ *raw) {
					victim.send(frames("SUBSCRIBE a"))
					victim.expect(confirmation("a", 1))
					if n, err := node.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub"); err != nil || n != int64(1) {
						t.Errorf("CLIENT KILL TYPE pubsub: %v %v", n, err)
					}
				},
				"a client that waits": func(victim, other *raw) {
					other.send(frames("CLIENT KILL ID " + idOf(victim)))
					other.expect(":1\r\n")
				},
				"a transaction": func(victim, other *raw) {
					id := idOf(victim)
					victim.send(frames("MULTI", "SET killed 1"))
					victim.expect("+OK\r\n+QUEUED\r\n")
					other.send(frames("CLIENT KILL ID " + id))
					other.expect(":1\r\n")
				},
				"a client by itself": func(victim, _ *raw) {
					id := idOf(victim)
					victim.send(frames("CLIENT KILL ID "+id+" SKIPME no", "PING", "PING"))
					victim.expect(":1\r\n")
				},
			} {
				victim, other := r.raw(), r.raw()
				other.send(frames("PING"))
				other.expect("+PONG\r\n")
				killed(victim, other)
				if b, err := victim.r.ReadByte(); err == nil {
					t.Errorf("%s that was killed got %q; want the end", what, b)
				}
				other.send(frames("EXISTS killed"))
				other.expect(":0\r\n")
			}
		})
	}
}

// idOf returns the client's id.
func idOf(c *raw) string {
	c.send(frames("CLIENT ID"))
	return strings.TrimPrefix(c.line(), ":")
}
