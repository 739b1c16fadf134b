package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/systemd"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// notifier tells the service manager, if there is one, where commands go and that the
// event loops turn. nil tells nobody.
type notifier struct {
	// Fixed at construction.
	to       *systemd.Notifier
	watchdog time.Duration // how often it wants to hear that we live; 0: never
	log      *slog.Logger
	changed  chan struct{} // a route has changed; full: that is known already

	mu     sync.Mutex // guards routes
	routes []topology.Route
}

// newNotifier returns nil where nobody wants to be told.
func newNotifier(environ []string, log *slog.Logger) (*notifier, error) {
	getenv := func(name string) string { return lookup(environ, name) }
	to, err := systemd.NewNotifier(getenv)
	if to == nil || err != nil {
		return nil, err
	}
	every, err := systemd.Watchdog(getenv, os.Getpid())
	if err != nil {
		return nil, err
	}
	return &notifier{to: to, watchdog: every, log: log, changed: make(chan struct{}, 1)}, nil
}

// hear returns p with every published route noted for the status.
func (n *notifier) hear(p parts) parts {
	if n == nil {
		return p
	}
	controllerOf := p.controller
	p.controller = func(m config.Master, h controllerHooks, log *slog.Logger) (controller, error) {
		publish := h.publish
		h.publish = func(r topology.Route) {
			publish(r)
			n.note(r)
		}
		return controllerOf(m, h, log)
	}
	return p
}

// note keeps r for the status. It never blocks.
func (n *notifier) note(r topology.Route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.routes, func(have topology.Route) bool { return have.Group == r.Group })
	switch {
	case i < 0:
		n.routes = append(n.routes, r)
	case r.Gen > n.routes[i].Gen:
		n.routes[i] = r
	}
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// status tells in a line where each master's commands go.
func (n *notifier) status() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	parts := make([]string, 0, len(n.routes))
	for _, r := range n.routes {
		if r.State == topology.Serving {
			parts = append(parts, fmt.Sprintf("%s: serving %s, epoch %d", r.Group, r.Master, r.Epoch))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %s: %s", r.Group, r.State, r.Why))
	}
	return strings.Join(parts, "; ")
}

// tell sends a message now; it takes a second at most.
func (n *notifier) tell(assignments ...string) {
	if n == nil {
		return
	}
	if err := n.to.Send(assignments...); err != nil {
		n.log.Warn("service manager not told", "err", err)
	}
}

// start runs it; what it returns ends it and waits for that.
func (n *notifier) start(alive func() (ok bool, reason string)) (stop func()) {
	if n == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { n.run(ctx, alive) })
	return func() { cancel(); wg.Wait() }
}

// run tells of changed routes, and that we live as long as alive says so, until ctx
// ends. A manager that hears nothing of us for the watchdog's time starts us anew.
func (n *notifier) run(ctx context.Context, alive func() (ok bool, reason string)) {
	var tick <-chan time.Time // never, without a watchdog
	if n.watchdog > 0 {
		t := time.NewTicker(n.watchdog / 3) // two may come late
		defer t.Stop()
		tick = t.C
	}
	silent := false
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
			if s := systemd.Status(n.status()); s != told {
				n.tell(s)
				told = s
			}
		case <-tick:
			ok, reason := alive()
			switch {
			case ok:
				n.tell(systemd.Alive)
			case !silent:
				n.log.Error("the watchdog is not told that we live", "reason", reason)
			}
			silent = !ok
		}
	}
}
