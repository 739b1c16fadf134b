package proxy

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// TestLargeValuesKeepTheirBytes sends values of all sizes both ways, in reads as a loop
// makes them, past clients and masters that take them in any pieces: what a client gets
// is what it has sent or asked for, byte for byte. The simulation knows small values only.
func TestLargeValuesKeepTheirBytes(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { largeValues(t, seed) })
	}
}

// someValue returns n bytes that differ from place to place, and by which they are.
func someValue(which, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + (i*7+i>>8+which)%26)
	}
	return b
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func largeValues(t *testing.T, seed uint64) {
	t.Helper()
	r := serving(t)
	r.w.sizes.large, r.w.sizes.mark, r.w.sizes.crowd = 300<<10, 100<<10, 400<<10
	r.w.sizes.setAlarm()
	rnd := rand.New(rand.NewPCG(seed, 2))
	scratch := make([]byte, 64<<10)
	feed := func(c *fakeWire, b []byte) { // the loop's buffer is the loop's again afterwards
		n := copy(scratch, b)
		c.data(scratch[:n])
		for i := range scratch[:n] {
			scratch[i] = '!'
		}
	}
	type client struct {
		*fakeClient

		send, want []byte
	}
	var clients []*client
	for id := range 3 {
		c := &client{fakeClient: r.client()}
		for i := range 12 + rnd.IntN(12) {
			value := someValue(i+id, rnd.IntN(1<<(4+rnd.IntN(16))))
			if rnd.IntN(2) == 0 {
				c.send = resp.AppendCommand(c.send, "ECHO", string(value))
			} else {
				c.send = resp.AppendCommand(c.send, "GETRANGE", strconv.Itoa(i+id), strconv.Itoa(len(value)), "0")
			}
			c.want = resp.AppendBulk(c.want, value)
		}
		clients = append(clients, c)
	}
	var nodes []*simLink
	done := 0
	for step := 0; done < len(clients); step++ {
		if step > 100_000 {
			t.Fatal("it never ends")
		}
		c := clients[rnd.IntN(len(clients))]
		n := min(len(c.send), 1+rnd.IntN(1<<(4+rnd.IntN(13))))
		if n = min(n, len(scratch)); n > 0 && !c.wire.paused {
			feed(c.wire, c.send[:n])
			c.send = c.send[n:]
		}
		if rnd.IntN(3) == 0 {
			r.turn()
		}
		if len(r.dials) > 0 {
			nodes = append(nodes, &simLink{backend: r.accept()})
		}
		for _, b := range nodes {
			for words := b.next(); words != nil; words = b.next() {
				switch words[0] {
				case "ECHO":
					b.out = resp.AppendBulk(b.out, words[1])
				case "GETRANGE":
					b.out = resp.AppendBulk(b.out, someValue(atoi(t, words[1]), atoi(t, words[2])))
				case "HELLO":
					b.out = append(b.out, helloMaster...)
				default:
					t.Fatalf("%q reached the master", words[0])
				}
			}
			n := min(len(b.out), len(scratch), 1+rnd.IntN(1<<(4+rnd.IntN(13))))
			if n > 0 && !b.wire.paused && !b.wire.closed {
				feed(b.wire, b.out[:n])
				b.out = b.out[n:]
			}
			if rnd.IntN(2) == 0 && !b.wire.closed {
				b.wire.blocked, b.wire.limit, b.wire.dirty = false, 2+rnd.IntN(1<<(4+rnd.IntN(16))), true
			}
		}
		if rnd.IntN(2) == 0 {
			c.wire.blocked, c.wire.limit, c.wire.dirty = false, 2+rnd.IntN(1<<(4+rnd.IntN(16))), true
		}
		if rnd.IntN(4) == 0 {
			r.turn()
		}
		done = 0
		for _, c := range clients {
			got := c.wire.got
			if len(got) > len(c.want) || !bytes.Equal(got, c.want[:len(got)]) {
				t.Fatalf("client %d got other bytes than it sent", c.s.id)
			}
			c.want, c.wire.got = c.want[len(got):], nil
			if len(c.want) == 0 {
				done++
			}
		}
	}
	for _, c := range clients {
		if c.s.unsent != 0 || len(c.s.older) > 0 || c.s.outOff != 0 || c.s.inflight != 0 {
			t.Errorf("client %d: %d bytes unsent in %d pieces, offset %d, %d in flight", c.s.id, c.s.unsent, len(c.s.older), c.s.outOff, c.s.inflight)
		}
	}
}
