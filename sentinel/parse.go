package sentinel

import (
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// endpoint is a host and port as a Sentinel writes them: two words, the host a
// name, an IPv4 address or a bare IPv6 address.
type endpoint struct {
	host string
	port int
}

// addr returns the endpoint in the form the rest of the program compares, or
// the zero Addr where it names no place that could be dialled.
func (e endpoint) addr() topology.Addr {
	if e.host == "" || e.port == 0 {
		return ""
	}
	a := topology.JoinAddr(e.host, e.port)
	if host, _ := a.Split(); host == "" {
		return "" // a host with brackets or the like inside
	}
	return a
}

func (e endpoint) String() string { return e.host + " " + strconv.Itoa(e.port) }

// parseEndpoint reads two words. It takes a port only as Sentinel prints it
// (no sign, no leading zero), so that what it takes prints back the same.
func parseEndpoint(host, port string) (endpoint, bool) {
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 || strconv.Itoa(n) != port || host == "" {
		return endpoint{}, false
	}
	return endpoint{host: host, port: n}, true
}

// The kinds of instance in an event's payload; the wire's words.
const (
	kindMaster   = "master"
	kindReplica  = "slave"
	kindSentinel = "sentinel"
)

// instance is the payload of most events, what sentinel.c prints for "%@":
//
//	master <group> <host> <port>[ <tail>]
//	slave|sentinel <name> <host> <port> @ <group> <host> <port>[ <tail>]
type instance struct {
	kind   string
	name   string   // the group's for a master, host:port for a replica, run id for a Sentinel
	at     endpoint // where the instance is
	group  string
	master endpoint // the group's master as that Sentinel has it; at for a master
	tail   string   // the rest, such as "#quorum 2/2"; may be empty
}

// parseInstance reads a payload. It reports false for one of another form.
func parseInstance(s string) (instance, bool) {
	w := strings.SplitN(s, " ", 5)
	if len(w) < 4 || w[1] == "" {
		return instance{}, false
	}
	at, ok := parseEndpoint(w[2], w[3])
	if !ok {
		return instance{}, false
	}
	in := instance{kind: w[0], name: w[1], at: at}
	rest := ""
	if len(w) == 5 {
		rest = w[4]
	}
	switch in.kind {
	case kindMaster:
		in.group, in.master, in.tail = in.name, in.at, rest
		return in, len(w) == 4 || rest != ""
	case kindReplica, kindSentinel:
		w = strings.SplitN(rest, " ", 5)
		if len(w) < 4 || w[0] != "@" || w[1] == "" {
			return instance{}, false
		}
		in.group = w[1]
		if in.master, ok = parseEndpoint(w[2], w[3]); !ok {
			return instance{}, false
		}
		if len(w) == 5 {
			in.tail = w[4]
			return in, in.tail != ""
		}
		return in, true
	}
	return instance{}, false
}

// String prints the payload as it was read.
func (in instance) String() string {
	s := in.kind + " " + in.name + " " + in.at.String()
	if in.kind != kindMaster {
		s += " @ " + in.group + " " + in.master.String()
	}
	if in.tail != "" {
		s += " " + in.tail
	}
	return s
}

// switched is the payload of +switch-master:
//
//	<group> <old host> <old port> <new host> <new port>
type switched struct {
	group    string
	old, new endpoint
}

func parseSwitched(s string) (switched, bool) {
	w := strings.Split(s, " ")
	if len(w) != 5 || w[0] == "" {
		return switched{}, false
	}
	from, ok1 := parseEndpoint(w[1], w[2])
	to, ok2 := parseEndpoint(w[3], w[4])
	if !ok1 || !ok2 {
		return switched{}, false
	}
	return switched{group: w[0], old: from, new: to}, true
}

func (s switched) String() string {
	return s.group + " " + s.old.String() + " " + s.new.String()
}

// helloChannel carries hellos on data nodes. A Sentinel takes them in and does
// not pass them on, but a subscription to every channel must know one if met.
const helloChannel = "__sentinel__:hello"

// hello is what Sentinels tell each other, 8 fields with commas between:
//
//	<host>,<port>,<run id>,<current epoch>,<group>,<master host>,<master port>,<config epoch>
//
// A group with a comma in its name breaks the form (sentinel.c splits the same way).
type hello struct {
	at      endpoint
	runID   string
	current uint64 // its current epoch, of elections
	group   string
	master  endpoint
	epoch   uint64 // the config epoch that goes with master
}

func parseHello(s string) (hello, bool) {
	w := strings.Split(s, ",")
	if len(w) != 8 || w[2] == "" || w[4] == "" {
		return hello{}, false
	}
	at, ok1 := parseEndpoint(w[0], w[1])
	master, ok2 := parseEndpoint(w[5], w[6])
	current, ok3 := parseEpoch(w[3])
	epoch, ok4 := parseEpoch(w[7])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return hello{}, false
	}
	return hello{at: at, runID: w[2], current: current, group: w[4], master: master, epoch: epoch}, true
}

func (h hello) String() string {
	return strings.Join([]string{
		h.at.host, strconv.Itoa(h.at.port), h.runID, strconv.FormatUint(h.current, 10),
		h.group, h.master.host, strconv.Itoa(h.master.port), strconv.FormatUint(h.epoch, 10),
	}, ",")
}

// parseEpoch takes an epoch only as Sentinel prints it.
func parseEpoch(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
