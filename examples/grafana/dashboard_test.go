package grafana

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/metricspage"
)

var update = flag.Bool("update", false, "rewrite dashboard.json")

const file = "dashboard.json"

func TestDashboardIsCurrent(t *testing.T) {
	want, err := Dashboard()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // for everybody
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what dashboard.go says (%v): go test ./examples/grafana -update", file, err)
	}
}

// load reads the file as Grafana would.
func load(t *testing.T) dashboard {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Each expression speaks of metrics and labels that there are, and each legend of labels
// that its expression leaves.
func TestDashboardMetrics(t *testing.T) {
	page, err := metricspage.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	d := load(t)
	for _, v := range d.Templating.List {
		for _, wrong := range metricspage.Check(page, nil, v.Query) {
			t.Errorf("variable %s: %s", v.Name, wrong)
		}
	}
	ids, shown := make(map[int]bool), 0
	label, by := regexp.MustCompile(`\{\{(\w+)\}\}`), regexp.MustCompile(`\bby \(([^)]*)\)`)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is another panel's", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, tg := range p.Targets {
			shown++
			for _, wrong := range metricspage.Check(page, nil, tg.Expr) {
				t.Errorf("%s: %s", p.Title, wrong)
			}
			left := by.FindStringSubmatch(tg.Expr)
			for _, l := range label.FindAllStringSubmatch(tg.LegendFormat, -1) {
				if left != nil && !strings.Contains(", "+left[1]+",", ", "+l[1]+",") {
					t.Errorf("%s: the legend has %s, which %s does not leave", p.Title, l[1], tg.Expr)
				}
			}
		}
	}
	if shown == 0 {
		t.Error("no expressions")
	}
}

// Prometheus' own parser takes every expression.
func TestDashboardExpressions(t *testing.T) {
	tool := metricspage.Tool(t, "promtool")
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range load(t).Panels {
		for _, tg := range p.Targets {
			n++
			fmt.Fprintf(&rules, "  - record: dashboard:%d\n    expr: %q\n", n, strings.ReplaceAll(tg.Expr, "$__rate_interval", "1m"))
		}
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
