package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/faultnet"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// ownGroup is a group that the drill has started, on this machine.
type ownGroup struct {
	*redistest.Group

	deadman Deadman
}

// The addresses that processes of an own group speak from, so that a relay can
// tell them from clients, which speak from 127.0.0.1. Linux has all of 127/8.
const (
	nodesFrom     = "127.0.0.2"
	sentinelsFrom = "127.0.0.3"
	clientsFrom   = "127.0.0.1"
)

// startOwn starts a group that p can be drilled on.
func startOwn(ctx context.Context, o Options) (ownGroup, error) {
	r := redistest.Options{
		DownAfter: o.DownAfter, FailoverTimeout: failoverTimeout, Quick: o.Quick, Relays: o.Plan.relays,
	}
	if o.Plan.side == SideMinority {
		r.SentinelRelays = true
		r.RedisConfig = []string{"bind-source-addr " + nodesFrom}
		r.SentinelConfig = []string{"bind-source-addr " + sentinelsFrom}
	}
	g, err := redistest.Start(ctx, r)
	return ownGroup{g, o.Deadman}, err
}

func (g ownGroup) nodes() []member     { return g.members(g.Nodes()) }
func (g ownGroup) sentinels() []member { return g.members(g.Sentinels()) }
func (ownGroup) login() Login          { return Login{} }
func (ownGroup) sentinelLogin() Login  { return Login{} }

func (g ownGroup) members(nodes []*redistest.Node) []member {
	all := make([]member, len(nodes))
	for i, n := range nodes {
		all[i] = ownMember{n, g.deadman}
	}
	return all
}

func (g ownGroup) master(ctx context.Context) (member, error) {
	n, err := g.Master(ctx)
	if err != nil {
		return nil, err
	}
	return ownMember{n, g.deadman}, nil
}

func (g ownGroup) failover(ctx context.Context, sentinel int) error {
	if sentinel == anySentinel {
		return g.Failover(ctx)
	}
	return g.FailoverOn(ctx, sentinel)
}

// settleTimeout is how long a group may take to be whole again: an old master is
// demoted after some ten seconds, a leader's death costs two failover-timeouts.
const settleTimeout = 90 * time.Second

// settle waits until the group is whole; it knows by itself who is away.
func (g ownGroup) settle(ctx context.Context, _ ...member) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return g.WaitStable(ctx)
}

func (g ownGroup) cut(_ context.Context, master member, side Side, _ time.Duration) error {
	if side == SideMajority {
		g.relayOf(master).Stall(faultnet.Both)
		return nil
	}
	for _, n := range g.Nodes() {
		if n.Addr() == master.Addr() {
			n.Relay().StallFrom(nodesFrom)
			n.Relay().StallFrom(sentinelsFrom)
			continue
		}
		n.Relay().StallFrom(clientsFrom)
	}
	for _, s := range g.Sentinels() {
		s.Relay().StallFrom(clientsFrom)
	}
	return nil
}

func (g ownGroup) relayOf(m member) *faultnet.Relay {
	for _, n := range g.Nodes() {
		if n.Addr() == m.Addr() {
			return n.Relay()
		}
	}
	return nil
}

func (g ownGroup) heal(context.Context) error {
	for _, n := range append(g.Nodes(), g.Sentinels()...) {
		if n.Relay() != nil {
			n.Relay().Heal()
		}
	}
	return nil
}

// ownMember is a process that the drill has started.
type ownMember struct {
	*redistest.Node

	deadman Deadman
}

func (m ownMember) ask(ctx context.Context, args ...string) (resp.Value, error) {
	return askOnce(ctx, string(m.DirectAddr()), Login{}, args...)
}

func (m ownMember) kill(context.Context) error     { return m.Kill() }
func (m ownMember) stop(context.Context) error     { return m.Terminate() }
func (m ownMember) back(ctx context.Context) error { return m.Restart(ctx) }

func (m ownMember) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for m.Alive() {
		if err := pause(ctx, observeEvery); err != nil {
			return fmt.Errorf("%s should have ended: %w", m.Name(), err)
		}
	}
	return nil
}

func (m ownMember) hang(ctx context.Context, d time.Duration) error {
	var w *watch
	if !diesWithParent { // else it dies with the drill, stopped or not
		var err error
		if w, err = m.deadman.arm(ctx, undo{Continue: m.Pid()}, d+undoMargin); err != nil {
			return err
		}
	}
	if err := m.Pause(); err != nil {
		return errors.Join(err, w.disarm())
	}
	err := pause(ctx, d)
	return errors.Join(err, m.Resume(), w.disarm())
}
