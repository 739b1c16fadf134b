package docker_test

import (
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// Every package that the images are built of is in the context of the build: the
// engine sends what .dockerignore lets through, and nothing else.
func TestBuildContext(t *testing.T) {
	text, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}",
		"./cmd/sentinelproxy", "./examples/docker/gateway")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for pkg := range strings.Lines(string(out)) {
		dir, ok := strings.CutPrefix(strings.TrimSpace(pkg), "github.com/sentinelproxy/sentinelproxy/")
		if !ok {
			continue
		}
		found++
		top := dir
		for d := path.Dir(dir); d != "."; d = path.Dir(d) {
			top = d
		}
		if !slices.Contains(lines, "!"+top) {
			t.Errorf(".dockerignore leaves out %s: !%s is missing", dir, top)
		}
	}
	if found == 0 {
		t.Errorf("no package of this module: %s", out)
	}
}
