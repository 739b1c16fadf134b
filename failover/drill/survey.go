package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// lagPatience is how long a replica may take to read what the master has written.
// After a first copy a master keeps the stream back for up to a second.
const lagPatience = 2 * time.Second

// Survey asks the group and the sidecar all that the guard rails and the plan
// need. What does not answer is a fact, too. It writes a few keys below r.Prefix
// through the sidecar, and removes them. writes is what the workload may write.
func Survey(ctx context.Context, r Remote, writes int64) Facts {
	f := Facts{Group: r.Group, Writes: writes}
	f.Sentinels = surveySentinels(ctx, r)
	for _, s := range f.Sentinels {
		f.Known = max(f.Known, s.known)
	}
	f.Known = max(f.Known, len(f.Sentinels))
	f.Nodes = surveyNodes(ctx, r, f)
	f.Sidecar = surveySidecar(ctx, r, f.Nodes)
	surveyLag(ctx, r, f.Nodes)
	return f
}

// surveySentinels asks the configured Sentinels, and those that they know.
func surveySentinels(ctx context.Context, r Remote) []SentinelFact {
	asked := make(map[topology.Addr]bool)
	var all []SentinelFact
	for next := r.Sentinels; len(next) > 0; {
		facts := make([]SentinelFact, len(next))
		var wg sync.WaitGroup
		for i, addr := range next {
			asked[addr] = true
			wg.Go(func() { facts[i] = surveySentinel(ctx, r, addr) })
		}
		wg.Wait()
		next = nil
		for _, s := range facts {
			if twin(all, s) {
				continue // the same by another name
			}
			all = append(all, s)
			for _, peer := range s.peers {
				if !asked[peer] && !slices.Contains(next, peer) {
					next = append(next, peer)
				}
			}
		}
	}
	return all
}

// twin reports whether a Sentinel was asked already, at another address.
func twin(all []SentinelFact, s SentinelFact) bool {
	return s.RunID != "" && slices.ContainsFunc(all, func(o SentinelFact) bool { return o.RunID == s.RunID })
}

func surveySentinel(ctx context.Context, r Remote, addr topology.Addr) SentinelFact {
	s := SentinelFact{Addr: addr}
	c, err := dialAs(ctx, string(addr), r.Sentinel, askTimeout, 0)
	if err == nil {
		defer c.close()
		err = s.survey(c, r.Group)
	}
	if err != nil {
		return SentinelFact{Addr: addr, Err: err.Error()}
	}
	return s
}

// survey fills in what the Sentinel at c says.
func (s *SentinelFact) survey(c *conn, group string) error {
	v, err := c.ask("INFO")
	if err != nil {
		return fmt.Errorf("INFO: %w", err)
	}
	in := info(v)
	s.RunID, s.Tilt = in["run_id"], in["sentinel_tilt"] == "1"
	s.Masters = int(number64(in["sentinel_masters"]))
	if v, err = c.ask("SENTINEL", "MASTER", group); err != nil {
		return fmt.Errorf("SENTINEL MASTER: %w", err)
	}
	m := pairs(v)
	s.Epoch = uint64(number64(m["config-epoch"]))
	s.Flags, s.FailoverState = m["flags"], m["failover-state"]
	s.DownAfter = time.Duration(number64(m["down-after-milliseconds"])) * time.Millisecond
	s.FailoverTimeout = time.Duration(number64(m["failover-timeout"])) * time.Millisecond
	s.known = int(number64(m["num-other-sentinels"])) + 1
	if s.Master, err = namedBy(c, group); err != nil {
		return err
	}
	if _, err = c.ask("SENTINEL", "CKQUORUM", group); err != nil {
		if _, ok := errors.AsType[replyError](err); !ok {
			return err
		}
		s.Quorum = err.Error()
	}
	if v, err = c.ask("SENTINEL", "REPLICAS", group); err != nil {
		return fmt.Errorf("SENTINEL REPLICAS: %w", err)
	}
	for _, e := range v.Elem {
		row := pairs(e)
		s.Replicas = append(s.Replicas, ReplicaFact{
			Addr: rowAddr(row), Flags: row["flags"], LinkUp: row["master-link-status"] == "ok",
			Priority: int(number64(row["slave-priority"])),
		})
	}
	if v, err = c.ask("SENTINEL", "SENTINELS", group); err != nil {
		return fmt.Errorf("SENTINEL SENTINELS: %w", err)
	}
	for _, e := range v.Elem {
		s.peers = append(s.peers, rowAddr(pairs(e)))
	}
	return nil
}

// namedBy returns whom the Sentinel at c names.
func namedBy(c *conn, group string) (topology.Addr, error) {
	v, err := c.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", group)
	if err != nil {
		return "", fmt.Errorf("SENTINEL GET-MASTER-ADDR-BY-NAME: %w", err)
	}
	if len(v.Elem) != 2 {
		return "", errors.New("SENTINEL GET-MASTER-ADDR-BY-NAME: no such master")
	}
	return topology.JoinAddr(string(v.Elem[0].Str), int(v.Elem[1].Int())), nil
}

func rowAddr(row map[string]string) topology.Addr {
	return topology.JoinAddr(row["ip"], int(number64(row["port"])))
}

// surveyNodes asks the master and the replicas that any Sentinel knows and does
// not call down.
func surveyNodes(ctx context.Context, r Remote, f Facts) []NodeFact {
	var addrs []topology.Addr
	add := func(a topology.Addr) {
		if a != "" && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	add(f.Master())
	for _, s := range f.Sentinels {
		for _, p := range s.Replicas {
			if !strings.Contains(p.Flags, "down") {
				add(p.Addr)
			}
		}
	}
	nodes := make([]NodeFact, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() { nodes[i] = surveyNode(ctx, r, a) })
	}
	wg.Wait()
	return nodes
}

func surveyNode(ctx context.Context, r Remote, addr topology.Addr) NodeFact {
	n := NodeFact{Addr: addr}
	c, err := dialAs(ctx, string(addr), r.Redis, askTimeout, 0)
	if err != nil {
		n.Err = err.Error()
		return n
	}
	defer c.close()
	v, err := c.ask("INFO")
	if err != nil {
		n.Err = "INFO: " + err.Error()
		return n
	}
	in := info(v)
	n.RunID, n.Version, n.Loading = in["run_id"], in["redis_version"], in["loading"] == "1"
	n.Role = topology.RoleMaster
	if in["role"] == "slave" {
		n.Role = topology.RoleReplica
	}
	n.LinkUp, n.Priority = in["master_link_status"] == "up", int(number64(in["slave_priority"]))
	n.Used, n.Limit, n.Evicts = number64(in["used_memory"]), number64(in["maxmemory"]), in["maxmemory_policy"]
	n.KeepsAll = in["aof_enabled"] == "1"
	if _, err := c.ask("ROLE"); err != nil {
		n.Err = "ROLE: " + err.Error()
		return n
	}
	if _, err := c.ask("DEBUG", "SLEEP", "0"); err != nil {
		n.Debug = err.Error()
	}
	return n
}

// surveyLag measures how far replicas are behind what the master has written by
// now. It fills in Behind.
func surveyLag(ctx context.Context, r Remote, nodes []NodeFact) {
	i := slices.IndexFunc(nodes, func(n NodeFact) bool { return n.Err == "" && n.Role == topology.RoleMaster })
	if i < 0 {
		return
	}
	v, err := askOnce(ctx, string(nodes[i].Addr), r.Redis, "INFO", "replication")
	if err != nil {
		nodes[i].Err = "INFO: " + err.Error()
		return
	}
	written, began := number64(info(v)["master_repl_offset"]), time.Now()
	var wg sync.WaitGroup
	for j := range nodes {
		if nodes[j].Err == "" && nodes[j].Role == topology.RoleReplica {
			wg.Go(func() { nodes[j].Behind = behind(ctx, r, nodes[j].Addr, written, began) })
		}
	}
	wg.Wait()
}

// behind waits until a replica has read the stream up to written.
func behind(ctx context.Context, r Remote, addr topology.Addr, written int64, began time.Time) time.Duration {
	const never = -1
	c, err := dialAs(ctx, string(addr), r.Redis, askTimeout, 0)
	if err != nil {
		return never
	}
	defer c.close()
	for time.Since(began) < lagPatience {
		v, err := c.ask("INFO", "replication")
		if err != nil {
			return never
		}
		if number64(info(v)["slave_repl_offset"]) >= written {
			return time.Since(began)
		}
		if pause(ctx, 2*observeEvery) != nil {
			return never
		}
	}
	return never
}

// WritesOf estimates what a workload adds to a node's memory in one round, in
// bytes: two of eight commands are keys of their own.
func WritesOf(clients int, pace, downAfter time.Duration) int64 {
	const perKey, perItem, rounds = 200, 24, 2 // bytes; and room for a group that is slow to be whole
	seconds := (60*time.Second + rounds*downAfter).Seconds()
	commands := seconds / cmp.Or(pace, 5*time.Millisecond).Seconds()
	return int64(float64(clients) * commands * (2*perKey + 2*perItem) / 8)
}

// ValidPrefix reports whether keys may begin with p: it must mean itself in a
// pattern, too.
func ValidPrefix(p string) error {
	ok := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.:", r)
	}
	if p == "" || strings.ContainsFunc(p, func(r rune) bool { return !ok(r) }) || len(p) > 100 {
		return errors.New("found " + strconv.Quote(p) + "; want letters, digits and - _ . : only")
	}
	return nil
}
