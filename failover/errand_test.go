package failover

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func errandsAs(user, password string) *errands {
	e := &errands{login: new(atomic.Pointer[login]), dial: new(net.Dialer).DialContext}
	e.login.Store(&login{user, password})
	return e
}

// TestRealDemotion demotes a real master as accounts with different rights.
func TestRealDemotion(t *testing.T) {
	t.Parallel()
	g := redistest.New(t, redistest.Options{
		Replicas: 1, Sentinels: redistest.None,
		RedisConfig: []string{
			"user full on >pw ~* &* +ping +role +replicaof +client|kill +multi +exec",
			"user nokill on >pw ~* &* +ping +role +replicaof +multi +exec",
			"user nomulti on >pw ~* &* +ping +role +client|kill",
			"user norole on >pw ~* &* +ping +replicaof +client|kill +multi +exec",
		},
	})
	master, replica := g.Nodes()[0], g.Nodes()[1]
	other, err := new(net.Dialer).DialContext(t.Context(), "tcp", string(master.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, user := range []string{"nokill", "nomulti", "norole"} {
		e := errandsAs(user, "pw")
		if r := e.rights(t.Context(), route.CheckRights{Addr: master.Addr()}); !r.Denied || r.Err == "" {
			t.Errorf("rights of %s: %+v; want denied", user, r)
		}
	}
	_ = other.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(other, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(make([]byte, 7)); err != nil {
		t.Errorf("asking for rights ended a client's connection: %v", err)
	}
	e := errandsAs("full", "pw")
	if r := e.rights(t.Context(), route.CheckRights{Addr: master.Addr()}); r.Denied || r.Err != "" {
		t.Errorf("rights of full: %+v; want held", r)
	}
	if r := e.rights(t.Context(), route.CheckRights{Addr: "127.0.0.1:1"}); r.Denied || r.Err == "" {
		t.Errorf("rights at a dead node: %+v; want unknown", r)
	}
	if role, err := master.Role(t.Context()); err != nil || role != topology.RoleMaster {
		t.Fatalf("asking for rights made the master %v (%v)", role, err)
	}
	// A replica is no master to follow.
	o := route.Demote{Target: master.Addr(), Master: replica.Addr()}
	if d := e.demote(t.Context(), o); d.Outcome != route.DemotionSkipped || !strings.Contains(d.Err, "role is replica") {
		t.Errorf("demotion below a replica: %+v; want skipped", d)
	}
	if _, err := replica.Do(t.Context(), "REPLICAOF", "NO", "ONE"); err != nil {
		t.Fatal(err)
	}
	if d := errandsAs("nokill", "pw").demote(t.Context(), o); d.Outcome != route.DemotionForbidden {
		t.Errorf("demotion without CLIENT KILL: %+v; want forbidden", d)
	}
	if role, err := master.Role(t.Context()); err != nil || role != topology.RoleMaster {
		t.Fatalf("a forbidden demotion made the master %v (%v)", role, err)
	}
	if d := e.demote(t.Context(), o); d.Outcome != route.DemotionDone {
		t.Fatalf("demotion: %+v; want done", d)
	}
	if role, err := master.Role(t.Context()); err != nil || role != topology.RoleReplica {
		t.Errorf("after the demotion the role is %v (%v)", role, err)
	}
	if d := e.demote(t.Context(), o); d.Outcome != route.DemotionSkipped {
		t.Errorf("a second demotion: %+v; want skipped", d)
	}
}

// TestDemotionOfHungNode checks that a node that does not answer is sent no order
// that it would carry out whenever it wakes.
func TestDemotionOfHungNode(t *testing.T) {
	hung := newFake(t, func(string) string { return "" })
	master := newFake(t, func(string) string { return roleMaster })
	d := errandsAs("", "").demote(t.Context(), route.Demote{Target: hung.addr, Master: master.addr})
	if d.Outcome != route.DemotionSkipped {
		t.Errorf("outcome %v; want skipped", d.Outcome)
	}
	if n := hung.called("MULTI"); n != 0 {
		t.Errorf("a hung node was sent %d transactions", n)
	}
}

func TestControllerRefusesFastWithoutRight(t *testing.T) {
	a := newFake(t, func(cmd string) string {
		if cmd == "ROLE" {
			return roleMaster
		}
		return "-NOPERM this user has no permissions to run the command\r\n"
	})
	var c *Controller
	c, err := New(Options{
		Group: "g", Policy: route.Policy{Follow: route.FollowFast},
		Publish: func(topology.Route) {}, PollSentinels: func() { c.Observe(agree(a.addr, 1, "")) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Observe(agree(a.addr, 1, ""))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := c.Run(ctx); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "REPLICAOF") {
		t.Errorf("run: %v; want ErrRefused", err)
	}
}
