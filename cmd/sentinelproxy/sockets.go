package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/systemd"
)

// openFunc opens the listener at an address of the configuration; see [listen].
type openFunc func(ctx context.Context, w config.Listen) (net.Listener, error)

// passedSockets are those that the service manager opened for us. The configuration
// says where we listen, and such a socket is taken for the address it is bound to.
// It is not safe for concurrent use, and nil has none.
type passedSockets struct {
	left   []systemd.Socket // not taken yet
	wanted []string         // addresses asked for
}

// takeSockets returns the sockets that this process was started with.
func takeSockets(environ []string) (*passedSockets, error) {
	all, err := systemd.Sockets(func(name string) string { return lookup(environ, name) }, os.Getpid())
	return &passedSockets{left: all}, err
}

// open returns the passed socket that is bound to w, or opens one.
func (p *passedSockets) open(ctx context.Context, w config.Listen) (net.Listener, error) {
	if p == nil {
		return listen(ctx, w)
	}
	p.wanted = append(p.wanted, w.String())
	i := slices.IndexFunc(p.left, func(s systemd.Socket) bool { return boundTo(s.Listener.Addr(), w) })
	if i < 0 {
		return listen(ctx, w)
	}
	ln := p.left[i].Listener
	p.left = slices.Delete(p.left, i, i+1)
	return ln, nil
}

// unclaimed returns an error with a line for each socket that no setting names:
// whoever connects there would wait for ever.
func (p *passedSockets) unclaimed() error {
	if p == nil {
		return nil
	}
	var errs []error
	for _, s := range p.left {
		errs = append(errs, fmt.Errorf("socket %q, passed by the service manager, listens on %s, and no setting names that address; want one of %s",
			s.Name, s.Listener.Addr(), strings.Join(p.wanted, ", ")))
	}
	return errors.Join(errs...)
}

// close closes what was not taken.
func (p *passedSockets) close() {
	if p == nil {
		return
	}
	for _, s := range p.left {
		_ = s.Listener.Close() // the manager keeps its own
	}
	p.left = nil
}

// boundTo reports whether a socket at addr is where w says to listen.
func boundTo(addr net.Addr, w config.Listen) bool {
	switch a := addr.(type) {
	case *net.UnixAddr:
		return w.Network == a.Net && w.Address == a.Name
	case *net.TCPAddr:
		if w.Network != "tcp" {
			return false
		}
		want, err := net.ResolveTCPAddr("tcp", w.Address)
		if err != nil || want.Port != a.Port || want.Zone != a.Zone {
			return false
		}
		if want.IP == nil { // every interface: [::], or 0.0.0.0 where there is no IPv6
			return a.IP.IsUnspecified()
		}
		return want.IP.Equal(a.IP)
	}
	return false
}
