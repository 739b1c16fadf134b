package endpoint

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	maxNames     = 256      // channels and patterns of one client
	maxNameBytes = 64 << 10 // of them all
)

// session is one client: what it said so far, and replies to what it says. It does
// no I/O and is not safe for concurrent use; what it knows of the world comes from
// its directory.
type session struct {
	// Fixed at construction.
	dir          *directory
	id           int64
	opened       time.Duration
	local        netip.Addr // where the client reached us; invalid for none
	laddr, raddr string
	count        func(command) // told of each command

	resp3     bool
	user      string
	name      string
	tracking  string // "" is off, else "on", "optin", "optout" or "bcast"
	channels  names
	patterns  names
	unflushed int // bytes handed to redcon and perhaps not sent yet
	over      bool
}

func newSession(d *directory) *session {
	return &session{dir: d, opened: d.now(), user: "default", count: func(command) {}}
}

// serve answers one command of at least one argument, and reports whether the
// connection is to stay. The reply is the caller's.
func (s *session) serve(args []string) (out []byte, stay bool) {
	r := &reply{resp3: s.resp3}
	name := strings.ToUpper(args[0])
	cmd := lookup(name)
	if cmd.name == cmdSentinel && len(args) > 1 {
		cmd.name = sentinelCommand(args[1])
	}
	s.count(cmd.name)
	switch {
	case cmd.run == nil:
		r.unknown(args)
	case cmd.arity > 0 && len(args) != cmd.arity || len(args) < -cmd.arity:
		r.wrongArity(strings.ToLower(name))
	case !s.resp3 && !cmd.subscribed && s.listening() > 0:
		r.err("ERR Can't execute '" + strings.ToLower(name) + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	default:
		cmd.run(s, r, args)
	}
	return r.b, !s.over
}

// names is a set of channels or patterns, in order of subscribing.
type names struct {
	list  []string
	bytes int
}

// listening is how many channels and patterns the client subscribed to.
func (s *session) listening() int { return len(s.channels.list) + len(s.patterns.list) }

// set returns where a command's names go.
func (s *session) set(verb string) *names {
	if strings.HasPrefix(verb, "p") {
		return &s.patterns
	}
	return &s.channels
}

func (s *session) subscribe(r *reply, args []string) {
	verb := strings.ToLower(args[0])
	set := s.set(verb)
	for _, name := range args[1:] {
		if !slices.Contains(set.list, name) {
			if s.listening() >= maxNames || s.channels.bytes+s.patterns.bytes+len(name) > maxNameBytes {
				r.err("ERR too many subscriptions of one client (sentinelproxy)")
				continue
			}
			set.list, set.bytes = append(set.list, name), set.bytes+len(name)
		}
		s.confirm(r, verb, name)
	}
}

func (s *session) unsubscribe(r *reply, args []string) {
	verb := strings.ToLower(args[0])
	set := s.set(strings.TrimPrefix(verb, "un"))
	if len(args) == 1 {
		args = append(args, set.list...) // a copy: the list shrinks below
	}
	for _, name := range args[1:] {
		set.drop(name)
		s.confirm(r, verb, name)
	}
	if len(args) == 1 {
		r.push(3)
		r.bulk(verb)
		r.nullBulk()
		r.integer(int64(s.listening()))
	}
}

func (s *session) confirm(r *reply, verb, name string) {
	r.push(3)
	r.bulk(verb)
	r.bulk(name)
	r.integer(int64(s.listening()))
}

func (n *names) drop(name string) {
	if i := slices.Index(n.list, name); i >= 0 {
		n.list, n.bytes = slices.Delete(n.list, i, i+1), n.bytes-len(name)
	}
}

// reset makes the session what it was at first.
func (s *session) reset(r *reply, _ []string) {
	s.resp3, s.user, s.name, s.tracking = false, "default", "", ""
	s.channels, s.patterns = names{}, names{}
	r.simple("RESET")
}

func (s *session) quit(r *reply, _ []string) {
	s.over = true
	r.simple("OK")
}

func (s *session) ping(r *reply, args []string) {
	if len(args) > 2 {
		r.wrongArity("ping")
		return
	}
	payload := strings.Join(args[1:], "")
	switch {
	case !s.resp3 && s.listening() > 0:
		r.strings([]string{"pong", payload})
	case len(args) == 2:
		r.bulk(payload)
	default:
		r.simple("PONG")
	}
}
