package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// recordsMax is how many ended failovers, and how many cleared holds, are remembered.
const recordsMax = 20

// Options says what a Controller works with. Group and Publish are required.
type Options struct {
	Group  string // the name the Sentinels know it by
	Policy route.Policy

	// Publish makes a route the group's. It is called by one goroutine, in order of
	// Gen, and must not block.
	Publish func(topology.Route)
	// PollSentinels asks every Sentinel now, and SetFast says whether they are to be
	// polled at the fast pace. Neither may block; nil does nothing.
	PollSentinels func()
	SetFast       func(on bool)

	// Username and Password are the sidecar's own Redis account; without a password
	// nothing is sent. It needs the right to call ROLE, and to follow fast or demote
	// also REPLICAOF, CLIENT KILL, MULTI and EXEC. They are never logged.
	Username, Password string

	// SentinelUsername and SentinelPassword are the sidecar's account on the Sentinels,
	// for switchovers. They are never logged.
	SentinelUsername, SentinelPassword string
	// Drained waits until nothing that a client sent is under way to a master, once the
	// data path obeys the route of gen or a later one; nil: there is no data path.
	Drained func(ctx context.Context, gen uint64) error

	// Patience returns what bounds a command's wait in the data path beside the
	// policy's HoldTimeout; false is nothing. A switchover that may take longer is not
	// begun. nil is nothing.
	Patience func() (limit time.Duration, bounded bool)

	// Dial connects to data nodes, DialSentinel to Sentinels for a switchover; nil is a
	// net.Dialer.
	Dial, DialSentinel func(ctx context.Context, network, addr string) (net.Conn, error)

	// Tell publishes what happened. It is called by several goroutines and must return at
	// once; nil does nothing.
	Tell func(events.Body)

	Clock boottime.Clock // nil is boottime.Now
	Log   *slog.Logger   // nil discards

	// StateFile keeps what was last served, for a start while every Sentinel is away;
	// "" keeps nothing.
	StateFile string
}

// Controller keeps one group's route. New makes it, Run drives it; the other methods
// may be called at any time by anyone.
type Controller struct {
	// Fixed at construction.
	opts    Options
	log     *slog.Logger
	inbox   *inbox
	file    stateFile
	saves   chan route.Saved // capacity 1, holding the latest: an older one is taken out first
	metrics *metrics
	// errands and sentinelErrands are stateless but for their logins.
	errands, sentinelErrands *errands
	stopping                 chan struct{} // closed when Run is asked to end
	stopped                  chan struct{} // closed when the machine is stepped no more
	// turned has a value when the machine may have changed; capacity 1. Full means
	// that the switchover under way is going to look anyway.
	turned    chan struct{}
	switching atomic.Bool // a switchover is under way

	// Owned by Run.
	monitor *monitor
	running sync.WaitGroup // errands under way: at most a demotion and a check
	refusal error          // why Run must end; nil while it need not
	nodes   *nodeJournal
	last    topology.Route // the last that was published

	mu        sync.Mutex // guards the fields below; never held across I/O or a callback
	machine   *route.Machine
	sentinels topology.Observation
	failovers []record // ended ones that changed the pair or went down, oldest first
	cleared   []record // ended holds that were no failover, oldest first
	holding   time.Time
	lastHold  route.Failover        // the last that ended, of whatever outcome
	doing     string                // the step of the switchover under way; "" if there is none
	lags      map[topology.Addr]lag // replaced, never changed
}

// record is an ended hold and the wall-clock time of its start.
type record struct {
	route.Failover

	at time.Time
}

// New returns a Controller that does nothing before Run. A state file that can't be
// read is an error; one that is not there yet is none.
func New(o Options) (*Controller, error) {
	var errs []error
	if o.Group == "" {
		errs = append(errs, errors.New("failover: Options.Group is empty"))
	}
	if o.Publish == nil {
		errs = append(errs, errors.New("failover: Options.Publish is nil"))
	}
	errs = append(errs, o.Policy.Validate())
	file := stateFile{o.StateFile}
	saved, err := file.read()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if o.PollSentinels == nil {
		o.PollSentinels = func() {}
	}
	if o.SetFast == nil {
		o.SetFast = func(bool) {}
	}
	if o.Tell == nil {
		o.Tell = func(events.Body) {}
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.DialSentinel == nil {
		o.DialSentinel = new(net.Dialer).DialContext
	}
	if o.Clock == nil {
		o.Clock = boottime.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Controller{
		opts: o, log: o.Log.With("master_name", o.Group), inbox: newInbox(), file: file,
		saves: make(chan route.Saved, 1), metrics: newMetrics(o.Group),
		machine: route.New(o.Group, o.Policy, saved), turned: make(chan struct{}, 1),
		stopping: make(chan struct{}), stopped: make(chan struct{}), nodes: newNodeJournal(),
	}
	c.monitor = &monitor{
		login: new(atomic.Pointer[login]), dial: o.Dial, clock: o.Clock, log: c.log,
		tell: c.inbox.put, names: newNames(net.DefaultResolver.LookupHost),
		probers: make(map[topology.Addr]*watched),
	}
	c.errands = &errands{login: c.monitor.login, dial: o.Dial}
	c.sentinelErrands = &errands{login: new(atomic.Pointer[login]), dial: o.DialSentinel}
	c.SetLogin(o.Username, o.Password)
	c.SetSentinelLogin(o.SentinelUsername, o.SentinelPassword)
	return c, nil
}

// SetLogin changes the sidecar's own account for connections made from now on;
// those that are open keep theirs. It is safe for concurrent use.
func (c *Controller) SetLogin(username, password string) {
	c.monitor.login.Store(&login{username, password})
}

// SetSentinelLogin changes the account that switchovers use on the Sentinels. It is safe
// for concurrent use.
func (c *Controller) SetSentinelLogin(username, password string) {
	c.sentinelErrands.login.Store(&login{username, password})
}

// Observe takes what all Sentinels say together; only the latest counts. It never
// blocks.
func (c *Controller) Observe(o topology.Observation) {
	if o.Group == c.opts.Group {
		c.inbox.put(route.Observed{Observation: o})
	}
}

// Sign takes an early hint of one Sentinel. It never blocks; when too many wait, the
// route holds for the lost ones as if one had been a sign.
func (c *Controller) Sign(s topology.Sign) {
	if s.Group == c.opts.Group {
		c.inbox.put(route.Signed{Sign: s})
	}
}

// Report takes the word of an event loop. It never blocks, and treats overflow as
// Sign does.
func (c *Controller) Report(r topology.Report) {
	if r.Group == c.opts.Group {
		c.inbox.put(route.Reported{Report: r})
	}
}

// ErrRefused ends a Run whose policy can't be carried out here: following fast, with
// an account that may not demote the master.
var ErrRefused = errors.New("failover: policy refused")

// Run drives the machine until ctx is done, and waits for all it started. It
// publishes the discovering route at once. Before anything was served it may end with
// [ErrRefused].
func (c *Controller) Run(ctx context.Context) error {
	defer close(c.stopped)
	defer context.AfterFunc(ctx, sync.OnceFunc(func() { close(c.stopping) }))()
	working, stop := context.WithCancel(ctx)
	var saver sync.WaitGroup
	saver.Go(func() { c.save(working) })
	defer saver.Wait()
	defer c.monitor.wait()
	defer c.running.Wait()
	defer stop()

	c.step(working, route.Tick{})
	var batch []route.Event
	timer := time.NewTimer(c.rest())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.inbox.wake:
			batch = c.inbox.take(batch)
			for _, ev := range batch {
				c.step(working, ev)
			}
			if c.refusal != nil {
				return c.refusal
			}
		case <-timer.C:
			c.step(working, route.Tick{})
		}
		timer.Reset(c.rest())
	}
}

// rest returns how long the machine wants to be left alone, at least 1 ms.
func (c *Controller) rest() time.Duration {
	now := c.opts.Clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.machine.Next(now)
	if next == route.Never {
		return time.Hour // any bound will do: an early Tick does no harm
	}
	return next - now
}

// step gives the machine one event and does what it decides.
func (c *Controller) step(ctx context.Context, ev route.Event) {
	if o, ok := ev.(order); ok {
		ev = o.Event
		defer close(o.taken)
	}
	c.mu.Lock()
	if o, ok := ev.(route.Observed); ok {
		c.sentinels = o.Observation
	}
	actions := c.machine.Step(c.opts.Clock(), ev)
	c.mu.Unlock()
	for _, a := range actions {
		c.apply(ctx, a)
	}
	c.tellOf(ev)
	select {
	case c.turned <- struct{}{}:
	default:
	}
}

// look lets f read the machine and what c.mu guards. f must not block.
func (c *Controller) look(f func(*route.Machine)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.machine)
}

// stepName notes what the switchover under way is at, for the status.
func (c *Controller) stepName(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doing = name
}

// apply carries out one action.
func (c *Controller) apply(ctx context.Context, a route.Action) {
	switch a := a.(type) {
	case route.Publish:
		c.opts.Publish(a.Route)
		c.tellRoute(a.Route)
	case route.ExtendLease:
		a.Lease.Extend(a.Until)
	case route.Watch:
		c.monitor.watch(ctx, a.Addrs, a.Every)
		c.nodes.watch(a.Addrs)
		c.keepLags()
	case route.AskNodes:
		c.monitor.ask(a.Addrs)
	case route.AskSentinels:
		c.opts.PollSentinels()
	case route.SetFast:
		c.opts.SetFast(a.On)
	case route.Note:
		c.log.LogAttrs(ctx, a.Level, a.Msg, a.Attrs...) //nolint:sloglint // the machine's phrases are constants too
	case route.Demote:
		c.running.Go(func() {
			d := c.errands.demote(ctx, a)
			c.metrics.demotions.WithLabelValues(d.Outcome.String()).Inc()
			c.inbox.put(d)
		})
	case route.CheckRights:
		c.running.Go(func() { c.inbox.put(c.errands.rights(ctx, a)) })
	case route.Refuse:
		c.refusal = fmt.Errorf("%w: %s", ErrRefused, a.Why)
	case route.Held:
		c.metrics.holds.WithLabelValues(a.Cause.String()).Inc()
		c.mu.Lock()
		c.holding = time.Now()
		c.mu.Unlock()
		c.tellHeld(a.Cause)
	case route.Save:
		select {
		case <-c.saves:
		default:
		}
		c.saves <- a.Saved // there is room: this goroutine is the only sender
	case route.Finished:
		c.finish(a.Failover)
		c.tellFinished(a.Failover)
	}
}

// finish remembers and counts an ended hold.
func (c *Controller) finish(f route.Failover) {
	c.metrics.failovers.WithLabelValues(f.Outcome.String()).Inc()
	c.metrics.duration.WithLabelValues(f.Outcome.String()).Observe(f.Took.Seconds())
	if f.Outcome == route.OutcomeFollowed {
		before := time.Duration(0)
		for _, p := range f.Phases { // in the order they came
			c.metrics.phases.WithLabelValues(p.Name).Observe(p.After.Seconds())
			c.metrics.steps.WithLabelValues(p.Name).Observe((p.After - before).Seconds())
			before = p.After
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastHold = f
	list := &c.failovers
	if f.Outcome == route.OutcomeCleared {
		list = &c.cleared
	}
	*list = append(*list, record{f, c.holding})
	if extra := len(*list) - recordsMax; extra > 0 {
		*list = slices.Delete(*list, 0, extra)
	}
}

// save writes the state file, away from the machine: a disk may take its time.
func (c *Controller) save(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-c.saves:
			if err := c.file.write(s); err != nil {
				c.log.Warn("state file not written", "err", err)
			}
		}
	}
}
