package failover

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// witness is a Sentinel that may be told to fail over.
type witness struct {
	peer

	group     string
	downAfter time.Duration
	events    bool // its events reach us

	// What it said last.
	elects   topology.Addr   // whom it would promote now; "" if nobody
	electErr error           // why that is not known
	mistaken []topology.Addr // replicas that are up and that it takes for masters
	findings []string        // what speaks against a switchover, whoever is told
	useless  string          // why this one can't be told; "" if it can
}

// noGroup is a name that no group has: asking for its failover shows whether our account
// may ask for one, and does nothing.
const noGroup = "sentinelproxy-rights-check: no such group"

// check asks all that a preflight wants to know of a Sentinel.
func (w *witness) check(ctx context.Context) {
	rs, err := w.ask(ctx, []string{"SENTINEL", "CKQUORUM", w.group}, []string{"SENTINEL", "FAILOVER", noGroup})
	if err != nil {
		w.useless = fmt.Sprintf("Sentinel %s can't be asked: %v", w.addr, err)
		return
	}
	switch err := rs[0].err(); {
	case errors.Is(err, errForbidden):
		w.findings = append(w.findings, fmt.Sprintf("Sentinel %s: grant +sentinel|ckquorum to our account (%s)", w.addr, rs[0].text))
	case err != nil:
		w.findings = append(w.findings, fmt.Sprintf("Sentinel %s: a failover would not be authorised: %s", w.addr, rs[0].text))
	}
	if rs[1].refusesAccount() {
		w.useless = fmt.Sprintf("Sentinel %s: grant +sentinel|failover to our account (%s)", w.addr, rs[1].text)
		return
	}
	if w.elect(ctx); w.electErr != nil {
		w.useless = fmt.Sprintf("Sentinel %s: %v", w.addr, w.electErr)
	}
}

// elect finds out whom the Sentinel would promote now.
func (w *witness) elect(ctx context.Context) {
	w.elects, w.mistaken = "", nil
	r, err := w.do(ctx, "SENTINEL", "REPLICAS", w.group)
	if err != nil {
		w.electErr = fmt.Errorf("SENTINEL REPLICAS: %w", err)
		return
	}
	all := make([]route.Electable, 0, len(r.elems))
	for _, row := range r.elems {
		f := fieldsOf(row)
		e := electable(f)
		if all = append(all, e); e.Flags == "slave" && f["role-reported"] == "master" {
			w.mistaken = append(w.mistaken, e.Addr)
		}
	}
	w.electErr = nil
	var ok bool
	if w.elects, ok = route.Elect(all, w.downAfter); !ok {
		w.electErr = errors.New("it knows of no replica that it would promote (NOGOODSLAVE)")
	}
}

// tell orders the failover, at most once. started is true unless the Sentinel refused
// for sure: a connection that broke may have carried the order.
func (w *witness) tell(ctx context.Context) (started bool, err error) {
	rs, err := w.once(ctx, []string{"SENTINEL", "FAILOVER", w.group})
	if err != nil {
		return true, err
	}
	err = rs[0].err()
	return err == nil, err
}

// fieldsOf reads one row of SENTINEL REPLICAS.
func fieldsOf(row reply) map[string]string {
	f := make(map[string]string, len(row.elems)/2)
	for i := 0; i+1 < len(row.elems); i += 2 {
		f[row.elems[i].text] = row.elems[i+1].text
	}
	return f
}

// electable returns what the row says of a replica as a candidate.
func electable(f map[string]string) route.Electable {
	number := func(name string) int {
		n, _ := strconv.Atoi(f[name]) // absent: 0, which speaks against nobody but in a priority
		return n
	}
	ms := func(name string) time.Duration { return time.Duration(number(name)) * time.Millisecond }
	return route.Electable{
		Addr: topology.JoinAddr(f["ip"], number("port")), RunID: f["runid"], Flags: f["flags"],
		Priority: number("slave-priority"), Offset: int64(number("slave-repl-offset")),
		LinkDown: ms("master-link-down-time"), InfoAge: ms("info-refresh"), PingAge: ms("last-ok-ping-reply"),
	}
}

// inProgress reports whether a Sentinel refused because a failover is under way.
func inProgress(err error) bool {
	return errors.Is(err, errRefused) && strings.Contains(err.Error(), "INPROG")
}
