package sentineltest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// client answers CLIENT and its subcommands.
func (s *server) client(c *conn, r *reply, args []string) {
	if len(args) < 2 {
		r.wrongArity("client")
		return
	}
	sub := upper(args[1])
	rest := args[2:]
	arity := func(n int) bool {
		if len(rest) != n {
			r.wrongArity("client|" + strings.ToLower(sub))
		}
		return len(rest) == n
	}
	switch sub {
	case "ID":
		if arity(0) {
			r.integer(c.id)
		}
	case "GETNAME":
		if arity(0) {
			s.getName(c, r)
		}
	case "SETNAME":
		if arity(1) {
			setName(c, r, rest[0])
		}
	case "SETINFO", "NO-EVICT", "NO-TOUCH": // SETINFO and NO-TOUCH: Redis 7.2
		if arity(map[string]int{"SETINFO": 2}[sub] + map[string]int{"NO-EVICT": 1, "NO-TOUCH": 1}[sub]) {
			r.simple("OK")
		}
	case "INFO":
		if arity(0) {
			r.text(c.describe() + "\n")
		}
	case "LIST":
		var b strings.Builder
		for _, other := range s.sorted() {
			b.WriteString(other.describe() + "\n")
		}
		r.text(b.String())
	case "UNBLOCK":
		if len(rest) < 1 || len(rest) > 2 {
			r.wrongArity("client|unblock")
			return
		}
		s.unblock(r, rest)
	case "KILL":
		if len(rest) < 1 {
			r.wrongArity("client|kill")
			return
		}
		s.kill(c, r, rest)
	default:
		r.unknownSub("CLIENT", args[1])
	}
}

func (*server) getName(c *conn, r *reply) {
	c.mu.Lock()
	name := c.name
	c.mu.Unlock()
	if name == "" {
		r.nullBulk()
		return
	}
	r.bulk(name)
}

func setName(c *conn, r *reply, name string) {
	if !validName(name) {
		r.err(badName)
		return
	}
	c.mu.Lock()
	c.name = name
	c.mu.Unlock()
	r.simple("OK")
}

func (s *server) sorted() []*conn {
	list := s.front.all()
	slices.SortFunc(list, func(a, b *conn) int { return int(a.id - b.id) })
	return list
}

func (c *conn) describe() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := 2
	if c.resp3 {
		resp = 3
	}
	flags := "N"
	if c.blocked {
		flags = "b"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=0 flags=%s db=%d user=default redir=-1 resp=%d",
		c.id, c.nc.RemoteAddr(), c.nc.LocalAddr(), c.name, int(time.Since(c.opened).Seconds()), flags, c.db, resp)
}

// unblock answers CLIENT UNBLOCK id [TIMEOUT|ERROR].
func (s *server) unblock(r *reply, args []string) {
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		r.err("ERR value is not an integer or out of range")
		return
	}
	encoded := "" // the call's own time-out reply
	if len(args) == 2 {
		switch upper(args[1]) {
		case "TIMEOUT":
		case "ERROR":
			encoded = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"
		default:
			r.err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
			return
		}
	}
	for _, other := range s.front.all() {
		if other.id == id && other.wake(encoded) {
			r.integer(1)
			return
		}
	}
	r.integer(0)
}

// kill answers CLIENT KILL addr and CLIENT KILL with the filters ID, ADDR, LADDR,
// TYPE, USER (ignored) and SKIPME.
func (s *server) kill(c *conn, r *reply, args []string) {
	if len(args) == 1 {
		for _, other := range s.front.all() {
			if other.nc.RemoteAddr().String() == args[0] {
				other.shut()
				r.simple("OK")
				return
			}
		}
		r.err("ERR No such client")
		return
	}
	if len(args)%2 != 0 {
		r.err("ERR syntax error")
		return
	}
	skipMe := true
	match := func(*conn) bool { return true }
	for i := 0; i < len(args); i += 2 {
		prev, value := match, args[i+1]
		switch upper(args[i]) {
		case "ID":
			match = func(o *conn) bool { return prev(o) && strconv.FormatInt(o.id, 10) == value }
		case "ADDR":
			match = func(o *conn) bool { return prev(o) && o.nc.RemoteAddr().String() == value }
		case "LADDR":
			match = func(o *conn) bool { return prev(o) && o.nc.LocalAddr().String() == value }
		case "TYPE":
			want := strings.ToLower(value)
			if !slices.Contains([]string{"normal", "master", "slave", "replica", "pubsub"}, want) {
				r.err("ERR Unknown client type '" + oneLine(value) + "'")
				return
			}
			match = func(o *conn) bool { return prev(o) && s.kind(o) == want }
		case "SKIPME":
			skipMe = upper(value) == "YES"
		case "USER":
		default:
			r.err("ERR syntax error")
			return
		}
	}
	var n int64
	for _, other := range s.front.all() {
		if match(other) && (other != c || !skipMe) {
			n++
			if other != c {
				other.shut()
				continue
			}
			defer c.shutAfter(r)
		}
	}
	r.integer(n)
}

// shutAfter sends r, then shuts: CLIENT KILL of oneself still answers.
func (c *conn) shutAfter(r *reply) {
	c.send(r.b)
	r.b = nil
	c.shut()
}

// kind is what CLIENT KILL TYPE calls c.
func (s *server) kind(c *conn) string {
	if s.bus.subscribing(c) {
		return "pubsub"
	}
	return "normal"
}
