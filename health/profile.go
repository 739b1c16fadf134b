package health

import (
	"fmt"
	"net/http"
	"net/http/pprof" //nolint:gosec // what it adds to http.DefaultServeMux nobody serves
	"strconv"
	"time"
)

const (
	profilePath = "/debug/pprof/"
	// longestProfile bounds ?seconds=.
	longestProfile = 60 * time.Second
)

// profiler serves Go's profiler, one profile at a time.
func profiler() http.Handler {
	busy := make(chan struct{}, 1) // one token: a profile is being made; a second is refused
	mux := http.NewServeMux()
	mux.HandleFunc(profilePath, pprof.Index)
	mux.HandleFunc(profilePath+"profile", pprof.Profile)
	mux.HandleFunc(profilePath+"trace", pprof.Trace)
	mux.HandleFunc(profilePath+"symbol", pprof.Symbol)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := r.URL.Query().Get("seconds"); v != "" {
			if n, err := strconv.ParseFloat(v, 64); err != nil || !(n > 0 && n <= longestProfile.Seconds()) {
				writeText(w, http.StatusBadRequest, fmt.Sprintf("seconds: found %.40q; want a number from 1 to %v\n", v, longestProfile.Seconds()))
				return
			}
		}
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
		default:
			w.Header().Set("Retry-After", strconv.Itoa(int(longestProfile.Seconds())))
			writeText(w, http.StatusServiceUnavailable, "another profile is being made\n")
			return
		}
		// The server's limits are for quick answers; package pprof extends the one for
		// writing by itself.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a writer without deadlines has none to be set
		mux.ServeHTTP(w, r)
	})
}
