package failover

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The limits of a control connection's replies. ROLE of a master with a thousand
// replicas takes about 50 KB.
const (
	replyMax   = 256 << 10
	replyDepth = 4
)

var (
	errShort = errors.New("reply is incomplete")
	errReply = errors.New("reply is not what was asked for")
)

// tlsAlert begins what a node that speaks TLS answers to a plain command.
const tlsAlert = 0x15

var errTLSNode = fmt.Errorf("%w: the node speaks TLS on this port: want redis.tls.enabled, or the node's plain port", errReply)

// reply is one RESP2 value. Only the field of its kind is set.
type reply struct {
	kind  byte // '+', '-', ':', '$' or '*'
	text  string
	elems []reply
}

// parseReply reads the first value of b and returns how many bytes it took;
// errShort means that more must be read. (redcon's parser would do, but overflows on
// bulk lengths near 2^63, and these bytes come from the network.)
func parseReply(b []byte) (reply, int, error) { return parseValue(b, 0) }

func parseValue(b []byte, depth int) (reply, int, error) {
	if depth > replyDepth {
		return reply{}, 0, errReply
	}
	if depth == 0 && len(b) > 0 && b[0] == tlsAlert {
		return reply{}, 0, errTLSNode
	}
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		if len(b) > replyMax {
			return reply{}, 0, errReply
		}
		return reply{}, 0, errShort
	}
	if end == 0 {
		return reply{}, 0, errReply
	}
	r := reply{kind: b[0], text: string(b[1:end])}
	used := end + 2
	switch r.kind {
	case '+', '-', ':':
		return r, used, nil
	case '$', '*':
	default:
		return reply{}, 0, fmt.Errorf("%w: kind %q", errReply, r.kind)
	}
	n, err := strconv.Atoi(r.text)
	if err != nil || n > replyMax {
		return reply{}, 0, fmt.Errorf("%w: length %q", errReply, r.text)
	}
	r.text = ""
	if n < 0 {
		return r, used, nil
	}
	if r.kind == '$' {
		if len(b) < used+n+2 {
			return reply{}, 0, errShort
		}
		if b[used+n] != '\r' || b[used+n+1] != '\n' {
			return reply{}, 0, errReply
		}
		r.text = string(b[used : used+n])
		return r, used + n + 2, nil
	}
	for range n {
		e, took, err := parseValue(b[used:], depth+1)
		if err != nil {
			return reply{}, 0, err
		}
		r.elems = append(r.elems, e)
		used += took
	}
	return r, used, nil
}

// refusesAccount reports whether an error reply says that our login may not do this.
func (r reply) refusesAccount() bool {
	return r.kind == '-' && (strings.HasPrefix(r.text, "NOAUTH") || strings.HasPrefix(r.text, "NOPERM") ||
		strings.HasPrefix(r.text, "WRONGPASS"))
}

// parseRole reads the answer to ROLE into ev.
func parseRole(r reply, ev *route.NodeSeen) error {
	if r.kind != '*' || len(r.elems) < 1 {
		return errReply
	}
	switch r.elems[0].text {
	case "master": // master, offset, [[ip port offset] ...]
		if len(r.elems) < 2 {
			return errReply
		}
		ev.Role = topology.RoleMaster
		ev.Offset = integer(r.elems[1].text)
		return nil
	case "slave": // slave, host, port, state, offset
		if len(r.elems) < 5 {
			return errReply
		}
		port, err := strconv.Atoi(r.elems[2].text)
		if err != nil {
			return errReply
		}
		ev.Role = topology.RoleReplica
		ev.Master = topology.JoinAddr(r.elems[1].text, port)
		ev.LinkUp = r.elems[3].text == "connected"
		ev.Offset = integer(r.elems[4].text)
		return nil
	}
	return errReply
}

// parseHello reads the role from the answer to HELLO 2, a flat list of names and
// values. Unlike ROLE every account may call it, but whom a replica follows it does
// not tell.
func parseHello(r reply, ev *route.NodeSeen) error {
	if r.kind != '*' {
		return errReply
	}
	for i := 0; i+1 < len(r.elems); i += 2 {
		if r.elems[i].text != "role" {
			continue
		}
		switch r.elems[i+1].text {
		case "master":
			ev.Role = topology.RoleMaster
			return nil
		case "replica", "slave":
			ev.Role = topology.RoleReplica
			return nil
		}
	}
	return errReply
}

// clientID returns the id of our connection in the answer to HELLO 2; 0 if it holds none.
func clientID(r reply) int64 {
	for i := 0; i+1 < len(r.elems); i += 2 {
		if r.elems[i].text == "id" && r.elems[i+1].kind == ':' {
			return integer(r.elems[i+1].text)
		}
	}
	return 0
}

// integer reads a number that only informs: what is none counts as 0.
func integer(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// appendCommand appends args to b as Redis reads a command.
func appendCommand(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}
