package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

const (
	envPrefix  = "SENTINELPROXY_"
	configFlag = "config"
)

// Flags are the command line's values, as text: they are parsed together with
// all others, so that every mistake is told at once.
type Flags struct {
	values map[string]*textFlag // by flag
}

// AddFlags defines a flag for every setting, and --config, on fs.
func AddFlags(fs *pflag.FlagSet) *Flags {
	f := &Flags{values: map[string]*textFlag{}}
	add := func(name, kind, def, usage string, repeat bool) {
		v := &textFlag{kind: kind, repeat: repeat}
		fs.Var(v, name, usage)
		fs.Lookup(name).DefValue = def
		f.values[name] = v
	}
	add(configFlag, "path", "", "YAML file with the same settings, and several masters", false)
	for _, s := range settings() {
		add(s.flag, s.kind, s.def, s.usage, s.repeat)
	}
	return f
}

// Explain adds to pflag's complaint about an unknown flag which one was probably
// meant. Other errors it returns as they are.
func Explain(err error, fs *pflag.FlagSet) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var known []string
	fs.VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	name := unknown.GetSpecifiedName()
	if n := nearest(name, known); n != "" && len(name) > 1 {
		return fmt.Errorf("--%s: no such flag; did you mean --%s?", name, n)
	}
	return err
}

// get returns a flag's values and whether it was given.
func (f *Flags) get(name string) ([]string, bool) {
	if f == nil || f.values[name] == nil {
		return nil, false
	}
	v := f.values[name].texts
	return v, len(v) > 0
}

// textFlag is a pflag.Value that accepts any text.
type textFlag struct {
	kind   string
	repeat bool
	texts  []string // empty until the flag is given
}

// String returns what was given.
func (t *textFlag) String() string { return strings.Join(t.texts, ",") }

// Set keeps v; it never fails.
func (t *textFlag) Set(v string) error {
	if t.repeat {
		t.texts = append(t.texts, v)
	} else {
		t.texts = []string{v}
	}
	return nil
}

// Type names the kind of value in the usage text.
func (t *textFlag) Type() string { return t.kind }
