package drill

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Login is an account on Redis or Sentinel. Without a password there is none.
type Login struct{ User, Password string }

// command returns the AUTH that logs in, or nil where there is nothing to say.
func (l Login) command() []string {
	switch {
	case l.Password == "":
		return nil
	case l.User == "":
		return []string{"AUTH", l.Password}
	}
	return []string{"AUTH", l.User, l.Password}
}

// group is what a script breaks: one that the drill has started, or one that
// others run.
type group interface {
	// Name is what the Sentinels call the group.
	Name() string
	nodes() []member
	sentinels() []member
	// master returns the node that most of the Sentinels name.
	master(ctx context.Context) (member, error)
	// failover has a Sentinel, given by its index or anySentinel, start one. It
	// returns when one is under way.
	failover(ctx context.Context, sentinel int) error
	// settle waits until the group is whole: one master, named by every Sentinel,
	// and every node follows it. A node in away need not.
	settle(ctx context.Context, away ...member) error
	// cut separates the master from all others, so that the clients are on that
	// side; heal undoes it, after that time or a little later.
	cut(ctx context.Context, master member, side Side, length time.Duration) error
	heal(ctx context.Context) error
	// login and sentinelLogin are the drill's own accounts.
	login() Login
	sentinelLogin() Login
}

// anySentinel lets a group choose.
const anySentinel = -1

// member is one process of a group: a data node or a Sentinel.
type member interface {
	Name() string
	// Addr is how the group knows it, and DirectAddr where it is asked, past
	// anything that a drill cuts.
	Addr() topology.Addr
	DirectAddr() topology.Addr
	// ask sends one command. An error reply is returned as a replyError.
	ask(ctx context.Context, args ...string) (resp.Value, error)
	// kill ends the process at once, stop in good order.
	kill(ctx context.Context) error
	stop(ctx context.Context) error
	// gone waits until the process has ended, back until it runs again.
	gone(ctx context.Context) error
	back(ctx context.Context) error
	// hang keeps the process from doing anything for d.
	hang(ctx context.Context, d time.Duration) error
}

// Side is on which side of a partition the clients and their sidecar are.
type Side string

// The sides.
const (
	SideMajority Side = "majority" // with the Sentinels and the replicas
	SideMinority Side = "minority" // with the old master alone
)

// replyError is an error reply.
type replyError string

// Error returns the reply's text.
func (e replyError) Error() string { return string(e) }

// askTimeout bounds one question.
const askTimeout = 2 * time.Second

// askOnce sends one command over a connection of its own.
func askOnce(ctx context.Context, addr string, login Login, args ...string) (resp.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := dialAs(ctx, addr, login, askTimeout, 0)
	if err != nil {
		return resp.Value{}, err
	}
	defer c.close()
	return c.ask(args...)
}

// ask is do with an error reply returned as a replyError.
func (c *conn) ask(args ...string) (resp.Value, error) {
	v, err := c.do(args...)
	if err == nil && v.Type == '-' {
		err = replyError(v.Str)
	}
	return v, err
}

// pairs reads a flat array of names and values.
func pairs(v resp.Value) map[string]string {
	m := make(map[string]string, len(v.Elem)/2)
	for i := 0; i+1 < len(v.Elem); i += 2 {
		m[string(v.Elem[i].Str)] = string(v.Elem[i+1].Str)
	}
	return m
}

// info reads the answer to INFO.
func info(v resp.Value) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(string(v.Str)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// infoOf asks a member for all that INFO tells.
func infoOf(ctx context.Context, m member) (map[string]string, error) {
	v, err := m.ask(ctx, "INFO")
	if err != nil {
		return nil, fmt.Errorf("INFO of %s: %w", m.Name(), err)
	}
	return info(v), nil
}
