package failover

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// heard is a monitor at work, and all it has told.
type heard struct {
	*monitor

	ctx context.Context //nolint:containedctx // of the whole test

	mu     sync.Mutex
	events []route.Event
	log    bytes.Buffer
}

func (h *heard) put(ev route.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, ev)
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(b)
}

// from returns what was told after the first n events.
func (h *heard) from(n int) []route.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]route.Event(nil), h.events[n:]...)
}

func (h *heard) count() int { return len(h.from(0)) }

// seen reports whether an outcome for which ok holds was told after the first n.
func (h *heard) seen(n int, ok func(route.NodeSeen) bool) bool {
	for _, ev := range h.from(n) {
		if s, is := ev.(route.NodeSeen); is && ok(s) {
			return true
		}
	}
	return false
}

func (h *heard) closings() int {
	n := 0
	for _, ev := range h.from(0) {
		if _, ok := ev.(route.NodeClosed); ok {
			n++
		}
	}
	return n
}

func listen(t *testing.T, l login, addrs ...topology.Addr) *heard {
	t.Helper()
	h := &heard{}
	h.monitor = &monitor{
		login: as(l), dial: new(net.Dialer).DialContext, clock: boottime.Now, log: slog.New(slog.NewTextHandler(h, nil)),
		tell: h.put, names: newNames(net.DefaultResolver.LookupHost), probers: map[topology.Addr]*watched{},
	}
	ctx, stop := context.WithCancel(t.Context())
	h.ctx = ctx
	t.Cleanup(func() { stop(); h.wait() })
	h.watch(ctx, addrs, time.Hour) // probes come from ask alone
	return h
}

func isMaster(s route.NodeSeen) bool { return s.Role == topology.RoleMaster }

func TestProberSeesClosing(t *testing.T) {
	f := newFake(t, func(string) string { return followerOf("127.0.0.1:9") })
	h := listen(t, login{}, f.addr)
	eventually(t, "the role", func() bool {
		return h.seen(0, func(s route.NodeSeen) bool {
			return s.Role == topology.RoleReplica && s.Master == "127.0.0.1:9" && s.LinkUp && s.Offset == 7 && s.SentAt <= s.At
		})
	})
	// Promoted: the node closes its connections and says master to the next question,
	// which nobody had to ask for.
	f.says(roleMaster)
	f.drop()
	eventually(t, "the closing and the new role", func() bool { return h.closings() == 1 && h.seen(0, isMaster) })
	closed := false
	for _, ev := range h.from(0) {
		if _, ok := ev.(route.NodeClosed); ok {
			closed = true
		}
		if s, ok := ev.(route.NodeSeen); ok && isMaster(s) && !closed {
			t.Error("the new role was told before the closing")
		}
	}
	// A connection that we close is no sign.
	h.watch(h.ctx, nil, time.Hour)
	h.wait()
	if n := h.closings(); n != 1 {
		t.Errorf("%d closings told; want 1", n)
	}
}

// A replica that is cut off from its master tells -1 for its offset, and has all that it
// had read: it neither lags by everything nor is the last to be read from.
func TestProberKeepsOffset(t *testing.T) {
	f := newFake(t, func(string) string { return string(appendArray("slave", "127.0.0.1", ":9", "connect", ":-1")) })
	h := listen(t, login{}, f.addr)
	cutOff := func(offset int64) func(route.NodeSeen) bool {
		return func(s route.NodeSeen) bool { return s.Role == topology.RoleReplica && !s.LinkUp && s.Offset == offset }
	}
	eventually(t, "an offset that was never told", func() bool { return h.seen(0, cutOff(0)) })
	f.says(followerOf("127.0.0.1:9"))
	f.drop()
	eventually(t, "the offset", func() bool {
		return h.seen(0, func(s route.NodeSeen) bool { return s.LinkUp && s.Offset == 7 })
	})
	f.says(string(appendArray("slave", "127.0.0.1", ":9", "connect", ":-1")))
	f.drop() // it may be asked over another connection
	eventually(t, "the offset that it told last", func() bool { return h.seen(0, cutOff(7)) })
}

func TestProberAsks(t *testing.T) {
	f := newFake(t, func(string) string { return roleMaster })
	h := listen(t, login{}, f.addr)
	eventually(t, "the first role", func() bool { return h.seen(0, isMaster) })
	for range 3 {
		n := h.count()
		now := boottime.Now()
		h.ask([]topology.Addr{f.addr, "127.0.0.1:1"})
		eventually(t, "an answer to a later question", func() bool {
			return h.seen(n, func(s route.NodeSeen) bool { return s.SentAt >= now })
		})
	}
	if n := f.connections(); n != 1 {
		t.Errorf("%d connections; want one", n)
	}
}

func TestProberRefused(t *testing.T) {
	f := newFake(t, func(string) string { return roleMaster })
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := topology.Addr(ln.Addr().String())
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	h := listen(t, login{}, f.addr, gone)
	eventually(t, "the refusal", func() bool {
		return h.seen(0, func(s route.NodeSeen) bool { return s.Addr == gone && s.Refused && s.Err != "" })
	})
	eventually(t, "the line in the log", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return strings.Contains(h.log.String(), "announced address") && strings.Contains(h.log.String(), string(gone))
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := strings.Count(h.log.String(), "announced address"); n != 1 {
		t.Errorf("said %d times; want once", n)
	}
}

// TestProberHung checks that a node that accepts and says nothing is reported, keeps
// one question only, and delays no other.
func TestProberHung(t *testing.T) {
	hung := newFake(t, func(string) string { return "" })
	f := newFake(t, func(string) string { return roleMaster })
	h := listen(t, login{}, hung.addr, f.addr)
	both := []topology.Addr{hung.addr, f.addr}
	eventually(t, "the hung node is reported", func() bool {
		h.ask(both)
		return h.seen(0, func(s route.NodeSeen) bool { return s.Addr == hung.addr && s.Err != "" && !s.Refused })
	})
	if n := hung.called("ROLE"); n != 1 {
		t.Errorf("asked %d times; want one question until it is answered", n)
	}
	answers := 0
	for _, ev := range h.from(0) {
		if s, ok := ev.(route.NodeSeen); ok && s.Addr == f.addr && isMaster(s) {
			answers++
		}
	}
	if answers < 3 {
		t.Errorf("%d answers of the living node meanwhile; want many", answers)
	}
	if h.closings() != 0 {
		t.Error("a hung node was told as closing")
	}
}

// TestProberFull checks that a node which closes each new connection is not dialled in
// a tight loop, and that this is told as no promotion.
func TestProberFull(t *testing.T) {
	f := newFake(t, func(string) string { return roleMaster })
	f.mu.Lock()
	f.full = true
	f.mu.Unlock()
	h := listen(t, login{}, f.addr)
	eventually(t, "several failures", func() bool {
		n := 0
		for _, ev := range h.from(0) {
			if s, ok := ev.(route.NodeSeen); ok && s.Err != "" && s.Role == topology.RoleUnknown {
				n++
			}
		}
		return n >= 4
	})
	if h.closings() != 0 {
		t.Error("a refused connection was told as a closing")
	}
	f.mu.Lock()
	f.full = false
	f.mu.Unlock()
	eventually(t, "the role", func() bool { h.ask([]topology.Addr{f.addr}); return h.seen(0, isMaster) })
}

func TestProberAccounts(t *testing.T) {
	const busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
	const noperm = "-NOPERM this user has no permissions to run the 'role' command\r\n"
	for name, tt := range map[string]struct {
		login  login
		answer func(string) string
		want   func(route.NodeSeen) bool
		called string
	}{
		"password": {
			login{"", "hunter2"},
			func(cmd string) string {
				if cmd == "AUTH" {
					return "+OK\r\n"
				}
				return roleMaster
			},
			func(s route.NodeSeen) bool { return isMaster(s) && !s.NoAuth }, "AUTH hunter2",
		},
		"user and password": {
			login{"sidecar", "hunter2"},
			func(cmd string) string {
				if cmd == "AUTH" {
					return "+OK\r\n"
				}
				return roleMaster
			},
			isMaster, "AUTH sidecar hunter2",
		},
		"a password where none is set": {
			login{"", "hunter2"},
			func(cmd string) string {
				if cmd == "AUTH" {
					return "-ERR AUTH <password> called without any password configured for the default user.\r\n"
				}
				return roleMaster
			},
			isMaster, "ROLE",
		},
		"ROLE is refused": {
			login{},
			func(cmd string) string {
				if cmd == "HELLO" {
					return helloMaster
				}
				return noperm
			},
			func(s route.NodeSeen) bool { return isMaster(s) && s.NoAuth && s.Err != "" }, "HELLO 2",
		},
		"all is refused": {
			login{},
			func(string) string { return "-NOAUTH Authentication required.\r\n" },
			func(s route.NodeSeen) bool { return s.Role == topology.RoleUnknown && s.NoAuth && !s.Refused }, "HELLO 2",
		},
		"a script runs too long": {
			login{},
			func(cmd string) string {
				if cmd == "HELLO" {
					return helloMaster
				}
				return busy
			},
			func(s route.NodeSeen) bool { return isMaster(s) && !s.NoAuth && strings.HasPrefix(s.Err, "BUSY ") }, "HELLO 2",
		},
		"a script runs too long on a replica": {
			login{},
			func(cmd string) string {
				if cmd == "HELLO" {
					return strings.Replace(helloMaster, "$6\r\nmaster", "$7\r\nreplica", 1)
				}
				return busy
			},
			func(s route.NodeSeen) bool {
				return s.Role == topology.RoleUnknown && strings.HasPrefix(s.Err, "BUSY ")
			}, "HELLO 2",
		},
		"loading": {
			login{},
			func(string) string { return "-LOADING Redis is loading the dataset in memory\r\n" },
			func(s route.NodeSeen) bool { return s.Role == topology.RoleUnknown && !s.NoAuth && !s.Refused }, "ROLE",
		},
		"nonsense": {
			login{},
			func(string) string { return "HTTP/1.1 400 Bad Request\r\n\r\n" },
			func(s route.NodeSeen) bool { return s.Role == topology.RoleUnknown && s.Err != "" && !s.Refused }, "ROLE",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, tt.answer)
			h := listen(t, tt.login, f.addr)
			eventually(t, "the outcome", func() bool { return h.seen(0, tt.want) })
			if f.called(tt.called) == 0 {
				t.Errorf("%q was not sent", tt.called)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if strings.Contains(h.log.String(), "hunter2") {
				t.Error("the password is in the log")
			}
		})
	}
}

// as holds a login that does not change.
func as(l login) *atomic.Pointer[login] {
	p := new(atomic.Pointer[login])
	p.Store(&l)
	return p
}
