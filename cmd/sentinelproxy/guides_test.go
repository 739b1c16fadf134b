package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// blocks returns the fenced blocks of a page, by their language.
func blocks(tb testing.TB, page string) map[string][]string {
	tb.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		tb.Fatal(err)
	}
	found, lang := map[string][]string{}, ""
	var block strings.Builder
	for line := range strings.Lines(string(b)) {
		mark, isMark := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isMark && lang == "":
			lang = mark
			block.Reset()
		case isMark:
			found[lang] = append(found[lang], block.String())
			lang = ""
		case lang != "":
			block.WriteString(line)
		}
	}
	return found
}

// The configurations side by side are taken by their programs.
func TestMigrationConfigs(t *testing.T) {
	found := blocks(t, "../../docs/migrate.md")
	if n := len(found["yaml"]); n < 4 {
		t.Fatalf("%d configurations of sentinelproxy on the page; want those of HAProxy, Sentinel, twemproxy and predixy", n)
	}
	for _, text := range found["yaml"] {
		cfg, err := config.Load(config.Sources{
			Environ:  []string{"SENTINELPROXY_CONFIG=migrate.yaml"},
			ReadFile: func(string) ([]byte, error) { return []byte(text), nil },
		})
		if err != nil || len(cfg.Warnings) > 0 {
			t.Errorf("%v, warnings %q:\n%s", err, cfg.Warnings, text)
		}
	}
	for lang, program := range map[string][]string{"haproxy": {"haproxy", "-c", "-f"}, "nutcracker": {"nutcracker", "-t", "-c"}} {
		if len(found[lang]) == 0 {
			t.Errorf("the page shows no configuration of %s", lang)
		}
		path, err := exec.LookPath(program[0])
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Errorf("%s is not installed: scripts/need %s", program[0], program[0])
			}
			t.Logf("%s is not installed", program[0])
			continue
		}
		for _, text := range found[lang] {
			file := filepath.Join(t.TempDir(), "cfg")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args := append(slices.Clone(program[1:]), file)
			if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", program[0], err, out)
			}
		}
	}
}

// Every command line of ours in the guides is one that we take.
func TestGuidesCommandLines(t *testing.T) {
	lines := 0
	for _, page := range []string{"migrate.md", "systemd.md", "kubernetes.md", "configuration.md", "sentinel-endpoint.md", "switchover.md"} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "\\\n", " ")
		for line := range strings.Lines(text) {
			words, isOurs := strings.CutPrefix(strings.TrimSpace(line), "sentinelproxy ")
			if !isOurs || !strings.HasPrefix(line, "    ") {
				continue
			}
			words, _, _ = strings.Cut(words, " > ")
			words, _, _ = strings.Cut(words, " | ")
			words, _, _ = strings.Cut(words, " #")
			lines++
			root := newRoot(nil, newFakes().parts())
			root.InitDefaultCompletionCmd()
			cmd, rest, err := root.Find(strings.Fields(words))
			if err != nil || cmd == root {
				t.Errorf("%s: %q: no such command (%v)", page, words, err)
				continue
			}
			for _, w := range rest {
				name, _, _ := strings.Cut(w, "=")
				if flag, ok := strings.CutPrefix(name, "--"); ok && lookupFlag(cmd.Flags(), cmd.InheritedFlags(), flag) == nil {
					t.Errorf("%s: %q: no flag --%s", page, words, flag)
				}
			}
		}
	}
	if lines < 8 {
		t.Errorf("%d command lines found; are they written otherwise now?", lines)
	}
}

func lookupFlag(a, b *pflag.FlagSet, name string) *pflag.Flag {
	if f := a.Lookup(name); f != nil {
		return f
	}
	return b.Lookup(name)
}
