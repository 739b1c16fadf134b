package main

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runBench runs the program and returns its exit code and what it complained of.
func runBench(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	if out.Len() > 0 {
		t.Errorf("bench %q printed %q; want nothing on stdout", args, out.String())
	}
	return code, errs.String()
}

func TestWrongUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want []string // each in stderr
	}{
		"unknown flag":    {[]string{"--fast"}, []string{"-fast"}},
		"argument":        {[]string{"quickly"}, []string{`"quickly"`}},
		"cell":            {[]string{"--cells", "c50"}, []string{"--cells", `"c50"`}},
		"candidate":       {[]string{"--candidates", "direct,envoy"}, []string{`"envoy"`, "twemproxy"}},
		"rounds":          {[]string{"--rounds", "-1"}, []string{"--rounds", "-1"}},
		"connections":     {[]string{"idle", "--connections", "-1"}, []string{"--connections"}},
		"subscribers":     {[]string{"subscribers", "--subscribers", "0"}, []string{"--subscribers"}},
		"all are told":    {[]string{"--rounds", "-1", "--cells", "x", "--candidates", "y"}, []string{"--rounds", "--cells", "--candidates"}},
		"idle has no set": {[]string{"idle", "--short"}, []string{"-short"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := runBench(t, tt.args...)
			if code != exitUsage {
				t.Errorf("bench %q: exit %d; want %d", tt.args, code, exitUsage)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("bench %q says %q; want %q in it", tt.args, stderr, want)
				}
			}
		})
	}
}

func TestHelp(t *testing.T) {
	code, stderr := runBench(t, "--help")
	if code != exitOK || !strings.Contains(stderr, "-candidates") {
		t.Errorf("bench --help: exit %d, printed %q; want 0 and the flags", code, stderr)
	}
}
