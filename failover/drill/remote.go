package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrGuard means that the guard rails speak against a drill: its text says what to
// change, one line each.
var ErrGuard = errors.New("the group is not fit for this drill")

// takeRemote surveys the group of others, and refuses it if it is not fit.
func (d *drill) takeRemote(ctx context.Context) error {
	if err := d.inspect(ctx); err != nil {
		return err
	}
	d.prefix = d.o.Remote.Prefix
	d.group = openFar(*d.o.Remote, d.facts, d.o.Deadman)
	d.o.DownAfter = cmp.Or(d.facts.DownAfter(), d.o.DownAfter)
	return nil
}

// inspect asks all facts anew and checks them.
func (d *drill) inspect(ctx context.Context) error {
	d.facts = Survey(ctx, *d.o.Remote, WritesOf(d.o.Clients, d.o.Pace, d.facts.DownAfter()))
	if found := d.facts.Findings(d.o.Plan, *d.o.Remote); len(found) > 0 {
		return fmt.Errorf("%w:\n%s", ErrGuard, strings.Join(found, "\n"))
	}
	return nil
}

// between waits until a remote group can take another round.
func (d *drill) between(ctx context.Context, p Plan) error {
	if rest := p.rest(d.facts); rest > 0 {
		d.o.Say(fmt.Sprintf("waiting for %v: until then the Sentinels begin no other failover by themselves", rest))
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	return d.inspect(ctx)
}

// sweeper starts a dead-man that removes the drill's keys from a group of others.
func (d *drill) sweeper(ctx context.Context) (*watch, error) {
	if d.o.Remote == nil {
		return nil, nil //nolint:nilnil // the group ends with the drill
	}
	const forever = 24 * time.Hour // keys die sooner by themselves
	return d.o.Deadman.arm(ctx, undo{Sweep: &errand{d.o.Remote.Sidecar, d.clients(), []string{d.prefix}}}, forever)
}

// clean removes what the workloads left behind. Where that fails the sweeper does
// it, through the sidecar.
func (d *drill) clean(ctx context.Context, loads []Load, histories []History, w *watch) error {
	if ctx.Err() != nil {
		return nil // the group was the drill's own, and has ended
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var errs []error
	masters := 0
	for _, n := range d.group.nodes() {
		in, err := infoOf(ctx, n)
		if err != nil || in["role"] != "master" {
			continue // a dead one is emptied when it follows again
		}
		masters++ // an interrupted failover may have left two: either may go on
		for i, l := range loads {
			errs = append(errs, removeOwn(ctx, string(n.DirectAddr()), d.clients(), l, histories[i]))
		}
	}
	if masters == 0 {
		errs = append(errs, errors.New("no node says that it is a master"))
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(fmt.Errorf("remove the keys %s*, which end within an hour: %w", d.prefix, err), w.fire())
	}
	return w.disarm()
}
