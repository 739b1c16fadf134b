package proxy

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

func TestClientsAreListed(t *testing.T) {
	node := redistest.Single(t, redistest.Options{TLS: nodeTLS(t)})
	if _, err := node.Do(t.Context(), "ACL", "SETUSER", "ann", "on", ">s3cret", "allchannels", "allkeys", "allcommands"); err != nil {
		t.Fatal(err)
	}
	r := startServer(t, node)
	plain, sub := r.raw(), r.raw()
	plain.send("AUTH ann s3cret\r\nSELECT 3\r\nCLIENT SETNAME worker\r\nGET k\r\n") // Redis 7.0 has no SETINFO
	plain.expect("+OK\r\n+OK\r\n+OK\r\n$-1\r\n")
	sub.send("SUBSCRIBE x\r\n")
	sub.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n")
	list := r.server.Clients(t.Context(), 100)
	if list.Total != 2 || len(list.Clients) != 2 || list.Partial {
		t.Fatalf("%+v; want two clients", list)
	}
	by := map[string]Client{}
	for _, c := range list.Clients {
		by[c.Addr] = c
	}
	a := by[plain.LocalAddr().String()]
	if a.User != "ann" || a.Name != "worker" || a.DB != 3 || a.Backend != "shared" || a.Pinned != "" ||
		a.LastCommand != "get" || a.LocalAddr != r.addr || a.Held || a.Protocol != 2 {
		t.Errorf("the plain client: %+v", a)
	}
	if s := by[sub.LocalAddr().String()]; s.Backend != "own" || s.Pinned != "subscription" || s.User != "default" {
		t.Errorf("the subscriber: %+v", s)
	}
	if text, err := json.Marshal(list); err != nil || strings.Contains(string(text), "s3cret") {
		t.Errorf("%v; the list holds a password: %s", err, text)
	}
	if list := r.server.Clients(t.Context(), 1); len(list.Clients) != 1 || list.Total < 1 {
		t.Errorf("of one: %+v", list)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if list := r.server.Clients(over, 100); list.Total+len(list.Clients) < 4 && !list.Partial {
		t.Errorf("with a context that is over: %+v", list)
	}
}

// Every client that stays through the listing is on it, whoever leaves meanwhile.
func TestListMissesNobodyWhoStays(t *testing.T) {
	r := serving(t)
	var cs []*fakeClient
	for range 5 * listPiece {
		cs = append(cs, r.client())
	}
	seen := map[int64]bool{}
	end, left := len(r.w.sessions), map[int64]bool{}
	for pass := 0; end > 0; pass++ {
		l := r.w.listBelow(end)
		piece := l.clients
		end = l.next
		if len(piece) > listPiece {
			t.Fatalf("a piece of %d; want at most %d", len(piece), listPiece)
		}
		for _, c := range piece {
			seen[c.ID] = true
		}
		for _, i := range []int{pass, 2*listPiece + pass, 4*listPiece + pass} {
			left[cs[i].s.id] = true
			cs[i].wire.peerReset()
		}
	}
	for _, c := range cs {
		if !left[c.s.id] && !seen[c.s.id] {
			t.Errorf("client %d stayed and is not listed", c.s.id)
		}
	}
}

func TestListTellsOfHeldClients(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	r.hold()
	c.send("GET a")
	r.advance(2 * time.Second)
	if d := c.s.describe(); !d.Held || d.Waits != "master" || d.HeldSeconds != 2 || d.InBytes == 0 {
		t.Errorf("a held client: %+v", d)
	}
	for k := waitNone; k <= waitRetry; k++ {
		if k.String() == "" && k != waitNone {
			t.Errorf("wait %d has no name", k)
		}
	}
}

// A list that was given up touches nothing of what a loop still does for it; the race
// detector sees it.
func TestListThatIsGivenUp(t *testing.T) {
	r := startServer(t, redistest.Single(t, redistest.Options{}))
	r.raw()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, l := range r.server.loops {
		stands, goOn := make(chan struct{}), make(chan struct{})
		if err := l.Post(func() { close(stands); <-goOn }); err != nil {
			t.Fatal(err)
		}
		<-stands
		list, status := r.server.Clients(over, 100), r.server.Status(over)
		done := make(chan struct{})
		close(goOn)
		if err := l.Post(func() { close(done) }); err != nil {
			t.Fatal(err)
		}
		<-done
		if !list.Partial {
			t.Errorf("%+v; want it partial", list)
		}
		if !status.Partial {
			t.Errorf("a status without a loop's numbers is as good as any: %+v", status)
		}
	}
	if s := r.server.Status(t.Context()); s.Partial {
		t.Errorf("while all loops turn: %+v", s)
	}
}
