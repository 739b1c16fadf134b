// Package topology holds the immutable values the other packages talk in:
// addresses, what the Sentinels say, and where commands go. It does no I/O and
// imports nothing but the standard library.
//
// All times are durations since boot (see internal/boottime), so that a value
// keeps its meaning when the machine was suspended.
package topology

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Addr is where a node listens: "host:port", or "[v6]:port", exactly as
// net.JoinHostPort writes it. The zero value means "none known".
type Addr string

// JoinAddr makes an Addr of a host (name, IPv4, IPv6 with or without brackets)
// and a port. Host names are put in lower case, since DNS ignores case.
func JoinAddr(host string, port int) Addr {
	host = strings.ToLower(strings.Trim(host, "[]"))
	return Addr(net.JoinHostPort(host, strconv.Itoa(port)))
}

// ParseAddr reads "host:port" or "[v6]:port"; a missing port becomes
// defaultPort, or an error where that is 0.
func ParseAddr(s string, defaultPort int) (Addr, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		bare := strings.Trim(s, "[]")
		isV6 := net.ParseIP(bare) != nil && strings.Contains(bare, ":")
		if defaultPort == 0 || s == "" || (strings.Contains(s, ":") && !isV6) {
			return "", fmt.Errorf("address %q: want host:port", s)
		}
		return JoinAddr(bare, defaultPort), nil
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("address %q: port %q: want a number from 1 to 65535", s, port)
	}
	if host == "" {
		return "", fmt.Errorf("address %q: the host is missing", s)
	}
	return JoinAddr(host, n), nil
}

// Split returns host and port; both are zero for the zero Addr.
func (a Addr) Split() (host string, port int) {
	h, p, err := net.SplitHostPort(string(a))
	if err != nil {
		return "", 0
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		return "", 0
	}
	return h, n
}

// String returns the address, or "none" for the zero Addr.
func (a Addr) String() string {
	if a == "" {
		return "none"
	}
	return string(a)
}
