package redistest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken from below the range the kernel gives to outgoing
// connections (32768 and up on Linux), so that a port keeps free while its node
// is dead, and no client that dials a dead node can end up connected to itself.
const (
	firstPort = 20000
	endPort   = 32000 // one past the last
)

// port is a TCP port on one host that no other user of this package takes,
// until release.
type port struct {
	number int
	claim  claim
}

// reservePort claims a port that nobody listens on. A stranger may still take
// it before its owner listens: the owner then reserves another.
func reservePort(ctx context.Context, host string) (*port, error) {
	var last error
	for range 200 {
		n := firstPort + rand.N(endPort-firstPort)
		c, err := claimPort(ctx, n)
		if err != nil {
			last = err
			continue // another test has it
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(n)))
		if err != nil {
			last = errors.Join(err, c.release())
			continue
		}
		return &port{number: n, claim: c}, l.Close()
	}
	return nil, fmt.Errorf("no free port on %s from %d to %d: %w", host, firstPort, endPort-1, last)
}

// release gives the port to others.
func (p *port) release() error { return p.claim.release() }

// FreeAddr returns an address of this machine that nobody listens on, for a program that a
// test starts. No other caller of this package, in whatever process, gets its port until
// the test ends.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	p, err := reservePort(tb.Context(), "127.0.0.1")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.release(); err != nil {
			tb.Error(err)
		}
	})
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number))
}
