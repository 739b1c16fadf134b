package sentinel

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// errMalformed means a reply that no Sentinel gives. Whoever sent it is treated
// as one that did not answer.
var errMalformed = errors.New("malformed reply")

// fields reads a reply of names and values: a flat array in RESP2, a map in RESP3.
func fields(reply any) (map[string]string, error) {
	out := make(map[string]string)
	switch r := reply.(type) {
	case []any:
		if len(r)%2 != 0 {
			return nil, fmt.Errorf("%w: %d fields without a pair", errMalformed, len(r))
		}
		for i := 0; i < len(r); i += 2 {
			k, ok1 := r[i].(string)
			v, ok2 := r[i+1].(string)
			if !ok1 || !ok2 {
				return nil, fmt.Errorf("%w: field %d: want two strings, got %T and %T", errMalformed, i/2, r[i], r[i+1])
			}
			out[k] = v
		}
	case map[any]any:
		for k, v := range r {
			ks, ok1 := k.(string)
			vs, ok2 := v.(string)
			if !ok1 || !ok2 {
				return nil, fmt.Errorf("%w: want two strings, got %T and %T", errMalformed, k, v)
			}
			out[ks] = vs
		}
	default:
		return nil, fmt.Errorf("%w: want names and values, got %T", errMalformed, reply)
	}
	return out, nil
}

// readAddr reads the reply of GET-MASTER-ADDR-BY-NAME.
func readAddr(reply any) (topology.Addr, error) {
	r, ok := reply.([]any)
	if !ok || len(r) != 2 {
		return "", fmt.Errorf("%w: master address: want two strings, got %T", errMalformed, reply)
	}
	host, ok1 := r[0].(string)
	port, ok2 := r[1].(string)
	e, ok3 := parseEndpoint(host, port)
	if !ok1 || !ok2 || !ok3 || e.addr() == "" {
		return "", fmt.Errorf("%w: master address %.80q: want host and port", errMalformed, fmt.Sprint(r...))
	}
	return e.addr(), nil
}

// masterInfo is what we use of SENTINEL MASTER.
type masterInfo struct {
	addr      topology.Addr // of its instance: a leader that reconfigures still shows the old one
	epoch     uint64
	role      topology.Role
	flags     string
	quorum    int
	others    int // Sentinels it knows beside itself, dead ones too
	downAfter time.Duration
}

// readMaster reads the reply of SENTINEL MASTER. Without a config epoch and the
// number of Sentinels no vote could be counted, so these are required.
func readMaster(reply any) (masterInfo, error) {
	f, err := fields(reply)
	if err != nil {
		return masterInfo{}, fmt.Errorf("sentinel master: %w", err)
	}
	m := masterInfo{flags: f["flags"], role: roleOf(f["role-reported"])}
	if e, ok := parseEndpoint(f["ip"], f["port"]); ok {
		m.addr = e.addr()
	}
	var ok bool
	if m.epoch, ok = parseEpoch(f["config-epoch"]); !ok {
		return masterInfo{}, fmt.Errorf("sentinel master: %w: config-epoch %.40q", errMalformed, f["config-epoch"])
	}
	if m.others, ok = count(f["num-other-sentinels"]); !ok {
		return masterInfo{}, fmt.Errorf("sentinel master: %w: num-other-sentinels %.40q", errMalformed, f["num-other-sentinels"])
	}
	downAfter, ok := count(f["down-after-milliseconds"])
	if !ok {
		return masterInfo{}, fmt.Errorf("sentinel master: %w: down-after-milliseconds %.40q", errMalformed, f["down-after-milliseconds"])
	}
	m.downAfter = time.Duration(downAfter) * time.Millisecond
	m.quorum, _ = count(f["quorum"])
	return m, nil
}

// count reads a small number that can't be negative. Its bound keeps sums and
// milliseconds far from overflow, whatever a Sentinel claims.
func count(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n <= 1<<40
}

func roleOf(s string) topology.Role {
	switch s {
	case kindMaster:
		return topology.RoleMaster
	case kindReplica:
		return topology.RoleReplica
	}
	return topology.RoleUnknown
}

// readReplicas reads the reply of SENTINEL REPLICAS, sorted by address. An
// entry without an address is an error: leaving it out would let a lease be
// renewed without that replica's word.
func readReplicas(reply any) ([]topology.Replica, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("sentinel replicas: %w: want a list, got %T", errMalformed, reply)
	}
	out := make([]topology.Replica, 0, len(list))
	for _, entry := range list {
		f, err := fields(entry)
		if err != nil {
			return nil, fmt.Errorf("sentinel replicas: %w", err)
		}
		e, ok := parseEndpoint(f["ip"], f["port"])
		if !ok || e.addr() == "" {
			return nil, fmt.Errorf("sentinel replicas: %w: address %.80q", errMalformed, f["ip"]+" "+f["port"])
		}
		r := topology.Replica{Addr: e.addr(), Flags: f["flags"], Up: reachable(f["flags"])}
		r.Priority, _ = count(f["slave-priority"])
		r.Offset, _ = strconv.ParseInt(f["slave-repl-offset"], 10, 64)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b topology.Replica) int { return cmp.Compare(a.Addr, b.Addr) })
	return slices.CompactFunc(out, func(a, b topology.Replica) bool { return a.Addr == b.Addr }), nil
}

// reachable reports whether the flags of an instance call it up.
func reachable(flags string) bool {
	for flag := range strings.SplitSeq(flags, ",") {
		if flag == "s_down" || flag == "o_down" || flag == "disconnected" {
			return false
		}
	}
	return true
}

// readPeers reads the reply of SENTINEL SENTINELS, in its order. Entries
// without an address are left out: nobody could dial them. Entries beyond
// twice maxSentinels are too: a list is memory somebody else chooses.
func readPeers(reply any) ([]peer, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("sentinel sentinels: %w: want a list, got %T", errMalformed, reply)
	}
	list = list[:min(len(list), 2*maxSentinels)]
	out := make([]peer, 0, len(list))
	for _, entry := range list {
		f, err := fields(entry)
		if err != nil {
			return nil, fmt.Errorf("sentinel sentinels: %w", err)
		}
		if e, ok := parseEndpoint(f["ip"], f["port"]); ok && e.addr() != "" {
			out = append(out, peer{addr: e.addr(), runID: f["runid"], dead: !reachable(f["flags"])})
		}
	}
	return out, nil
}

// infoField returns the value of one line of INFO, or "".
func infoField(info, name string) string {
	for line := range strings.SplitSeq(info, "\n") {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\r"), ":"); ok && k == name {
			return v
		}
	}
	return ""
}
