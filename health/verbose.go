package health

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// probePage is the body of a probe with ?verbose. Fields are added, never renamed.
type probePage struct {
	Probe  string      `json:"probe"` // livez, readyz or startupz
	OK     bool        `json:"ok"`    // as the status code says
	At     time.Time   `json:"at"`
	Checks []checkPage `json:"checks"`
}

// checkPage is one of its checks.
type checkPage struct {
	Name   string `json:"name"`
	Master string `json:"master_name,omitempty"` // "": of the process
	OK     bool   `json:"ok"`
	// Required says that the probe fails with it; without, it is for people to know.
	Required   bool      `json:"required"`
	Reason     string    `json:"reason,omitempty"`
	Since      time.Time `json:"since"` // since when it is as it is
	ForSeconds float64   `json:"for_seconds"`
}

// verbose reports whether a probe is to explain itself: ?verbose, unless it says false.
func verbose(r *http.Request) bool {
	if !r.URL.Query().Has("verbose") {
		return false
	}
	on, err := strconv.ParseBool(r.URL.Query().Get("verbose"))
	return on || err != nil
}

// writeProbe explains a probe. It is ok while everything required is.
func (s *Server) writeProbe(w http.ResponseWriter, probe string, now time.Time, checks []found) {
	page := probePage{Probe: probe, OK: true, At: now.UTC(), Checks: []checkPage{}}
	for _, f := range checks {
		page.OK = page.OK && (f.OK || f.Advice)
		reason := f.Reason
		if !f.OK {
			reason = phrase(reason)
		}
		page.Checks = append(page.Checks, checkPage{
			Name: f.Name, Master: f.group, OK: f.OK, Required: !f.Advice, Reason: reason,
			Since: f.Since.UTC(), ForSeconds: max(0, now.Sub(f.Since)).Round(time.Millisecond).Seconds(),
		})
	}
	code := http.StatusOK
	if !page.OK {
		code = http.StatusServiceUnavailable
	}
	s.writeJSONCode(w, code, page)
}

// found is a check as the server believes it.
type found struct {
	topology.Check

	group string // "" for the process
}
