package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Options say what to drill. Plan and Proxies are required.
type Options struct {
	Plan    Plan
	Times   int // 0 is Plan.Times
	Clients int // default 16
	// Pace is the time between two commands of one client; default 5ms.
	Pace time.Duration
	// Proxies stand before the group; the first is judged. At least one.
	Proxies []Starter
	// Probes are HTTP services behind the group, which are asked meanwhile. The first
	// is judged.
	Probes []Probe
	// SLO returns what a round of that plan is held to, given what it is by
	// default. Nil leaves it.
	SLO func(expected SLO) (SLO, error)
	// Remote is the group to drill, where that is not one of the drill's own.
	Remote *Remote
	// Deadman undoes faults if this process dies.
	Deadman Deadman
	// DownAfter is how long a node must be silent to be called down; default 1s. Of
	// a remote group it is what its Sentinels say.
	DownAfter time.Duration
	// Quick makes a group whole again after some four seconds instead of eleven.
	Quick bool
	// Say tells people how it goes, one line each. Nil says nothing.
	Say func(line string)
}

const (
	failoverTimeout = 10 * time.Second
	warmUp          = time.Second // of the workload, before the fault
	coolDown        = time.Second // after the group is whole
	readyTimeout    = 20 * time.Second
	clientTimeout   = 15 * time.Second // longer than a command is held
	maxOps          = 1 << 20          // of one client and round: over an hour
)

// drill is one Run. Its goroutine owns it.
type drill struct {
	o       Options
	group   group
	proxies []Proxy
	facts   Facts  // of a remote group, as the drill began
	prefix  string // of all keys and channels

	// observer is the one of the round under way; nil between rounds.
	observer atomic.Pointer[Observer]
}

// Run starts a group of its own, or takes a remote one that the guard rails let
// pass, puts the proxies before it, and drills. The error says why that was not
// possible; a bad verdict is none. It ends all that it started, and of a remote
// group it leaves no key behind.
func Run(ctx context.Context, o Options) (r Report, err error) {
	o.Times = cmp.Or(o.Times, o.Plan.Times)
	o.Clients = cmp.Or(o.Clients, 16)
	o.Pace = cmp.Or(o.Pace, 5*time.Millisecond)
	o.DownAfter = cmp.Or(o.DownAfter, time.Second)
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if len(o.Proxies) == 0 {
		return r, errors.New("drill: no proxy to stand before the group")
	}
	d := &drill{o: o, prefix: "drill:"}
	if o.Remote != nil {
		if err := d.takeRemote(ctx); err != nil {
			return r, err
		}
	} else {
		o.Say("starting a master, two replicas and three Sentinels")
		g, err := startOwn(ctx, o)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, g.Stop()) }()
		d.group = g
	}
	defer func() { err = errors.Join(err, d.stopProxies()) }()
	if err := d.startProxies(ctx); err != nil {
		return r, err
	}
	if o.Plan.Needs.Switchover && d.proxies[0].Switchover == nil {
		return r, fmt.Errorf("%s takes no orders: give it control.listen (or control.token_file), or drill failover instead", d.proxies[0].Name)
	}
	if err := checkProbes(ctx, o.Probes); err != nil {
		return r, err
	}
	return d.run(ctx)
}

func (d *drill) startProxies(ctx context.Context) error {
	t := Target{Group: d.group.Name(), Login: d.group.login(), OnRoute: d.route}
	for _, s := range d.group.sentinels() {
		t.Sentinels = append(t.Sentinels, s.Addr())
	}
	for _, n := range d.group.nodes() {
		t.Nodes = append(t.Nodes, n.Addr())
	}
	for _, start := range d.o.Proxies {
		p, err := start(ctx, t)
		if err != nil {
			return err
		}
		d.proxies = append(d.proxies, p)
		if err := d.answering(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *drill) stopProxies() error {
	var errs []error
	for _, p := range d.proxies {
		if err := p.Stop(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}

// answering waits until clients of p are served.
func (d *drill) answering(ctx context.Context, p Proxy) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		_, err := askOnce(ctx, p.Addr, d.clients(), "PING")
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%s at %s does not answer: %w", p.Name, p.Addr, err)
		}
	}
}

// clients returns what the workload logs in as.
func (d *drill) clients() Login {
	if d.o.Remote == nil {
		return Login{}
	}
	return d.o.Remote.Clients
}

// route passes a route of the sidecar on to the observer.
func (d *drill) route(r topology.Route) {
	o := d.observer.Load()
	switch {
	case o == nil:
	case r.State == topology.Serving:
		o.Mark(MarkRoute, r.Master, "")
	default:
		o.Mark(MarkHold, r.Master, r.Why)
	}
}

// run drills round by round.
func (d *drill) run(ctx context.Context) (Report, error) {
	r := Report{
		Schema: Schema, Kind: d.o.Plan.Kind, Variant: d.o.Plan.variant(), Group: "ephemeral", Began: time.Now(), Clients: d.o.Clients, DownAfter: ms(d.o.DownAfter),
	}
	if d.o.Remote != nil {
		r.Group = d.group.Name()
	}
	var err error
	if r.Redis, err = d.version(ctx); err != nil {
		return r, err
	}
	var before Usage
	const mixed = 4 // rounds in which a soak has done each of its faults
	plans := d.o.Plan.rounds(d.o.Times)
	for i, p := range plans {
		if i > 0 && d.o.Remote != nil {
			if err := d.between(ctx, p); err != nil {
				return r, err
			}
		}
		d.o.Say(fmt.Sprintf("round %d of %d: %s", i+1, len(plans), p.Short))
		round, err := d.round(ctx, p, i)
		if err != nil {
			return r, fmt.Errorf("round %d, %s: %w", i+1, p.Kind, err)
		}
		r.Rounds = append(r.Rounds, round)
		if i+1 == mixed {
			before = usage()
		}
	}
	if d.o.Plan.Kind == KindSoak && len(plans) > mixed {
		r.Growth = growth(before, usage())
	}
	r.Seconds = time.Since(r.Began).Round(time.Millisecond).Seconds()
	r.Verdict = r.verdict()
	return r, nil
}

// round lets clients work, breaks something, and checks what came of it.
func (d *drill) round(ctx context.Context, p Plan, number int) (Round, error) {
	slo := p.Expected(d.o.Clients, d.o.DownAfter)
	if d.o.SLO != nil {
		var err error
		if slo, err = d.o.SLO(slo); err != nil {
			return Round{}, err
		}
	}
	began := time.Now()
	w, err := d.sweeper(ctx)
	if err != nil {
		return Round{}, err
	}
	loads, histories, marks, seen, err := d.work(ctx, p, number, began)
	var finals []Final
	if err == nil {
		finals, err = d.finals(ctx, loads, histories)
	}
	cleaning := ctx
	if d.o.Remote != nil { // also where the drill was interrupted
		cleaning = context.WithoutCancel(ctx)
	}
	if err := errors.Join(err, d.clean(cleaning, loads, histories, w)); err != nil {
		return Round{}, err
	}
	r := Round{Kind: p.Kind, SLO: slo, Failovers: failovers(marks, histories[0]), Notes: p.notes(marks, histories[0]), Probes: seen}
	changes := p.switches(marks, d.o.DownAfter)
	for i, h := range histories {
		r.Columns = append(r.Columns, Column{
			Name: d.proxies[i].Name, Findings: Check(h, finals[i], changes),
			FirstError: h.FirstError, Incomplete: h.Full, Pace: measure(h), Breaches: []string{},
		})
	}
	if p.side == SideMinority || p.Kind == KindOutage {
		for i, h := range histories {
			r.Columns[i].RecoveryMS = ms(recovery(marks, h))
		}
	}
	if len(seen) > 0 {
		r.Columns[0].probed = seen[0]
	}
	r.Columns[0].Breaches = slo.judge(r.Columns[0])
	r.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	return r, nil
}

// work runs the script of p under load, watched. It returns when clients, probes and
// observer have ended.
func (d *drill) work(ctx context.Context, p Plan, number int, began time.Time) ([]Load, []History, []Mark, []Probed, error) {
	obs := NewObserver(d.watched(), began)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { obs.Run(watching) })
	d.observer.Store(obs)
	defer func() { d.observer.Store(nil); stop(); wg.Wait() }()

	asking, err := startProbes(ctx, d.o.Probes, began)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	var loads []Load
	var works []*Workload
	for i, proxy := range d.proxies {
		l := Load{
			Addr: proxy.Addr, Login: d.clients(), Prefix: fmt.Sprintf("%s%d:%d:", d.prefix, number, i), Clients: d.o.Clients,
			Pace: d.o.Pace, Timeout: clientTimeout, MaxOps: maxOps,
		}
		loads, works = append(loads, l), append(works, StartWorkload(ctx, began, l))
	}
	err = d.perform(ctx, p, obs)
	histories := make([]History, len(works))
	for i, w := range works { // at once, so that all columns end together
		wg.Go(func() { histories[i] = w.Stop() })
	}
	seen := asking.finish(obs.Marks())
	stop()
	wg.Wait()
	return loads, histories, obs.Marks(), seen, err
}

// perform waits until all is observed, and runs the script.
func (d *drill) perform(ctx context.Context, p Plan, obs *Observer) error {
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for !obs.Settled() {
		if err := pause(ready, observeEvery); err != nil {
			return fmt.Errorf("not every Sentinel and node answers: %w", err)
		}
	}
	if err := pause(ctx, warmUp); err != nil {
		return err
	}
	s := &scene{
		group: d.group, observer: obs, times: d.o.Times, plan: p, remote: d.o.Remote != nil, deadman: d.o.Deadman,
		switchover: d.proxies[0].Switchover,
	}
	if err := p.script(ctx, s); err != nil {
		return err
	}
	return pause(ctx, coolDown)
}

// watched says whom to observe: past relays, so that a cut blinds nobody.
func (d *drill) watched() Watched {
	w := Watched{
		Group: d.group.Name(), Nodes: make(map[topology.Addr]string), At: make(map[topology.Addr]string),
		Login: d.group.login(), SentinelLogin: d.group.sentinelLogin(),
	}
	for _, s := range d.group.sentinels() {
		w.Sentinels = append(w.Sentinels, s.Addr())
		w.At[s.Addr()] = string(s.DirectAddr())
	}
	for _, n := range d.group.nodes() {
		w.Nodes[n.Addr()] = string(n.DirectAddr())
	}
	return w
}

// finals reads back what the workloads left behind.
func (d *drill) finals(ctx context.Context, loads []Load, histories []History) ([]Final, error) {
	master, err := d.group.master(ctx)
	if err != nil {
		return nil, err
	}
	finals := make([]Final, len(loads))
	for i, l := range loads {
		if finals[i], err = readFinal(ctx, string(master.DirectAddr()), d.clients(), l, histories[i]); err != nil {
			return nil, err
		}
	}
	return finals, nil
}

// version asks Redis for its version.
func (d *drill) version(ctx context.Context) (string, error) {
	in, err := infoOf(ctx, d.group.nodes()[0])
	if err != nil {
		return "", fmt.Errorf("ask Redis for its version: %w", err)
	}
	return cmp.Or(in["redis_version"], "unknown"), nil
}
