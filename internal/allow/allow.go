// Package allow says which networks clients may come from. It is pure.
package allow

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Most is how many networks a list may have: each new connection is held against
// them, one after the other.
const Most = 256

// List is the networks that clients may come from; none: from anywhere. IPv4 is IPv4,
// also where it comes over an IPv6 socket.
type List []netip.Prefix

// Allows reports whether a client at a may connect. The zero Addr is that of a Unix
// socket, which has its permissions instead: it may.
func (l List) Allows(a netip.Addr) bool {
	if len(l) == 0 || !a.IsValid() {
		return true
	}
	a = a.Unmap().WithZone("")
	for _, p := range l {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// String returns the networks with commas between, as they can be configured.
func (l List) String() string {
	names := make([]string, len(l))
	for i, p := range l {
		names[i] = p.String()
	}
	return strings.Join(names, ",")
}

// Parse reads a network such as 10.0.0.0/8, an address, which is a network of one,
// or "any", which is every network.
func Parse(v string) (List, error) {
	if strings.EqualFold(v, "any") {
		return List{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, nil
	}
	if strings.Contains(v, "%") {
		return nil, errors.New("an address without its zone is meant")
	}
	if a, err := netip.ParseAddr(v); err == nil {
		a = a.Unmap()
		return List{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(v)
	if err != nil {
		return nil, errors.New("it is neither an address nor a network")
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return nil, errors.New("it is more than the IPv4 addresses in it")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return nil, fmt.Errorf("did you mean the network %s, or the address %s?", m, p.Addr())
	}
	return List{p}, nil
}
