package failover

import (
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// tellRoute publishes what a new route's state says beside the beginnings and ends of
// holds. Run's goroutine calls it in order of Gen.
func (c *Controller) tellRoute(r topology.Route) {
	before := c.last
	c.last = r
	if r.State == before.State {
		return
	}
	switch {
	case r.State == topology.Serving && before.State == topology.Discovering:
		c.opts.Tell(events.RouteChanged{To: r.Master, Epoch: r.Epoch, Took: events.Millis(r.Since - before.Since)})
	case r.State == topology.Serving && before.State == topology.Down:
		c.opts.Tell(events.BreakerClosed{Master: r.Master, Epoch: r.Epoch, Open: events.Millis(r.Since - before.Since)})
	case r.State == topology.Fenced:
		c.opts.Tell(events.RouteFenced{Master: r.Master, Epoch: r.Epoch, Why: r.Why})
	case r.State == topology.Down:
		var f route.Failover
		c.look(func(m *route.Machine) { f, _ = m.Hold() })
		c.opts.Tell(events.BreakerOpened{
			Master: r.Master, Epoch: r.Epoch, Cause: f.Cause.String(), Held: events.Millis(r.Since - f.Started),
		})
	}
}

// tellHeld publishes that a hold began, before its route is published.
func (c *Controller) tellHeld(cause route.Cause) {
	var why string
	c.look(func(m *route.Machine) { why = m.Route().Why })
	c.opts.Tell(events.RouteHeld{
		Master: c.last.Master, Epoch: c.last.Epoch, Cause: cause.String(), Why: why, Everyday: cause.Everyday(),
	})
}

// tellFinished publishes that a hold is over, and where commands go if that changed.
func (c *Controller) tellFinished(f route.Failover) {
	c.opts.Tell(events.RouteReleased{
		Master: f.To, Epoch: f.Epoch, Cause: f.Cause.String(), Outcome: f.Outcome.String(), Took: events.Millis(f.Took),
	})
	if f.To == f.From && f.Epoch == f.FromEpoch {
		return
	}
	changed := events.RouteChanged{From: f.From, To: f.To, Epoch: f.Epoch, Cause: f.Cause.String(), Took: events.Millis(f.Took)}
	for _, p := range f.Phases {
		changed.Steps = append(changed.Steps, events.FailoverStep{Name: p.Name, After: events.Millis(p.After)})
	}
	c.opts.Tell(changed)
}

// keepLags puts how far the replicas are behind where a scrape sees it.
func (c *Controller) keepLags() {
	lags := c.nodes.lags()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lags = lags
}

// tellOf publishes what an event that the machine has taken says of the nodes.
func (c *Controller) tellOf(ev route.Event) {
	if seen, ok := ev.(route.NodeSeen); ok {
		for _, b := range c.nodes.seen(c.last.Master, c.last.State == topology.Serving, seen) {
			c.opts.Tell(b)
		}
		c.keepLags()
	}
	if d, ok := ev.(route.Demoted); ok && d.Outcome == route.DemotionDone {
		c.opts.Tell(events.OldMasterDemoted{Node: d.Target, Master: d.Master})
	}
}
