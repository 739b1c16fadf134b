package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Origin is where a value was written.
type Origin struct {
	File string // the YAML file; "" for a flag, a variable or a default
	Line int    // in File, from 1; 0 for the file as a whole
	Key  string // YAML path, "--flag" or variable
}

// String returns "file:line: key", or the key alone outside a file.
func (o Origin) String() string {
	switch {
	case o.File == "":
		return o.Key
	case o.Line == 0 && o.Key == "":
		return o.File
	case o.Line == 0:
		return o.File + ": " + o.Key
	case o.Key == "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	}
	return fmt.Sprintf("%s:%d: %s", o.File, o.Line, o.Key)
}

// Mistake is one thing that is wrong with the configuration, told in one line.
type Mistake struct {
	Origin  Origin
	Problem string // what was found, and what would be valid
}

// String returns "where: what", in one line.
func (m Mistake) String() string {
	// A file can put anything into a key or value: one mistake stays one line.
	return oneLine(m.Origin.String() + ": " + m.Problem)
}

// InvalidError says that a configuration can't be used. It tells everything
// that is wrong, not the first thing alone.
type InvalidError struct {
	Mistakes []Mistake // at least one
}

// Error returns one line per mistake.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// mistakes collects.
type mistakes []Mistake

// add appends a mistake unless the same was reported before: one value may
// serve several masters.
func (ms *mistakes) add(o Origin, format string, args ...any) {
	m := Mistake{Origin: o, Problem: fmt.Sprintf(format, args...)}
	if !slices.Contains(*ms, m) {
		*ms = append(*ms, m)
	}
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// quote shows what was found, cut where it is long.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:most], ""))
	}
	return fmt.Sprintf("%q", s)
}

// bare returns what an error of a file says beside its name, which the caller tells.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
