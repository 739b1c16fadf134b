package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sentinelproxy/sentinelproxy/failover/route"
)

// stateFileMax bounds what is read of a state file.
const stateFileMax = 1 << 20

// stateFile keeps what was last served, across restarts. Each write replaces the
// file in one step, so that a crash leaves the old or the new content. The zero
// value, without a path, keeps nothing.
type stateFile struct{ path string }

// stateFormat is the file's content: JSON, with a version to refuse what a later
// release may write.
type stateFormat struct {
	Version int         `json:"version"`
	State   route.Saved `json:"state"`
}

// read returns what the file holds; the zero value if there is none yet.
func (f stateFile) read() (route.Saved, error) {
	if f.path == "" {
		return route.Saved{}, nil
	}
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return route.Saved{}, nil
	}
	if err != nil {
		return route.Saved{}, fmt.Errorf("state file: %w", err)
	}
	s, err := parseState(raw)
	if err != nil {
		return route.Saved{}, fmt.Errorf("state file %s: %w", f.path, err)
	}
	return s, nil
}

// parseState reads a state file's content.
func parseState(raw []byte) (route.Saved, error) {
	var s stateFormat
	if len(raw) > stateFileMax {
		return route.Saved{}, fmt.Errorf("%d bytes are too many", len(raw))
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return route.Saved{}, err
	}
	if s.Version != 1 {
		return route.Saved{}, fmt.Errorf("version %d is not 1", s.Version)
	}
	if s.State.DownAfter < 0 {
		return route.Saved{}, fmt.Errorf("down-after %v is negative", s.State.DownAfter)
	}
	return s.State, nil
}

// write replaces the file's content.
func (f stateFile) write(s route.Saved) (err error) {
	if f.path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(stateFormat{Version: 1, State: s}, "", "  ")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name()) // best effort: the write has failed already
		}
	}()
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}
