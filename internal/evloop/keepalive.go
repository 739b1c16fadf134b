package evloop

import (
	"net"
	"net/netip"
	"time"
)

// keepaliveProbes is how many probes without an answer end a connection, as Redis
// has it (anetKeepAlive in redis/src/anet.c).
const keepaliveProbes = 3

// Keepalive says when the kernel asks a silent peer whether it is there. The zero
// value is never. Unix sockets have no use for it.
type Keepalive struct {
	// Idle is the silence before the first of three probes, which are a third of it
	// apart: a peer that is gone is noticed after twice Idle. It counts in seconds.
	Idle time.Duration
	// Unacked also gives a peer up that for twice Idle has not taken what was sent
	// (TCP_USER_TIMEOUT). While something is unacknowledged the kernel does not probe,
	// and without this it sends it again for a quarter of an hour. It is for peers that
	// always read: one that keeps its window shut for so long is given up too. Only
	// Linux' epoll driver has it.
	Unacked bool
}

func (k Keepalive) interval() time.Duration {
	return max(time.Second, (k.Idle / keepaliveProbes).Truncate(time.Second))
}

// SetKeepalive sets a TCP connection's keepalive. It may be called from any
// goroutine, before Loop.Add.
func (s Socket) SetKeepalive(k Keepalive) {
	if s.nc == nil {
		s.setKeepaliveFD(k)
		return
	}
	tc, ok := s.nc.(*net.TCPConn)
	switch {
	case !ok:
	case k.Idle <= 0:
		_ = tc.SetKeepAlive(false)
	default:
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: k.Idle, Interval: k.interval(), Count: keepaliveProbes})
	}
}

// SetKeepalive is [Socket.SetKeepalive].
func (t *TLS) SetKeepalive(k Keepalive) { t.sock.SetKeepalive(k) }

// Peer returns the address of a TCP connection's other end, IPv4 as such also where
// it came over IPv6; the zero value for any other connection.
func (s Socket) Peer() netip.AddrPort {
	if s.nc != nil {
		return peerOf(s.nc)
	}
	return s.peer
}

func peerOf(nc net.Conn) netip.AddrPort {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok || a == nil {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
