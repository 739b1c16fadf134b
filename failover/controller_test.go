package failover

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// rig is a running Controller before fake nodes, and what it asked for.
type rig struct {
	*Controller

	mu     sync.Mutex
	routes []topology.Route
	told   []events.Body
	polls  int
	fast   bool
}

func (r *rig) last() topology.Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.routes) == 0 {
		return topology.Route{}
	}
	return r.routes[len(r.routes)-1]
}

func rigged(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{}
	o.Group = "g"
	o.Publish = func(rt topology.Route) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.routes = append(r.routes, rt)
	}
	o.Tell = func(b events.Body) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, b)
	}
	o.PollSentinels = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.polls++
	}
	o.SetFast = func(on bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fast = on
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Controller = c
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r
}

// agree makes a majority of three name the master, with one replica.
func agree(master topology.Addr, epoch uint64, replica topology.Addr) topology.Observation {
	now := boottime.Now()
	o := topology.Observation{
		Group: "g", Known: 3, Answering: 3, Agreed: true, Unanimous: true, Master: master, Epoch: epoch, Support: 3, AgreedAt: now,
		MaxEpoch: epoch, MaxAddr: master, DownAfter: 30 * time.Second,
	}
	for _, s := range []topology.Addr{"s1:1", "s2:1", "s3:1"} {
		o.Views = append(o.Views, topology.View{Sentinel: s, Up: true, SentAt: now, Master: master, Epoch: epoch})
	}
	if replica != "" {
		o.Replicas = []topology.Replica{{Addr: replica, Up: true}}
	}
	return o
}

func (r *rig) serves(t *testing.T, a topology.Addr, o func() topology.Observation) topology.Route {
	t.Helper()
	eventually(t, "serving "+string(a), func() bool {
		r.Observe(o())
		got := r.last()
		return got.State == topology.Serving && got.Master == a
	})
	return r.last()
}

func TestControllerFailover(t *testing.T) {
	a := newFake(t, func(string) string { return roleMaster })
	b := newFake(t, func(string) string { return followerOf(a.addr) })
	state := filepath.Join(t.TempDir(), "state.json")
	r := rigged(t, Options{StateFile: state})
	if ok, why := r.Ready(); ok || why == "" {
		t.Errorf("ready before anything is known: %v %q", ok, why)
	}
	first := r.serves(t, a.addr, func() topology.Observation { return agree(a.addr, 1, b.addr) })
	if first.Lease == nil || !first.Lease.Held(boottime.Now()) || first.HoldTimeout != 35*time.Second {
		t.Errorf("route %+v; want a running lease and a hold timeout of 35s", first)
	}
	if ok, why := r.Ready(); !ok {
		t.Errorf("not ready while serving: %s", why)
	}
	eventually(t, "the replica's lag, and none of the master", func() bool {
		of := make(map[topology.Addr]bool)
		for _, n := range r.Status().Nodes {
			of[n.Addr] = n.LagBytes != nil && *n.LagBytes == 3129659-7 && n.LagSeconds != nil && *n.LagSeconds >= 0
		}
		return len(of) == 2 && of[b.addr] && !of[a.addr]
	})

	r.Sign(topology.Sign{Kind: topology.SignSelected, Group: "g", Sentinel: "s1:1", Candidate: b.addr, Old: a.addr})
	eventually(t, "the hold", func() bool { return r.last().State == topology.Holding })
	if got := r.last(); got.Doubt || got.Master != a.addr {
		t.Errorf("route %+v; want a hold without doubt", got)
	}
	b.says(roleMaster)
	b.drop()
	eventually(t, "doubt", func() bool { return r.last().Doubt })
	if ok, why := r.Ready(); ok || !strings.Contains(why, "holding") {
		t.Errorf("ready %v %q while holding", ok, why)
	}
	r.serves(t, b.addr, func() topology.Observation { return agree(b.addr, 2, "") })

	// The route is published before the failover is written down.
	eventually(t, "the record", func() bool { return len(r.Status().Failovers) > 0 })
	s := r.Status()
	if s.State != "serving" || s.Master != b.addr || s.Epoch != 2 || len(s.Failovers) != 1 || s.Hold != nil {
		t.Fatalf("status %+v", s)
	}
	f := s.Failovers[0]
	if f.Outcome != "followed" || f.Cause != "selected" || f.From != a.addr || f.To != b.addr || f.Started.IsZero() {
		t.Errorf("failover %+v", f)
	}
	names := make([]string, 0, len(f.Phases))
	for _, p := range f.Phases {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "selected promoted majority serving" {
		t.Errorf("phases %s", got)
	}
	if _, err := json.Marshal(s); err != nil {
		t.Errorf("status as JSON: %v", err)
	}
	eventually(t, "the state file", func() bool {
		raw, err := os.ReadFile(state)
		if err != nil {
			return false
		}
		saved, err := parseState(raw)
		return err == nil && saved.Master == b.addr && saved.Epoch == 2
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fast || r.polls == 0 {
		t.Errorf("fast %v, %d polls asked for; want slow again, and some", r.fast, r.polls)
	}
	for i, rt := range r.routes {
		if i > 0 && rt.Gen <= r.routes[i-1].Gen {
			t.Errorf("gen %d after %d", rt.Gen, r.routes[i-1].Gen)
		}
	}
}

// TestControllerHoldsWithoutAnswers checks that a sign becomes a hold while no node and
// no Sentinel answers anything.
func TestControllerHoldsWithoutAnswers(t *testing.T) {
	a := newFake(t, func(string) string { return roleMaster })
	r := rigged(t, Options{})
	r.serves(t, a.addr, func() topology.Observation { return agree(a.addr, 1, "") })
	a.says("")
	r.Sign(topology.Sign{Kind: topology.SignPromoting, Group: "g", Sentinel: "s1:1", Candidate: "192.0.2.1:1", Old: a.addr})
	eventually(t, "the hold", func() bool { got := r.last(); return got.State == topology.Holding && got.Doubt })
}

func TestControllerOtherGroups(t *testing.T) {
	r := rigged(t, Options{})
	eventually(t, "the first route", func() bool { return r.last().State == topology.Discovering })
	o := agree("a:1", 1, "")
	o.Group = "other"
	r.Observe(o)
	r.Sign(topology.Sign{Group: "other", Kind: topology.SignSwitched})
	r.Report(topology.Report{Group: "other", Kind: topology.ReportReadOnly})
	if got := r.inbox.take(nil); len(got) != 0 {
		t.Errorf("words about another group were queued: %v", got)
	}
}

func TestControllerMetrics(t *testing.T) {
	a := newFake(t, func(string) string { return roleMaster })
	r := rigged(t, Options{})
	r.serves(t, a.addr, func() topology.Observation { return agree(a.addr, 9, "") })
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(r.Controller); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "master_name" {
					key += " " + l.GetValue()
				} else if l.GetValue() != "g" {
					t.Errorf("%s has master_name %q", f.GetName(), l.GetValue())
				}
			}
			got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for key, want := range map[string]float64{
		"sentinelproxy_route_state serving":                     1,
		"sentinelproxy_route_state holding":                     0,
		"sentinelproxy_route_state down":                        0,
		"sentinelproxy_master_config_epoch":                     9,
		"sentinelproxy_master_info " + string(a.addr):           1,
		"sentinelproxy_follow_mode majority":                    1,
		"sentinelproxy_follow_mode fast":                        0,
		"sentinelproxy_route_ahead":                             0,
		"sentinelproxy_demotions_total done":                    0,
		"sentinelproxy_failovers_total followed":                0,
		"sentinelproxy_holds_total lease_ended":                 0,
		"sentinelproxy_failover_duration_seconds followed":      0,
		"sentinelproxy_node_up " + string(a.addr):               1,
		"sentinelproxy_node_info " + string(a.addr) + " master": 1,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s = %v, present %v; want %v", key, v, ok, want)
		}
	}
	if v := got["sentinelproxy_lease_remaining_seconds"]; v <= 0 || v > 21 {
		t.Errorf("lease remaining %v; want up to 21 s", v)
	}
}

func TestNewRefuses(t *testing.T) {
	p := route.Policy{HoldMax: route.After(-1), Follow: route.FollowFast, Fence: route.FenceOff, Demote: 9}
	_, err := New(Options{Policy: p, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Group", "Publish", "hold.max", "follow: fast", "fence.demote"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

// A Sentinel that has never answered has no age: the clock begins with the machine.
func TestSentinelStatusAge(t *testing.T) {
	s := sentinelStatus(time.Hour, topology.Observation{Views: []topology.View{{Sentinel: "s1:1", Up: true, SentAt: time.Hour - time.Second}, {Sentinel: "s2:1"}}})
	if a := s.Views[0].AgeMS; a == nil || *a != 1000 {
		t.Errorf("age %v; want 1000", a)
	}
	if a := s.Views[1].AgeMS; a != nil {
		t.Errorf("never answered, and %v ms ago", *a)
	}
}

// A master that hangs is no reason to follow another one, but a command would not succeed.
func TestSilentMasterIsNotReady(t *testing.T) {
	var hangs atomic.Bool
	a := newFake(t, func(string) string {
		if hangs.Load() {
			return ""
		}
		return roleMaster
	})
	r := rigged(t, Options{})
	r.serves(t, a.addr, func() topology.Observation { return agree(a.addr, 1, "") })
	check := func() (found topology.Check) {
		for _, c := range r.Checks() {
			if c.Name == "master_answers" {
				found = c
			}
		}
		return found
	}
	if c := check(); !c.OK || c.Advice || c.Reason != "" {
		t.Errorf("%+v of a master that answers; want it required and ok", c)
	}
	began := time.Now()
	hangs.Store(true)
	keep := func() { r.Observe(agree(a.addr, 1, "")) }
	eventually(t, "the silence to be told", func() bool { keep(); return !check().OK })
	if c := check(); !strings.Contains(c.Reason, "the master "+string(a.addr)+" does not answer: no answer within 500ms") || c.Since.Before(began) {
		t.Errorf("%+v; want the reason, since after %v", c, began)
	}
	if ok, why := r.Ready(); ok || !strings.Contains(why, "does not answer") {
		t.Errorf("ready %v %q", ok, why)
	}
	if got := r.last(); got.State != topology.Serving {
		t.Errorf("route %+v; a silent master is served until the Sentinels say otherwise", got)
	}
	hangs.Store(false)
	eventually(t, "readiness", func() bool { keep(); ok, _ := r.Ready(); return ok && check().OK })
}

// What the phases took adds up to when the last was reached.
func TestPhasesAddUp(t *testing.T) {
	c, err := New(Options{Group: "g", Publish: func(topology.Route) {}})
	if err != nil {
		t.Fatal(err)
	}
	f := route.Failover{Outcome: route.OutcomeFollowed, Phases: []route.Phase{
		{Name: route.PhaseSelected}, {Name: route.PhasePromoted, After: 300 * time.Millisecond}, {Name: route.PhaseServing, After: time.Second},
	}}
	c.finish(f)
	f.Outcome = route.OutcomeCleared // no failover: not counted
	c.finish(f)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c.metrics.phases, c.metrics.steps)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	took := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			if h.GetSampleCount() > 1 {
				t.Errorf("%s counted %d", f.GetName(), h.GetSampleCount())
			}
			for _, l := range m.GetLabel() {
				if l.GetName() == "phase" && h.GetSampleCount() > 0 {
					took[strings.TrimPrefix(f.GetName(), "sentinelproxy_failover_phase_")+" "+l.GetValue()] = h.GetSampleSum()
				}
			}
		}
	}
	want := map[string]float64{
		"reached_seconds selected": 0, "reached_seconds promoted": .3, "reached_seconds serving": 1,
		"duration_seconds selected": 0, "duration_seconds promoted": .3, "duration_seconds serving": .7,
	}
	if !maps.Equal(took, want) {
		t.Errorf("%v; want %v", took, want)
	}
}
