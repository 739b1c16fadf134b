// Package prometheus tests the rules that users copy; it holds nothing else.
package prometheus

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sentinelproxy/sentinelproxy/internal/metricspage"
)

type rules struct {
	Groups []struct {
		Rules []struct {
			Record      string            `yaml:"record"`
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

type unitTests struct {
	Tests []struct {
		Alerts []struct {
			Name string           `yaml:"alertname"`
			Want []map[string]any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Rules speak of metrics that there are; each alert says what it is, and has been seen to
// fire.
func TestRules(t *testing.T) {
	page, err := metricspage.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var r rules
	var u unitTests
	load(t, "rules.yml", &r)
	load(t, "rules_test.yml", &u)
	fires := make(map[string]bool)
	for _, test := range u.Tests {
		for _, a := range test.Alerts {
			fires[a.Name] = fires[a.Name] || len(a.Want) > 0
		}
	}
	var recorded []string
	alerts := 0
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			if rule.Record != "" {
				recorded = append(recorded, rule.Record)
			}
		}
	}
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			for _, wrong := range metricspage.Check(page, recorded, rule.Expr) {
				t.Errorf("%s%s: %s", rule.Record, rule.Alert, wrong)
			}
			if rule.Alert == "" {
				continue
			}
			alerts++
			if s := rule.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", rule.Alert, s)
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: no summary or no description", rule.Alert)
			}
			if !strings.HasPrefix(rule.Alert, "Sentinelproxy") {
				t.Errorf("%s: not named for us", rule.Alert)
			}
			if !fires[rule.Alert] {
				t.Errorf("%s: no test in rules_test.yml has it fire", rule.Alert)
			}
		}
	}
	if alerts == 0 || len(recorded) == 0 {
		t.Errorf("%d alerts, %d recorded", alerts, len(recorded))
	}
}

// Prometheus' own tool: the files are good, and the rules do what their tests say.
func TestPromtool(t *testing.T) {
	tool := metricspage.Tool(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "rules_test.yml"}} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
