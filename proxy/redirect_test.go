package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestTrackingRedirectedToAnotherClient(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			listener, tracker, other := r.raw(), r.raw(), r.raw()
			listener.send("CLIENT ID\r\n")
			id := strings.TrimPrefix(listener.line(), ":")
			if !dedicated {
				tracker.send("CLIENT TRACKING ON REDIRECT " + id + "\r\n")
				tracker.expect("-ERR The client ID you want redirect to does not exist\r\n")
			}
			listener.send("SUBSCRIBE __redis__:invalidate\r\n")
			listener.expect("*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n")
			tracker.send("CLIENT TRACKING ON REDIRECT 999999999\r\nCLIENT GETREDIR\r\nCLIENT TRACKING ON REDIRECT " + id +
				"\r\nCLIENT GETREDIR\r\nGET a\r\n")
			tracker.expect("-ERR The client ID you want redirect to does not exist\r\n:-1\r\n+OK\r\n:" + id + "\r\n$-1\r\n")
			other.send("SET a 1\r\n")
			other.expect("+OK\r\n")
			listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\na\r\n")
			tracker.send("CLIENT TRACKINGINFO\r\n")
			tracker.expect("*6\r\n$5\r\nflags\r\n*1\r\n$2\r\non\r\n$8\r\nredirect\r\n:" + id + "\r\n$8\r\nprefixes\r\n*0\r\n")
			tracker.send("CLIENT TRACKING OFF\r\nCLIENT GETREDIR\r\nDEL a\r\n")
			tracker.expect("+OK\r\n:-1\r\n:1\r\n")
			tracker.send("MULTI\r\nCLIENT TRACKING ON REDIRECT 999999999\r\nCLIENT TRACKING ON BCAST REDIRECT " + id + " PREFIX b\r\nEXEC\r\nCLIENT GETREDIR\r\n")
			tracker.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-ERR The client ID you want redirect to does not exist\r\n+OK\r\n:" + id + "\r\n")
			other.send("SET b 1\r\n")
			other.expect("+OK\r\n")
			listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nb\r\n")
		})
	}
}

// Redis tells whose invalidations go nowhere of it with an id that no client knows.
func TestBrokenRedirectionTellsTheIDThatTheClientKnows(t *testing.T) {
	node := redistest.Single(t, redistest.Options{})
	for name, dedicated := range map[string]bool{"multiplexed": false, "dedicated": true} {
		t.Run(name, func(t *testing.T) {
			r := startServer(t, node, func(o *Options) { o.Dedicated = dedicated })
			listener, tracker, other := r.raw(), r.raw(), r.raw()
			listener.send("CLIENT ID\r\nSUBSCRIBE __redis__:invalidate\r\n")
			id := strings.TrimPrefix(listener.line(), ":")
			listener.expect("*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n")
			tracker.send("CLIENT TRACKING ON REDIRECT " + id + "\r\nHELLO 3\r\nGET a\r\nQUERY\r\n")
			tracker.expect("+OK\r\n")
			for !strings.HasPrefix(tracker.line(), "-ERR unknown command") {
			}
			_ = listener.Close()
			eventually(t, "nobody listens", func() (bool, string) {
				n, err := node.Do(t.Context(), "PUBSUB", "NUMSUB", "__redis__:invalidate")
				return err == nil && fmt.Sprint(n) == "[__redis__:invalidate 0]", fmt.Sprint(n)
			})
			other.send("SET a 1\r\n")
			other.expect("+OK\r\n")
			tracker.expect(">2\r\n$21\r\ntracking-redir-broken\r\n:" + id + "\r\n")
			tracker.send("CLIENT INFO\r\n")
			tracker.line()
			if got := tracker.line(); !strings.Contains(got, " flags=tR ") {
				t.Errorf("its line is %q", got)
			}
		})
	}
}

func TestClientThatRedirectsEndsWithItsConnection(t *testing.T) {
	r := serving(t)
	d, c := r.client(), r.client()
	r.subscribed(d)
	d.s.own.info.id = 77
	c.send("CLIENT TRACKING ON BCAST REDIRECT 1 PREFIX redirect")
	for _, f := range r.posted {
		f()
	}
	r.posted = nil
	o := r.ownBackend()
	for _, f := range r.posted {
		f()
	}
	o.expect("CLIENT TRACKING ON BCAST REDIRECT 77 PREFIX redirect")
	o.reply("+OK\r\n")
	c.expect("+OK\r\n")
	if got := c.s.line(0); !strings.Contains(got, " flags=tB ") || !strings.Contains(got, " redir=1 ") {
		t.Errorf("its line is %q", got)
	}
	r.serve(nodeB, 2)
	for range 3 {
		if len(r.dials) > 0 {
			r.accept().reply(helloMaster)
		}
	}
	if !c.wire.aborted || d.wire.aborted {
		t.Errorf("ended: %v, the other: %v; want it alone", c.wire.aborted, d.wire.aborted)
	}
}

// CLIENT REPLY SKIP holds for a command that other loops are asked about first.
func TestRedirectWithoutReply(t *testing.T) {
	r := serving(t)
	d, c := r.client(), r.client()
	r.subscribed(d)
	c.send("CLIENT REPLY SKIP", "CLIENT TRACKING ON REDIRECT 1", "ECHO x")
	r.backend().mayReply()
	o := r.ownBackend()
	r.turn()
	o.expect("CLIENT TRACKING ON REDIRECT 7", "ECHO x")
	o.reply("+OK\r\n$1\r\nx\r\n")
	c.expect("$1\r\nx\r\n")
}

// An id that was put into a transaction means nothing to another master.
func TestQueuedRedirectDoesNotOutliveItsMaster(t *testing.T) {
	r := serving(t)
	d, c := r.client(), r.client()
	r.subscribed(d)
	c.send("MULTI")
	o := r.ownBackend()
	o.expect("MULTI")
	o.reply("+OK\r\n")
	c.send("CLIENT TRACKING ON REDIRECT 1")
	r.turn()
	o.expect("CLIENT TRACKING ON REDIRECT 7")
	o.reply("+QUEUED\r\n")
	c.expect("+OK\r\n+QUEUED\r\n")
	o.wire.peerReset()
	o = r.ownBackend()
	o.expect("MULTI")
	o.expectNothing()
	o.reply("+OK\r\n")
	c.send("EXEC")
	o.expect("DISCARD")
	o.reply("+OK\r\n")
	c.expectError("EXECABORT", "its connection was lost")
}
