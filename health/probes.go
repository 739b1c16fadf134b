package health

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

func (*Server) index(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "sentinelproxy\n\n/startupz\n/livez\n/readyz\n/readyz?master=NAME\n/metrics\n/api/v1/status\n/api/v1/clients\n/api/v1/events\n/api/v1/certificates\n")
}

// livez answers whether this process can still do its work; a failure means
// that only a restart helps. A lost Redis is no reason: see readyz.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	if ok, reason := s.alive(); !ok {
		writeText(w, http.StatusServiceUnavailable, "not alive: "+line(reason))
		return
	}
	writeText(w, http.StatusOK, "ok\n")
}

// startupz answers whether clients are taken: the listeners are open and the event loops
// have turned. It needs no master, for whose sake nobody would start anew: commands wait
// for one. From then on it says so as long as the process lives.
func (s *Server) startupz(w http.ResponseWriter, _ *http.Request) {
	if !s.up.Load() {
		if ok, reason := s.alive(); !ok {
			writeText(w, http.StatusServiceUnavailable, "starting: "+line(reason))
			return
		}
		s.up.Store(true)
	}
	writeText(w, http.StatusOK, "ok\n")
}

// readyz answers whether clients are served, for all groups or the one named.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	groups := s.o.Groups
	if name := r.URL.Query().Get("master"); name != "" {
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Name() == name })
		if i < 0 {
			writeText(w, http.StatusNotFound, fmt.Sprintf("no master %q is configured\n", name))
			return
		}
		groups = groups[i : i+1]
	}
	reasons, remarks := s.judge(groups)
	if len(reasons) > 0 {
		writeText(w, http.StatusServiceUnavailable, "not ready\n"+strings.Join(reasons, ""))
		return
	}
	writeText(w, http.StatusOK, "ok\n"+strings.Join(remarks, ""))
}

// judge returns a line for each reason why groups are not served, and one for
// each remark on those that are.
func (s *Server) judge(groups []Group) (reasons, remarks []string) {
	if s.draining.Load() {
		return []string{"draining: the process is about to stop\n"}, nil
	}
	for _, g := range groups {
		ok, reason := g.Ready()
		switch {
		case !ok:
			reasons = append(reasons, g.Name()+": "+line(reason))
		case reason != "":
			remarks = append(remarks, g.Name()+": "+line(reason))
		}
	}
	return reasons, remarks
}

func (s *Server) alive() (ok bool, reason string) {
	if s.o.Alive == nil {
		return true, ""
	}
	return s.o.Alive()
}

// line makes one line of a reason, and something of an empty one.
func line(reason string) string {
	reason = strings.Join(strings.Fields(reason), " ")
	if reason == "" {
		reason = "no reason given"
	}
	return reason + "\n"
}

func writeText(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // the client left: there is nobody to tell
}
