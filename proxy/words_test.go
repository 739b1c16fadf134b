package proxy

import (
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// A subcommand's name in one word, with our bar in it, is no command.
func TestNameWithABarIsUnknown(t *testing.T) {
	for _, cmd := range newCommands(nil).all {
		if !strings.Contains(cmd.name, "|") {
			continue
		}
		for _, serves := range []bool{true, false} {
			r := serving(t)
			if !serves {
				r.hold()
			}
			c := r.client()
			c.send(cmd.name, strings.ToLower(cmd.name)+" a b")
			if c.s.last != r.w.cmds.unknown {
				t.Errorf("%s is taken for %s", cmd.name, c.s.last.name)
			}
		}
	}
}

// Redis ends words at a null byte. What it would obey, and not answer, must not reach a
// connection that others use: their replies would reach the wrong clients.
func TestWordsEndAtANullByte(t *testing.T) {
	null := func(words string) string { return strings.ReplaceAll(words, "0x00", "\x00") }
	for said, want := range map[string]struct {
		own  bool   // it gets a connection of its own
		asks string // what Redis is asked
	}{
		null("CLIENT REPLY skip0x00x"):                 {asks: "CLIENT REPLY ON"},
		null("CLIENT REPLY OFF0x00"):                   {asks: "CLIENT REPLY ON"},
		null("CLIENT REPLY0x00 OFF"):                   {own: true},
		null("CLIENT REPLY nosuch"):                    {asks: "CLIENT REPLY ON"},
		null("CLIENT SETNAME a0x00b"):                  {asks: "CLIENT SETNAME not a name"},
		null("CLIENT SETINFO lib-name a0x00b"):         {asks: "CLIENT SETINFO lib-name not a name"},
		null("XREAD BLOCK0x00 0 STREAMS s $"):          {own: true},
		null("XREADGROUP GROUP g c block0x00x 0 s"):    {own: true},
		null("XREAD STREAMS0x00 BLOCK 0"):              {asks: null("XREAD STREAMS0x00 BLOCK 0")},
		"XREADGROUP GROUP streams c BLOCK 0 STREAMS s": {own: true},
		"XREADGROUP GROUP g streams BLOCK 0 STREAMS s": {own: true},
		"XREADGROUP GROUP block c STREAMS s >":         {asks: "XREADGROUP GROUP block c STREAMS s >"},
		"XREADGROUP GROUP group c BLOCK 0 STREAMS s >": {own: true},
		"XREADGROUP GROUP g":                           {asks: "XREADGROUP GROUP g"},
		"XREADGROUP GROUP":                             {asks: "XREADGROUP GROUP"},
	} {
		r := serving(t)
		c := r.client()
		b := warm(r, c)
		c.send(said)
		if got := c.s.own != nil; got != want.own {
			t.Errorf("%q: a connection of its own: %v; want %v", said, got, want.own)
		}
		if got := strings.Join(b.next(), " "); got != want.asks {
			t.Errorf("%q: on the shared connection goes %q; want %q", said, got, want.asks)
		}
	}
}

// The time that is left of a call is counted where its timeout is, whatever its group
// is called.
func TestTimeoutOfAGroupNamedBlock(t *testing.T) {
	words := strings.Fields("XREADGROUP GROUP block 5 COUNT 1 BLOCK 70 STREAMS s >")
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	cmd := newCommands(nil).shared("XREADGROUP")
	if i, _ := timeoutArg(args, cmd); i != 7 {
		t.Errorf("the timeout is argument %d; want 7", i)
	}
}

// One client's CLIENT REPLY, odd as it is, leaves the replies of others theirs.
func TestRepliesStayWithTheirClients(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	odd, a, b := r.raw(), r.raw(), r.raw()
	for _, c := range []*raw{a, b} {
		c.send(frames("PING"))
		c.expect("+PONG\r\n")
	}
	odd.send(frames("CLIENT REPLY skip\x00x", "ECHO skipped", "ECHO odd"))
	for range 10 {
		a.send(frames("ECHO a1", "ECHO a2"))
		b.send(frames("ECHO b1", "ECHO b2"))
		a.expect("$2\r\na1\r\n$2\r\na2\r\n")
		b.expect("$2\r\nb1\r\n$2\r\nb2\r\n")
	}
	odd.expect("$3\r\nodd\r\n")
}
