package certwatch

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"time"
)

// Role is what a certificate is to us.
type Role string

// The roles.
const (
	Server   Role = "server"   // of our listeners
	CA       Role = "ca"       // signs our clients' certificates
	Upstream Role = "upstream" // of a Redis node
	Sentinel Role = "sentinel" // of a Sentinel
	Client   Role = "client"   // that we show to Redis or a Sentinel
)

// source is a place where certificates are seen: a file, or a node.
type source struct {
	key

	// pull returns what a file in force holds; nil for a node.
	pull func() (list []*x509.Certificate, ok bool)

	// Of the last handshake with a node, or the last pull.
	chains [][]*x509.Certificate // leaf first; of an authority's file each has one
	ok     bool                  // it went well
	seen   time.Time
	absent time.Time // since when nobody lists the node; zero: it is listed

	// Owned by the batch.
	judged []*x509.Certificate // of what items were made
	items  []item
}

// key tells sources apart.
type key struct {
	master string
	role   Role
	name   string // the node's address, or the file's path
}

// item is the certificate of a chain that ends first.
type item struct {
	id       string // SHA-256 of its DER, in hex
	name     string
	leaf     string // the chain's first, if it is not the certificate itself
	notAfter time.Time
}

// best returns the chain that holds longest: of several ways to verify a certificate one
// is enough.
func best(chains [][]*x509.Certificate) []*x509.Certificate {
	var chain []*x509.Certificate
	var until time.Time
	for _, c := range chains {
		if len(c) == 0 {
			continue
		}
		if t := first(c).NotAfter; chain == nil || t.After(until) {
			chain, until = c, t
		}
	}
	return chain
}

// first returns the certificate of a chain that ends first; of several the one nearest to
// the leaf.
func first(chain []*x509.Certificate) *x509.Certificate {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
}

// judge brings items up to date. Certificates that are the same as before are compared,
// not hashed.
func (s *source) judge() {
	var now []*x509.Certificate // those that items are made of
	if s.role == CA {
		for _, c := range s.chains {
			now = append(now, c...)
		}
		now = now[:min(len(now), maxAuthorities)]
	} else {
		now = best(s.chains)
	}
	if slices.EqualFunc(now, s.judged, func(a, b *x509.Certificate) bool { return a == b || bytes.Equal(a.Raw, b.Raw) }) {
		s.judged = now // hold on to one copy, the newest
		return
	}
	s.judged, s.items = now, nil
	if len(now) == 0 {
		return
	}
	if s.role != CA {
		ends := first(now)
		it := itemOf(ends)
		if ends != now[0] {
			it.leaf = nameOf(now[0])
		}
		s.items = []item{it}
		return
	}
	for _, c := range now {
		s.items = append(s.items, itemOf(c))
	}
}

func itemOf(c *x509.Certificate) item {
	sum := sha256.Sum256(c.Raw)
	return item{id: hex.EncodeToString(sum[:]), name: nameOf(c), notAfter: c.NotAfter}
}

// maxName bounds a name, which others chose, in bytes.
const maxName = 128

// nameOf returns what people know a certificate by.
func nameOf(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if name == "" && len(c.DNSNames) > 0 {
		name = c.DNSNames[0]
	}
	if name == "" && len(c.IPAddresses) > 0 {
		name = c.IPAddresses[0].String()
	}
	name = cmp.Or(name, c.Subject.String(), "(no name)")
	return name[:min(len(name), maxName)]
}

// ends returns when the first of a source's certificates ends; ok is false while none is
// known.
func (s *source) ends() (t time.Time, ok bool) {
	for _, it := range s.items {
		if !ok || it.notAfter.Before(t) {
			t, ok = it.notAfter, true
		}
	}
	return t, ok
}
