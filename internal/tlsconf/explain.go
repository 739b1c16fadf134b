package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// ErrPlain says that a node speaks Redis without TLS where TLS was expected.
var ErrPlain = errors.New("plain Redis answered on a TLS port")

// explained is an error with words for people before those of crypto/tls.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// Explain adds to an error of TLS with the node at addr what it means and what to
// do. Other errors it returns as they are. After a handshake that got no answer it
// may dial addr to see whether it speaks plain Redis, for 300 ms at most.
func (s *Source) Explain(ctx context.Context, addr string, err error) error {
	if err == nil {
		s.plain.forget(addr)
		return nil
	}
	if s.opts.Peers != nil && !errors.Is(err, context.Canceled) {
		s.opts.Peers.Failed(addr, err)
	}
	with := func(format string, args ...any) error {
		return &explained{fmt.Sprintf(format, args...), err}
	}
	p := s.opts.Prefix
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return with("certificate signed by unknown authority: %s.ca_file must hold the authority of the node's certificate", p)
	}
	if h, ok := errors.AsType[x509.HostnameError](err); ok {
		return with("%s: set %s.server_name to a name in the nodes' certificates", strings.TrimPrefix(h.Error(), "x509: "), p)
	}
	if c, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return with("the node's certificate is not valid: %s", strings.TrimPrefix(c.Error(), "x509: "))
	}
	if r, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if c := r.RecordHeader[0]; c == '-' || c == '+' {
			return with("%v: want %s.enabled false, or the node's tls-port", ErrPlain, p)
		}
		return with("the node answered with something that is not TLS")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return with("the node refused us: %s%s", strings.TrimPrefix(op.Err.Error(), "tls: "), adviceFor(op.Err.Error(), p))
	}
	if strings.Contains(err.Error(), "protocol version") {
		return with("no TLS version in common with the node, see %s.min_version: %v", p, err)
	}
	if n, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && n.Timeout() {
		if s.plain.is(ctx, addr) {
			return &explained{fmt.Sprintf("%v: want %s.enabled false, or the node's tls-port", ErrPlain, p), errors.Join(ErrPlain, err)}
		}
		return with("no answer to the TLS handshake in time")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return with("the node closed the connection during the TLS handshake")
	}
	return err
}

// adviceFor says what a node's alert asks for.
func adviceFor(alert, prefix string) string {
	switch {
	case strings.Contains(alert, "certificate required"):
		return fmt.Sprintf(": it wants a client certificate, %s.cert_file and key_file", prefix)
	case strings.Contains(alert, "bad certificate"), strings.Contains(alert, "unknown certificate"), strings.Contains(alert, "unknown authority"):
		return fmt.Sprintf(": it does not trust the certificate in %s.cert_file, or wants one", prefix)
	case strings.Contains(alert, "protocol version"):
		return fmt.Sprintf(": no TLS version in common, see %s.min_version", prefix)
	case strings.Contains(alert, "handshake failure"):
		return fmt.Sprintf(": no cipher suite in common (%s.ciphers), or it wants a client certificate (%[1]s.cert_file)", prefix)
	}
	return ""
}

// Dialer returns a dial function that does the handshake too, over base.
func (s *Source) Dialer(base func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := base(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		tc := tls.Client(nc, s.Client(addr))
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, s.Explain(ctx, addr, err)
		}
		s.plain.forget(addr)
		return &conn{Conn: tc, source: s, addr: addr}, nil
	}
}

// conn is a connection whose alerts are explained: with TLS 1.3 a node says only
// after the handshake that it wants another certificate.
type conn struct {
	*tls.Conn

	source *Source
	addr   string
}

// Read reads plaintext.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		err = c.source.Explain(context.Background(), c.addr, err)
	}
	return n, err
}

const (
	plainTimeout = 300 * time.Millisecond
	plainEvery   = 10 * time.Second // one address is not asked more often
	maxPlain     = 256
)

// plainPeers remembers which nodes speak plain Redis. Such a node says nothing to
// a handshake: it waits for the end of the line.
type plainPeers struct {
	mu   sync.Mutex // guards seen
	seen map[string]plainPeer
}

type plainPeer struct {
	at    time.Time
	plain bool
}

// is reports whether the node at addr answers a plain PING, as was seen in the
// last ten seconds or is found out now.
func (p *plainPeers) is(ctx context.Context, addr string) bool {
	p.mu.Lock()
	peer, known := p.seen[addr]
	if known && time.Since(peer.at) < plainEvery {
		p.mu.Unlock()
		return peer.plain
	}
	if p.seen == nil || len(p.seen) >= maxPlain {
		p.seen = make(map[string]plainPeer)
	}
	p.seen[addr] = plainPeer{time.Now(), peer.plain} // others do not ask meanwhile
	p.mu.Unlock()

	plain := answersPlain(ctx, addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[addr] = plainPeer{time.Now(), plain}
	return plain
}

func (p *plainPeers) forget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.seen, addr)
}

func answersPlain(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), plainTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	t, _ := ctx.Deadline()
	var b [1]byte
	if err := nc.SetDeadline(t); err != nil {
		return false
	}
	if _, err := io.WriteString(nc, "PING\r\n"); err != nil {
		return false
	}
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		return false
	}
	return b[0] == '+' || b[0] == '-'
}
