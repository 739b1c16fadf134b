package health

import (
	"net/http"
	"strings"
	"time"
)

// probes returns what is served to whoever asks: the three probes, with the same codes,
// and no more words than the names of the checks that fail. Nothing in it tells who is
// served or where, so that it needs no Host header to be right.
func (s *Server) probes() http.Handler {
	mux := http.NewServeMux()
	for path, checks := range map[string]func(time.Time, *http.Request) ([]found, bool){
		"/livez":    func(now time.Time, _ *http.Request) ([]found, bool) { return []found{s.live(now)}, true },
		"/startupz": func(now time.Time, _ *http.Request) ([]found, bool) { return []found{s.startup(now)}, true },
		"/readyz":   s.readiness,
	} {
		answer := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			list, ok := checks(time.Now(), r)
			if !ok {
				writeText(w, http.StatusNotFound, "no such master\n")
				return
			}
			if failed := failing(list); len(failed) > 0 {
				writeText(w, http.StatusServiceUnavailable, "failed: "+strings.Join(failed, ", ")+"\n")
				return
			}
			writeText(w, http.StatusOK, "ok\n")
		}
		mux.HandleFunc("GET "+path, answer) // HEAD, too
	}
	return mux
}

// failing returns the names of the required checks that fail, each once.
func failing(list []found) []string {
	var names []string
	seen := make(map[string]bool)
	for _, f := range list {
		if !f.OK && !f.Advice && !seen[f.Name] {
			seen[f.Name] = true
			names = append(names, f.Name)
		}
	}
	return names
}
