package redistest

import (
	"context"
	"crypto/tls"
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

// askTimeout bounds one question to a node that may hang. A node that was asked is none
// that was paused here, so on a busy machine it will answer in the end.
const askTimeout = 15 * time.Second

// Do sends one command over a connection of its own, past any relay, logged in
// with the group's password, and returns the reply as RESP2 has it: string,
// int64, []any, or nil for a null. An error reply is returned as the error. A
// ctx without deadline gets one of 30 s.
func (n *Node) Do(ctx context.Context, args ...any) (any, error) {
	ctx, cancel := withDefaultWait(ctx)
	defer cancel()
	// Dialled here, because go-redis logs failures to the process' standard
	// error, and a node that does not listen yet is nothing to report.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", string(n.direct))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if n.tls != nil {
		conn = tls.Client(conn, n.tls)
	}
	client := redis.NewClient(&redis.Options{
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Password:                 n.password,
		Protocol:                 2,
		PoolSize:                 1,
		MaxRetries:               -1,
		DialerRetries:            1,
		ReadTimeout:              -1, // ctx alone bounds it
		WriteTimeout:             -1,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	reply, err := client.Do(ctx, args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // a null is a valid reply
	}
	return reply, err
}

// ClientTLS returns the configuration for a client of the node; nil if it is
// plain.
func (n *Node) ClientTLS() *tls.Config { return n.tls }

// isReply reports whether err is an error that a server answered, rather than
// one of reaching it.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// ask is Do within askTimeout.
func (n *Node) ask(ctx context.Context, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return n.Do(ctx, args...)
}

// Role returns what ROLE says. It fails for a Sentinel.
func (n *Node) Role(ctx context.Context) (topology.Role, error) {
	r, err := n.replication(ctx)
	return r.role, err
}

// replication is the answer to ROLE.
type replication struct {
	role   topology.Role
	master topology.Addr // of a replica
	link   string        // of a replica; "connected" once it has its first copy
	offset int64         // of the replication stream: how far it was written, or read
}

func (n *Node) replication(ctx context.Context) (replication, error) {
	reply, err := n.ask(ctx, "ROLE")
	if err != nil {
		return replication{}, fmt.Errorf("ROLE of %s: %w", n.name, err)
	}
	fields, _ := reply.([]any)
	switch {
	case len(fields) >= 2 && fields[0] == "master":
		offset, _ := fields[1].(int64)
		return replication{role: topology.RoleMaster, offset: offset}, nil
	case len(fields) >= 5 && fields[0] == "slave":
		host, _ := fields[1].(string)
		port, _ := fields[2].(int64)
		link, _ := fields[3].(string)
		offset, _ := fields[4].(int64)
		return replication{topology.RoleReplica, topology.JoinAddr(host, int(port)), link, offset}, nil
	}
	return replication{}, fmt.Errorf("ROLE of %s: unexpected reply %v", n.name, reply)
}

// answeringPid returns the process id of whoever answers at the node's address.
func (n *Node) answeringPid(ctx context.Context) (int, error) {
	v, err := n.infoField(ctx, "server", "process_id")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(v)
}

// infoField returns one field of a section of INFO.
func (n *Node) infoField(ctx context.Context, section, field string) (string, error) {
	reply, err := n.ask(ctx, "INFO", section)
	if err != nil {
		return "", err
	}
	text, _ := reply.(string)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("INFO names no %s", field)
}

// pairs reads a flat array of names and values, as Sentinel answers.
func pairs(reply any) map[string]string {
	flat, _ := reply.([]any)
	m := make(map[string]string, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		m[fmt.Sprint(flat[i])] = fmt.Sprint(flat[i+1])
	}
	return m
}

// rows reads an array of such arrays.
func rows(reply any) []map[string]string {
	list, _ := reply.([]any)
	all := make([]map[string]string, 0, len(list))
	for _, r := range list {
		all = append(all, pairs(r))
	}
	return all
}

// addrOf returns the address that a row of Sentinel's names.
func addrOf(row map[string]string) topology.Addr {
	port, err := strconv.Atoi(row["port"])
	if err != nil {
		return ""
	}
	return topology.JoinAddr(row["ip"], port)
}
