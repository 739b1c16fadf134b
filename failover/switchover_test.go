package failover

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// stage is a group of fakes that a switchover can be tried on: the nodes and Sentinels
// answer what it needs to hear, until a test has them answer something else.
type stage struct {
	*rig

	master, replica *fakeNode
	sentinels       []*fakeNode
	offset, read    atomic.Int64 // the master's, and what the replica has read of it
	failover        func(i int) string
	drained         func(context.Context, uint64) error
	steps           []topology.SwitchoverStep
	after           func(topology.SwitchoverStep) // of the test, after each step
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{failover: func(int) string { return "+OK\r\n" }, drained: func(context.Context, uint64) error { return nil }}
	s.offset.Store(100)
	s.read.Store(100)
	s.master = newFake(t, nil)
	s.master.answer = func(cmd string) string {
		switch cmd {
		case "ROLE": // the stream moves
			return fmt.Sprintf("*3\r\n$6\r\nmaster\r\n:%d\r\n*0\r\n", s.offset.Add(1))
		case "EXEC":
			return "-EXECABORT Transaction discarded because of previous errors.\r\n"
		}
		return "+QUEUED\r\n"
	}
	host, port, _ := strings.Cut(string(s.master.addr), ":")
	s.replica = newFake(t, func(string) string {
		read := s.read.Load()
		if read == 100 {
			read = s.offset.Load() // it keeps up
		}
		return string(appendArray("slave", host, ":"+port, "connected", fmt.Sprintf(":%d", read)))
	})
	for i := range 3 {
		f := newFake(t, nil)
		f.answer = func(string) string { return s.sentinel(i, f.calls[len(f.calls)-1]) }
		s.sentinels = append(s.sentinels, f)
	}
	s.rig = rigged(t, Options{Drained: func(ctx context.Context, gen uint64) error { return s.drained(ctx, gen) }})
	s.serves(t, s.master.addr, s.agree)
	eventually(t, "the replica's word", func() bool {
		s.Observe(s.agree())
		return slices.ContainsFunc(s.Status().Nodes, func(n NodeStatus) bool { return n.Addr == s.replica.addr && n.Role == "replica" })
	})
	return s
}

func (s *stage) agree() topology.Observation {
	o := agree(s.master.addr, 1, "")
	o.Replicas = []topology.Replica{{Addr: s.replica.addr, Up: true, Priority: 100, Flags: "slave"}}
	for i := range o.Views {
		o.Views[i].Sentinel = s.sentinels[i].addr
		o.Views[i].Subscribed, o.Views[i].DownAfter = true, time.Second
	}
	return o
}

// sentinel answers as the ith Sentinel.
func (s *stage) sentinel(i int, line string) string {
	switch {
	case strings.HasPrefix(line, "SENTINEL CKQUORUM"):
		return "+OK 3 usable Sentinels. Quorum and failover authorization can be reached\r\n"
	case line == "SENTINEL FAILOVER "+noGroup:
		return "-ERR No such master with that name\r\n"
	case strings.HasPrefix(line, "SENTINEL REPLICAS"):
		host, port, _ := strings.Cut(string(s.replica.addr), ":")
		return "*1\r\n" + string(appendArray("ip", host, "port", port, "flags", "slave", "slave-priority", "100", "slave-repl-offset", "7"))
	case strings.HasPrefix(line, "SENTINEL FAILOVER"):
		return s.failover(i)
	}
	return "-ERR unknown command\r\n"
}

// try asks for a switchover while the Sentinels go on agreeing.
func (s *stage) try(t *testing.T, req topology.SwitchoverRequest) topology.SwitchoverResult {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Observe(s.agree())
	r, err := s.Switchover(ctx, req, func(st topology.SwitchoverStep) {
		t.Logf("%s %s %v %s", st.Name, st.Status, st.Took, st.Detail)
		s.steps = append(s.steps, st)
		if s.after != nil {
			s.after(st)
		}
		s.Observe(s.agree())
	})
	if r.OK() != (err == nil) {
		t.Errorf("%+v with error %v", r, err)
	}
	return r
}

// locked lets f change what the fakes answer.
func (s *stage) locked(f func()) {
	for _, n := range append(slices.Clone(s.sentinels), s.master, s.replica) {
		n.mu.Lock()
		defer n.mu.Unlock()
	}
	f()
}

func (s *stage) reached(step string) bool {
	return slices.ContainsFunc(s.steps, func(st topology.SwitchoverStep) bool {
		return st.Name == step && st.Status == topology.StepOK
	})
}

// orders counts how often a Sentinel was told to fail over.
func (s *stage) orders() (n int) {
	for _, f := range s.sentinels {
		n += f.called("SENTINEL FAILOVER g")
	}
	return n
}

// servesOn checks that the old master serves again, and nothing holds any more.
func (s *stage) servesOn(t *testing.T) {
	t.Helper()
	eventually(t, "the old master to serve on", func() bool {
		s.Observe(s.agree())
		got := s.last()
		return got.State == topology.Serving && got.Master == s.master.addr
	})
	if st := s.Status(); st.Switchover != "" || len(st.Causes) > 0 {
		t.Errorf("status %q, causes %v; want neither", st.Switchover, st.Causes)
	}
}

func TestSwitchoverDone(t *testing.T) {
	s := newStage(t)
	s.failover = func(int) string {
		go func() {
			s.replica.says(roleMaster)
			s.master.says(followerOf(s.replica.addr)) // as if demoted by somebody
			s.replica.drop()
		}()
		return "+OK\r\n"
	}
	s.after = func(st topology.SwitchoverStep) {
		if st.Name == topology.StepHold && s.Status().Switchover == "" {
			t.Error("the status does not show it")
		}
	}
	done := make(chan struct{})
	go func() { // a majority confirms it at last
		defer close(done)
		for !s.reachedNow(topology.StepRelease) {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		o := agree(s.replica.addr, 2, "")
		for i := range o.Views {
			o.Views[i].Sentinel = s.sentinels[i].addr
		}
		s.Observe(o)
	}()
	ctx := t.Context()
	s.Observe(s.agree())
	r, err := s.Switchover(ctx, topology.SwitchoverRequest{}, func(st topology.SwitchoverStep) {
		s.mu.Lock()
		s.steps = append(s.steps, st)
		s.mu.Unlock()
	})
	<-done
	if err != nil || r.Outcome != topology.SwitchoverDone || r.From != s.master.addr || r.To != s.replica.addr || r.Epoch != 2 || r.Pause <= 0 {
		t.Errorf("%+v %v", r, err)
	}
	if n := s.orders(); n != 1 {
		t.Errorf("%d orders; want one", n)
	}
	var names []string
	for _, st := range s.steps {
		names = append(names, st.Name+":"+string(st.Status))
	}
	const want = "preflight:ok priority:skipped hold:ok drain:ok catch up:ok failover:ok promoted:ok demoted:ok release:ok majority:ok"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("steps %s; want %s", got, want)
	}
}

// reachedNow is reached while a switchover runs.
func (s *stage) reachedNow(step string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reached(step)
}

func TestSwitchoverCalledOff(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(s *stage)
		orders  int
		says    string
		reached string
		expires bool // it is the pause that calls it off
	}{
		"not drained": {func(s *stage) {
			s.drained = func(ctx context.Context, _ uint64) error { <-ctx.Done(); return ctx.Err() }
		}, 0, "has not answered all that was sent", topology.StepHold, true},
		"replica behind": {func(s *stage) {
			s.after = func(st topology.SwitchoverStep) {
				if st.Name == topology.StepPreflight {
					s.read.Store(1)
				}
			}
		}, 0, "has read the stream up to 1; want", topology.StepDrain, true},
		"another failover under way": {func(s *stage) {
			s.failover = func(int) string { return "-INPROG Failover already in progress\r\n" }
		}, 1, "another failover is under way", topology.StepCatchUp, false},
		"no good replica": {func(s *stage) {
			s.failover = func(int) string { return "-NOGOODSLAVE No suitable replica to promote\r\n" }
		}, 3, "NOGOODSLAVE", topology.StepCatchUp, false},
		"a sign meanwhile": {func(s *stage) {
			s.after = func(st topology.SwitchoverStep) {
				if st.Name == topology.StepCatchUp {
					s.Sign(topology.Sign{Kind: topology.SignSelected, Group: "g", Sentinel: "x:1", Candidate: s.replica.addr, Old: s.master.addr})
				}
			}
		}, 0, "something else holds the route: switchover, selected", topology.StepCatchUp, false},
		"it would promote another": {func(s *stage) {
			s.after = func(st topology.SwitchoverStep) {
				if st.Name == topology.StepDrain {
					s.locked(func() {
						for i, f := range s.sentinels {
							f.answer = func(string) string {
								line := f.calls[len(f.calls)-1]
								if strings.HasPrefix(line, "SENTINEL REPLICAS") {
									return "*1\r\n" + string(appendArray("ip", "192.0.2.1", "port", "1", "flags", "slave", "slave-priority", "1"))
								}
								return s.sentinel(i, line)
							}
						}
					})
				}
			}
		}, 0, "which was not waited for", topology.StepCatchUp, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			tt.prepare(s)
			pause := 20 * time.Second // what a busy machine needs is no reason
			if tt.expires {
				pause = 2500 * time.Millisecond
			}
			r := s.try(t, topology.SwitchoverRequest{MaxPause: pause})
			if r.Outcome != topology.SwitchoverAborted || !strings.Contains(r.Err, tt.says) {
				t.Errorf("%+v; want it called off: %s", r, tt.says)
			}
			if n := s.orders(); n != tt.orders {
				t.Errorf("%d orders; want %d", n, tt.orders)
			}
			if !s.reached(tt.reached) {
				t.Errorf("it did not get to %s", tt.reached)
			}
			if name == "a sign meanwhile" {
				s.Sign(topology.Sign{Kind: topology.SignAborted, Group: "g", Sentinel: "x:1"})
			}
			s.servesOn(t)
		})
	}
}

// Commands must not get the answers of an outage within a planned pause.
func TestSwitchoverMindsTheOutage(t *testing.T) {
	s := newStage(t)
	s.opts.Patience = func() (time.Duration, bool) { return time.Second, true }
	r := s.try(t, topology.SwitchoverRequest{MaxPause: 1500 * time.Millisecond})
	if r.Outcome != topology.SwitchoverImpossible || !strings.Contains(r.Err, "outage.after is 1s") || s.orders() > 0 {
		t.Errorf("%+v; want it impossible", r)
	}
}

// A Sentinel that knows of no fit replica leaves the order to the next one.
func TestSwitchoverAsksAnotherSentinel(t *testing.T) {
	s := newStage(t)
	var told atomic.Int32
	s.failover = func(int) string {
		if told.Add(1) == 1 {
			return "-NOGOODSLAVE No suitable replica to promote\r\n"
		}
		return "" // no answer at all: it may have begun
	}
	stop := make(chan struct{})
	s.after = func(st topology.SwitchoverStep) {
		if st.Name == topology.StepFailover {
			if !strings.Contains(st.Detail, "may have begun") {
				t.Errorf("detail %q", st.Detail)
			}
			// What was ordered is called off by the one that was told.
			go func() {
				defer close(stop)
				for _, f := range s.sentinels {
					s.Sign(topology.Sign{Kind: topology.SignAborted, Group: "g", Sentinel: f.addr})
				}
			}()
		}
	}
	r := s.try(t, topology.SwitchoverRequest{})
	<-stop
	if r.Outcome != topology.SwitchoverAborted || !strings.Contains(r.Err, "Sentinel called its failover off") || s.orders() != 2 {
		t.Errorf("%+v after %d orders", r, s.orders())
	}
	s.servesOn(t)
}

func TestSwitchoverOneAtATime(t *testing.T) {
	s := newStage(t)
	s.after = func(st topology.SwitchoverStep) {
		if st.Name == topology.StepHold {
			r, err := s.Switchover(t.Context(), topology.SwitchoverRequest{}, nil)
			if err == nil || r.Outcome != topology.SwitchoverBusy {
				t.Errorf("%+v %v; want busy", r, err)
			}
			s.drained = func(context.Context, uint64) error { return context.DeadlineExceeded }
		}
	}
	if r := s.try(t, topology.SwitchoverRequest{}); r.Outcome != topology.SwitchoverAborted {
		t.Errorf("%+v", r)
	}
	s.servesOn(t)
}

func TestSwitchoverDryRun(t *testing.T) {
	s := newStage(t)
	gen := s.last().Gen
	r := s.try(t, topology.SwitchoverRequest{DryRun: true})
	if r.Outcome != topology.SwitchoverReady || r.To != s.replica.addr || r.From != s.master.addr || r.Pause != 0 {
		t.Errorf("%+v", r)
	}
	if s.last().Gen != gen || s.orders() != 0 {
		t.Error("it changed something")
	}
}

func TestSwitchoverPreflight(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(s *stage)
		req     topology.SwitchoverRequest
		says    []string
	}{
		"no quorum": {func(s *stage) {
			for i, f := range s.sentinels {
				f.answer = func(string) string {
					if line := f.calls[len(f.calls)-1]; !strings.HasPrefix(line, "SENTINEL CKQUORUM") {
						return s.sentinel(i, line)
					}
					return "-NOQUORUM 1 usable Sentinels.\r\n"
				}
			}
		}, topology.SwitchoverRequest{}, []string{"a failover would not be authorised: NOQUORUM"}},
		"no right": {func(s *stage) {
			for _, f := range s.sentinels {
				f.answer = func(string) string { return "-NOPERM this user has no permissions\r\n" }
			}
			s.master.answer = func(cmd string) string {
				if cmd == "ROLE" {
					return roleMaster
				}
				return "-NOPERM this user has no permissions\r\n"
			}
		}, topology.SwitchoverRequest{}, []string{"+sentinel|ckquorum", "+sentinel|failover", "+replicaof +client|kill +multi +exec, or use --strict"}},
		"to a stranger": {func(*stage) {}, topology.SwitchoverRequest{To: "192.0.2.1:1"}, []string{"192.0.2.1:1 is no replica of this group; the Sentinels list: 127.0.0.1:"}},
		"too short":     {func(*stage) {}, topology.SwitchoverRequest{MaxPause: 100 * time.Millisecond}, []string{"the promotion alone takes about 250ms"}},
		"too long":      {func(*stage) {}, topology.SwitchoverRequest{MaxPause: time.Hour}, []string{"hold.timeout is", "hold.max is"}},
		"replica hangs": {func(s *stage) { s.replica.answer = func(string) string { return "" } }, topology.SwitchoverRequest{}, []string{"does not answer"}},
		"replica was a master": {func(s *stage) {
			for i, f := range s.sentinels {
				f.answer = func(string) string {
					line := f.calls[len(f.calls)-1]
					if i < 2 || !strings.HasPrefix(line, "SENTINEL REPLICAS") {
						return s.sentinel(i, line)
					}
					host, port, _ := strings.Cut(string(s.replica.addr), ":")
					return "*1\r\n" + string(appendArray("ip", host, "port", port, "flags", "slave", "slave-priority", "100", "role-reported", "master"))
				}
			}
		}, topology.SwitchoverRequest{}, []string{"for a master, and would undo its promotion"}},
		"link down": {func(s *stage) {
			s.replica.answer = func(string) string { return string(appendArray("slave", "127.0.0.1", ":1", "connect", ":-1")) }
		}, topology.SwitchoverRequest{}, []string{"has no link to its master", "Sentinel might promote it"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.locked(func() { tt.prepare(s) })
			r := s.try(t, tt.req)
			if r.Outcome != topology.SwitchoverImpossible || s.orders() != 0 || s.reached(topology.StepHold) {
				t.Errorf("%+v after %d orders", r, s.orders())
			}
			for _, want := range tt.says {
				if !strings.Contains(r.Err, want) {
					t.Errorf("found\n%s\nwant %q", r.Err, want)
				}
			}
		})
	}
}

// The control plane's end calls it off.
func TestSwitchoverStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	c, err := New(Options{Group: "g", Publish: func(topology.Route) {}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r, err := c.Switchover(t.Context(), topology.SwitchoverRequest{}, nil)
	if err == nil || r.Outcome != topology.SwitchoverImpossible {
		t.Errorf("%+v %v; want it impossible", r, err)
	}
}

func TestElectable(t *testing.T) {
	row, _, err := parseReply(appendArray("name", "x", "ip", "10.0.0.1", "port", "6379", "runid", "abc", "flags", "slave,s_down",
		"slave-priority", "7", "slave-repl-offset", "12", "master-link-down-time", "1000", "info-refresh", "2000", "last-ok-ping-reply", "3000"))
	if err != nil {
		t.Fatal(err)
	}
	want := route.Electable{
		Addr: "10.0.0.1:6379", RunID: "abc", Flags: "slave,s_down", Priority: 7, Offset: 12,
		LinkDown: time.Second, InfoAge: 2 * time.Second, PingAge: 3 * time.Second,
	}
	if got := electable(fieldsOf(row)); got != want {
		t.Errorf("%+v; want %+v", got, want)
	}
}
