package sentinel

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/redcon"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// script is what a fake Sentinel says. Tests change it with fake.set.
type script struct {
	runID    string
	master   topology.Addr // "" : it does not know testGroup
	epoch    uint64
	lie      topology.Addr   // SENTINEL MASTER's address, if it differs
	peers    []topology.Addr // also num-other-sentinels
	peerIDs  []string        // run ids of peers; may be short
	replicas []topology.Addr
	dead     map[topology.Addr]bool // flagged s_down
	tilt     bool
	password string
	errors   map[string]string // by command, such as "psubscribe" or "sentinel master"
	raw      map[string]string // the same, answered as it stands
	stall    bool              // read, and never answer
	flip     bool              // each GET-MASTER-ADDR-BY-NAME names another address
}

// fake is a scripted Sentinel on loopback, for what sentineltest's honest ones
// never do. It is kept small: what it is not told, it does not do.
type fake struct {
	tb     testing.TB
	addr   topology.Addr
	server *redcon.Server
	pubsub redcon.PubSub
	unpark chan struct{} // closed at the end: stalled handlers return

	mu    sync.Mutex // guards the fields below
	s     script
	asks  map[string]int
	conns map[redcon.Conn]bool // with whether it has logged in; redcon forgets those that subscribe
	socks []net.Conn           // all that were ever accepted
	flips int
}

func newFake(tb testing.TB, s script) *fake {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &fake{
		tb: tb, s: s, addr: topology.Addr(ln.Addr().String()),
		unpark: make(chan struct{}), asks: make(map[string]int), conns: make(map[redcon.Conn]bool),
	}
	f.server = redcon.NewServer(string(f.addr), f.serve,
		f.accept,
		func(c redcon.Conn, _ error) { f.mu.Lock(); defer f.mu.Unlock(); delete(f.conns, c) })
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ln) }()
	tb.Cleanup(func() {
		close(f.unpark)
		_ = f.server.Close()
		<-done //nolint:errcheck // Close is what ended it
		f.drop()
	})
	return f
}

// set changes the script.
func (f *fake) set(change func(s *script)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.s.errors, f.s.raw = maps.Clone(f.s.errors), maps.Clone(f.s.raw)
	change(&f.s)
}

// drop closes every connection, subscriptions too.
func (f *fake) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.socks {
		_ = c.Close()
	}
	f.socks = nil
}

func (f *fake) accept(c redcon.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = false
	f.socks = append(f.socks, c.NetConn())
	return true
}

func (f *fake) publish(channel, payload string) { f.pubsub.Publish(channel, payload) }

func (f *fake) calls(cmd string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asks[cmd]
}

func (f *fake) serve(c redcon.Conn, cmd redcon.Command) {
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	name := strings.ToLower(args[0])
	if name == "sentinel" && len(args) > 1 {
		name += " " + strings.ToLower(args[1])
	}
	f.mu.Lock()
	f.asks[name]++
	s, in := f.s, f.conns[c]
	f.flips++
	flips := f.flips
	f.mu.Unlock()
	if s.stall {
		<-f.unpark
		_ = c.Close()
		return
	}
	switch msg, raw := s.errors[name], s.raw[name]; {
	case raw != "":
		c.WriteRaw([]byte(raw))
		return
	case msg != "":
		c.WriteError(msg)
		return
	case name == "auth":
		if args[len(args)-1] != s.password {
			c.WriteError("WRONGPASS invalid username-password pair or user is disabled.")
			return
		}
		f.mu.Lock()
		f.conns[c] = true
		f.mu.Unlock()
		c.WriteString("OK")
		return
	case name == "hello":
		c.WriteError("ERR unknown command 'HELLO'") // so that AUTH is what logs in
		return
	case s.password != "" && !in:
		c.WriteError("NOAUTH Authentication required.")
		return
	}
	f.answer(c, s, name, args, flips)
}

func (f *fake) answer(c redcon.Conn, s script, name string, args []string, flips int) {
	known := s.master != "" && len(args) > 2 && args[2] == testGroup
	switch name {
	case "psubscribe":
		f.pubsub.Psubscribe(c, args[1])
	case "subscribe":
		f.pubsub.Subscribe(c, args[1])
	case "sentinel myid":
		c.WriteBulkString(s.runID)
	case "info":
		c.WriteBulkString("# Sentinel\r\nsentinel_tilt:" + map[bool]string{false: "0", true: "1"}[s.tilt] + "\r\nrun_id:process-" + s.runID + "\r\n")
	case "sentinel get-master-addr-by-name":
		if !known {
			c.WriteRaw([]byte("*-1\r\n"))
			return
		}
		host, port := s.master.Split()
		if s.flip {
			port += flips
		}
		writePairs(c, host, strconv.Itoa(port))
	case "sentinel master", "sentinel replicas", "sentinel sentinels":
		if !known {
			c.WriteError("ERR No such master with that name")
			return
		}
		switch name {
		case "sentinel master":
			at := s.master
			if s.lie != "" {
				at = s.lie
			}
			writePairs(c, append(instancePairs(at, "", "master"),
				"role-reported", "master", "config-epoch", strconv.FormatUint(s.epoch, 10), "num-other-sentinels", strconv.Itoa(len(s.peers)),
				"quorum", "2", "down-after-milliseconds", "1000")...)
		case "sentinel replicas":
			c.WriteArray(len(s.replicas))
			for _, r := range s.replicas {
				writePairs(c, append(instancePairs(r, "", s.flags("slave", r)), "slave-priority", "100", "slave-repl-offset", "7")...)
			}
		default:
			c.WriteArray(len(s.peers))
			for i, p := range s.peers {
				id := "id-of-" + string(p)
				if i < len(s.peerIDs) {
					id = s.peerIDs[i]
				}
				writePairs(c, instancePairs(p, id, s.flags("sentinel", p))...)
			}
		}
	default:
		c.WriteError("ERR unknown command '" + name + "'")
	}
}

func (s script) flags(kind string, a topology.Addr) string {
	if s.dead[a] {
		return kind + ",s_down"
	}
	return kind
}

func instancePairs(a topology.Addr, runID, flags string) []string {
	host, port := a.Split()
	return []string{"name", string(a), "ip", host, "port", strconv.Itoa(port), "runid", runID, "flags", flags}
}

func writePairs(c redcon.Conn, pairs ...string) {
	c.WriteArray(len(pairs))
	for _, p := range pairs {
		c.WriteBulkString(p)
	}
}

// quorum starts n fakes that name each other and agree on master at epoch.
func quorum(tb testing.TB, n int, master topology.Addr, epoch uint64) []*fake {
	tb.Helper()
	fakes := make([]*fake, n)
	for i := range fakes {
		fakes[i] = newFake(tb, script{runID: "id" + strconv.Itoa(i), master: master, epoch: epoch, replicas: []topology.Addr{nodeB, nodeC}})
	}
	for i, f := range fakes {
		f.set(func(s *script) {
			for j, p := range fakes {
				if i != j {
					s.peers, s.peerIDs = append(s.peers, p.addr), append(s.peerIDs, "id"+strconv.Itoa(j))
				}
			}
		})
	}
	return fakes
}

func addrs(fakes []*fake) []topology.Addr {
	var out []topology.Addr
	for _, f := range fakes {
		out = append(out, f.addr)
	}
	return slices.Clip(out)
}
