package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/bearer"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// controls are where a sidecar takes orders. Its zero value is nowhere.
type controls struct {
	// Fixed at construction.
	ln     net.Listener    // nil when the socket is off
	server *control.Server // nil when ln is
	admin  http.Handler    // for the admin server; nil without a token

	token atomic.Pointer[config.Secret] // the one in force; nil when admin is
}

// listenControl opens the control socket, if there is to be one, so that nobody but our
// own user can connect.
func listenControl(ctx context.Context, c config.Control) (net.Listener, error) {
	if c.Socket == "" {
		return nil, nil //nolint:nilnil // off is no error
	}
	const mode = 0o600
	ln, err := listenUnix(ctx, c.Socket, &net.ListenConfig{Control: ownerOnly(mode)})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(c.Socket, mode); err != nil {
		_ = ln.Close() // the error at hand says more
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return ln, nil
}

// join makes the API of these groups.
func (c *controls) join(s *sidecar) {
	groups := make([]control.Group, 0, len(s.groups))
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	api := control.NewAPI(groups, s.log)
	api.OnDrill(func(d control.Drill) {
		tell := s.teller.of(d.Master)
		if d.Outcome == "" {
			tell(events.DrillBegun{Drill: d.ID, Kind: d.Kind, Report: events.Text(d.Report)})
		} else {
			tell(events.DrillEnded{Drill: d.ID, Kind: d.Kind, Outcome: d.Outcome, Report: events.Text(d.Report)})
		}
	})
	if c.ln != nil {
		c.server = control.NewServer(c.ln, api, s.log)
	}
	if t := s.cfg.Control.Token; t != "" {
		c.setToken(t)
		c.admin = c.withToken(api)
	}
}

// withToken lets those through to next who send the token in force.
func (c *controls) withToken(next http.Handler) http.Handler {
	return control.WithToken(func() string { return c.token.Load().Reveal() }, next)
}

// right reports whether a token is the one in force: who may give orders may read, too.
func (c *controls) right(token string) bool {
	t := c.token.Load()
	return t != nil && bearer.Same(token, t.Reveal())
}

func (c *controls) setToken(t config.Secret) { c.token.Store(&t) }

// run serves the socket, if there is one, until ctx ends.
func (c *controls) run(ctx context.Context) error {
	if c.server == nil {
		<-ctx.Done()
		return nil
	}
	return c.server.Run(ctx)
}
