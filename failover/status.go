package failover

import (
	"fmt"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Status is everything about one group's route at one moment. It is a copy: nothing
// changes it later. Its JSON is part of /api/v1/status.
type Status struct {
	Group    string        `json:"group"`
	State    string        `json:"state"`
	Why      string        `json:"why"`
	SinceMS  float64       `json:"since_ms"` // how long it has been in this state
	Master   topology.Addr `json:"master"`
	Epoch    uint64        `json:"epoch"`
	Gen      uint64        `json:"generation"`
	Doubt    bool          `json:"doubt"`
	Follow   string        `json:"follow"` // the mode in force, majority or fast
	Ahead    bool          `json:"ahead"`  // no majority names Master yet; Epoch is a guess
	Demote   string        `json:"fence_demote"`
	LeaseMS  *float64      `json:"lease_remaining_ms,omitempty"` // nil without a lease
	Causes   []string      `json:"open_causes"`
	Degraded []string      `json:"degraded"`
	Hold     *HoldStatus   `json:"hold,omitempty"` // the one under way
	// Switchover is the last step of the switchover under way.
	Switchover string `json:"switchover,omitempty"`

	Nodes    []NodeStatus   `json:"nodes"`
	Sentinel SentinelStatus `json:"sentinels"`
	// Failovers are the last that changed the master or opened the circuit, Cleared
	// the last holds that turned out to be none; oldest first.
	Failovers []HoldStatus `json:"failovers"`
	Cleared   []HoldStatus `json:"cleared_holds"`
}

// HoldStatus tells one hold.
type HoldStatus struct {
	Started time.Time     `json:"started"`
	Cause   string        `json:"cause"`
	Outcome string        `json:"outcome"`
	From    topology.Addr `json:"from"`
	To      topology.Addr `json:"to,omitempty"`
	Epoch   uint64        `json:"epoch"` // of To; of From while it goes on
	TookMS  float64       `json:"took_ms"`
	Phases  []PhaseStatus `json:"phases"`
}

// PhaseStatus is one step of a hold.
type PhaseStatus struct {
	Name    string  `json:"name"`
	AfterMS float64 `json:"after_ms"`
}

// NodeStatus is a data node's last probe.
type NodeStatus struct {
	Addr    topology.Addr `json:"addr"`
	Role    string        `json:"role"`
	Master  topology.Addr `json:"master,omitempty"`
	LinkUp  bool          `json:"link_up"`
	Offset  int64         `json:"offset"`
	Err     string        `json:"err,omitempty"`
	AgeMS   float64       `json:"age_ms"`
	ProbeMS float64       `json:"probe_ms"`
	// How far a replica is behind the master that is served; nil: it is none, or not known.
	LagBytes   *int64   `json:"lag_bytes,omitempty"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"` // half a minute at most is remembered
}

// SentinelStatus is what the Sentinels say together, and each alone.
type SentinelStatus struct {
	Known     int           `json:"known"`
	Answering int           `json:"answering"`
	Agreed    bool          `json:"agreed"`
	Master    topology.Addr `json:"master"`
	Epoch     uint64        `json:"epoch"`
	Support   int           `json:"support"`
	DownAfter float64       `json:"down_after_ms"`
	Views     []ViewStatus  `json:"views"`
	// Replicas are those that the Sentinels list, with what they think of them.
	Replicas []ReplicaStatus `json:"replicas"`
}

// ReplicaStatus is what the Sentinels say of one replica.
type ReplicaStatus struct {
	Addr  topology.Addr `json:"addr"`
	Up    bool          `json:"up"`
	Flags string        `json:"flags"`
}

// ViewStatus is one Sentinel's last word.
type ViewStatus struct {
	Sentinel   topology.Addr `json:"sentinel"`
	Up         bool          `json:"up"`
	Subscribed bool          `json:"subscribed"`
	Tilt       bool          `json:"tilt"`
	Master     topology.Addr `json:"master"`
	Epoch      uint64        `json:"epoch"`
	Err        string        `json:"err,omitempty"`
	AgeMS      *float64      `json:"age_ms,omitempty"` // nil: it has never answered
}

// Status returns the group's state now.
func (c *Controller) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Clock() // after what is looked at
	r := c.machine.Route()
	s := Status{
		Group: c.opts.Group, State: r.State.String(), Why: r.Why, SinceMS: milliseconds(now - r.Since),
		Master: r.Master, Epoch: c.machine.Epoch(), Gen: r.Gen, Doubt: r.Doubt,
		Follow: c.machine.Follow().String(), Ahead: c.machine.Ahead(), Demote: c.opts.Policy.Demote.String(),
		Causes: []string{}, Degraded: append([]string{}, c.machine.Degraded()...),
		Switchover: c.doing,
		Nodes:      []NodeStatus{}, Sentinel: sentinelStatus(now, c.sentinels),
		Failovers: holdStatuses(c.failovers), Cleared: holdStatuses(c.cleared),
	}
	if r.Lease != nil {
		left := milliseconds(max(0, c.machine.LeaseUntil()-now))
		s.LeaseMS = &left
	}
	for _, cause := range c.machine.Open() {
		s.Causes = append(s.Causes, cause.String())
	}
	if f, ok := c.machine.Hold(); ok {
		h := holdStatus(record{f, c.holding})
		h.TookMS, h.Epoch = milliseconds(now-f.Started), f.FromEpoch
		s.Hold = &h
	}
	for _, n := range c.machine.Nodes() {
		node := NodeStatus{
			Addr: n.Addr, Role: n.Role.String(), Master: n.Master, LinkUp: n.LinkUp, Offset: n.Offset, Err: n.Err,
			AgeMS: milliseconds(now - n.At), ProbeMS: milliseconds(n.At - n.SentAt),
		}
		if l, ok := c.lags[n.Addr]; ok {
			late := l.late.Seconds()
			node.LagBytes, node.LagSeconds = &l.bytes, &late
		}
		s.Nodes = append(s.Nodes, node)
	}
	return s
}

// Ready reports whether a verified master is served within its lease, and if not
// why. Where it is but something is amiss, such as no Sentinel answering, reason
// says so.
func (c *Controller) Ready() (ok bool, reason string) {
	now := c.opts.Clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.machine.Route()
	switch {
	case r.State == 0:
		return false, "not started"
	case r.State != topology.Serving:
		reason = r.State.String() + ": " + r.Why
		if d := c.machine.Degraded(); len(d) > 0 {
			reason += " (" + d[0] + ")"
		}
		return false, reason + c.complaint()
	case !r.Lease.Held(now):
		return false, "the lease has ended"
	}
	if why, _ := c.machine.Silence(); why != "" {
		return false, why
	}
	if d := c.machine.Degraded(); len(d) > 0 {
		return true, "degraded: " + strings.Join(d, "; ")
	}
	return true, ""
}

// Checks returns what Ready comes from, each with its reason and since when: the route,
// the lease, whether the master answers our probes, and as advice whether a majority of the
// Sentinels agrees and what else is degraded.
func (c *Controller) Checks() []topology.Check {
	now, wall := c.opts.Clock(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.machine.Route()
	about := fmt.Sprintf("%s %d", r.Master, r.Epoch)
	at := topology.Check{Name: "route", OK: r.State == topology.Serving, About: about}
	lease := topology.Check{Name: "lease", OK: true, About: about}
	switch {
	case r.State == 0:
		at.Reason = "not started"
	case r.State != topology.Serving:
		at.Since = wall.Add(r.Since - now)
		at.Reason = r.State.String() + ": " + r.Why
		if d := c.machine.Degraded(); len(d) > 0 {
			at.Reason += " (" + d[0] + ")"
		}
		at.Reason += c.complaint()
	default:
		at.Since = wall.Add(r.Since - now)
		if lease.OK = r.Lease.Held(now); !lease.OK {
			lease.Since = wall.Add(r.Lease.Until() - now)
			lease.Reason = "the lease has ended"
		}
	}
	answers := topology.Check{Name: "master_answers", OK: true, About: about}
	if why, since := c.machine.Silence(); why != "" {
		answers.OK, answers.Reason, answers.Since = false, why, wall.Add(since-now)
	}
	o := c.sentinels
	agree := topology.Check{Name: "sentinels", OK: o.Agreed, Advice: true}
	if !o.Agreed {
		agree.Reason = fmt.Sprintf("no majority of the Sentinels agrees: %d known, %d answer, %d name %s", o.Known, o.Answering, o.Support, o.Master)
	}
	rest := topology.Check{Name: "not_degraded", OK: true, Advice: true}
	if d := c.machine.Degraded(); len(d) > 0 {
		rest.OK, rest.Reason = false, "degraded: "+strings.Join(d, "; ")
	}
	return []topology.Check{at, lease, answers, agree, rest}
}

// complaint is what a Sentinel says, or why it says nothing, where no majority
// agrees: the usual cause of a start that never gets ready.
func (c *Controller) complaint() string {
	if c.sentinels.Agreed {
		return ""
	}
	for _, v := range c.sentinels.Views {
		if v.Err != "" {
			return "; sentinel " + string(v.Sentinel) + ": " + v.Err
		}
	}
	return ""
}

func holdStatuses(rs []record) []HoldStatus {
	out := make([]HoldStatus, 0, len(rs))
	for _, r := range rs {
		out = append(out, holdStatus(r))
	}
	return out
}

func holdStatus(r record) HoldStatus {
	h := HoldStatus{
		Started: r.at, Cause: r.Cause.String(), Outcome: r.Outcome.String(), From: r.From, To: r.To,
		Epoch: r.Epoch, TookMS: milliseconds(r.Took), Phases: make([]PhaseStatus, 0, len(r.Phases)),
	}
	for _, p := range r.Phases {
		h.Phases = append(h.Phases, PhaseStatus{Name: p.Name, AfterMS: milliseconds(p.After)})
	}
	return h
}

func sentinelStatus(now time.Duration, o topology.Observation) SentinelStatus {
	s := SentinelStatus{
		Known: o.Known, Answering: o.Answering, Agreed: o.Agreed, Master: o.Master, Epoch: o.Epoch,
		Support: o.Support, DownAfter: milliseconds(o.DownAfter), Views: make([]ViewStatus, 0, len(o.Views)),
		Replicas: make([]ReplicaStatus, 0, len(o.Replicas)),
	}
	for _, r := range o.Replicas {
		s.Replicas = append(s.Replicas, ReplicaStatus{Addr: r.Addr, Up: r.Up, Flags: r.Flags})
	}
	for _, v := range o.Views {
		view := ViewStatus{
			Sentinel: v.Sentinel, Up: v.Up, Subscribed: v.Subscribed, Tilt: v.Tilt, Master: v.Master, Epoch: v.Epoch, Err: v.Err,
		}
		if v.SentAt > 0 {
			age := milliseconds(now - v.SentAt)
			view.AgeMS = &age
		}
		s.Views = append(s.Views, view)
	}
	return s
}
