//go:build !linux

package evloop

import (
	"errors"
	"net"
)

func newPoller(o Options) (poller, error) {
	if o.Driver == DriverEpoll {
		return nil, errors.New("evloop: no epoll on this system")
	}
	return newPortable(), nil
}

// Detach hands a dialled connection to the loop that will own it. It may be
// called from any goroutine.
func Detach(nc net.Conn, d Driver) (Socket, error) {
	if d == DriverEpoll {
		_ = nc.Close()
		return Socket{}, errors.New("evloop: no epoll on this system")
	}
	return Socket{nc: nc}, nil
}

// Close closes a socket that no loop owns.
func (s Socket) Close() {
	if s.nc != nil {
		_ = s.nc.Close()
	}
}

func (Socket) setKeepaliveFD(Keepalive) {}

func (s Socket) remoteAddr() string { return addrString(s.nc.RemoteAddr()) }
func (s Socket) localAddr() string  { return addrString(s.nc.LocalAddr()) }
