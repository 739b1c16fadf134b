package sentinel

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/captures"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func list(s ...string) []any {
	out := make([]any, len(s))
	for i, e := range s {
		out[i] = e
	}
	return out
}

func TestReadMaster(t *testing.T) {
	reply := list("name", "orders", "ip", "fd00::1", "port", "6379", "flags", "master,o_down", "role-reported", "master",
		"config-epoch", "18446744073709551615", "num-other-sentinels", "2", "quorum", "2", "down-after-milliseconds", "5000")
	want := masterInfo{
		addr: "[fd00::1]:6379", epoch: 1<<64 - 1, role: topology.RoleMaster, flags: "master,o_down",
		quorum: 2, others: 2, downAfter: 5 * time.Second,
	}
	got, err := readMaster(reply)
	if err != nil || got != want {
		t.Errorf("readMaster = %+v, %v; want %+v", got, err, want)
	}
	m := make(map[any]any) // RESP3
	for i := 0; i < len(reply); i += 2 {
		m[reply[i]] = reply[i+1]
	}
	if got, err := readMaster(m); err != nil || got != want {
		t.Errorf("readMaster of a map = %+v, %v; want %+v", got, err, want)
	}
	with := func(more ...string) []any { return append(slices.Clone(reply), list(more...)...) } // the last of a name counts
	for i, bad := range []any{
		nil, "x", int64(3), list("a"),
		[]any{"a", int64(1)},
		map[any]any{"a": nil},
		list(),
		with("config-epoch", "-1"), with("num-other-sentinels", "-1"), with("down-after-milliseconds", "99999999999999999999"),
	} {
		if got, err := readMaster(bad); !errors.Is(err, errMalformed) {
			t.Errorf("bad reply %d: readMaster = %+v, %v; want malformed", i, got, err)
		}
	}
}

func TestReadReplicas(t *testing.T) {
	got, err := readReplicas([]any{
		list("ip", "b", "port", "1", "flags", "slave", "slave-priority", "100", "slave-repl-offset", "42"),
		list("ip", "a", "port", "1", "flags", "s_down,slave,disconnected"),
		list("ip", "a", "port", "1", "flags", "slave"),
	})
	want := []topology.Replica{
		{Addr: "a:1", Flags: "s_down,slave,disconnected"},
		{Addr: "b:1", Up: true, Priority: 100, Offset: 42, Flags: "slave"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("readReplicas = %+v, %v; want %+v", got, err, want)
	}
	if _, err := readReplicas([]any{list("ip", "", "port", "0")}); !errors.Is(err, errMalformed) {
		t.Errorf("a replica without an address: %v; want malformed", err)
	}
}

func TestReadPeers(t *testing.T) {
	got, err := readPeers([]any{list("ip", "s2", "port", "26379", "runid", "id2", "flags", "sentinel,s_down"), list("ip", "", "port", "0")})
	if want := []peer{{addr: "s2:26379", runID: "id2", dead: true}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("readPeers = %+v, %v; want %+v", got, err, want)
	}
	if got, err = readPeers([]any{}); got == nil || err != nil {
		t.Errorf("readPeers of none = %v, %v; want an empty list, which is not nil", got, err)
	}
}

// FuzzReply feeds the readers lists of whatever strings: they must not panic,
// and every address they return must be one that can be dialled.
func FuzzReply(f *testing.F) {
	f.Add("ip\n10.0.0.1\nport\n6379\nflags\nslave\nconfig-epoch\n1\nnum-other-sentinels\n2\ndown-after-milliseconds\n1000")
	f.Add("ip\n[\nport\n1")
	f.Add("10.0.0.1\n6379")
	f.Add("")
	for _, s := range recordedLists(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		flat := list(strings.Split(s, "\n")...)
		dialable := func(a topology.Addr) {
			if host, port := a.Split(); a != "" && (host == "" || port == 0) {
				t.Errorf("%q gives address %q", s, string(a))
			}
		}
		for _, reply := range []any{flat, []any{flat}, s} {
			a, _ := readAddr(reply)
			dialable(a)
			m, _ := readMaster(reply)
			dialable(m.addr)
			replicas, _ := readReplicas(reply)
			for _, r := range replicas {
				dialable(r.Addr)
			}
			peers, _ := readPeers(reply)
			for _, p := range peers {
				dialable(p.addr)
			}
		}
		infoField(s, "sentinel_tilt")
	})
}

// recordedLists returns the flat lists and texts in recorded replies of a Sentinel,
// one element to a line.
func recordedLists(tb testing.TB) []string {
	tb.Helper()
	var out []string
	var collect func(v resp.Value)
	collect = func(v resp.Value) {
		var words []string
		for _, e := range v.Elem {
			if e.Elem != nil {
				collect(e)
			}
			words = append(words, string(e.Str))
		}
		if words == nil {
			words = []string{string(v.Str)}
		}
		out = append(out, strings.Join(words, "\n"))
	}
	for _, s := range captures.All(tb) {
		if !strings.HasPrefix(s.Name, "sentinel") {
			continue
		}
		for b := s.Server(); len(b) > 0; {
			v, n, err := resp.Decode(b)
			if err != nil {
				break // the rest was not recorded
			}
			collect(v)
			b = b[n:]
		}
	}
	return out
}
