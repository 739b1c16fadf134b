package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestNothingOutlivesUs kills a process that has started a Redis and looks
// whether that is gone too.
func TestNothingOutlivesUs(t *testing.T) {
	const key = "REDISTEST_ORPHAN_DIR"
	if dir := os.Getenv(key); dir != "" { // the process to be killed
		g, err := Start(t.Context(), Options{Dir: dir, Sentinels: None, Replicas: None})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("pid", g.Nodes()[0].Pid())
		select {}
	}
	t.Parallel()
	Single(t, Options{}) // skips the test where there is no Redis
	parent := exec.Command(os.Args[0], "-test.run=^TestNothingOutlivesUs$")
	parent.Env = append(os.Environ(), key+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	defer func() {
		_ = parent.Process.Kill() // fails if it is gone
		_ = parent.Wait()         // says that it was killed
	}()
	var pid int
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if s, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, err = strconv.Atoi(s)
			must(t, err)
		}
	}
	if pid == 0 {
		t.Fatal("the process to be killed did not start a Redis")
	}
	must(t, syscall.Kill(pid, 0))
	must(t, parent.Process.Kill())
	waitFor(t, "the Redis to be gone", func() error {
		// It may stay a zombie where nobody reaps orphans.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return errors.New("it still runs")
		}
		return nil
	})
}
