package failover

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/internal/captures"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	roleMaster  = "*3\r\n$6\r\nmaster\r\n:3129659\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n9001\r\n$7\r\n3129242\r\n"
	roleReplica = "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:9000\r\n$9\r\nconnected\r\n:3167038\r\n"
	helloMaster = "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:9\r\n" +
		"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
)

func TestParseReply(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want reply
		used int
		err  error
	}{
		"status":         {"+OK\r\nrest", reply{kind: '+', text: "OK"}, 5, nil},
		"error":          {"-NOAUTH no\r\n", reply{kind: '-', text: "NOAUTH no"}, 12, nil},
		"integer":        {":-3\r\n", reply{kind: ':', text: "-3"}, 5, nil},
		"bulk":           {"$2\r\na\n\r\n", reply{kind: '$', text: "a\n"}, 8, nil},
		"null bulk":      {"$-1\r\n", reply{kind: '$'}, 5, nil},
		"null array":     {"*-1\r\n", reply{kind: '*'}, 5, nil},
		"array":          {"*2\r\n+a\r\n*0\r\n", reply{kind: '*', elems: []reply{{kind: '+', text: "a"}, {kind: '*'}}}, 12, nil},
		"nothing":        {"", reply{}, 0, errShort},
		"half a line":    {"*3\r", reply{}, 0, errShort},
		"half a bulk":    {"$5\r\nab", reply{}, 0, errShort},
		"half an array":  {"*2\r\n+a\r\n", reply{}, 0, errShort},
		"no kind":        {"\r\n", reply{}, 0, errReply},
		"unknown kind":   {"hello\r\n", reply{}, 0, errReply},
		"no number":      {"$x\r\n", reply{}, 0, errReply},
		"huge bulk":      {"$9223372036854775807\r\n", reply{}, 0, errReply},
		"huge array":     {"*9223372036854775807\r\n", reply{}, 0, errReply},
		"bulk too long":  {"$1\r\nabc", reply{}, 0, errReply},
		"too deep":       {strings.Repeat("*1\r\n", 1000), reply{}, 0, errReply},
		"endless line":   {"+" + strings.Repeat("x", replyMax), reply{}, 0, errReply},
		"a long integer": {":99999999999999999999\r\n", reply{kind: ':', text: "99999999999999999999"}, 23, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, used, err := parseReply([]byte(tt.in))
			if !reflect.DeepEqual(got, tt.want) || used != tt.used || !errors.Is(err, tt.err) {
				t.Errorf("parseReply(%.40q) = %+v, %d, %v; want %+v, %d, %v", tt.in, got, used, err, tt.want, tt.used, tt.err)
			}
		})
	}
}

func TestParseRole(t *testing.T) {
	for name, tt := range map[string]struct {
		in    string
		hello bool
		want  route.NodeSeen
		ok    bool
	}{
		"master":       {roleMaster, false, route.NodeSeen{Role: topology.RoleMaster, Offset: 3129659}, true},
		"replica":      {roleReplica, false, route.NodeSeen{Role: topology.RoleReplica, Master: "127.0.0.1:9000", LinkUp: true, Offset: 3167038}, true},
		"link is down": {strings.Replace(roleReplica, "$9\r\nconnected", "$7\r\nconnect", 1), false, route.NodeSeen{Role: topology.RoleReplica, Master: "127.0.0.1:9000", Offset: 3167038}, true},
		"sentinel":     {"*2\r\n$8\r\nsentinel\r\n*0\r\n", false, route.NodeSeen{}, false},
		"short":        {"*1\r\n$5\r\nslave\r\n", false, route.NodeSeen{}, false},
		"empty":        {"*0\r\n", false, route.NodeSeen{}, false},
		"no array":     {"+OK\r\n", false, route.NodeSeen{}, false},
		"hello":        {helloMaster, true, route.NodeSeen{Role: topology.RoleMaster}, true},
		"hello, role":  {strings.Replace(helloMaster, "$6\r\nmaster", "$7\r\nreplica", 1), true, route.NodeSeen{Role: topology.RoleReplica}, true},
		"hello, odd":   {"*1\r\n$4\r\nrole\r\n", true, route.NodeSeen{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, err := parseReply([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			parse := parseRole
			if tt.hello {
				parse = parseHello
			}
			var got route.NodeSeen
			if err := parse(r, &got); got != tt.want || (err == nil) != tt.ok {
				t.Errorf("parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			}
		})
	}
}

// FuzzReply checks that no bytes of a server make the parser fail but by an error, that
// it takes no more than it was given, and that more bytes never change a whole reply.
func FuzzReply(f *testing.F) {
	for _, s := range []string{roleMaster, roleReplica, helloMaster, "-ERR x\r\n", "$-1\r\n", "$9223372036854775807\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+a\r\n"} {
		f.Add([]byte(s))
	}
	for _, s := range captures.All(f) {
		for _, p := range s.Pieces { // a reply each, mostly
			if !p.FromClient {
				f.Add(p.Bytes)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, used, err := parseReply(b)
		if used < 0 || used > len(b) || (err == nil) != (used > 0) {
			t.Fatalf("parseReply(%q) took %d of %d bytes, %v", b, used, len(b), err)
		}
		var a, h route.NodeSeen
		if err == nil {
			again, took, err := parseReply(b[:used])
			if err != nil || took != used || !reflect.DeepEqual(r, again) {
				t.Fatalf("parseReply(%q) = %+v; alone %+v, %v", b, r, again, err)
			}
		}
		if perr := parseRole(r, &a); perr == nil && a.Role == topology.RoleUnknown {
			t.Fatalf("parseRole(%q): no role and no error", b)
		}
		if perr := parseHello(r, &h); perr == nil && h.Role == topology.RoleUnknown {
			t.Fatalf("parseHello(%q): no role and no error", b)
		}
	})
}

// FuzzState checks that any content of a state file is an error or can be written and
// read back.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"state":{"group":"g","master":"a:1","epoch":7,"replicas":["b:1"],"down_after_ns":1000000000}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		raw, err := json.Marshal(stateFormat{Version: 1, State: s})
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseState(raw)
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v read back is %+v, %v", s, again, err)
		}
	})
}
