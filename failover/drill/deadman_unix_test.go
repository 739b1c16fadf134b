//go:build unix

package drill

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cut that is interrupted ends before the heal, with all that it has started.
func TestInterruptedCutEnds(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	state, began := filepath.Join(dir, "cut"), filepath.Join(dir, "began")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := &farGroup{r: Remote{
		CutCmd:  "echo $$ > " + dir + "/pid; touch " + began + "; echo go | { sleep 60; touch " + state + "; }",
		HealCmd: "rm -f " + state,
	}}
	ended := make(chan error, 1) // one value: never full
	go func() { ended <- g.cut(ctx, &farMember{addr: "a:1"}, SideMajority, away) }()
	for {
		if _, err := os.Stat(began); err == nil {
			break
		}
		if err := pause(t.Context(), 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("an interrupted cut is no error")
	}
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	group, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	limit, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	for syscall.Kill(-group, 0) == nil {
		if err := pause(limit, 5*time.Millisecond); err != nil {
			t.Fatal("the command's processes go on")
		}
	}
	if err := g.heal(context.WithoutCancel(ctx)); err != nil {
		t.Error(err)
	}
}
