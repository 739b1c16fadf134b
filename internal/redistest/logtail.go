package redistest

import (
	"os"
	"strings"
)

// logTail returns the last lines of the file from offset on; the empty string
// if it can't be read.
func logTail(path string, offset int64, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < offset {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(b[offset:]), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// portTaken reports whether the log of a process that ended at once says that
// somebody else listens on its port.
func portTaken(log string) bool {
	return strings.Contains(log, "Address already in use") || strings.Contains(log, "Failed listening on port")
}
