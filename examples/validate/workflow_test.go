package validate

import (
	"bytes"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rhysd/actionlint"
)

const workflow = "../../.github/workflows/ci.yml"

// The workflow is what GitHub takes, and does what .ci/run does and nothing else: all of it
// but for Docker where no engine is, and that where one is.
func TestWorkflow(t *testing.T) {
	b, err := os.ReadFile(workflow)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l, err := actionlint.NewLinter(&out, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	errs, err := l.Lint("ci.yml", b, nil)
	if err != nil || len(errs) > 0 {
		t.Fatalf("actionlint: %v\n%s", err, out.String())
	}

	type step struct {
		Uses string            `yaml:"uses"`
		Run  string            `yaml:"run"`
		With map[string]string `yaml:"with"`
	}
	var w struct {
		Name        string            `yaml:"name"`
		On          map[string]any    `yaml:"on"`
		Permissions map[string]string `yaml:"permissions"`
		Concurrency map[string]any    `yaml:"concurrency"`
		Jobs        map[string]struct {
			RunsOn    string            `yaml:"runs-on"`
			Container map[string]string `yaml:"container"`
			Timeout   int               `yaml:"timeout-minutes"`
			Env       map[string]string `yaml:"env"`
			Steps     []step            `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&w); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
		t.Errorf("permissions %v; want contents: read alone", w.Permissions)
	}
	pinned := regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40}$`)
	runs := make(map[string][]string)
	for name, job := range w.Jobs {
		if job.Timeout == 0 {
			t.Errorf("job %s has no timeout-minutes", name)
		}
		for _, s := range job.Steps {
			if s.Uses != "" && !pinned.MatchString(s.Uses) {
				t.Errorf("action %q is not pinned by its commit", s.Uses)
			}
			if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != "false" {
				t.Error("the token stays in the checkout")
			}
			if s.Run != "" {
				runs[name] = append(runs[name], s.Run)
			}
		}
	}
	want := map[string][]string{"run": {".ci/run"}, "docker": {
		"docker compose --profile compare --profile observe pull redis-a haproxy prometheus", "make docker-ci",
	}}
	if !maps.EqualFunc(runs, want, slices.Equal) {
		t.Errorf("the jobs run %q; want %q", runs, want)
	}
	// With an engine .ci/run does itself what the other job does.
	ci, err := os.ReadFile("../../.ci/run")
	if err != nil || !strings.Contains(string(ci), "step make docker-ci\n") {
		t.Errorf(".ci/run without make docker-ci (%v)", err)
	}
	// The container has the Go that the Dockerfile has.
	compose, err := os.ReadFile("../../docker-compose.yml")
	version := regexp.MustCompile(`GO_IMAGE:-golang:([\d.]+)`).FindSubmatch(compose)
	if err != nil || version == nil || w.Jobs["run"].Container["image"] != "golang:"+string(version[1])+"-bookworm" {
		t.Errorf("the container is %q; docker-compose.yml has %q (%v)", w.Jobs["run"].Container["image"], version, err)
	}
	if info, err := os.Stat("../../.ci/run"); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf(".ci/run: %v; want a program", err)
	}
}
