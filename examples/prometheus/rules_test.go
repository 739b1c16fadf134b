// Package prometheus tests the rules that users copy; it holds nothing else.
package prometheus

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
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

// The job that stands in comments is good, too, with the files that it names.
func TestCommentedJob(t *testing.T) {
	tool := metricspage.Tool(t, "promtool")
	b, err := os.ReadFile("prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text, jobs := strings.ReplaceAll(string(b), "  # ", "  "), strings.Count(string(b), "# - job_name")
	if jobs != 1 {
		t.Errorf("%d jobs in comments; want one", jobs)
	}
	text = strings.ReplaceAll(text, "/etc/prometheus/", dir+"/")
	pem := string(certtest.MustCA(t).PEM)
	for name, text := range map[string]string{"prometheus.yml": text, "rules.yml": "groups: []\n", "admin-token": "a token\n", "admin-ca.crt": pem} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), tool, "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

// What the guides show of Prometheus' files is good where it belongs, and speaks of
// metrics that there are.
func TestGuides(t *testing.T) {
	tool := metricspage.Tool(t, "promtool")
	page, err := metricspage.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	indent := func(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") }
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")
	checked := map[string]int{}
	for _, name := range []string{"tls", "operations", "metrics", "events", "kubernetes"} {
		b, err := os.ReadFile("../../docs/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(b), -1) {
			var text string
			var args []string
			switch {
			case strings.HasPrefix(m[1], "- alert:"), strings.HasPrefix(m[1], "- record:"):
				args, text = []string{"check", "rules"}, "groups:\n- name: guide\n  rules:\n    "+indent(m[1])+"\n"
				var r rules
				if err := yaml.Unmarshal([]byte(text), &r); err != nil {
					t.Fatalf("%s.md: %v\n%s", name, err, text)
				}
				for _, rule := range r.Groups[0].Rules {
					for _, wrong := range metricspage.Check(page, nil, rule.Expr) {
						t.Errorf("%s.md: %s%s: %s", name, rule.Record, rule.Alert, wrong)
					}
				}
			case strings.HasPrefix(m[1], "scheme:"):
				args, text = []string{"check", "config", "--syntax-only"}, "scrape_configs:\n  - job_name: guide\n    "+indent(m[1])+"\n"
			default:
				continue
			}
			checked[args[1]]++
			file := filepath.Join(t.TempDir(), "guide.yml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), tool, append(args, file)...).CombinedOutput(); err != nil {
				t.Errorf("%s.md: %v\n%s\n%s", name, err, out, text)
			}
		}
	}
	if checked["rules"] == 0 || checked["config"] == 0 {
		t.Errorf("found %v; are they written otherwise now?", checked)
	}
}
