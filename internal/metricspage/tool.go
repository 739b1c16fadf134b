package metricspage

import (
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of one of Prometheus' programs. The test is skipped where it is
// not installed, except in CI, which installs it.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		tb.Fatalf("%s is not here (Debian package prometheus): scripts/need promtool", name)
	default:
		tb.Skipf("%s is not here (Debian package prometheus): scripts/need promtool", name)
	}
	return ""
}
