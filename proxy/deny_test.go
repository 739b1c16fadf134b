package proxy

import (
	"slices"
	"strings"
	"testing"
)

// denying is serving with other commands denied.
func denying(tb testing.TB, names ...string) *rig {
	tb.Helper()
	r := serving(tb)
	r.w.cmds = newCommands(names)
	return r
}

func TestDeniedCommands(t *testing.T) {
	r := denying(t, "flushall", "CLIENT|KILL", "ACL", "ft.drop", "DEBUG|SLEEP", "GRAPH|DELETE",
		"LONG|"+strings.Repeat("x", 123), strings.Repeat("y", 128))
	c := r.client()
	for _, cmd := range []string{
		"FLUSHALL", "client kill x", "ACL WHOAMI", "acl", "FT.DROP i", "DEBUG sleep 1", "GRAPH DELETE g",
		"long " + strings.Repeat("X", 123), strings.Repeat("Y", 128),
	} {
		c.send(cmd)
		c.expectError("ERR", "deny_commands")
	}
	b := warm(r, c)
	c.send("CLIENT ID", "SHUTDOWN")
	b.expect("CLIENT ID")
	b.reply(":7\r\n")
	o := r.ownBackend()
	o.expect("SHUTDOWN")
	c.expect(":1\r\n")
	o.wire.peerReset()
	c.expectError("UNCERTAIN", "SHUTDOWN") // another master must not get it
}

func TestDeniedCommandFailsItsTransaction(t *testing.T) {
	r := denying(t, "FLUSHALL")
	c := r.client()
	c.send("MULTI", "SET a 1")
	b := r.backend()
	b.expect("MULTI", "SET a 1")
	b.reply("+OK\r\n+QUEUED\r\n")
	c.expect("+OK\r\n+QUEUED\r\n")
	c.send("FLUSHALL")
	c.expectError("ERR", "FLUSHALL")
	c.send("EXEC")
	b.expect("DISCARD")
	b.reply("+OK\r\n")
	c.expectError("EXECABORT", "previous errors")
}

func TestDeniedByDefaultAreKnown(t *testing.T) {
	known := KnownCommands()
	for _, n := range DefaultDenied() {
		if !slices.Contains(known, n) {
			t.Errorf("%s is no command", n)
		}
	}
}
