package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// settings are what is asked of a node's configuration, one by one: before Redis 7 CONFIG
// GET takes one name.
func settings() []string {
	return []string{
		"min-replicas-to-write", "replica-read-only", "maxclients", "client-output-buffer-limit", "timeout", "repl-backlog-size",
	}
}

// askNode asks one data node everything.
func askNode(ctx context.Context, dial dialFunc, a topology.Addr, o Options) Node {
	n := Node{Addr: a, Config: make(map[string]string)}
	login := o.Master.Redis
	c, err := open(ctx, dial, a, login.User, login.Password.Reveal())
	if err != nil {
		n.Err = explain(err)
		return n
	}
	defer c.close()
	if err := n.ask(ctx, c); err != nil {
		n.Err = explain(err)
		return n
	}
	if err := n.rights(ctx, c, o); err != nil {
		n.Err = explain(err)
	}
	return n
}

// ask takes what it says of itself.
func (n *Node) ask(ctx context.Context, c *conn) error {
	ping, err := c.ask(ctx, []any{"PING"})
	if err != nil {
		return err
	}
	if ping[0].err != nil && !ping[0].denied() {
		return ping[0].err
	}
	asked := time.Now()
	server, err := c.ask(ctx, []any{"INFO", "server"})
	if err != nil {
		return err
	}
	info := server[0].info()
	n.Clock, n.Version = clockOf(info, asked, time.Now()), info["redis_version"]
	if !n.Clock.Known { // before Redis 7, or INFO is denied; a Sentinel has no TIME
		asked := time.Now()
		rs, err := c.ask(ctx, []any{"TIME"})
		if err != nil {
			return err
		}
		n.Clock = clockOfTime(rs[0], asked, time.Now())
	}
	questions := [][]any{{"ROLE"}, {"INFO", "replication"}, {"INFO", "clients"}, {"COMMAND", "INFO", "ping"}}
	for _, s := range settings() {
		questions = append(questions, []any{"CONFIG", "GET", s})
	}
	rs, err := c.ask(ctx, questions...)
	if err != nil {
		return err
	}
	for i, r := range rs {
		if d := right(questions[i]); r.denied() && !slices.Contains(n.Denied, d) {
			n.Denied = append(n.Denied, d)
		}
	}
	n.role(rs[0])
	n.replication(rs[1].info())
	n.Clients = number(rs[2].info()["connected_clients"])
	for _, r := range rs[4:] {
		maps.Copy(n.Config, pairs(r.v))
	}
	return nil
}

// role reads ROLE.
func (n *Node) role(a answer) {
	v, _ := a.v.([]any)
	if len(v) < 2 {
		return
	}
	switch v[0] {
	case "master":
		n.Role = topology.RoleMaster
		n.Offset, _ = v[1].(int64)
	case "slave":
		if len(v) < 5 {
			return
		}
		n.Role = topology.RoleReplica
		n.Master = rowAddr(fmt.Sprint(v[1]), fmt.Sprint(v[2]))
		n.LinkUp = v[3] == "connected"
		n.Offset, _ = v[4].(int64)
	}
}

// replication reads the replicas of a master, as INFO lists them.
func (n *Node) replication(info map[string]string) {
	n.LagKnown = info["role"] == "master"
	for i := range number(info["connected_slaves"]) {
		fields := make(map[string]string)
		for f := range strings.SplitSeq(info[fmt.Sprintf("slave%d", i)], ",") {
			k, v, _ := strings.Cut(f, "=")
			fields[k] = v
		}
		if a := rowAddr(fields["ip"], fields["port"]); a != "" {
			n.Lags = append(n.Lags, Lag{a, number(fields["lag"])})
		}
	}
}

// rights asks for those that orders and demotions need, without any effect: each command
// is queued in a transaction that its first command, which has too few arguments, aborts;
// and each would be refused if it ran.
func (n *Node) rights(ctx context.Context, c *conn, o Options) error {
	var commands [][]any
	if o.Master.Follow == config.FollowFast || o.Master.Demote == config.DemoteAuto || o.Orders {
		commands = append(commands, []any{"REPLICAOF", "rights-check", "no-port"}, []any{"CLIENT", "KILL", "ID", "0"})
	}
	if o.Orders {
		commands = append(commands, []any{"CONFIG", "SET", "sentinelproxy-rights-check", "none"})
	}
	if len(commands) == 0 {
		return nil
	}
	// Alone: without the transaction nothing may be sent that needs it.
	begun, err := c.ask(ctx, []any{"MULTI"})
	if err != nil {
		return err
	}
	if begun[0].err != nil {
		if begun[0].denied() {
			n.Denied = append(n.Denied, "+multi")
		}
		return nil
	}
	commands = slices.Concat([][]any{{"REPLICAOF"}}, commands, [][]any{{"EXEC"}})
	rs, err := c.ask(ctx, commands...)
	if err != nil {
		return err
	}
	for i, r := range rs {
		if d := right(commands[i]); i > 0 && r.denied() && !slices.Contains(n.Denied, d) {
			n.Denied = append(n.Denied, d)
		}
	}
	return nil
}
