package failover

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestStateFile(t *testing.T) {
	dir := t.TempDir()
	f := stateFile{filepath.Join(dir, "state.json")}
	if got, err := f.read(); err != nil || !reflect.DeepEqual(got, route.Saved{}) {
		t.Errorf("without a file: %+v, %v; want nothing", got, err)
	}
	for epoch := range uint64(2) {
		want := route.Saved{Group: "g", Master: "a:1", Epoch: epoch, Replicas: []topology.Addr{"b:1"}, DownAfter: time.Second}
		if err := f.write(want); err != nil {
			t.Fatal(err)
		}
		if got, err := f.read(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, %v; want %+v", got, err, want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v; want the state file alone", len(left), err)
	}
	if err := (stateFile{}).write(route.Saved{}); err != nil {
		t.Errorf("writing without a path: %v", err)
	}
	if err := (stateFile{filepath.Join(dir, "no", "such")}).write(route.Saved{}); err == nil {
		t.Error("writing into no directory: no error")
	}
}

func TestStateFileRefused(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON":             "hello",
		"half":                `{"version":1,"state":{"gro`,
		"another version":     `{"version":2,"state":{}}`,
		"no version":          `{"state":{}}`,
		"a negative duration": `{"version":1,"state":{"down_after_ns":-1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := (stateFile{path}).read(); err == nil {
				t.Errorf("%q was read", content)
			}
			if _, err := New(Options{Group: "g", Publish: func(topology.Route) {}, StateFile: path}); err == nil {
				t.Errorf("New took %q", content)
			}
		})
	}
}
