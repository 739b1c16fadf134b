package endpoint

import (
	"fmt"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// version is the Redis whose answers are copied.
const version = "7.0.15"

// maxName bounds what is kept of a client: its user and its name, in bytes each. A
// user of a longer name is none that anybody has.
const maxName = 1 << 10

const (
	longName = "ERR Client names cannot be longer than 1024 bytes. (sentinelproxy)"
	noUser   = "WRONGPASS invalid username-password pair or user is disabled."
)

const notInteger = "ERR value is not an integer or out of range"

func isInteger(s string) bool {
	_, ok := resp.ParseInt(s)
	return ok
}

const badName = "ERR Client names cannot contain spaces, newlines or special characters."

// auth takes every login. Clients bring those of the real Sentinels, which the
// endpoint does not know, and which would protect nothing: it tells its own address
// and changes nothing. A user of Redis that has no password is as generous.
func (s *session) auth(r *reply, args []string) {
	switch {
	case len(args) == 2:
		s.user = "default"
	case len(args) > 3:
		r.err("ERR syntax error")
		return
	case len(args[1]) > maxName:
		r.err(noUser)
		return
	default:
		s.user = args[1]
	}
	r.simple("OK")
}

func (s *session) hello(r *reply, args []string) {
	resp3 := s.resp3
	rest := args[1:]
	if len(rest) > 0 {
		n, ok := resp.ParseInt(rest[0])
		if !ok {
			r.err("ERR Protocol version is not an integer or out of range")
			return
		}
		if n < 2 || n > 3 {
			r.err("NOPROTO unsupported protocol version")
			return
		}
		resp3, rest = n == 3, rest[1:]
	}
	for len(rest) > 0 { // each has its effect whatever is wrong behind it, as with Redis 7.0
		switch opt := strings.ToUpper(rest[0]); {
		case opt == "AUTH" && len(rest) >= 3:
			if len(rest[1]) > maxName {
				r.err(noUser)
				return
			}
			s.user, rest = rest[1], rest[3:]
		case opt == "SETNAME" && len(rest) >= 2:
			if bad := nameError(rest[1]); bad != "" {
				r.err(bad)
				return
			}
			s.name, rest = rest[1], rest[2:]
		default:
			r.err("ERR Syntax error in HELLO option '" + rest[0] + "'")
			return
		}
	}
	s.resp3, r.resp3 = resp3, resp3
	r.dict(6)
	r.bulks([]string{"server", "redis", "version", version, "proto"})
	r.integer(s.protocol())
	r.bulk("id")
	r.integer(s.id)
	r.bulks([]string{"mode", "sentinel", "modules"})
	r.array(0)
}

func (s *session) protocol() int64 {
	if s.resp3 {
		return 3
	}
	return 2
}

// nameError says what is wrong with a client's name; "" for a good one.
func nameError(name string) string {
	if len(name) > maxName {
		return longName
	}
	for _, ch := range []byte(name) {
		if ch < '!' || ch > '~' {
			return badName
		}
	}
	return ""
}

// client answers CLIENT and what of it concerns the client's own connection.
func (s *session) client(r *reply, args []string) {
	sub := strings.ToUpper(args[1])
	arity, known := clientArity(sub)
	if !known {
		r.unknownSub("CLIENT", args[1])
		return
	}
	if arity > 0 && len(args) != arity || len(args) < -arity {
		r.wrongArity("client|" + strings.ToLower(sub))
		return
	}
	switch sub {
	case "ID":
		r.integer(s.id)
	case "INFO":
		r.text(s.describe() + "\n")
	case "GETNAME":
		if s.name == "" {
			r.nullBulk()
			return
		}
		r.bulk(s.name)
	case "SETNAME":
		if bad := nameError(args[2]); bad != "" {
			r.err(bad)
			return
		}
		s.name = args[2]
		r.simple("OK")
	case "SETINFO":
		if attr := strings.ToLower(args[2]); attr != "lib-name" && attr != "lib-ver" {
			r.err("ERR Unrecognized option '" + args[2] + "'")
			return
		}
		r.simple("OK")
	case "NO-EVICT", "NO-TOUCH":
		if !onOff(args[2]) {
			r.err("ERR syntax error")
			return
		}
		r.simple("OK")
	case "TRACKING":
		s.track(r, args[2:])
	case "CACHING":
		s.caching(r, args[2])
	case "GETREDIR":
		if s.tracking == "" {
			r.integer(-1)
			return
		}
		r.integer(0)
	}
}

// clientArity returns a subcommand's arity as Redis has it; known is false for
// those that are not there: what concerns other clients, and what only newer
// servers know, such as MAINT_NOTIFICATIONS.
func clientArity(sub string) (arity int, known bool) {
	switch sub {
	case "ID", "INFO", "GETNAME", "GETREDIR":
		return 2, true
	case "SETNAME", "NO-EVICT", "NO-TOUCH", "CACHING":
		return 3, true
	case "SETINFO":
		return 4, true
	case "TRACKING":
		return -3, true
	}
	return 0, false
}

func onOff(s string) bool { return strings.EqualFold(s, "on") || strings.EqualFold(s, "off") }

// track takes CLIENT TRACKING, which clients with a cache send on every connection.
// There are no keys here, so it has no effect.
func (s *session) track(r *reply, args []string) {
	mode := "on"
	for rest := args[1:]; len(rest) > 0; rest = rest[1:] {
		switch opt := strings.ToLower(rest[0]); {
		case opt == "optin" || opt == "optout" || opt == "bcast":
			mode = opt
		case opt == "noloop":
		case opt == "redirect" && len(rest) > 1 && !isInteger(rest[1]):
			r.err(notInteger)
			return
		case (opt == "prefix" || opt == "redirect") && len(rest) > 1:
			rest = rest[1:]
		default:
			r.err("ERR syntax error")
			return
		}
	}
	switch {
	case !onOff(args[0]):
		r.err("ERR syntax error")
		return
	case strings.EqualFold(args[0], "off"):
		mode = ""
	}
	s.tracking = mode
	r.simple("OK")
}

func (s *session) caching(r *reply, arg string) {
	yes, no := strings.EqualFold(arg, "yes"), strings.EqualFold(arg, "no")
	switch {
	case s.tracking == "":
		r.err("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case !yes && !no:
		r.err("ERR syntax error")
	case yes && s.tracking != "optin":
		r.err("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case no && s.tracking != "optout":
		r.err("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	default:
		r.simple("OK")
	}
}

func (s *session) describe() string {
	flags := "N"
	if s.listening() > 0 {
		flags = "P"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=0 flags=%s db=0 sub=%d psub=%d user=%s redir=-1 resp=%d",
		s.id, s.raddr, s.laddr, s.name, (s.dir.now()-s.opened)/time.Second, flags, len(s.channels.list), len(s.patterns.list), oneLine(s.user), s.protocol())
}
