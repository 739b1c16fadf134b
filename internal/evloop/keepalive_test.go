package evloop

import (
	"net"
	"net/netip"
	"testing"
)

func TestPeer(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			for _, listen := range []string{"127.0.0.1:0", "[::]:0"} { // to the latter IPv4 comes as IPv6
				ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", listen)
				if err != nil {
					t.Skip("no IPv6 here")
				}
				r := newRig(t, d)
				peers := make(chan netip.AddrPort, 1) // one: of the only client
				r.do(func() {
					if err := r.Listen(ln, func(s Socket) { peers <- s.Peer(); s.Close() }); err != nil {
						t.Error(err)
					}
				})
				_, port, _ := net.SplitHostPort(ln.Addr().String())
				c, err := new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
				if err != nil {
					t.Fatal(err)
				}
				if got := <-peers; got.String() != c.LocalAddr().String() {
					t.Errorf("at %s the peer is %v; want %v", listen, got, c.LocalAddr())
				}
				c.Close()
			}
		})
	}
}
