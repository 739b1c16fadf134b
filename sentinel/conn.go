package sentinel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// errSpent is what go-redis is told when it wants to dial again by itself.
var errSpent = errors.New("connection already used")

// dialFunc is net.Dialer.DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer opens connections to Sentinels. It is safe for concurrent use.
type dialer struct {
	dial               dialFunc
	username, password string
}

// conn is one connection to one Sentinel. go-redis speaks the protocol and logs
// in; it never dials, so that we know when a connection ended, nothing is asked
// twice behind our back, and no goroutine of its pool outlives us. After an
// error that is no reply, conn must be closed. One goroutine owns it.
type conn struct {
	client  *redis.Client
	raw     net.Conn
	unwatch func() bool
}

// open dials addr within dialTimeout. The login happens with the first command.
// The connection is closed when ctx ends, which ends a read that hangs.
func (d dialer) open(ctx context.Context, addr topology.Addr) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := d.dial(dctx, "tcp", string(addr))
	if err != nil {
		return nil, fmt.Errorf("dial sentinel %s: %w", addr, err)
	}
	once := make(chan net.Conn, 1)
	once <- raw
	client := redis.NewClient(&redis.Options{
		Addr:     string(addr),
		Username: d.username,
		Password: d.password,
		Protocol: 2, // one shape of replies and of events, on every version
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errSpent
			}
		},
		DialerRetries:            1,
		MaxRetries:               -1,
		PoolSize:                 1,
		PipelinePoolSize:         -1,
		ContextTimeoutEnabled:    true,
		ReadTimeout:              dialTimeout,
		WriteTimeout:             dialTimeout,
		DisableIdentity:          true, // the minimal ACL need not allow CLIENT
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return &conn{
		client:  client,
		raw:     raw,
		unwatch: context.AfterFunc(ctx, func() { _ = raw.Close() }),
	}, nil
}

func (c *conn) close() {
	c.unwatch()
	_ = c.client.Close() // fails only if closed before
	_ = c.raw.Close()    // go-redis may never have taken it
}

// isReply reports whether err is an error that the Sentinel answered, rather
// than a connection's.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// isForbidden reports whether the Sentinel answered that its ACL does not let
// this login do that.
func isForbidden(err error) bool { return isReply(err) && redis.IsPermissionError(err) }

// isTimeout reports whether err is that of a peer which did not answer in time.
func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}
