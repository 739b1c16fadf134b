package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// farGroup is a group that others run. All that the drill does to it goes over
// the wire, or through commands of the user's.
type farGroup struct {
	r       Remote
	data    []*farMember
	voters  []*farMember
	patient time.Duration // how long it may take to be whole again
	deadman Deadman
	cutting *cutting // nil while nothing is cut
}

// openFar takes the members that a survey found answering.
func openFar(r Remote, f Facts, deadman Deadman) *farGroup {
	g := &farGroup{r: r, deadman: deadman, patient: settleTimeout + 2*f.FailoverTimeout()}
	for _, n := range f.Nodes {
		if n.Err == "" {
			g.data = append(g.data, &farMember{addr: n.Addr, login: r.Redis, runID: n.RunID})
		}
	}
	for _, s := range f.Sentinels {
		if s.Err == "" {
			g.voters = append(g.voters, &farMember{addr: s.Addr, login: r.Sentinel, runID: s.RunID, sentinel: true})
		}
	}
	return g
}

func (g *farGroup) Name() string         { return g.r.Group }
func (g *farGroup) login() Login         { return g.r.Redis }
func (g *farGroup) sentinelLogin() Login { return g.r.Sentinel }
func (g *farGroup) nodes() []member      { return membersOf(g.data) }
func (g *farGroup) sentinels() []member  { return membersOf(g.voters) }

func membersOf(some []*farMember) []member {
	all := make([]member, len(some))
	for i, m := range some {
		all[i] = m
	}
	return all
}

// named returns whom a Sentinel names, and whether it sees anything amiss.
func (g *farGroup) named(ctx context.Context, s *farMember) (addr topology.Addr, flags string, err error) {
	c, err := dialAs(ctx, string(s.addr), s.login, askTimeout, 0)
	if err != nil {
		return "", "", err
	}
	defer c.close()
	v, err := c.ask("SENTINEL", "MASTER", g.r.Group)
	if err != nil {
		return "", "", fmt.Errorf("SENTINEL MASTER of %s: %w", s.addr, err)
	}
	addr, err = namedBy(c, g.r.Group) // during a failover the row still has the old address
	return addr, pairs(v)["flags"], err
}

func (g *farGroup) master(ctx context.Context) (member, error) {
	m, _, err := g.agreed(ctx)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// agreed returns whom most of the Sentinels name, and what keeps any of them from
// calling that whole.
func (g *farGroup) agreed(ctx context.Context) (m *farMember, amiss, err error) {
	type answer struct {
		addr  topology.Addr
		flags string
		err   error
	}
	answers := make([]answer, len(g.voters))
	var wg sync.WaitGroup
	for i, s := range g.voters {
		wg.Go(func() { answers[i].addr, answers[i].flags, answers[i].err = g.named(ctx, s) })
	}
	wg.Wait()
	votes := make(map[topology.Addr]int)
	var amissAll []error
	for i, a := range answers {
		switch {
		case a.err != nil:
			amissAll = append(amissAll, a.err)
			continue
		case a.flags != "master":
			amissAll = append(amissAll, fmt.Errorf("%s sees flags %q", g.voters[i].addr, a.flags))
		}
		votes[a.addr]++
	}
	if len(votes) > 1 {
		amissAll = append(amissAll, fmt.Errorf("the Sentinels name %d masters", len(votes)))
	}
	for addr, n := range votes {
		if 2*n <= len(g.voters) {
			continue
		}
		for _, d := range g.data {
			if d.addr == addr {
				return d, errors.Join(amissAll...), nil
			}
		}
		return nil, nil, fmt.Errorf("the Sentinels name %s, which did not answer when the drill began", addr)
	}
	return nil, nil, fmt.Errorf("no master has a majority of the %d Sentinels: %w", len(g.voters), errors.Join(amissAll...))
}

func (g *farGroup) failover(ctx context.Context, sentinel int) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	s := g.voters[max(sentinel, 0)]
	for {
		_, err := s.ask(ctx, "SENTINEL", "FAILOVER", g.r.Group)
		if err == nil || strings.HasPrefix(err.Error(), "INPROG") {
			return nil
		}
		err = fmt.Errorf("SENTINEL FAILOVER at %s: %w", s.addr, err)
		// Shortly after a failover no replica is fit yet.
		if !strings.Contains(err.Error(), "NOGOODSLAVE") || pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

func (g *farGroup) settle(ctx context.Context, away ...member) error {
	ctx, cancel := context.WithTimeout(ctx, g.patient)
	defer cancel()
	for {
		err := g.whole(ctx, away)
		if err == nil {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("the group is not whole again: %w", err)
		}
	}
}

// whole checks that all Sentinels agree, that every node but those in away reads what
// the master writes, and that the Sentinels have seen it.
func (g *farGroup) whole(ctx context.Context, away []member) error {
	master, amiss, err := g.agreed(ctx)
	if err := errors.Join(err, amiss); err != nil {
		return err
	}
	m, err := infoOf(ctx, master)
	if err != nil {
		return err
	}
	if m["role"] != "master" {
		return fmt.Errorf("%s has role %s; want master", master.addr, m["role"])
	}
	for _, d := range g.data {
		if d == master || contains(away, d) {
			continue
		}
		r, err := infoOf(ctx, d)
		if err != nil {
			return err
		}
		// The replication id, not the address: that may be a name here and a number there.
		if r["role"] != "slave" || r["master_link_status"] != "up" || r["master_replid"] != m["master_replid"] {
			return fmt.Errorf("%s is %s of %s, link %q; want a replica of %s", d.addr, r["role"], r["master_host"], r["master_link_status"], master.addr)
		}
		if number64(r["slave_repl_offset"]) < number64(m["master_repl_offset"]) {
			return fmt.Errorf("%s has read the stream up to %s; want %s", d.addr, r["slave_repl_offset"], m["master_repl_offset"])
		}
	}
	return g.informed(ctx, away)
}

// informed checks that no Sentinel takes a replica for a master, as it does until its
// next INFO after the node was demoted: it would undo that one's promotion.
func (g *farGroup) informed(ctx context.Context, away []member) error {
	for _, s := range g.voters {
		v, err := s.ask(ctx, "SENTINEL", "REPLICAS", g.r.Group)
		if err != nil {
			return fmt.Errorf("SENTINEL REPLICAS of %s: %w", s.addr, err)
		}
		for _, row := range v.Elem {
			f := pairs(row)
			port, _ := strconv.Atoi(f["port"])
			addr := topology.JoinAddr(f["ip"], port)
			// A node that is down has other flags: it is promoted by nobody.
			if f["flags"] == "slave" && f["role-reported"] == "master" && !slices.ContainsFunc(away, func(m member) bool { return m.Addr() == addr }) {
				return fmt.Errorf("%s still takes replica %s for a master", s.addr, addr)
			}
		}
	}
	return nil
}

func contains(some []member, m *farMember) bool {
	for _, s := range some {
		if s.Addr() == m.addr {
			return true
		}
	}
	return false
}

// cutting is a partition that is in force.
type cutting struct {
	env []string
	w   *watch
}

// cut runs the user's command, with a dead-man standing by to heal.
func (g *farGroup) cut(ctx context.Context, master member, side Side, length time.Duration) error {
	env := g.environment(master, side)
	w, err := g.deadman.arm(ctx, undo{Shell: g.r.HealCmd, Env: env}, length+undoMargin)
	if err != nil {
		return err
	}
	g.cutting = &cutting{env, w}
	limited, cancel := context.WithTimeout(ctx, undoLimit)
	defer cancel()
	if err := shell(limited, g.r.CutCmd, env); err != nil {
		return fmt.Errorf("--cut-cmd: %w", err)
	}
	return nil
}

// heal runs the user's command. If that fails, the dead-man goes on trying.
func (g *farGroup) heal(ctx context.Context) error {
	if g.cutting == nil {
		return nil
	}
	c := g.cutting
	g.cutting = nil
	limited, cancel := context.WithTimeout(ctx, undoLimit)
	defer cancel()
	if err := shell(limited, g.r.HealCmd, c.env); err != nil {
		return errors.Join(fmt.Errorf("--heal-cmd: %w", err), c.w.fire())
	}
	return c.w.disarm()
}

// environment tells the user's commands what to cut.
func (g *farGroup) environment(master member, side Side) []string {
	host, port := master.Addr().Split()
	var replicas []string
	for _, d := range g.data {
		if d.addr != master.Addr() {
			replicas = append(replicas, string(d.addr))
		}
	}
	var sentinels []string
	for _, s := range g.voters {
		sentinels = append(sentinels, string(s.addr))
	}
	return []string{
		"DRILL_MASTER=" + string(master.Addr()), "DRILL_MASTER_HOST=" + host, fmt.Sprintf("DRILL_MASTER_PORT=%d", port),
		"DRILL_REPLICAS=" + strings.Join(replicas, " "), "DRILL_SENTINELS=" + strings.Join(sentinels, " "),
		"DRILL_SIDE=" + string(side),
	}
}

// farMember is a process that others run.
type farMember struct {
	addr     topology.Addr
	login    Login
	runID    string // of the process as it was last known
	sentinel bool
}

func (m *farMember) Name() string              { return string(m.addr) }
func (m *farMember) Addr() topology.Addr       { return m.addr }
func (m *farMember) DirectAddr() topology.Addr { return m.addr }

func (m *farMember) ask(ctx context.Context, args ...string) (resp.Value, error) {
	return askOnce(ctx, string(m.addr), m.login, args...)
}
