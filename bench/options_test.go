package main

import (
	"io"
	"path/filepath"
	"slices"
	"testing"
)

func TestDefaults(t *testing.T) {
	for name, tt := range map[string]struct {
		cmd        command
		args       []string
		rounds     int
		cells      int
		out        string
		candidates []string
	}{
		"full":        {cmdBeside, nil, 7, 24, "latest.md", candidateNames()},
		"short":       {cmdBeside, []string{"--short"}, 3, 6, "short.md", candidateNames()},
		"values":      {cmdValues, nil, 7, 16, "values.md", besideHAProxy()},
		"subscribers": {cmdSubscribers, nil, 7, 4, "subscribers.md", besideHAProxy()},
		"idle":        {cmdIdle, nil, 7, 24, "idle.md", []string{nameSidecar}},
		"named":       {cmdBeside, []string{"--rounds", "2", "--cells", "c1P1/64", "--candidates", "direct, haproxy,direct"}, 2, 2, "latest.md", []string{nameDirect, nameHAProxy}},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseOptions(tt.cmd, tt.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if o.rounds != tt.rounds || len(o.cells) != tt.cells {
				t.Errorf("%d rounds of %d cells; want %d of %d", o.rounds, len(o.cells), tt.rounds, tt.cells)
			}
			if want := filepath.Join("bench", "results", tt.out); o.out != want {
				t.Errorf("out = %q; want %q", o.out, want)
			}
			if !slices.Equal(o.candidates, tt.candidates) {
				t.Errorf("candidates = %q; want %q", o.candidates, tt.candidates)
			}
			if !o.scrapes() {
				t.Error("by default the metrics are not scraped")
			}
		})
	}
}
