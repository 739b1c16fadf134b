package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

func TestLogFormats(t *testing.T) {
	for format, want := range map[config.LogFormat]string{
		config.LogText: `level=INFO msg="route holds" took=1.5s wait=auto` + "\n",
		config.LogJSON: `"level":"INFO","msg":"route holds","took":"1.5s","wait":"auto"}` + "\n",
	} {
		var out buffer
		level := new(slog.LevelVar)
		log := newLogger(&out, format, level)
		log.Debug("not this")
		log.Info("route holds", "took", 1500*time.Millisecond, "wait", config.Wait{Auto: true})
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q; want one line that ends in %q", format, got, want)
		}
		level.Set(slog.LevelError)
		if log.Enabled(t.Context(), slog.LevelWarn) {
			t.Errorf("%s: warnings are logged at level error", format)
		}
	}
}
