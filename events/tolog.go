package events

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
)

// ToLog logs the events that their publishers do not log themselves, until ctx ends; then
// it logs what is left and returns.
func ToLog(ctx context.Context, s *Stream, log *slog.Logger) {
	own := make(map[Kind]bool)
	for _, e := range Catalogue() {
		own[e.Kind] = e.Line != ""
	}
	write := func(list []Event, missed uint64) {
		if missed > 0 {
			log.Warn("events not logged: too many at once", "missed", missed)
		}
		for _, e := range list {
			if !own[e.Kind()] {
				logEvent(log, e)
			}
		}
	}
	r := s.Reader("log", s.First())
	for {
		list, missed, err := r.Next(ctx)
		if err != nil {
			break
		}
		write(list, missed)
	}
	for list, missed := r.Rest(); len(list) > 0; list, missed = r.Rest() {
		write(list, missed)
	}
}

// logEvent writes one event: its kind in words, and its fields.
func logEvent(log *slog.Logger, e Event) {
	attrs := []slog.Attr{slog.String("event", string(e.Kind())), slog.Uint64("event_id", e.ID)}
	if e.Master != "" {
		attrs = append(attrs, slog.String("master_name", e.Master))
	}
	attrs = append(attrs, attrsOf(reflect.ValueOf(e.Body))...)
	log.LogAttrs(context.Background(), levelOf(e.Severity()), Phrase(e.Kind()), attrs...) //nolint:sloglint // one phrase per kind
}

func attrsOf(v reflect.Value) []slog.Attr {
	var attrs []slog.Attr
	for f, x := range v.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			attrs = append(attrs, attrsOf(x)...)
		case name == "-", strings.Contains(opts, "omitempty") && x.IsZero():
		default:
			attrs = append(attrs, slog.Any(name, x.Interface()))
		}
	}
	return attrs
}

func levelOf(s Severity) slog.Level {
	switch s {
	case Info:
		return slog.LevelInfo
	case Warning:
		return slog.LevelWarn
	case Critical:
	}
	return slog.LevelError
}

// Phrase returns a kind's name as words: "replica lost".
func Phrase(k Kind) string {
	var b strings.Builder
	for i, r := range string(k) {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte(' ')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
