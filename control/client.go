package control

import (
	"bufio"
	"context"
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
}

// NewUnixClient returns a client of the control socket at path.
func NewUnixClient(path string) *Client {
	d := net.Dialer{Timeout: dialTimeout}
	return newClient("http://sentinelproxy", "", "unix:"+path, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", path)
	})
}

// NewClient returns a client of the admin server at addr, host:port.
func NewClient(addr, token string) *Client {
	d := net.Dialer{Timeout: dialTimeout}
	return newClient("http://"+addr, token, addr, d.DialContext)
}

func newClient(base, token, where string, dial func(context.Context, string, string) (net.Conn, error)) *Client {
	return &Client{url: base, token: token, where: where, http: &http.Client{
		// No proxy from the environment: the token is for the sidecar alone.
		Transport:     &http.Transport{DialContext: dial},
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
	if isDial(err) {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.where, err)
	}
	return fmt.Errorf("%w (%s): %w", ErrBroken, c.where, err)
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// firstLine returns what an answer says, at most one line.
func firstLine(body io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(body, 4<<10)) // what could be read says most
	s, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return s
}
