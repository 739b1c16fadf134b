package allow

import (
	"net/netip"
	"testing"
)

func TestAllows(t *testing.T) {
	for _, tt := range []struct {
		list []string
		addr string // "" is a Unix socket
		want bool
	}{
		{nil, "203.0.113.9", true},
		{[]string{"10.0.0.0/8"}, "10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, "11.1.2.3", false},
		{[]string{"10.0.0.0/8"}, "::ffff:10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, "::ffff:11.1.2.3", false},
		{[]string{"::ffff:10.0.0.0/104"}, "10.1.2.3", true},
		{[]string{"::ffff:10.0.0.7"}, "10.0.0.7", true},
		{[]string{"10.0.0.7"}, "10.0.0.8", false},
		{[]string{"10.0.0.7", "fd00::/8"}, "fd12::1", true},
		{[]string{"10.0.0.7", "fd00::/8"}, "fe80::1%eth0", false},
		{[]string{"fe80::/10"}, "fe80::1%eth0", true},
		{[]string{"::/0"}, "10.0.0.7", false}, // IPv4 is not IPv6
		{[]string{"any"}, "10.0.0.7", true},
		{[]string{"any"}, "fd12::1", true},
		{[]string{"10.0.0.7"}, "", true},
	} {
		var l List
		for _, v := range tt.list {
			p, err := Parse(v)
			if err != nil {
				t.Fatalf("Parse(%q): %v", v, err)
			}
			l = append(l, p...)
		}
		var a netip.Addr
		if tt.addr != "" {
			a = netip.MustParseAddr(tt.addr)
		}
		if got := l.Allows(a); got != tt.want {
			t.Errorf("%q allows %q: %v; want %v", tt.list, tt.addr, got, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	for v, want := range map[string]string{
		"10.0.0.0/8":          "10.0.0.0/8",
		"10.0.0.7":            "10.0.0.7/32",
		"::1":                 "::1/128",
		"::ffff:10.0.0.7":     "10.0.0.7/32",
		"::ffff:10.0.0.0/104": "10.0.0.0/8",
		"any":                 "0.0.0.0/0,::/0",
		"10.0.0.5/8":          "did you mean the network 10.0.0.0/8, or the address 10.0.0.5?",
		"::ffff:0.0.0.0/80":   "it is more than the IPv4 addresses in it",
		"localhost":           "it is neither an address nor a network",
		"10.0.0.0/33":         "it is neither an address nor a network",
		"fe80::1%eth0":        "an address without its zone is meant",
		"":                    "it is neither an address nor a network",
	} {
		l, err := Parse(v)
		got := l.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Parse(%q): %s; want %s", v, got, want)
		}
	}
}

// What is parsed prints as what is parsed again to the same.
func FuzzParse(f *testing.F) {
	for _, v := range []string{"10.0.0.0/8", "::ffff:10.0.0.0/104", "any", "fe80::1%eth0", "10.0.0.5/8"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		l, err := Parse(v)
		if err != nil {
			return
		}
		for _, p := range l {
			again, err := Parse(p.String())
			if err != nil || len(again) != 1 || again[0] != p {
				t.Errorf("Parse(%q): %v, which parses to %v, %v", v, p, again, err)
			}
			if !l.Allows(p.Addr()) {
				t.Errorf("Parse(%q) does not allow its own %v", v, p.Addr())
			}
		}
	})
}
