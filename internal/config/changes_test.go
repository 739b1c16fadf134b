package config

import (
	"slices"
	"strings"
	"testing"
)

func TestChanges(t *testing.T) {
	base := files{"pw": "old", "c.yaml": "sentinels: s\nsentinel: {password_file: pw}\nmasters: [{name: a, listen: ':1'}, {name: b, listen: ':2'}]\n"}
	for name, tt := range map[string]struct {
		yaml, pw string // "" for as before
		want     []Change
	}{
		"none": {},
		"log level": {
			yaml: "log: {level: debug, format: json}\n" + base["c.yaml"],
			want: []Change{{"", "log.level", true}, {"", "log.format", false}},
		},
		"an outage policy": {
			yaml: strings.Replace(base["c.yaml"], "name: b,", "name: b, outage: {after: 1s, policy: ['read=nil']},", 1),
			want: []Change{{"b", "outage.after", true}, {"b", "outage.policy", true}},
		},
		"content of a password file": {
			pw:   "new",
			want: []Change{{"a", "sentinel.password_file", true}, {"b", "sentinel.password_file", true}},
		},
		"an account goes": {
			yaml: "sentinels: s\nmasters: [{name: a, listen: ':1'}, {name: b, listen: ':2'}]\n",
			want: []Change{{"a", "sentinel.password_file", false}, {"b", "sentinel.password_file", false}},
		},
		"masters come and go": {
			yaml: "sentinels: s\nsentinel: {password_file: pw}\nmasters: [{name: c, listen: ':3'}, {name: b, listen: ':4'}]\n",
			want: []Change{{"a", "masters", false}, {"b", "listen", false}, {"c", "masters", false}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := files{"pw": base["pw"], "c.yaml": base["c.yaml"]}
			if tt.yaml != "" {
				next["c.yaml"] = tt.yaml
			}
			if tt.pw != "" {
				next["pw"] = tt.pw
			}
			got := Changes(mustLoad(t, nil, nil, base), mustLoad(t, nil, nil, next))
			if !slices.Equal(got, tt.want) {
				t.Errorf("changes %+v; want %+v", got, tt.want)
			}
		})
	}
}
