package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// deadmanAtWork runs a dead-man in this process that writes to a file when it acts.
type deadmanAtWork struct {
	in   *io.PipeWriter
	done chan error
	file string
	said *bytes.Buffer // read once done
}

func startDeadman(ctx context.Context, t *testing.T, after time.Duration) *deadmanAtWork {
	t.Helper()
	d := &deadmanAtWork{done: make(chan error, 1), file: filepath.Join(t.TempDir(), "healed"), said: new(bytes.Buffer)}
	in, inW := io.Pipe()
	outR, out := io.Pipe()
	d.in = inW
	go func() { d.done <- RunDeadman(ctx, in, out, d.said) }()
	t.Cleanup(func() { _ = inW.Close() })
	w := will{undo{Shell: `echo "$WHAT" > ` + d.file, Env: []string{"WHAT=healed"}}, after}
	if err := json.NewEncoder(inW).Encode(w); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, len(wordArmed))
	if _, err := io.ReadFull(outR, word); err != nil || string(word) != wordArmed {
		t.Fatalf("it says %q, %v; want that it stands by", word, err)
	}
	return d
}

// acted waits for the dead-man's end, and returns what it wrote.
func (d *deadmanAtWork) acted(t *testing.T) string {
	t.Helper()
	select {
	case err := <-d.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the dead-man does not end")
	}
	b, err := os.ReadFile(d.file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func TestDeadman(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip(err)
	}
	for name, tt := range map[string]struct {
		after time.Duration
		end   func(d *deadmanAtWork, cancel func())
		want  string // in the file
		said  string
	}{
		"the drill dies": {
			time.Hour, func(d *deadmanAtWork, _ func()) { _ = d.in.Close() }, "healed", "the drill died",
		},
		"the drill takes too long": {
			time.Millisecond, func(*deadmanAtWork, func()) {}, "healed", "has not undone it",
		},
		"told to end": {
			time.Hour, func(_ *deadmanAtWork, cancel func()) { cancel() }, "healed", "told to end",
		},
		"disarmed": {
			time.Hour, func(d *deadmanAtWork, _ func()) { _, _ = io.WriteString(d.in, wordDisarm) }, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d := startDeadman(ctx, t, tt.after)
			tt.end(d, cancel)
			if got := d.acted(t); got != tt.want {
				t.Errorf("it wrote %q; want %q", got, tt.want)
			}
			if !strings.Contains(d.said.String(), tt.said) {
				t.Errorf("it said %q; want %q", d.said, tt.said)
			}
		})
	}
}

// What cannot be undone is tried again, and told.
func TestUndoFails(t *testing.T) {
	u := undo{Shell: "exit 3"}
	err := u.do(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v; want the exit status", err)
	}
}

// No dead-man says a password.
func TestUndoKeepsSecrets(t *testing.T) {
	for _, u := range []undo{
		{Ask: &errand{"a:1", Login{"me", "secret"}, []string{"PING"}}},
		{Sweep: &errand{"a:1", Login{"me", "secret"}, []string{"drill:"}}},
		{Shell: "heal", Env: []string{"A=secret"}},
		{Continue: 7},
		{},
	} {
		if s := u.String(); s == "" || strings.Contains(s, "secret") {
			t.Errorf("it says %q", s)
		}
	}
}
