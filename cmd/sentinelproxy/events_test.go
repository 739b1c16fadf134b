package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// eventsOf returns the names of what was published so far.
func eventsOf(s *sidecar) []string {
	list, _ := s.teller.stream.Since(0, 1000)
	var names []string
	for _, e := range list {
		names = append(names, string(e.Kind()))
	}
	return names
}

// A webhook comes, changes and goes by SIGHUP; so does what is set of certificates.
func TestWebhooksAreReloaded(t *testing.T) {
	var first, second atomic.Int64
	count := func(n *atomic.Int64) string {
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) }))
		t.Cleanup(srv.Close)
		return srv.URL + "/T0PS3CRET"
	}
	hook := func(name, url string) config.Webhook {
		return config.Webhook{Name: name, URL: config.Secret(url), Timeout: time.Second, MinSeverity: events.Info}
	}
	cfg := testConfig()
	cfg.Webhooks = []config.Webhook{hook("a", count(&first))}
	f := newFakes()
	s, _ := startFakes(t, f, cfg)
	var out buffer
	s.log = newLogger(&out, config.LogText, new(slog.LevelVar))
	waitFor(t, "the start to be told", func() bool { return first.Load() == 1 })

	next := cfg
	next.Webhooks = []config.Webhook{hook("b", count(&second))}
	next.Certificates.WarnDays = 7
	r := newReloader(s, func() (config.Config, error) { return next, nil }, new(slog.LevelVar))
	r.reload()
	for _, want := range []string{"setting=webhooks", "setting=certificates.warning_threshold_days", "applied=2 waiting=0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log %q; want %s", out.String(), want)
		}
	}
	// The reload itself may come before the new hook begins to listen.
	waitFor(t, "the new webhook to be told", func() bool {
		s.teller.process(events.ConfigRejected{Mistakes: 1})
		return second.Load() > 0
	})
	before := first.Load()
	if before > 2 {
		t.Errorf("the webhook that went was told %d times", before)
	}
	if out := out.String(); strings.Contains(out, "T0PS3CRET") {
		t.Errorf("an address is in the log: %s", out)
	}
	r.reload()
	if !strings.Contains(out.String(), "applied=0 waiting=0") {
		t.Errorf("log %q; want nothing left to apply", out.String())
	}
}

// A start, a refused reload, a stop: each is told, the last one too.
func TestProcessEvents(t *testing.T) {
	s, stop := startFakes(t, newFakes(), testConfig())
	r := newReloader(s, func() (config.Config, error) {
		return config.Config{}, &config.InvalidError{Mistakes: []config.Mistake{{Problem: "T0PS3CRET"}, {}}}
	}, new(slog.LevelVar))
	r.reload()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(eventsOf(s), " "); got != "SidecarStarted ConfigRejected SidecarStopping" {
		t.Errorf("published %s", got)
	}
	list, _ := s.teller.stream.Since(0, 10)
	for _, e := range list {
		if b, err := e.MarshalJSON(); err != nil || strings.Contains(string(b), "T0PS3CRET") {
			t.Errorf("%s: %v", b, err)
		}
	}
}

// A drill tells the sidecar when it begins, and how it ended; one without a way to do so
// goes on all the same.
func TestDrillIsAnnounced(t *testing.T) {
	cfg := testConfig()
	cfg.Control.Socket = filepath.Join(t.TempDir(), "c.sock")
	s, _ := startFakes(t, newFakes(), cfg)
	o := orders{at: cfg.Control}
	var said []string
	say := func(line string) { said = append(said, line) }
	for outcome, err := range map[string]error{
		"passed": nil,
		"failed": &exitError{exitVerdict, http.ErrBodyNotAllowed},
		"broken": impossible(http.ErrBodyNotAllowed),
	} {
		before := len(eventsOf(s))
		o.announce(t.Context(), control.Drill{Master: "a", Kind: "crash", Report: "/r.html"}, say)(err)
		list, _ := s.teller.stream.Since(s.teller.stream.First()+uint64(before), 10)
		if len(list) != 2 {
			t.Fatalf("%s: %d events; want begun and ended", outcome, len(list))
		}
		begun, ok1 := list[0].Body.(events.DrillBegun)
		ended, ok2 := list[1].Body.(events.DrillEnded)
		if !ok1 || !ok2 || begun.Drill != ended.Drill || begun.Kind != "crash" || ended.Outcome != outcome || list[1].Master != "a" ||
			begun.Report != "/r.html" || (ended.Report == "") != (outcome == "broken") {
			t.Errorf("%s: %+v %+v", outcome, list[0], list[1])
		}
	}
	if len(said) > 0 {
		t.Errorf("said %q", said)
	}
	o.announce(t.Context(), control.Drill{Master: "nobody", Kind: "crash"}, say)(nil)
	if len(said) != 2 || !strings.Contains(said[0], `no master "nobody"`) {
		t.Errorf("said %q; want the refusal, twice", said)
	}
	orders{}.announce(t.Context(), control.Drill{Master: "a", Kind: "crash"}, say)(nil)
	if len(said) != 2 {
		t.Errorf("said %q", said)
	}
}
