package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	dialTimeout = 3 * time.Second
	maxLine     = 64 << 10 // bytes of one line of an answer
)

var (
	// ErrUnreachable means that the sidecar was not asked: nothing was changed.
	ErrUnreachable = errors.New("the sidecar can't be reached")
	// ErrRefused means that the sidecar refused the request: nothing was changed.
	ErrRefused = errors.New("the sidecar refuses")
	// ErrBroken means that the answer ended before the result. Before the step
	// "failover" the sidecar calls the switchover off, after it it goes on.
	ErrBroken = errors.New("the connection to the sidecar broke")
)

// Client asks one sidecar. It is safe for concurrent use; Close it in the end.
type Client struct {
	url   string
	token string
	http  *http.Client
	where string // for people

	transport *http.Transport // http's
}

// NewUnixClient returns a client of the control socket at path.
func NewUnixClient(path string) *Client {
	d := net.Dialer{Timeout: dialTimeout}
	return newClient("http://sentinelproxy", "", "unix:"+path, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", path)
	})
}

// NewClient returns a client of the admin server at addr, host:port, with TLS by secure;
// nil is without.
func NewClient(addr, token string, secure *tls.Config) *Client {
	d := net.Dialer{Timeout: dialTimeout}
	base := "http://" + addr
	if secure != nil {
		base = "https://" + addr
	}
	c := newClient(base, token, addr, d.DialContext)
	c.transport.TLSClientConfig = secure
	return c
}

func newClient(base, token, where string, dial func(context.Context, string, string) (net.Conn, error)) *Client {
	// No proxy from the environment: the token is for the sidecar alone.
	t := &http.Transport{DialContext: dial}
	return &Client{url: base, token: token, where: where, transport: t, http: &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends the client's idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Switchover asks for a switchover and calls tell for each step as it is told. The
// result is valid if err is nil; then it says how it went. When ctx ends, the sidecar
// calls it off if it still can.
func (c *Client) Switchover(
	ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep),
) (topology.SwitchoverResult, error) {
	body, err := json.Marshal(request{
		Master: req.Master, To: string(req.To), Strict: req.Strict, DryRun: req.DryRun, MaxPauseMS: milliseconds(req.MaxPause),
	})
	if err != nil {
		return topology.SwitchoverResult{}, err
	}
	resp, err := c.post(ctx, PathSwitchover, body)
	if err != nil {
		return topology.SwitchoverResult{}, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusConflict:
		return topology.SwitchoverResult{Outcome: topology.SwitchoverBusy, Err: firstLine(resp.Body)}, nil
	case resp.StatusCode != http.StatusOK:
		return topology.SwitchoverResult{}, fmt.Errorf("%w (%s): %s", ErrRefused, resp.Status, firstLine(resp.Body))
	}
	return c.lines(resp.Body, tell)
}

// lines reads the answer.
func (c *Client) lines(body io.Reader, tell func(topology.SwitchoverStep)) (topology.SwitchoverResult, error) {
	in := bufio.NewScanner(body)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return topology.SwitchoverResult{}, fmt.Errorf("%w (%s): %w", ErrBroken, c.where, err)
		}
		if l.Result != nil {
			return l.Result.value(), nil
		}
		tell(l.step())
	}
	err := in.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return topology.SwitchoverResult{}, fmt.Errorf("%w (%s): %w", ErrBroken, c.where, err)
}

// broken says what an error of a request means.
func (c *Client) broken(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // what the URL says, c.where says better
	}
	if isDial(err) || isHandshake(err) {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.where, err)
	}
	return fmt.Errorf("%w (%s): %w", ErrBroken, c.where, err)
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// isHandshake reports whether TLS did not come about, so that no request was looked at.
func isHandshake(err error) bool {
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	return cert || plain || isRefusal(err)
}

// isRefusal reports whether the other side ended the handshake. In TLS 1.3 it looks at our
// certificate when we may have sent the request, which it then does not read.
func isRefusal(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return false
	}
	const ( // RFC 8446, 6.2: what a handshake ends with, and nothing later
		handshakeFailure     = 40
		accessDenied         = 49 // those up to it are about certificates
		protocolVersion      = 70
		insufficientSecurity = 71
		certificateRequired  = 116
	)
	for alert := tls.AlertError(handshakeFailure); alert <= certificateRequired; alert++ {
		known := alert <= accessDenied || alert == protocolVersion || alert == insufficientSecurity || alert == certificateRequired
		if known && op.Err.Error() == alert.Error() { // crypto/tls has the number in a type of its own
			return true
		}
	}
	return false
}

// firstLine returns what an answer says, at most one line.
func firstLine(body io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(body, 4<<10)) // what could be read says most
	s, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return s
}
