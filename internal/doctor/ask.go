package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// dialFunc is net.Dialer.DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// errSpent is what go-redis is told when it wants to dial again by itself.
var errSpent = errors.New("connection already used")

// conn is one connection, which go-redis speaks over and never replaces, so that nothing
// is asked twice. One goroutine owns it.
type conn struct {
	client  *redis.Client
	raw     net.Conn
	unwatch func() bool
}

// open dials. The login happens with the first question.
func open(ctx context.Context, dial dialFunc, addr topology.Addr, user, password string) (*conn, error) {
	raw, err := dial(ctx, "tcp", string(addr))
	if err != nil {
		return nil, err
	}
	once := make(chan net.Conn, 1)
	once <- raw
	return &conn{
		client: redis.NewClient(&redis.Options{
			Addr: string(addr), Username: user, Password: password, Protocol: 2,
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				select {
				case c := <-once:
					return c, nil
				default:
					return nil, errSpent
				}
			},
			DialerRetries: 1, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1,
			ContextTimeoutEnabled: true, ReadTimeout: -1, WriteTimeout: -1, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}),
		raw:     raw,
		unwatch: context.AfterFunc(ctx, func() { _ = raw.Close() }),
	}, nil
}

func (c *conn) close() {
	c.unwatch()
	_ = c.client.Close() // fails only if closed before
	_ = c.raw.Close()    // go-redis may never have taken it
}

// ask sends commands at once and returns a reply to each. The error is the connection's:
// an error reply is in its answer.
func (c *conn) ask(ctx context.Context, commands ...[]any) ([]answer, error) {
	pipe := c.client.Pipeline()
	cmds := make([]*redis.Cmd, 0, len(commands))
	for _, args := range commands {
		cmds = append(cmds, pipe.Do(ctx, args...))
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	all := make([]answer, 0, len(cmds))
	for _, cmd := range cmds {
		v, err := cmd.Result()
		if _, reply := errors.AsType[redis.Error](err); err != nil && !reply {
			return nil, err
		}
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		all = append(all, answer{v, err})
	}
	return all, nil
}

// answer is one reply; err is an error reply.
type answer struct {
	v   any
	err error
}

// denied reports whether our account may not ask this.
func (a answer) denied() bool {
	return a.err != nil && (redis.IsPermissionError(a.err) || strings.HasPrefix(a.err.Error(), "NOPERM"))
}

// refusesLogin reports whether we are not logged in.
func (a answer) refusesLogin() bool {
	return a.err != nil && (strings.HasPrefix(a.err.Error(), "NOAUTH") || strings.HasPrefix(a.err.Error(), "WRONGPASS") ||
		strings.HasPrefix(a.err.Error(), "DENIED"))
}

// text returns a string; "" for anything else.
func (a answer) text() string {
	s, _ := a.v.(string)
	return s
}

// pairs reads a flat list of names and values.
func pairs(v any) map[string]string {
	flat, _ := v.([]any)
	m := make(map[string]string, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		m[fmt.Sprint(flat[i])] = fmt.Sprint(flat[i+1])
	}
	return m
}

// rows reads a list of such lists.
func (a answer) rows() []map[string]string {
	list, _ := a.v.([]any)
	var all []map[string]string
	for _, r := range list {
		all = append(all, pairs(r))
	}
	return all
}

// info reads the lines of INFO.
func (a answer) info() map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(a.text()) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[k] = v
		}
	}
	return m
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // what is none counts as 0: it informs only
	return n
}

func rowAddr(host, port string) topology.Addr {
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 || host == "" {
		return ""
	}
	return topology.JoinAddr(host, n)
}

// clockOf compares server_time_usec with the time between question and answer.
func clockOf(info map[string]string, asked, came time.Time) Clock {
	us, err := strconv.ParseInt(info["server_time_usec"], 10, 64)
	if err != nil {
		return Clock{} // before Redis 7, or not told
	}
	return clockAt(time.UnixMicro(us), asked, came)
}

// clockOfTime is clockOf for the answer of TIME: seconds and microseconds.
func clockOfTime(a answer, asked, came time.Time) Clock {
	v, _ := a.v.([]any)
	if len(v) != 2 {
		return Clock{}
	}
	s, err1 := strconv.ParseInt(fmt.Sprint(v[0]), 10, 64)
	us, err2 := strconv.ParseInt(fmt.Sprint(v[1]), 10, 64)
	if err1 != nil || err2 != nil {
		return Clock{}
	}
	return clockAt(time.Unix(s, us*1000), asked, came)
}

// clockAt is a clock that said there between asked and came. It said so at any moment of
// them, so that the error is half the time between.
func clockAt(there, asked, came time.Time) Clock {
	half := came.Sub(asked) / 2
	return Clock{true, there.Sub(asked.Add(half)), half}
}

// explain makes one line of an error.
func explain(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
