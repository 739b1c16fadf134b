package sentineltest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// What a failover can fail with.
var (
	ErrInProgress = errors.New("sentineltest: a failover is under way")
	ErrNoReplica  = errors.New("sentineltest: no replica can be promoted")
	ErrAborted    = errors.New("sentineltest: failover aborted")
)

// failover is one attempt, led by one Sentinel. perform's goroutine owns it.
type failover struct {
	g      *Group
	leader *Sentinel
	forced bool
	old    topology.Addr
	to     *Node // nil until one is selected
	epoch  uint64
}

// Failover promotes the replica at to ("" picks one) as SENTINEL FAILOVER does,
// through the whole timeline with all events, and returns when the old master
// has been demoted. The first running Sentinel that is on the larger side of a
// partition leads. If ctx ends earlier the failover stays where it is, as with a
// leader that died.
func (g *Group) Failover(ctx context.Context, to topology.Addr) error {
	g.mu.Lock()
	leader := g.leader()
	g.mu.Unlock()
	if leader == nil {
		return fmt.Errorf("%w: no Sentinel runs", ErrAborted)
	}
	f, err := g.begin(leader, to, true)
	if err != nil {
		return err
	}
	return f.perform(ctx)
}

// leader is the first running Sentinel of the largest side. g.mu is held.
func (g *Group) leader() *Sentinel {
	var best *Sentinel
	for _, s := range g.sentinels {
		if s.running && (best == nil || len(g.side(s)) > len(g.side(best))) {
			best = s
		}
	}
	return best
}

// begin claims the group's one failover and publishes +try-failover. A forced
// one must have a replica to promote; another looks for it when elected.
//
//nolint:revive // flag-parameter: forced is Sentinel's own word for a state of a failover
func (g *Group) begin(leader *Sentinel, to topology.Addr, forced bool) (*failover, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return nil, ErrInProgress
	}
	f := &failover{g: g, leader: leader, forced: forced, old: leader.view.master}
	if forced {
		if f.to = g.candidate(f.old, to); f.to == nil {
			return nil, fmt.Errorf("%w (asked for: %v)", ErrNoReplica, to)
		}
	}
	g.running = true
	for _, s := range g.side(leader) {
		f.epoch = max(f.epoch, s.view.current+1)
	}
	v := &leader.view
	v.current, v.state, v.forced = f.epoch, "wait_start", forced
	g.log.Info("failover begun", "epoch", f.epoch, "old", f.old, "leader", leader.Addr())
	leader.emit("+new-epoch", itoa(f.epoch))
	leader.emit("+try-failover", leader.masterPayload(f.old))
	return f, nil
}

// candidate is a living replica of master: that at want, or the first. g.mu is
// held.
func (g *Group) candidate(master, want topology.Addr) *Node {
	for _, n := range g.nodes {
		if n.Alive() && n.Role() == topology.RoleReplica && n.Master() == master && (want == "" || want == n.Addr()) {
			return n
		}
	}
	return nil
}

// step is one stage of the timeline.
type step struct {
	after time.Duration // since the step before
	do    func() error
}

// perform runs the timeline. It returns once the old master is demoted, or at
// once if that is dead: it is then demoted after its Restart.
func (f *failover) perform(ctx context.Context) error {
	g := f.g
	part := g.o.PromoteAfter / 3
	err := run(ctx, []step{
		{part, f.elect},
		{part, f.selectReplica},
		{part, f.promote},
		{g.o.ConfirmAfter, f.confirm},
		{g.o.AgreeAfter, f.spread},
		{g.o.LeaderSwitchAfter, f.finish},
	})
	g.mu.Lock()
	g.running = false
	v := &f.leader.view
	v.state, v.promoted, v.reconf, v.forced = "", "", "", false
	g.mu.Unlock()
	if err == nil {
		g.log.Info("failover done", "epoch", f.epoch, "master", f.to.Addr())
		g.spawn(g.reconsider) // the next master may have died meanwhile
		return g.demote(ctx, f.old)
	}
	if f.to == nil || ctx.Err() != nil {
		return err
	}
	// Promoted, but the others were not told: they make it a replica again. If
	// they were told, the old master is the stale one.
	return errors.Join(err, g.demote(ctx, f.to.Addr(), f.old))
}

// run does the steps in turn until one fails or ctx is done.
func run(ctx context.Context, steps []step) error {
	for _, st := range steps {
		if !wait(ctx, st.after) {
			return fmt.Errorf("%w: %w", ErrAborted, context.Cause(ctx))
		}
		if err := st.do(); err != nil {
			return err
		}
	}
	return nil
}

// lead takes g.mu and checks that the leader still runs. The caller unlocks.
func (f *failover) lead() error {
	f.g.mu.Lock()
	if !f.leader.running {
		return fmt.Errorf("%w: its leader was stopped", ErrAborted)
	}
	return nil
}

func (f *failover) abort(why string) error {
	f.leader.emit("-failover-abort-"+why, f.leader.masterPayload(f.old))
	return fmt.Errorf("%w: %s", ErrAborted, why)
}

// elect makes the leader one. A forced failover asks nobody: the others hear of
// its epoch only by hello.
func (f *failover) elect() error {
	defer f.g.mu.Unlock()
	if err := f.lead(); err != nil {
		return err
	}
	side := f.g.side(f.leader)
	for _, s := range side {
		if s != f.leader && f.forced {
			continue
		}
		s.seeEpoch(f.epoch)
		s.view.votedFor, s.view.votedEpoch = f.leader.runID, f.epoch
		s.emit("+vote-for-leader", f.leader.runID+" "+itoa(f.epoch))
	}
	if !f.forced && len(side) < max(f.g.majority(), f.g.o.Quorum) {
		return f.abort("not-elected")
	}
	f.leader.emit("+elected-leader", f.leader.masterPayload(f.old))
	f.leader.emit("+failover-state-select-slave", f.leader.masterPayload(f.old))
	f.leader.view.state = "select_slave"
	return nil
}

func (f *failover) selectReplica() error {
	defer f.g.mu.Unlock()
	if err := f.lead(); err != nil {
		return err
	}
	if f.to == nil || !f.to.Alive() {
		if f.to = f.g.candidate(f.old, ""); f.to == nil {
			return f.abort("no-good-slave")
		}
	}
	v := &f.leader.view
	v.state, v.promoted = "send_slaveof_noone", f.to.Addr()
	f.aboutCandidate("+selected-slave")
	f.aboutCandidate("+failover-state-send-slaveof-noone")
	for _, s := range f.g.side(f.leader) {
		s.seeEpoch(f.epoch)
	}
	return nil
}

func (f *failover) aboutCandidate(event string) {
	f.leader.emit(event, f.leader.slavePayload(f.to.Addr(), f.old))
}

// promote sends the candidate what Sentinel sends: it becomes master and closes
// its clients. The old master hears nothing.
func (f *failover) promote() error {
	err := f.lead()
	if err == nil {
		f.leader.view.state = "wait_promotion"
		f.aboutCandidate("+failover-state-wait-promotion")
	}
	f.g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := f.to.promote(); err != nil {
		return err
	}
	f.to.killClients()
	return nil
}

// confirm is the leader seeing the candidate as master: from here on it names
// the new address, but still lists the old one.
func (f *failover) confirm() error {
	defer f.g.mu.Unlock()
	if err := f.lead(); err != nil {
		return err
	}
	if !f.to.Alive() || f.to.Role() != topology.RoleMaster {
		return f.abort("slave-timeout")
	}
	v := &f.leader.view
	v.master, v.config, v.state = f.to.Addr(), f.epoch, "reconf_slaves"
	f.leader.emit("-role-change", f.leader.slavePayload(f.to.Addr(), f.old)+" new reported role is master")
	f.aboutCandidate("+promoted-slave")
	f.leader.emit("+failover-state-reconf-slaves", f.leader.masterPayload(f.old))
	return nil
}

// spread is the leader's hello to the others, and its orders to the replicas.
func (f *failover) spread() error {
	err := f.lead()
	var moved []*Node
	if err == nil {
		f.leader.view.reconf = "reconf_sent"
		for _, n := range f.others() {
			moved = append(moved, n)
			f.leader.emit("+slave-reconf-sent", f.leader.slavePayload(n.Addr(), f.old))
		}
		for _, s := range f.g.side(f.leader) {
			s.adopt(f.leader)
		}
	}
	f.g.mu.Unlock()
	for _, n := range moved {
		n.follow(f.to)
		n.killClients()
	}
	return err
}

// others are the living replicas that are not promoted. g.mu is held.
func (f *failover) others() []*Node {
	var list []*Node
	for _, n := range f.g.nodes {
		if n != f.to && n.Addr() != f.old && n.Alive() && n.Role() == topology.RoleReplica {
			list = append(list, n)
		}
	}
	return list
}

// finish is the end for the leader: the last +switch-master of all.
func (f *failover) finish() error {
	defer f.g.mu.Unlock()
	if err := f.lead(); err != nil {
		return err
	}
	for _, n := range f.others() {
		f.leader.emit("+slave-reconf-inprog", f.leader.slavePayload(n.Addr(), f.old))
		f.leader.emit("+slave-reconf-done", f.leader.slavePayload(n.Addr(), f.old))
	}
	if !f.leader.view.odown.IsZero() {
		f.leader.emit("-odown", f.leader.masterPayload(f.old))
	}
	f.leader.emit("+failover-end", f.leader.masterPayload(f.old))
	v := &f.leader.view
	downSince, wasDown := v.sdown[f.old]
	v.set(v.master, v.config)
	f.leader.emitSwitch(f.old, v.master)
	f.leader.emitOldMaster(f.old)
	if wasDown {
		f.g.markDown(f.old, downSince)
	}
	return nil
}

// demote turns those of addrs that are stale masters DemoteAfter later, and live,
// into replicas.
func (g *Group) demote(ctx context.Context, addrs ...topology.Addr) error {
	if !wait(ctx, g.o.DemoteAfter) {
		return fmt.Errorf("%w: %w", ErrAborted, context.Cause(ctx))
	}
	for _, addr := range addrs {
		g.convert(addr)
	}
	return nil
}

func (g *Group) convert(addr topology.Addr) {
	n := g.Node(addr)
	g.mu.Lock()
	var to *Node
	var by *Sentinel
	for _, s := range g.sentinels {
		if s.running && n != nil && n.Alive() && n.Role() == topology.RoleMaster && s.view.master != addr {
			by, to = s, g.Node(s.view.master)
			break
		}
	}
	if to == nil {
		g.mu.Unlock()
		return
	}
	by.emit("+convert-to-slave", by.slavePayload(addr, to.Addr()))
	g.mu.Unlock()
	n.follow(to)
	n.killClients()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.side(by) {
		if s != by {
			s.emit("+role-change", s.slavePayload(addr, to.Addr())+" new reported role is slave")
		}
	}
	g.log.Info("old master demoted", "node", addr, "master", to.Addr())
}
