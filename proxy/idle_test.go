package proxy

import (
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// idling is serving with an idle_timeout of a minute.
func idling(tb testing.TB) *rig {
	tb.Helper()
	r := serving(tb)
	r.w.opts.IdleTimeout = time.Minute
	return r
}

// round is how long it takes to look at every client once.
const round = idleRoundMax + idleTick

func TestIdleClientIsEnded(t *testing.T) {
	r := idling(t)
	c, busy := r.client(), r.client()
	b := warm(r, c)
	busy.send("PING")
	b.expect("PING")
	b.reply("+PONG\r\n")
	busy.expect("+PONG\r\n")
	for range 6 {
		r.advance(20 * time.Second)
		busy.send("PING")
		b.expect("PING")
		b.reply("+PONG\r\n")
		busy.expect("+PONG\r\n")
	}
	if !c.wire.reaped || busy.wire.closed {
		t.Errorf("the idle client ended: %v, the busy one: %v", c.wire.reaped, busy.wire.closed)
	}
	if got := r.w.stats.idleEnded; got != 1 {
		t.Errorf("idle clients ended: %d; want 1", got)
	}
	r.advance(time.Minute + round)
	if !busy.wire.reaped || len(r.w.sessions) != 0 {
		t.Errorf("the busy client, idle now, ended: %v; %d sessions are left", busy.wire.reaped, len(r.w.sessions))
	}
	d := r.client() // the looking has rested
	r.advance(time.Minute + round)
	if !d.wire.reaped {
		t.Error("a client that came after all had gone lives on")
	}
}

// Whom Redis' timeout ends, and whom it does not.
func TestWhoIsIdle(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(r *rig, c *fakeClient, b *backend) // b is the shared pipe's
		idle bool
	}{
		"nothing said":      {func(*rig, *fakeClient, *backend) {}, true},
		"half a command":    {func(_ *rig, c *fakeClient, _ *backend) { c.wire.peer("*2\r\n$3\r\nGET") }, true},
		"a command at work": {func(_ *rig, c *fakeClient, b *backend) { c.send("GET a"); b.expect("GET a") }, false},
		"subscriber": {func(r *rig, c *fakeClient, _ *backend) {
			c.send("SUBSCRIBE x")
			own := r.ownBackend()
			own.expect("SUBSCRIBE x")
			own.reply("*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n")
		}, false},
		"blocked": {func(r *rig, c *fakeClient, _ *backend) { c.send("BLPOP q 0"); r.ownBackend().expect("BLPOP q 0") }, false},
		"monitor": {func(r *rig, c *fakeClient, _ *backend) {
			c.send("MONITOR")
			own := r.ownBackend()
			own.expect("MONITOR")
			own.reply("+OK\r\n")
		}, false},
		"transaction": {func(r *rig, c *fakeClient, _ *backend) {
			c.send("MULTI")
			own := r.ownBackend()
			own.expect("MULTI")
			own.reply("+OK\r\n")
		}, true},
		"tracking": {func(r *rig, c *fakeClient, _ *backend) {
			c.send("CLIENT TRACKING ON")
			own := r.ownBackend()
			own.expect("CLIENT TRACKING ON")
			own.reply("+OK\r\n")
		}, true},
		"replies unread": {func(_ *rig, c *fakeClient, b *backend) {
			c.wire.limit = 1
			c.send("GET a")
			b.expect("GET a")
			b.reply("$1\r\n1\r\n")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := idling(t)
			c := r.client()
			tt.do(r, c, warm(r, c))
			r.w.opts.IdleTimeout = 4 * time.Second // below the watchdog's patience with a silent master
			r.w.watchAt.Stop()
			r.advance(4*time.Second + round)
			if c.wire.closed != tt.idle {
				t.Errorf("ended: %v; want %v", c.wire.closed, tt.idle)
			}
			if tt.idle && r.w.owned != 0 {
				t.Errorf("it has left %d connections of its own", r.w.owned)
			}
		})
	}
}

func TestHeldClientIsNotIdle(t *testing.T) {
	r := idling(t)
	c := r.client()
	warm(r, c)
	r.hold(func(rt *topology.Route) { rt.HoldTimeout = 10 * time.Minute })
	c.send("GET a")
	r.advance(5 * time.Minute)
	if c.wire.closed {
		t.Error("a client was ended for idleness while its command was held")
	}
}

// A fleet that falls silent at once is ended in pieces, and within a few rounds.
func TestManyIdleClientsEndInPieces(t *testing.T) {
	r := idling(t)
	const clients = 1000
	for range clients {
		r.client()
	}
	most := 0
	for range 3000 {
		before := len(r.w.sessions)
		r.advance(idleTick)
		most = max(most, before-len(r.w.sessions))
	}
	if len(r.w.sessions) != 0 || most > maxIdleEnds || most == 0 {
		t.Errorf("%d are left, at most %d ended at once; want 0 and at most %d", len(r.w.sessions), most, maxIdleEnds)
	}
}

func TestIdleTimeoutOnRealConnections(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{TLS: nodeTLS(t)}), func(o *Options) { o.IdleTimeout = 3 * time.Second })
	idle, sub := r.raw(), r.raw()
	sub.send("SUBSCRIBE x\r\n")
	sub.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n")
	idle.send("PING\r\n")
	idle.expect("+PONG\r\n")
	idle.expectEnd()
	r.waitClients(1)
	sub.send("PING\r\n")
	sub.expect("*2\r\n$4\r\npong\r\n$0\r\n\r\n")
}

// BenchmarkIdleTick is what idle_timeout costs one loop each 100 ms.
func BenchmarkIdleTick(b *testing.B) {
	r := newRig(b)
	r.w.opts.IdleTimeout = 5 * time.Minute
	for range 10_000 {
		r.client()
	}
	for b.Loop() {
		r.w.lookForIdle()
	}
}
