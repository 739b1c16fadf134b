//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// offered returns what the shell is told to offer for the last of args.
func offered(tb testing.TB, args ...string) (words []string, directive string) {
	tb.Helper()
	var out bytes.Buffer
	root := newRoot(nil, newFakes().parts())
	root.SetArgs(append([]string{"__complete"}, args...))
	root.SetOut(&out)
	root.SetErr(new(bytes.Buffer))
	if err := root.ExecuteContext(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, l := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(l, "\t")
		words = append(words, word)
	}
	return words, lines[len(lines)-1]
}

func TestCompletion(t *testing.T) {
	const files, none = ":0", ":4"
	for name, tt := range map[string]struct {
		args      []string
		want      []string // all of them are offered
		directive string
	}{
		"modes":            {[]string{"run", "--follow", ""}, []string{"majority", "fast"}, none},
		"a part of one":    {[]string{"run", "--follow", "f"}, []string{"fast"}, none},
		"after =":          {[]string{"run", "--fence-mode=e"}, []string{"events"}, none},
		"auto or off":      {[]string{"run", "--hold-timeout", ""}, []string{"auto", "off"}, none},
		"commands":         {[]string{"run", "--deny-commands", "FLUSH"}, []string{"FLUSHALL", "FLUSHDB"}, none},
		"no file":          {[]string{"run", "--sentinel", ""}, nil, none},
		"a file":           {[]string{"run", "--redis-password-file", ""}, nil, files},
		"the config":       {[]string{"run", "--config", ""}, nil, files},
		"switchover":       {[]string{"switchover", "--token-file", ""}, nil, files},
		"a duration":       {[]string{"switchover", "--max-pause", ""}, nil, none},
		"demo":             {[]string{"demo", "--failover", ""}, failoverChoices(), none},
		"drill kinds":      {[]string{"drill", "cr"}, []string{"crash"}, none},
		"side of a drill":  {[]string{"drill", "partition", "--side", ""}, []string{"majority", "minority"}, none},
		"commands of ours": {[]string{"s"}, []string{"switchover"}, none},
	} {
		t.Run(name, func(t *testing.T) {
			got, directive := offered(t, tt.args...)
			for _, w := range tt.want {
				if !slices.Contains(got, w) {
					t.Errorf("%q offers %q; want %s", tt.args, got, w)
				}
			}
			if directive != tt.directive {
				t.Errorf("%q ends with %s; want %s", tt.args, directive, tt.directive)
			}
		})
	}
	if got, _ := offered(t, ""); slices.Contains(got, "man") {
		t.Errorf("a hidden command is offered: %q", got)
	}
}

// Each shell takes its script, where that shell is installed; and bash completes by it.
func TestCompletionScripts(t *testing.T) {
	dir := t.TempDir()
	for shell, check := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"-n"}, "powershell": nil} {
		var out bytes.Buffer
		root := newRoot(nil, newFakes().parts())
		root.SetArgs([]string{"completion", shell})
		root.SetOut(&out)
		if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), "sentinelproxy") {
			t.Errorf("completion %s: %v, %d bytes", shell, err, out.Len())
		}
		file := filepath.Join(dir, shell)
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := exec.LookPath(shell)
		if err != nil || check == nil {
			continue
		}
		if b, err := exec.CommandContext(t.Context(), path, append(check, file)...).CombinedOutput(); err != nil {
			t.Errorf("%s does not take its script: %v: %s", shell, err, b)
		}
	}

	bash := needTool(t, "bash")
	// The program, as the script calls it.
	wrapper := "#!/bin/sh\n" + asProgram + `=1 exec "` + os.Args[0] + `" "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "sentinelproxy"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	// _init_completion is what the package bash-completion has, without its corner cases.
	script := `source "$0/bash"
_init_completion() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
COMP_WORDS=(sentinelproxy run --log-level ""); COMP_CWORD=3; COMP_LINE="sentinelproxy run --log-level "; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
__start_sentinelproxy
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.CommandContext(t.Context(), bash, "-c", script, dir)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	b, err := cmd.Output()
	if got := strings.Fields(string(b)); err != nil || !slices.Equal(got, []string{"debug", "error", "info", "warn"}) && !slices.Equal(got, []string{"debug", "info", "warn", "error"}) {
		t.Errorf("bash completes --log-level by %q, %v", got, err)
	}
}

// Every command that help shows has a manual page, which tells of all its flags and
// which man reads without a complaint; and the same source makes the same pages.
func TestManualPages(t *testing.T) {
	write := func(environ ...string) string {
		dir := t.TempDir()
		root := newRoot(environ, newFakes().parts())
		root.SetArgs([]string{"man", "--dir", dir})
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir, again := write("SOURCE_DATE_EPOCH=1767225600"), write("SOURCE_DATE_EPOCH=1767225600")
	pages, err := filepath.Glob(dir + "/*.1")
	if err != nil || len(pages) < 5 {
		t.Fatalf("pages %q, %v", pages, err)
	}
	man, manErr := exec.LookPath("man")
	for _, p := range pages {
		a, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(again, filepath.Base(p)))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs from one run to the next (%v)", filepath.Base(p), err)
		}
		if !strings.Contains(string(a), `"2026\-01\-01"`) {
			t.Errorf("%s does not have the date of SOURCE_DATE_EPOCH", filepath.Base(p))
		}
		if manErr != nil {
			continue
		}
		cmd := exec.CommandContext(t.Context(), man, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", p)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=")
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		if err := cmd.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("man %s: %v: %s", filepath.Base(p), err, complaints.String())
		}
	}

	page, err := os.ReadFile(filepath.Join(dir, "sentinelproxy-run.1"))
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(ti`, "~", `\(ha`, "^", `\(ga`, "`", `\e`, `\`).Replace(string(page))
	cmd, _, err := newRoot(nil, newFakes().parts()).Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	for f := range strings.FieldsSeq(cmd.LocalFlags().FlagUsages()) {
		if strings.HasPrefix(f, "--") && !strings.Contains(plain, "\n.B \""+strings.TrimRight(f, ",;")) && !strings.Contains(plain, f) {
			t.Errorf("the page of run does not tell of %s", f)
		}
	}
	if !strings.Contains(plain, "read:apikey-*=stale") {
		t.Error("an asterisk was taken for markup")
	}

	root := newRoot([]string{"SOURCE_DATE_EPOCH=yesterday"}, newFakes().parts())
	root.SetArgs([]string{"man", "--dir", t.TempDir()})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "want seconds since 1970") {
		t.Errorf("a date that is none: %v", err)
	}
}
