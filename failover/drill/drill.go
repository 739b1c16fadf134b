package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
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
	// SLO returns what a round of that plan is held to, given what it is by
	// default. Nil leaves it.
	SLO func(expected SLO) (SLO, error)
	// DownAfter is how long a node must be silent to be called down; default 1s.
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
	group   *redistest.Group
	proxies []Proxy

	// observer is the one of the round under way; nil between rounds.
	observer atomic.Pointer[Observer]
}

// Run starts a group of its own, puts the proxies before it, and drills. The
// error says why that was not possible; a bad verdict is none. It ends all that
// it started.
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
	d := &drill{o: o}
	o.Say("starting a master, two replicas and three Sentinels")
	d.group, err = redistest.Start(ctx, redistest.Options{
		DownAfter: o.DownAfter, FailoverTimeout: failoverTimeout, Quick: o.Quick, Relays: o.Plan.relays,
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.group.Stop()) }()
	defer func() { err = errors.Join(err, d.stopProxies()) }()
	if err := d.startProxies(ctx); err != nil {
		return r, err
	}
	return d.run(ctx)
}

func (d *drill) startProxies(ctx context.Context) error {
	t := Target{Group: d.group.Name(), Sentinels: d.group.SentinelAddrs(), OnRoute: d.route}
	for _, n := range d.group.Nodes() {
		t.Nodes = append(t.Nodes, n.Addr())
	}
	for _, start := range d.o.Proxies {
		p, err := start(ctx, t)
		if err != nil {
			return err
		}
		d.proxies = append(d.proxies, p)
		if err := answering(ctx, p); err != nil {
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
func answering(ctx context.Context, p Proxy) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := ping(ctx, p.Addr)
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%s at %s does not answer: %w", p.Name, p.Addr, err)
		}
	}
}

func ping(ctx context.Context, addr string) error {
	c, err := dial(ctx, addr, time.Second, 0)
	if err != nil {
		return err
	}
	defer c.close()
	v, err := c.do("PING")
	if err == nil && v.Type == '-' {
		err = fmt.Errorf("PING: %s", v.Str)
	}
	return err
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
		Schema: Schema, Kind: d.o.Plan.Kind, Began: time.Now(), Clients: d.o.Clients, DownAfter: ms(d.o.DownAfter),
	}
	var err error
	if r.Redis, err = d.version(ctx); err != nil {
		return r, err
	}
	var before Usage
	const mixed = 4 // rounds in which a soak has done each of its faults
	plans := d.o.Plan.rounds(d.o.Times)
	for i, p := range plans {
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
	loads, histories, marks, err := d.work(ctx, p, number, began)
	if err != nil {
		return Round{}, err
	}
	finals, err := d.finals(ctx, loads, histories)
	if err != nil {
		return Round{}, err
	}
	r := Round{Kind: p.Kind, SLO: slo, Failovers: failovers(marks, histories[0])}
	changes := switches(marks, p.Lossy)
	for i, h := range histories {
		r.Columns = append(r.Columns, Column{
			Name: d.proxies[i].Name, Findings: Check(h, finals[i], changes),
			FirstError: h.FirstError, Incomplete: h.Full, Pace: measure(h), Breaches: []string{},
		})
	}
	r.Columns[0].Breaches = slo.judge(r.Columns[0])
	r.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	return r, nil
}

// work runs the script of p under load, watched. It returns when clients and
// observer have ended.
func (d *drill) work(ctx context.Context, p Plan, number int, began time.Time) ([]Load, []History, []Mark, error) {
	obs := NewObserver(d.watched(), began)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { obs.Run(watching) })
	d.observer.Store(obs)
	defer func() { d.observer.Store(nil); stop(); wg.Wait() }()

	var loads []Load
	var works []*Workload
	for i, proxy := range d.proxies {
		l := Load{
			Addr: proxy.Addr, Prefix: fmt.Sprintf("drill:%d:%d:", number, i), Clients: d.o.Clients,
			Pace: d.o.Pace, Timeout: clientTimeout, MaxOps: maxOps,
		}
		loads, works = append(loads, l), append(works, StartWorkload(ctx, began, l))
	}
	err := d.perform(ctx, p, obs)
	histories := make([]History, len(works))
	for i, w := range works { // at once, so that all columns end together
		wg.Go(func() { histories[i] = w.Stop() })
	}
	stop()
	wg.Wait()
	return loads, histories, obs.Marks(), err
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
	if err := p.script(ctx, &scene{group: d.group, observer: obs, times: d.o.Times}); err != nil {
		return err
	}
	return pause(ctx, coolDown)
}

// watched says whom to observe: past relays, so that a cut blinds nobody.
func (d *drill) watched() Watched {
	w := Watched{Group: d.group.Name(), Sentinels: d.group.SentinelAddrs(), Nodes: make(map[topology.Addr]string)}
	for _, n := range d.group.Nodes() {
		w.Nodes[n.Addr()] = string(n.DirectAddr())
	}
	return w
}

// finals reads back what the workloads left behind, and removes it.
func (d *drill) finals(ctx context.Context, loads []Load, histories []History) ([]Final, error) {
	master, err := d.group.Master(ctx)
	if err != nil {
		return nil, err
	}
	finals := make([]Final, len(loads))
	for i, l := range loads {
		if finals[i], err = readFinal(ctx, string(master.DirectAddr()), l, histories[i]); err != nil {
			return nil, err
		}
	}
	_, err = master.Do(ctx, "FLUSHALL", "ASYNC") // the group is the drill's own
	return finals, err
}

// version asks Redis for its version.
func (d *drill) version(ctx context.Context) (string, error) {
	reply, err := d.group.Nodes()[0].Do(ctx, "INFO", "server")
	if err != nil {
		return "", fmt.Errorf("ask Redis for its version: %w", err)
	}
	text, _ := reply.(string)
	lines := strings.Split(text, "\r\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "redis_version:") })
	if i < 0 {
		return "unknown", nil
	}
	return strings.TrimPrefix(lines[i], "redis_version:"), nil
}
