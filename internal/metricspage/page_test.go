package metricspage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, rows string) (map[string]Metric, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metrics.md")
	if err := os.WriteFile(path, []byte("# Metrics\n\n| metric | type | unit | labels | meaning | when |\n| --- | --- | --- | --- | --- | --- |\n"+rows), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(path)
}

func TestRead(t *testing.T) {
	page, err := read(t, "| `sentinelproxy_a_total` | counter | times | `node`, `why` (x, y) | what | look |\n")
	m := page["sentinelproxy_a_total"]
	if err != nil || len(page) != 1 || m.Type != "counter" || m.Unit != "times" || len(m.Labels) != 2 || strings.Join(m.Labels["why"], "+") != "x+y" {
		t.Errorf("%v %+v", err, page)
	}
	for rows, want := range map[string]string{
		"| `a` | gauge | s | | what |\n":                                             "a row of 5 cells",
		"| `a` | gauge | | | what | look |\n":                                        "no unit",
		"| `a` | gauge | s | | | look |\n":                                           "no meaning",
		"| `a` | gauge | s | | what | |\n":                                           "nothing to do",
		"| `a` | gauge | s | | what | look |\n| `a` | gauge | s | | what | look |\n": "twice",
	} {
		if _, err := read(t, rows); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", rows, err, want)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.md")); err == nil {
		t.Error("no page: no error")
	}
}

func TestCheck(t *testing.T) {
	page := map[string]Metric{
		"sentinelproxy_a_total":   {Type: "counter", Labels: map[string][]string{"why": {"x", "y"}, "node": nil}},
		"sentinelproxy_b_seconds": {Type: "histogram"},
	}
	for expr, want := range map[string]string{
		`sum by (why) (rate(sentinelproxy_a_total{why=~"x|y", node="n:1", job="j"}[1m])) > 0`: "",
		`histogram_quantile(0.9, sum by (le) (rate(sentinelproxy_b_seconds_bucket[5m])))`:     "",
		`a:recorded:rate1m * 2`:                    "",
		`a:missing:rate1m`:                         "a:missing:rate1m is neither",
		`sentinelproxy_a`:                          "sentinelproxy_a is neither",
		`sentinelproxy_a_total_count`:              "is neither",
		`sentinelproxy_b_seconds`:                  "is neither", // has no series of that name
		`sentinelproxy_a_total{how="x"}`:           "has no label how",
		`sentinelproxy_a_total{why!="z"}`:          `has no why="z"`,
		`up + sentinelproxy_a_total{why=~"x|z|y"}`: `has no why="z"`,
	} {
		got := strings.Join(Check(page, []string{"a:recorded:rate1m"}, expr), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q; want %q", expr, got, want)
		}
	}
}
