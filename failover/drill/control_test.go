package drill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// relay is a bad proxy: serve handles one client's connection until that ends.
// Its owner stops it.
type relay struct {
	ln     net.Listener
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startRelay returns a Starter of a proxy whose serve gets each client, and a
// function that dials whom one Sentinel names.
func startRelay(name string, serve func(client net.Conn, master func() (net.Conn, error))) Starter {
	return func(ctx context.Context, t Target) (Proxy, error) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			cancel()
			return Proxy{}, err
		}
		r := &relay{ln: ln, cancel: cancel}
		master := func() (net.Conn, error) { return dialMaster(ctx, t) }
		r.wg.Go(func() { r.accept(ctx, func(c net.Conn) { serve(c, master) }) })
		return Proxy{Name: name, Addr: ln.Addr().String(), Stop: r.stop}, nil
	}
}

func (r *relay) accept(ctx context.Context, serve func(net.Conn)) {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			defer c.Close()
			serve(c)
		})
	}
}

func (r *relay) stop() error {
	r.cancel()
	err := r.ln.Close()
	r.wg.Wait()
	return err
}

// dialMaster asks the first Sentinel, and believes it.
func dialMaster(ctx context.Context, t Target) (net.Conn, error) {
	c, err := dial(ctx, string(t.Sentinels[0]), time.Second, 0)
	if err != nil {
		return nil, err
	}
	defer c.close()
	v, err := c.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", t.Group)
	if err != nil {
		return nil, err
	}
	if len(v.Elem) != 2 {
		return nil, errors.New("no master is named")
	}
	addr := net.JoinHostPort(string(v.Elem[0].Str), string(v.Elem[1].Str))
	return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
}

// naive follows one Sentinel when a client connects, and keeps the connection.
func naive(client net.Conn, master func() (net.Conn, error)) {
	m, err := master()
	if err != nil {
		return
	}
	defer m.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(m, client) // its end is the session's
		_ = m.Close()
	}()
	_, _ = io.Copy(client, m)
	_ = client.Close()
	<-done
}

// resendAfter is how long a resending proxy waits for an answer.
const resendAfter = 100 * time.Millisecond

// resender is a proxy that sends again. Its field is safe for concurrent use.
type resender struct {
	pops atomic.Int64 // that were given up unanswered and may have been executed
}

// serve takes a client's commands one by one and sends each until it is
// answered, though it may have been executed.
func (r *resender) serve(client net.Conn, master func() (net.Conn, error)) {
	var m net.Conn
	defer func() {
		if m != nil {
			_ = m.Close()
		}
	}()
	in, out := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := client.Read(in)
		if err != nil {
			return
		}
		for {
			if m == nil {
				if m, err = master(); err != nil {
					return
				}
			}
			if _, err = m.Write(in[:n]); err == nil {
				_ = m.SetReadDeadline(time.Now().Add(resendAfter))
				var k int
				if k, err = m.Read(out); err == nil {
					if _, err := client.Write(out[:k]); err != nil {
						return
					}
					break
				}
			}
			_ = m.Close()
			m = nil
			if bytes.Contains(in[:n], []byte("BLPOP")) {
				r.pops.Add(1)
			}
		}
		if bytes.Contains(in[:n], []byte("SUBSCRIBE")) {
			_ = m.SetReadDeadline(time.Time{})
			defer context.AfterFunc(closing(client), func() { _ = m.Close() })()
			_, _ = io.Copy(client, m)
			return
		}
	}
}

// closing returns a context that ends when the client, who sends nothing more,
// is gone.
func closing(client net.Conn) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = client.Read(make([]byte, 1))
	}()
	return ctx
}

// neverDown is a down-after for drills in which no node is lost: no stall of a busy
// machine is that long.
const neverDown = 30 * time.Second

// runDrill drills with real Redis, or skips the test where there is none.
func runDrill(t *testing.T, o Options) Report {
	t.Helper()
	o.Quick, o.Say = true, func(line string) { t.Log(line) }
	r, err := Run(t.Context(), o)
	if errors.Is(err, redistest.ErrNoRedis) && os.Getenv("SENTINELPROXY_REQUIRE_REDIS") == "" && os.Getenv("CI") == "" {
		redistest.Single(t, redistest.Options{}) // it knows when to skip and when to fail
	}
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	return r
}

// The checker finds what a proxy loses that follows one Sentinel and keeps its
// connections: clients go on writing to the replaced master.
func TestNaiveFollowerLoses(t *testing.T) {
	t.Parallel()
	plan, err := PlanOf("failover", Variant{})
	if err != nil {
		t.Fatal(err)
	}
	r := runDrill(t, Options{Plan: plan, DownAfter: neverDown, Proxies: []Starter{startRelay("naive", naive)}})
	c := r.Rounds[0].Columns[0]
	if r.Passed() || c.Lost.Stale == 0 || c.Registers.Illegal == 0 {
		t.Errorf("verdict %s, lost %+v, registers %+v; want losses to a stale master, and registers that show them",
			r.Verdict, c.Lost, c.Registers)
	}
	if c.RefusedExecuted > 0 {
		t.Errorf("%d refused writes took effect; want none", c.RefusedExecuted)
	}
}

// The checker finds what a proxy doubles that sends again whatever is not
// answered: the master stops for a moment, too short for a failover.
func TestResendingProxyDoubles(t *testing.T) {
	t.Parallel()
	const moment = 500 * time.Millisecond
	plan := Plan{Kind: "hiccup", Short: "the master stops for a moment", Times: 1, script: func(ctx context.Context, s *scene) error {
		master, err := s.group.master(ctx)
		if err != nil {
			return err
		}
		s.fault(master, "SIGSTOP for a moment")
		if err := master.hang(ctx, moment); err != nil {
			return err
		}
		return s.settle(ctx)
	}}
	var again resender
	r := runDrill(t, Options{Plan: plan, DownAfter: neverDown, Proxies: []Starter{startRelay("resending", again.serve)}})
	c := r.Rounds[0].Columns[0]
	if r.Passed() || c.Duplicated == 0 {
		t.Errorf("verdict %s, %d duplicated; want some", r.Verdict, c.Duplicated)
	}
	// A pop that was sent twice takes an item for nobody; nothing else is lost. How
	// often that was depends on the machine, so the proxy counts.
	if pops := again.pops.Load(); int64(c.Lost.Total) > pops {
		t.Errorf("%d lost; want %d at most, the pops that were sent again", c.Lost.Total, pops)
	}
}

// A direct connection, nothing broken: the checker accuses nobody.
func TestNothingBroken(t *testing.T) {
	t.Parallel()
	plan := Plan{Kind: "none", Short: "nothing", Times: 1, script: func(context.Context, *scene) error { return nil }}
	direct := func(_ context.Context, t Target) (Proxy, error) {
		return Proxy{Name: "direct", Addr: string(t.Nodes[0]), Stop: func() error { return nil }}, nil
	}
	r := runDrill(t, Options{Plan: plan, Clients: 8, DownAfter: neverDown, Proxies: []Starter{direct}})
	if !r.Passed() {
		t.Errorf("breaches %q, samples %q", r.breaches(), r.Rounds[0].Columns[0].Samples)
	}
	c := r.Rounds[0].Columns[0]
	if c.Acknowledged == 0 || c.Registers.Checked == 0 || c.Received == 0 {
		t.Errorf("%d writes, %d registers, %d messages; want some of each", c.Acknowledged, c.Registers.Checked, c.Received)
	}
	for _, f := range r.Rounds[0].Failovers {
		t.Errorf("saw a failover: %+v", f)
	}
}

// A drill that is told to stop leaves nothing behind, and says that it has no
// verdict.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	plan := Plan{Kind: "none", Short: "a stop in the middle", Times: 1, script: func(ctx context.Context, s *scene) error {
		cancel()
		return s.settle(ctx)
	}}
	direct := func(_ context.Context, t Target) (Proxy, error) {
		return Proxy{Name: "direct", Addr: string(t.Nodes[0]), Stop: func() error { return nil }}, nil
	}
	_, err := Run(ctx, Options{Plan: plan, Clients: 2, DownAfter: neverDown, Quick: true, Proxies: []Starter{direct}})
	if errors.Is(err, redistest.ErrNoRedis) && os.Getenv("SENTINELPROXY_REQUIRE_REDIS") == "" && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err == nil {
		t.Error("no error; want why there is no verdict")
	}
}

// Addresses that nobody knows change nothing, and a vote is counted once.
func TestObserverMajority(t *testing.T) {
	o := NewObserver(Watched{Group: "g", Sentinels: []topology.Addr{"s:1", "s:2", "s:3"}}, time.Now())
	for _, v := range []struct{ sentinel, master topology.Addr }{
		{"s:1", "a:1"}, {"s:2", "a:1"}, {"s:3", "a:1"}, // the first majority is no change
		{"s:1", "b:1"}, {"s:1", "b:1"}, {"s:2", "b:1"}, {"s:3", "b:1"},
	} {
		o.names(v.sentinel, v.master)
	}
	marks := o.Marks()
	if len(marks) != 1 || marks[0].What != MarkMajority || marks[0].Addr != "b:1" {
		t.Errorf("marks %+v; want one majority, for b:1", marks)
	}
}

func TestObserverLag(t *testing.T) {
	o := NewObserver(Watched{Group: "g"}, time.Now())
	o.role("a:1", topology.RoleMaster, 900)
	o.role("b:1", topology.RoleReplica, 850)
	o.role("b:1", topology.RoleReplica, -1) // the link broke
	o.role("b:1", topology.RoleMaster, 850)
	o.role("a:1", topology.RoleReplica, 860)
	marks := o.Marks()
	if len(marks) != 2 || marks[0].What != MarkMaster || marks[0].LagBytes != 50 || marks[1].What != MarkReplica {
		t.Errorf("marks %+v; want b:1 promoted 50 bytes behind, and a:1 demoted", marks)
	}
}
