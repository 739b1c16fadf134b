package drill

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// observeEvery is how often each Sentinel and each node is asked.
const observeEvery = 5 * time.Millisecond

// Watched says whom an Observer asks.
type Watched struct {
	Group     string // the master's name at the Sentinels
	Sentinels []topology.Addr
	// Nodes are the data nodes by the address that the group knows them by, and
	// where they are asked: past anything that a drill cuts.
	Nodes map[topology.Addr]string
	// At is where a Sentinel is asked, if not at the address it is known by.
	At map[topology.Addr]string
	// The observer's accounts.
	Login, SentinelLogin Login
}

// at returns where a Sentinel is asked.
func (w Watched) at(s topology.Addr) string { return cmp.Or(w.At[s], string(s)) }

// Mark is one thing that was seen, by the drill itself or by its observer.
type Mark struct {
	At     time.Duration
	What   What
	Addr   topology.Addr // of the node that it is about; may be zero
	Detail string        // for people; may be empty
	// LagBytes is how far a promoted node was behind, by the last offsets that it
	// and the others told.
	LagBytes int64
}

// What is what a Mark says.
type What string

// What can be seen.
const (
	MarkFault    What = "fault"          // the drill broke something
	MarkHealed   What = "healed"         // it was put right
	MarkDown     What = "sdown"          // a Sentinel called the master down
	MarkAgreed   What = "odown"          // enough of them did
	MarkElected  What = "elected"        // a Sentinel was elected to lead the failover
	MarkMaster   What = "promoted"       // a node that was a replica says that it is master
	MarkReplica  What = "demoted"        // a node that was master says that it is a replica
	MarkMajority What = "majority"       // more than half of the Sentinels name Addr
	MarkRoute    What = "route_switched" // the sidecar serves Addr
	MarkSwitched What = "switch_master"  // a Sentinel published +switch-master
	MarkHold     What = "route_held"     // the sidecar no longer serves
)

// Observer asks every Sentinel and every node each 5 ms, past the proxy, and
// listens to the Sentinels' events. Run does so; the rest is safe for concurrent
// use.
type Observer struct {
	// Fixed at construction.
	w     Watched
	began time.Time

	mu      sync.Mutex // guards the fields below
	marks   []Mark
	named   map[topology.Addr]topology.Addr // by Sentinel
	agreed  topology.Addr                   // whom the last majority named
	roles   map[topology.Addr]topology.Role
	offsets map[topology.Addr]int64 // the last replication offset of each node
}

// NewObserver returns an Observer whose times count from began.
func NewObserver(w Watched, began time.Time) *Observer {
	return &Observer{
		w: w, began: began,
		named: make(map[topology.Addr]topology.Addr), roles: make(map[topology.Addr]topology.Role),
		offsets: make(map[topology.Addr]int64),
	}
}

// Run observes until ctx ends. What does not answer is asked again.
func (o *Observer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range o.w.Sentinels {
		wg.Go(func() { o.ask(ctx, o.w.at(s), o.w.SentinelLogin, o.sentinel(s)) })
		wg.Go(func() { o.listen(ctx, s) })
	}
	for addr, at := range o.w.Nodes {
		wg.Go(func() { o.ask(ctx, at, o.w.Login, o.node(addr)) })
	}
	wg.Wait()
}

// Mark notes something, now.
func (o *Observer) Mark(what What, addr topology.Addr, detail string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(what, addr, detail)
}

// add needs o.mu.
func (o *Observer) add(what What, addr topology.Addr, detail string) {
	o.marks = append(o.marks, Mark{At: time.Since(o.began), What: what, Addr: addr, Detail: detail})
}

// Marks returns all marks so far, in order.
func (o *Observer) Marks() []Mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Mark(nil), o.marks...)
}

// Settled reports whether every Sentinel and node has answered once: from then
// on a change is seen as one.
func (o *Observer) Settled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.named) == len(o.w.Sentinels) && len(o.roles) == len(o.w.Nodes)
}

// ask repeats question until ctx ends, on a new connection where one was lost.
func (*Observer) ask(ctx context.Context, at string, login Login, question func(*conn) error) {
	const patience = 500 * time.Millisecond
	tick := time.NewTicker(observeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		c, err := dialAs(ctx, at, login, patience, 0)
		for err == nil && ctx.Err() == nil {
			if err = question(c); err != nil {
				break
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		if c != nil {
			c.close()
		}
		_ = pause(ctx, observeEvery+rand.N(observeEvery)) // its end is seen above
	}
}

// sentinel returns the question to one Sentinel.
func (o *Observer) sentinel(s topology.Addr) func(*conn) error {
	return func(c *conn) error {
		v, err := c.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", o.w.Group)
		if err != nil || len(v.Elem) != 2 {
			return err
		}
		o.names(s, topology.Addr(net.JoinHostPort(string(v.Elem[0].Str), string(v.Elem[1].Str))))
		return nil
	}
}

// names takes whom a Sentinel names.
func (o *Observer) names(s, master topology.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.named[s] == master {
		return
	}
	o.named[s] = master
	support := 0
	for _, m := range o.named {
		if m == master {
			support++
		}
	}
	if 2*support <= len(o.w.Sentinels) || master == o.agreed {
		return
	}
	first := o.agreed == ""
	if o.agreed = master; !first {
		o.add(MarkMajority, master, "")
	}
}

// node returns the question to one data node.
func (o *Observer) node(addr topology.Addr) func(*conn) error {
	return func(c *conn) error {
		v, err := c.do("ROLE")
		if err != nil || len(v.Elem) < 3 {
			return err
		}
		if string(v.Elem[0].Str) == "master" {
			o.role(addr, topology.RoleMaster, v.Elem[1].Int())
		} else if len(v.Elem) >= 5 {
			o.role(addr, topology.RoleReplica, v.Elem[4].Int())
		}
		return nil
	}
}

// role takes what a node says of itself.
func (o *Observer) role(addr topology.Addr, r topology.Role, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, known := o.roles[addr]
	if r == topology.RoleMaster && known && before != r {
		ahead := int64(0)
		for other, at := range o.offsets {
			if other != addr {
				ahead = max(ahead, at)
			}
		}
		o.add(MarkMaster, addr, "")
		o.marks[len(o.marks)-1].LagBytes = max(0, ahead-o.offsets[addr])
	}
	if r == topology.RoleReplica && known && before != r {
		o.add(MarkReplica, addr, "")
	}
	o.roles[addr] = r
	if offset >= 0 { // a replica without a link tells -1: it is where it was
		o.offsets[addr] = offset
	}
}

// listen takes one Sentinel's events until ctx ends.
func (o *Observer) listen(ctx context.Context, s topology.Addr) {
	const patience = 500 * time.Millisecond
	for ctx.Err() == nil {
		if c, err := dialAs(ctx, o.w.at(s), o.w.SentinelLogin, patience, 0); err == nil {
			o.events(ctx, c, s)
			c.close()
		}
		_ = pause(ctx, 10*observeEvery+rand.N(10*observeEvery)) // its end is seen above
	}
}

func (o *Observer) events(ctx context.Context, c *conn, s topology.Addr) {
	if v, err := c.do("PSUBSCRIBE", "*"); err != nil || v.Type == '-' {
		return
	}
	if c.nc.SetDeadline(time.Time{}) != nil || ctx.Err() != nil {
		return // the watch on ctx may have been undone just now
	}
	for {
		v, err := c.receive()
		if err != nil {
			return
		}
		if len(v.Elem) == 4 {
			o.event(s, v)
		}
	}
}

// event takes one message: pattern, channel and payload of this group's master.
func (o *Observer) event(s topology.Addr, v resp.Value) {
	payload := string(v.Elem[3].Str)
	what := What("")
	switch string(v.Elem[2].Str) {
	case "+sdown":
		what = MarkDown
	case "+odown":
		what = MarkAgreed
	case "+elected-leader":
		what = MarkElected
	case "+switch-master":
		what = MarkSwitched
	}
	own := strings.HasPrefix(payload, "master "+o.w.Group+" ") || strings.HasPrefix(payload, o.w.Group+" ")
	if what == "" || !own {
		return
	}
	o.Mark(what, "", "by "+string(s))
}
