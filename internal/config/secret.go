package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// maxPasswordFile is far above any password and far below a file named by
// mistake, in bytes.
const maxPasswordFile = 4096

const redacted = "[redacted]"

// Secret is a password. Every way to print it prints a placeholder; Reveal is
// the only way to its text.
type Secret string

// Reveal returns the text, for the one place that sends it.
func (s Secret) Reveal() string { return string(s) }

// String returns a placeholder, or "" for the empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns what String does, for %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// LogValue returns what String does, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String does, for JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ReadPassword returns what a password file holds, as the settings' password files
// are read.
func ReadPassword(path string) (Secret, error) { return readPassword(os.ReadFile, path) }

// readPassword returns what the file at path holds, without one trailing
// newline. Its errors never quote the content.
func readPassword(read func(string) ([]byte, error), path string) (Secret, error) {
	b, err := read(path)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // the caller names the file already
		}
		return "", fmt.Errorf("cannot read the file: %w", err)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case len(b) > maxPasswordFile:
		return "", fmt.Errorf("the file holds %d bytes; a password has at most %d", len(b), maxPasswordFile)
	case s == "":
		return "", errors.New("the file is empty")
	case strings.ContainsAny(s, "\r\n"):
		return "", errors.New("the file holds more than one line")
	}
	return Secret(s), nil
}
