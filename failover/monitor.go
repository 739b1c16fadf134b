package failover

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// monitor runs one prober per data node that the machine wants to watch. A node that
// hangs delays no other.
type monitor struct {
	// login is the account that new connections log in with.
	login *atomic.Pointer[login]

	// Fixed at construction.
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	clock boottime.Clock
	log   *slog.Logger
	tell  func(route.Event)
	names *names

	// Owned by the controller's goroutine.
	probers map[topology.Addr]*watched
	wg      sync.WaitGroup
}

// watched is a running prober and the way to stop it.
type watched struct {
	*prober

	stop context.CancelFunc
}

// watch starts and stops probers so that exactly these nodes have one. They end with
// ctx; wait waits for them.
func (m *monitor) watch(ctx context.Context, addrs []topology.Addr, every time.Duration) {
	want := make(map[topology.Addr]bool, len(addrs))
	for _, a := range addrs {
		want[a] = true
		w := m.probers[a]
		if w == nil {
			w = m.start(ctx, a, every)
			m.probers[a] = w
		}
		w.every.Store(int64(every))
	}
	for a, w := range m.probers {
		if !want[a] {
			w.stop()
			delete(m.probers, a)
		}
	}
	m.names.watch(addrs)
}

func (m *monitor) start(ctx context.Context, a topology.Addr, every time.Duration) *watched {
	ctx, stop := context.WithCancel(ctx)
	p := &prober{
		addr: a, login: m.login, dial: m.dial, clock: m.clock, log: m.log, tell: m.tell,
		name: m.names.canonical, ask: make(chan struct{}, 1),
	}
	p.every.Store(int64(every))
	m.wg.Go(func() { p.run(ctx) })
	return &watched{prober: p, stop: stop}
}

// ask makes these nodes be probed now. It never blocks.
func (m *monitor) ask(addrs []topology.Addr) {
	for _, a := range addrs {
		if w := m.probers[a]; w != nil {
			select {
			case w.ask <- struct{}{}:
			default:
			}
		}
	}
}

// wait returns when every prober has ended.
func (m *monitor) wait() { m.wg.Wait() }
