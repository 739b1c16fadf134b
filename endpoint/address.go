package endpoint

import (
	"net"
	"net/netip"
	"strconv"
)

// Master is one group whose clients may ask.
type Master struct {
	Name string
	// Listeners are where the sidecar takes its clients' commands.
	Listeners []net.Addr
	// AnnounceHost and AnnouncePort are told to clients instead of what follows
	// from Listeners; each may be zero.
	AnnounceHost string
	AnnouncePort int
}

// address returns where a client that reached us at local is to send its commands.
// ok is false if there is nowhere that a host and a port can say.
//
// Of several TCP listeners it is the one at that very address, else one on every
// interface, else the first. A listener on every interface is told by the client's
// own way to us: that address reaches this machine from there.
func (m Master) address(local netip.Addr) (host string, port int, ok bool) {
	best, rank := netip.AddrPort{}, 0
	for _, a := range m.Listeners {
		tcp, is := a.(*net.TCPAddr)
		if !is {
			continue
		}
		at := tcp.AddrPort()
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		r := 1
		switch {
		case at.Addr() == local:
			r = 3
		case reaches(at.Addr(), local):
			r = 2
		}
		if r > rank {
			best, rank = at, r
		}
	}
	host, port = m.AnnounceHost, m.AnnouncePort
	if port == 0 {
		port = int(best.Port())
	}
	if host == "" && rank > 0 {
		host = hostOf(best.Addr(), local)
	}
	return host, port, host != "" && port != 0
}

// reaches reports whether a listener at every address of its family is reached at
// local too. One at [::] takes IPv4 as well, as Go opens it.
func reaches(at, local netip.Addr) bool {
	return !at.IsValid() || at.IsUnspecified() && (at.Is6() || local.Is4())
}

// hostOf says how to reach a listener at at.
func hostOf(at, local netip.Addr) string {
	switch {
	case at.IsValid() && !at.IsUnspecified():
		return at.WithZone("").String()
	case local.IsValid() && reaches(at, local):
		return local.WithZone("").String() // a zone means nothing on another machine
	}
	return "127.0.0.1"
}

// localAddr returns the address at which a client reached us.
func localAddr(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

func itoa[T int | int64 | uint64](n T) string {
	if n < 0 {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatUint(uint64(n), 10)
}
