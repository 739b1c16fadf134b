package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// screen tells the demo as it goes: lines, and on a terminal one more line below
// them that is always up to date. It is safe for concurrent use.
type screen struct {
	// Fixed at construction.
	w     io.Writer
	width func() int // columns; nil where w is no terminal

	mu    sync.Mutex // guards what is written, and the field below
	drawn bool       // the live line is there
}

const (
	clearLine    = "\r\x1b[K"
	screenPeriod = 100 * time.Millisecond
)

// newScreen writes to w, with a live line if that is a terminal that can have one.
func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.width = func() int {
		cols, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80
		}
		return cols
	}
	return s
}

// plain returns the screen without its live line, for when others write to the
// terminal too.
func (s *screen) plain() *screen { return &screen{w: s.w} }

// say writes a line, or several.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// run keeps the live line up to date until ctx ends, and then removes it.
func (s *screen) run(ctx context.Context, line func() string) {
	if s.width == nil {
		return
	}
	tick := time.NewTicker(screenPeriod)
	defer tick.Stop()
	for {
		s.draw(line())
		select {
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.erase()
			return
		case <-tick.C:
		}
	}
}

// draw replaces the live line.
func (s *screen) draw(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	runes := []rune(line)
	if most := max(0, s.width()-1); len(runes) > most {
		runes = runes[:most] // a line that wraps could not be replaced
	}
	fmt.Fprint(s.w, clearLine+string(runes))
	s.drawn = true
}

// erase removes the live line. s.mu is held.
func (s *screen) erase() {
	if s.drawn {
		fmt.Fprint(s.w, clearLine)
		s.drawn = false
	}
}

// seconds prints a duration in the precision that people read.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }

// thousands prints a count with its digits in groups.
func thousands(n int) string {
	s := fmt.Sprint(n)
	var groups []string
	for len(s) > 3 {
		groups = append([]string{s[len(s)-3:]}, groups...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, groups...), " ")
}

// plural prints a count and its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}
