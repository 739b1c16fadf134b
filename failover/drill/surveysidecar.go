package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// surveySidecar asks as a client of the sidecar.
func surveySidecar(ctx context.Context, r Remote, nodes []NodeFact) SidecarFact {
	s := SidecarFact{Addr: r.Sidecar}
	if r.Status == nil {
		s.StatusErr = "it is not known"
	} else if status, err := r.Status(ctx); err != nil {
		s.StatusErr = err.Error()
	} else {
		s.Status = &status
	}
	const patience = 5 * time.Second // the sidecar may hold for a moment
	c, err := dialAs(ctx, r.Sidecar, r.Clients, patience, 0)
	if err != nil {
		s.Err = err.Error()
		return s
	}
	defer c.close()
	if _, err := c.ask("PING"); err != nil && !strings.HasPrefix(err.Error(), "NOPERM") {
		s.Err = "PING: " + err.Error()
		return s
	}
	s.Serves, err = servedBy(c, nodes)
	if err != nil {
		s.Refused = append(s.Refused, err.Error())
	}
	s.Refused = append(s.Refused, rehearse(c, r.Prefix+"rights:")...)
	return s
}

// servedBy returns which node answers at c; zero if it is none of those.
func servedBy(c *conn, nodes []NodeFact) (topology.Addr, error) {
	v, err := c.ask("INFO", "server")
	if err != nil {
		return "", fmt.Errorf("INFO: %w", err)
	}
	id := info(v)["run_id"]
	for _, n := range nodes {
		if n.RunID != "" && n.RunID == id {
			return n.Addr, nil
		}
	}
	return "", nil
}

// rehearse sends each kind of command of the workload once and returns what was
// refused.
func rehearse(c *conn, prefix string) []string {
	var refused []string
	for _, args := range [][]string{
		{"PING"},
		{"SET", prefix + "s", "1", "EX", "60"},
		{"GET", prefix + "s"},
		{"EXISTS", prefix + "s"},
		{"INCR", prefix + "c"},
		{"EXPIRE", prefix + "c", "60"},
		{"RPUSH", prefix + "l", "1", "2"},
		{"EXPIRE", prefix + "l", "60"},
		{"LRANGE", prefix + "l", "0", "-1"},
		{"BLPOP", prefix + "l", "1"},
		{"PUBLISH", prefix + "n", "1"},
		{"SCAN", "0", "MATCH", prefix + "*", "COUNT", "1"},
		{"UNLINK", prefix + "s", prefix + "c", prefix + "l"},
		{"SUBSCRIBE", prefix + "n"}, // last: the connection can do nothing else then
	} {
		if _, err := c.ask(args...); err != nil {
			refused = append(refused, args[0]+": "+err.Error())
			if _, ok := errors.AsType[replyError](err); !ok {
				break // the connection is gone
			}
		}
	}
	return refused
}
