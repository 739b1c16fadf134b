package health

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func (*Server) index(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "sentinelproxy\n\n/status\n/startupz\n/livez\n/readyz\n/readyz?master=NAME\n/metrics\n/api/v1/status\n/api/v1/status/stream\n/api/v1/clients\n/api/v1/events\n/api/v1/certificates\n")
}

// livez answers whether this process can still do its work; a failure means
// that only a restart helps. A lost Redis is no reason: see readyz.
func (s *Server) livez(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	live := s.live(now)
	switch {
	case verbose(r):
		s.writeProbe(w, "livez", now, []found{live})
	case !live.OK:
		writeText(w, http.StatusServiceUnavailable, "not alive: "+line(live.Reason))
	default:
		writeText(w, http.StatusOK, "ok\n")
	}
}

// startupz answers whether clients are taken: the listeners are open and the event loops
// have turned. It needs no master, for whose sake nobody would start anew: commands wait
// for one. From then on it says so as long as the process lives.
func (s *Server) startupz(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	c := s.startup(now)
	switch {
	case verbose(r):
		s.writeProbe(w, "startupz", now, []found{c})
	case !c.OK:
		writeText(w, http.StatusServiceUnavailable, "starting: "+line(c.Reason))
	default:
		writeText(w, http.StatusOK, "ok\n")
	}
}

// startup is the check of startupz.
func (s *Server) startup(now time.Time) found {
	c := topology.Check{Name: "event_loops_turned", OK: s.up.Load()}
	if !c.OK {
		c.OK, c.Reason = s.alive()
		s.up.CompareAndSwap(false, c.OK)
	}
	return found{Check: s.ledger.judge(now, "", c)}
}

// readyz answers whether clients are served, for all groups or the one named.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	checks, ok := s.readiness(now, r)
	switch {
	case !ok:
		writeText(w, http.StatusNotFound, fmt.Sprintf("no master %q is configured\n", r.URL.Query().Get("master")))
		return
	case verbose(r):
		s.writeProbe(w, "readyz", now, checks)
		return
	}
	reasons, remarks := sentences(checks)
	if len(reasons) > 0 {
		writeText(w, http.StatusServiceUnavailable, "not ready\n"+strings.Join(reasons, ""))
		return
	}
	writeText(w, http.StatusOK, "ok\n"+strings.Join(remarks, ""))
}

// readiness returns the checks of readyz, or false where the master that is named is
// none of ours.
func (s *Server) readiness(now time.Time, r *http.Request) ([]found, bool) {
	groups := s.o.Groups
	if name := r.URL.Query().Get("master"); name != "" {
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Name() == name })
		if i < 0 {
			return nil, false
		}
		groups = groups[i : i+1]
	}
	checks := []found{s.notDraining(now)}
	for _, g := range groups {
		checks = append(checks, s.look(now, g)...)
	}
	return checks, true
}

// sentences returns a line for each group that is not served, with the first reason why,
// and one for each remark on those that are.
func sentences(checks []found) (reasons, remarks []string) {
	told := make(map[string]bool) // groups whose reason is there
	for _, f := range checks {
		switch {
		case f.OK || f.Advice || told[f.group]:
		case f.group == "":
			return []string{line(f.Reason)}, nil // the process stops: all else is moot
		default:
			told[f.group] = true
			reasons = append(reasons, f.group+": "+line(f.Reason))
		}
	}
	for _, f := range checks {
		if f.Advice && !f.OK && !told[f.group] {
			remarks = append(remarks, f.group+": "+line(f.Reason))
		}
	}
	return reasons, remarks
}

// look returns a group's checks as they are believed.
func (s *Server) look(now time.Time, g Group) []found {
	var all []found
	for _, c := range g.Checks() {
		all = append(all, found{s.ledger.judge(now, g.Name(), c), g.Name()})
	}
	return all
}

// ready is what one group's checks come to, with why it is not, or a remark.
func (s *Server) ready(now time.Time, g Group) (ok bool, reason string) {
	checks := s.look(now, g)
	for _, f := range checks {
		if !f.OK && !f.Advice {
			return false, f.Reason
		}
	}
	for _, f := range checks {
		if !f.OK {
			return true, f.Reason
		}
	}
	return true, ""
}

// live is the check of livez. A process that was suspended finds its loops late by as much
// as itself: it is believed only once they had the time to turn again.
func (s *Server) live(now time.Time) found {
	c := topology.Check{Name: "event_loops", Sustain: topology.Sustain{Bad: lateLoops}}
	c.OK, c.Reason = s.alive()
	return found{Check: s.ledger.judge(now, "", c)}
}

func (s *Server) notDraining(now time.Time) found {
	c := topology.Check{Name: "not_draining", OK: !s.draining.Load()}
	if !c.OK {
		c.Reason = "draining: the process is about to stop"
	}
	return found{Check: s.ledger.judge(now, "", c)}
}

func (s *Server) alive() (ok bool, reason string) {
	if s.o.Alive == nil {
		return true, ""
	}
	return s.o.Alive()
}

const (
	// lookEvery is how often checks are looked at when nobody asks, so that what lasts
	// only moments is not taken for what lasts.
	lookEvery = 500 * time.Millisecond
	// lateLoops is how long event loops may seem to stand still before it counts.
	lateLoops = 2 * lookEvery
)

// watch looks at every check now and then, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		s.live(now)
		s.startup(now)
		s.notDraining(now)
		for _, g := range s.o.Groups {
			s.look(now, g)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// line makes one line of a reason.
func line(reason string) string { return phrase(reason) + "\n" }

// phrase takes line breaks out of a reason, and makes something of an empty one.
func phrase(reason string) string {
	reason = strings.Join(strings.Fields(reason), " ")
	if reason == "" {
		return "no reason given"
	}
	return reason
}

func writeText(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // the client left: there is nobody to tell
}
