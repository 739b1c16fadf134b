package doctor

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// noGroup is a master's name that no Sentinel knows: orders about it ask whether they were
// allowed, and nothing else.
const noGroup = "sentinelproxy-rights-check: no such group"

// askSentinel asks one Sentinel everything.
func askSentinel(ctx context.Context, dial dialFunc, a topology.Addr, o Options) Sentinel {
	s := Sentinel{Addr: a}
	login := o.Master.Sentinel
	c, err := open(ctx, dial, a, login.User, login.Password.Reveal())
	if err != nil {
		s.Err = explain(err)
		return s
	}
	defer c.close()
	if _, err = c.ask(ctx, []any{"PING"}); err != nil { // the login, apart from what is timed
		s.Err = explain(err)
		return s
	}
	asked := time.Now()
	first, err := c.ask(ctx, []any{"INFO", "server"})
	if err != nil {
		s.Err = explain(err)
		return s
	}
	if first[0].refusesLogin() {
		s.Err = explain(first[0].err)
		return s
	}
	s.Clock = clockOf(first[0].info(), asked, time.Now())
	questions := [][]any{
		{"INFO", "sentinel"},
		{"SENTINEL", "MASTER", o.Master.Name},
		{"SENTINEL", "SENTINELS", o.Master.Name},
		{"SENTINEL", "REPLICAS", o.Master.Name},
		{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", o.Master.Name},
		{"SENTINEL", "MYID"},
	}
	if o.Orders {
		questions = append(questions, []any{"SENTINEL", "FAILOVER", noGroup}, []any{"SENTINEL", "CKQUORUM", noGroup})
	}
	questions = append(questions, []any{"PSUBSCRIBE", "sentinelproxy-check"}) // last: nothing else may follow
	rs, err := c.ask(ctx, questions...)
	if err != nil {
		s.Err = explain(err)
		return s
	}
	for i, r := range rs {
		if r.denied() {
			s.Denied = append(s.Denied, right(questions[i]))
		}
	}
	s.Tilt = rs[0].info()["sentinel_tilt"] == "1"
	if e := rs[1].err; e != nil && !rs[1].denied() {
		s.Unknown = strings.Contains(e.Error(), "No such master")
		if !s.Unknown {
			s.Err = explain(e)
		}
		return s
	}
	m := pairs(rs[1].v)
	s.Master = rowAddr(m["ip"], m["port"])
	s.Epoch, _ = strconv.ParseUint(m["config-epoch"], 10, 64)
	s.Quorum, s.Others = number(m["quorum"]), number(m["num-other-sentinels"])
	s.DownAfter = time.Duration(number(m["down-after-milliseconds"])) * time.Millisecond
	s.Peers, s.Replicas = entries(rs[2]), entries(rs[3])
	return s
}

// right names the right that a command needs, as an ACL rule does.
func right(command []any) string {
	name, _ := command[0].(string)
	if name == "SENTINEL" || name == "CONFIG" || name == "CLIENT" {
		if sub, ok := command[1].(string); ok {
			name += "|" + sub
		}
	}
	return "+" + strings.ToLower(name)
}

func entries(a answer) []Entry {
	var all []Entry
	for _, r := range a.rows() {
		down := false
		for _, flag := range []string{"s_down", "o_down", "disconnected"} {
			down = down || strings.Contains(r["flags"], flag)
		}
		all = append(all, Entry{rowAddr(r["ip"], r["port"]), down, priority(r)})
	}
	return all
}

// priority returns a replica's, and Redis' default where none is told.
func priority(row map[string]string) int {
	if v, told := row["slave-priority"]; told {
		return number(v)
	}
	return 100
}
