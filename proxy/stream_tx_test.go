package proxy

import (
	"strings"
	"testing"
)

// sendInPieces sends a command so that its end is not there when its size is known.
func (c *fakeClient) sendInPieces(cmd string) {
	b := frames(cmd)
	c.wire.peer(b[:len(b)-2])
	c.wire.peer(b[len(b)-2:])
}

// A large command that is refused in a transaction has EXEC fail, as any other.
func TestLargeCommandRefusedInTransaction(t *testing.T) {
	long := strings.Repeat("1", 300)
	for name, cmd := range map[string]string{
		"local": "SELECT " + long, "denied": "DEBUG " + long, "subscribe": "SUBSCRIBE a " + long,
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			r.w.sizes.large = 200
			c := r.client()
			c.send("MULTI", "INCR a")
			b := r.ownBackend()
			b.expect("MULTI", "INCR a")
			b.reply("+OK\r\n+QUEUED\r\n")
			c.expect("+OK\r\n+QUEUED\r\n")
			c.sendInPieces(cmd)
			c.expectError("ERR", "refused by the proxy")
			c.send("EXEC")
			b.expect("DISCARD")
			b.reply("+OK\r\n")
			c.expectError("EXECABORT", "previous errors")
		})
	}
}

// One that finds no master has it fail too.
func TestLargeCommandInTransactionWithoutMaster(t *testing.T) {
	r := serving(t)
	r.w.sizes.large = 200
	c := r.client()
	c.send("MULTI", "INCR a")
	b := r.ownBackend()
	b.expect("MULTI", "INCR a")
	b.reply("+OK\r\n+QUEUED\r\n")
	c.expect("+OK\r\n+QUEUED\r\n")
	r.hold(down)
	c.sendInPieces("SET b " + strings.Repeat("x", 300))
	c.expectError("MASTERDOWN", "nothing was sent")
	r.serve(nodeB, 2)
	b = r.ownBackend()
	c.send("EXEC")
	b.expect("MULTI", "DISCARD")
	b.reply("+OK\r\n+OK\r\n")
	c.expectError("EXECABORT", "connection was lost")
}
