package health

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// statusPage is the body of /api/v1/status. Fields are added, never renamed.
type statusPage struct {
	Build

	StartedAt     time.Time     `json:"started_at"`
	UptimeSeconds float64       `json:"uptime_seconds"`
	Live          bool          `json:"live"`
	Ready         bool          `json:"ready"`
	Draining      bool          `json:"draining"`
	Masters       []groupStatus `json:"masters"`
}

// groupStatus is one master of it.
type groupStatus struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"` // why it is not ready; a remark if it is
	Status any    `json:"status"`
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	page := statusPage{
		Build:         s.o.Build,
		StartedAt:     s.started.UTC().Round(time.Second),
		UptimeSeconds: now.Sub(s.started).Round(time.Millisecond).Seconds(),
		Live:          s.live(now).OK,
		Ready:         !s.draining.Load(),
		Draining:      s.draining.Load(),
	}
	for _, g := range s.o.Groups {
		gs := groupStatus{Name: g.Name(), Status: g.Status(r.Context())}
		gs.Ready, gs.Reason = s.ready(time.Now(), g)
		page.Ready = page.Ready && gs.Ready
		page.Masters = append(page.Masters, gs)
	}
	// Into memory first: what can't be encoded must not look like a good answer
	// that was cut off.
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetIndent("", "  ")
	if err := enc.Encode(page); err != nil {
		s.o.Log.Error("status cannot be encoded", "err", err)
		writeText(w, http.StatusInternalServerError, "the status cannot be encoded\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body.Bytes()) // the client left: there is nobody to tell
}
