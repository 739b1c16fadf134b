package events

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

var update = flag.Bool("update", false, "rewrite the generated part of docs/events.md")

// docs/events.md says what the code does.
func TestReferencePage(t *testing.T) {
	const page = "../docs/events.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), "-update -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- /events -->")
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost its marks", page)
	}
	want := before + "-update -->\n" + Reference() + "<!-- /events -->" + after
	if want == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; run go test ./events -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every kind is told whole, and its JSON is what its documentation says.
func TestCatalogue(t *testing.T) {
	common := fieldsOf(reflect.TypeFor[head]())
	seen := map[Kind]bool{}
	for _, e := range Catalogue() {
		t.Run(string(e.Kind), func(t *testing.T) {
			if seen[e.Kind] {
				t.Error("listed twice")
			}
			seen[e.Kind] = true
			if e.When == "" || e.Do == "" || !Known(e.Kind) {
				t.Error("not documented")
			}
			if !slices.Contains(e.Severities(), e.body.tell().severity) {
				t.Errorf("severity %v is not among %v", e.body.tell().severity, e.Severities())
			}
			for _, f := range e.Fields() {
				if f.Name == "" || f.Doc == "" {
					t.Errorf("field %+v", f)
				}
				if slices.ContainsFunc(common, func(c Field) bool { return c.Name == f.Name }) {
					t.Errorf("field %s hides that of every event", f.Name)
				}
			}
			b, err := json.Marshal(Event{ID: 7, At: time.Unix(0, 0), Master: "m", Sidecar: "s", Body: e.body})
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if got["event"] != string(e.Kind) || got["timestamp"] != "1970-01-01T00:00:00Z" || got["master_name"] != "m" ||
				got["sidecar"] != "s" || got["id"] != 7.0 || got["message"] == "" || got["severity"] == "" {
				t.Errorf("JSON %s", b)
			}
			for name := range got {
				if !slices.ContainsFunc(append(slices.Clone(common), e.Fields()...), func(f Field) bool { return f.Name == name }) {
					t.Errorf("JSON has %s, which is not documented", name)
				}
			}
		})
	}
}

// What others say is one line of bounded length, wherever it is told.
func TestTextIsBounded(t *testing.T) {
	long := Text("a\nb\x00" + strings.Repeat("x", 10_000) + "\xff")
	b, err := json.Marshal(Event{Body: ReplicaLost{Replica: "a:1", Err: long}})
	if err != nil || len(b) > 2000 || !strings.Contains(string(b), `"error":"a b`) {
		t.Errorf("%d bytes, %v: %s", len(b), err, b)
	}
	var log bytes.Buffer
	s := newStream("s", 4)
	s.Publish("m", ReplicaLost{Replica: "a:1", Err: long})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ToLog(ctx, s, slog.New(slog.NewTextHandler(&log, nil)))
	if strings.Count(log.String(), "\n") != 1 || log.Len() > 2000 {
		t.Errorf("log %q", log.String())
	}
}

// The log has one line for each event whose publisher writes none.
func TestToLog(t *testing.T) {
	var log bytes.Buffer
	s := newStream("s", 64)
	s.Publish("m", RouteHeld{Master: "a:1"}) // the route tells it
	s.Publish("m", ReplicaLagging{Replica: "a:1", Lag: 1500, Bytes: 7})
	s.Publish("", DrillEnded{Drill: "x", Kind: "crash", Outcome: "passed"})
	s.Publish("m", CertificateExpired{Certificate{ID: "ab", Name: "n", Role: "server", Sources: []string{"f"}}, 3})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what is there is logged still
	ToLog(ctx, s, slog.New(slog.NewTextHandler(&log, nil)))
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for i, want := range []string{
		`level=WARN msg="replica lagging" event=ReplicaLagging `, `level=INFO msg="drill ended" event=DrillEnded `,
		`level=ERROR msg="certificate expired" event=CertificateExpired `,
	} {
		if len(lines) != 3 || !strings.Contains(lines[i], want) {
			t.Fatalf("log %s; want %s in line %d of 3", log.String(), want, i+1)
		}
	}
	if !strings.Contains(lines[0], "master_name=m replica=a:1 lag_ms=1500 lag_bytes=7 link_up=false") {
		t.Errorf("line %s", lines[0])
	}
	if !strings.Contains(lines[2], "cert_id=ab cert_name=n cert_role=server") || !strings.Contains(lines[2], "days_since_expiry=3") {
		t.Errorf("line %s", lines[2])
	}
}

func TestCollector(t *testing.T) {
	s := newStream("s", 2)
	s.Publish("m", RouteHeld{Everyday: true})
	s.Publish("m", RouteHeld{})
	s.Publish("m", RouteHeld{})
	s.Reader("log", s.First()).Rest()
	want := `
# HELP sentinelproxy_events_missed_total Events that a slow reader did not get.
# TYPE sentinelproxy_events_missed_total counter
sentinelproxy_events_missed_total{reader="log"} 1
`
	if err := testutil.CollectAndCompare(s.Collector(), strings.NewReader(want), "sentinelproxy_events_missed_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(s.Collector(), "sentinelproxy_events_total"); n < len(Kinds()) {
		t.Errorf("%d series; want one for each kind from the start, at least %d", n, len(Kinds()))
	}
	if s.counts[count{"RouteHeld", Warning}] != 2 || s.counts[count{"RouteHeld", Info}] != 1 {
		t.Errorf("counts %v", s.counts)
	}
}
