package config

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// files is a file system of a test: path to content.
type files map[string]string

func (f files) read(path string) ([]byte, error) {
	s, ok := f[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(s), nil
}

// load loads from flags, variables and files. A file named c.yaml is the
// configuration.
func load(tb testing.TB, args, env []string, fsys files) (Config, error) {
	tb.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags := AddFlags(set)
	if _, ok := fsys["c.yaml"]; ok {
		args = append([]string{"--config", "c.yaml"}, args...)
	}
	if err := set.Parse(args); err != nil {
		tb.Fatalf("parse %q: %v", args, err)
	}
	return Load(Sources{Flags: flags, Environ: env, ReadFile: fsys.read})
}

func mustLoad(tb testing.TB, args, env []string, fsys files) Config {
	tb.Helper()
	cfg, err := load(tb, args, env, fsys)
	if err != nil {
		tb.Fatalf("load: unexpected mistakes:\n%v", err)
	}
	return cfg
}

// mistakesOf returns the mistakes' lines.
func mistakesOf(tb testing.TB, err error) []string {
	tb.Helper()
	ms, ok := errors.AsType[*InvalidError](err)
	if !ok {
		tb.Fatalf("load returned %T (%v); want *InvalidError", err, err)
	}
	lines := strings.Split(ms.Error(), "\n")
	if len(lines) != len(ms.Mistakes) {
		tb.Errorf("%d mistakes in %d lines; want one line each:\n%v", len(ms.Mistakes), len(lines), ms)
	}
	return lines
}
