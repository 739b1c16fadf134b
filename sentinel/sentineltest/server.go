package sentineltest

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// version is what servers call themselves: the Redis whose answers they copy.
const version = "7.0.15"

// server is what nodes and Sentinels have in common: a port, logins,
// subscriptions, counted calls and faults set by a test. Its methods are safe
// for concurrent use.
type server struct {
	// Fixed at construction.
	runID string
	mode  string            // HELLO's mode: "standalone" or "sentinel"
	users map[string]string // by name, with passwords; empty lets everybody in
	log   *slog.Logger
	front front
	bus   broker

	mu      sync.Mutex // guards the fields below
	calls   map[string]int
	fails   map[string]string   // by command
	stalled map[string]struct{} // by command
	cleared chan struct{}       // closed by Clear: who is stalled goes on
}

func (s *server) init(o serverOptions) {
	s.runID, s.mode, s.users, s.log = o.runID, o.mode, o.users, o.log
	s.front = front{addr: net.JoinHostPort(o.host, "0"), serve: o.serve, farewell: func(c *conn) {
		s.bus.forget(c)
	}}
	s.calls = map[string]int{}
	s.fails = map[string]string{}
	s.stalled = map[string]struct{}{}
	s.cleared = make(chan struct{})
}

type serverOptions struct {
	runID, mode, host string
	users             map[string]string
	log               *slog.Logger
	serve             func(*conn, []string)
}

// Addr is where the server listens; it stays the same over a restart.
func (s *server) Addr() topology.Addr {
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	a, err := topology.ParseAddr(s.front.addr, 0)
	if err != nil {
		return "" // never opened
	}
	return a
}

// RunID is the server's run id: forty hexadecimal digits.
func (s *server) RunID() string { return s.runID }

// Calls returns how often cmd was called, failed and stalled calls included. cmd
// is a command or a container with its subcommand, such as "SENTINEL" or
// "sentinel master".
func (s *server) Calls(cmd string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[strings.ToUpper(cmd)]
}

// AllCalls returns every command that was called and how often, unknown ones
// too. A call with a subcommand counts twice: as "SENTINEL" and as "SENTINEL
// MASTER".
func (s *server) AllCalls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// Fail answers every later call of cmd (named as for Calls) with an error, such
// as "NOPERM this user has no permissions". An empty text lifts it.
func (s *server) Fail(cmd, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd = strings.ToUpper(cmd)
	if text == "" {
		delete(s.fails, cmd)
		return
	}
	s.fails[cmd] = text
}

// Stall leaves every later call of cmd (named as for Calls) unanswered, and with
// it all that follows on its connection, until Clear.
func (s *server) Stall(cmd string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled[strings.ToUpper(cmd)] = struct{}{}
}

// Clear lifts every Fail and Stall; stalled calls are then answered.
func (s *server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.fails)
	clear(s.stalled)
	close(s.cleared)
	s.cleared = make(chan struct{})
}

// Drop resets every client connection. New ones are welcome.
func (s *server) Drop() {
	for _, c := range s.front.all() {
		c.reset()
	}
}

// Publish sends payload on channel to this server's subscribers, whatever it
// says, and returns how many messages that were.
func (s *server) Publish(channel, payload string) int {
	return int(s.bus.publish(channel, payload))
}

// Clients returns how many clients are connected.
func (s *server) Clients() int { return len(s.front.all()) }

// names returns what a call counts as: its command, and with its subcommand
// where the command is a container.
func names(args []string) []string {
	cmd := upper(args[0])
	switch cmd {
	case "SENTINEL", "CLIENT", "CONFIG", "ACL", "SCRIPT", "PUBSUB":
		if len(args) > 1 {
			return []string{cmd, cmd + " " + upper(args[1])}
		}
	}
	return []string{cmd}
}

// admit counts a call and lets the faults set by a test happen. It returns false
// if the call has been answered, or never will be.
func (s *server) admit(c *conn, args []string) bool {
	keys := names(args)
	s.mu.Lock()
	for _, k := range keys {
		s.calls[k]++
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		cleared := s.cleared
		var stalled bool
		var fail string
		for _, k := range keys {
			if _, is := s.stalled[k]; is {
				stalled = true
			}
			if text := s.fails[k]; text != "" {
				fail = text
			}
		}
		s.mu.Unlock()
		if !stalled {
			if fail != "" {
				r := c.reply()
				r.err(fail)
				c.send(r.b)
			}
			return fail == ""
		}
		select {
		case <-cleared:
		case <-c.stop:
			return false
		case <-c.gone:
			return false
		}
	}
}

// common answers what nodes and Sentinels answer alike, and refuses what a
// client may not send now. It returns true if that was the answer. role is
// HELLO's; empty leaves the field out, as Sentinels do.
func (s *server) common(c *conn, args []string, role string) bool {
	r := c.reply()
	cmd := upper(args[0])
	switch {
	case cmd == "HELLO":
		s.hello(c, r, args, role)
	case cmd == "AUTH":
		s.auth(c, r, args)
	case !s.loggedIn(c):
		r.err(noAuth)
	case !r.resp3 && !allowedSubscribed(cmd) && s.bus.subscribing(c):
		r.err("ERR Can't execute '" + oneLine(strings.ToLower(args[0])) + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	case cmd == "PING":
		s.ping(c, r, args)
	case cmd == "SUBSCRIBE" || cmd == "PSUBSCRIBE":
		if len(args) < 2 {
			r.wrongArity(strings.ToLower(cmd))
			break
		}
		s.bus.subscribe(c, strings.ToLower(cmd), args[1:])
		return true
	case cmd == "UNSUBSCRIBE" || cmd == "PUNSUBSCRIBE":
		s.bus.unsubscribe(c, strings.ToLower(cmd), args[1:])
		return true
	default:
		return false
	}
	c.send(r.b)
	return true
}

func allowedSubscribed(cmd string) bool {
	switch cmd {
	case "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "PING", "QUIT", "RESET":
		return true
	}
	return false
}

func (s *server) ping(c *conn, r *reply, args []string) {
	if len(args) > 2 {
		r.wrongArity("ping")
		return
	}
	payload := strings.Join(args[1:], "")
	switch {
	case !r.resp3 && s.bus.subscribing(c):
		r.array(2)
		r.bulk("pong")
		r.bulk(payload)
	case len(args) == 2:
		r.bulk(payload)
	default:
		r.simple("PONG")
	}
}

func upper(s string) string { return strings.ToUpper(s) }

// restart opens the port again; the addresses of a group never change.
func (s *server) restart(ctx context.Context) error { return s.front.open(ctx) }
