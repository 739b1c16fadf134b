package health

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// statusPage is the body of /api/v1/status. Fields are added, never renamed.
type statusPage struct {
	Build

	At            time.Time     `json:"at"` // when it was so
	StartedAt     time.Time     `json:"started_at"`
	UptimeSeconds float64       `json:"uptime_seconds"`
	Live          bool          `json:"live"`
	Ready         bool          `json:"ready"`
	Draining      bool          `json:"draining"`
	LastEvent     uint64        `json:"last_event"` // id of the newest event that is in it; 0: none are kept
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
	page := s.picture(r.Context())
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

// picture returns everything as it is now. The groups are asked at the same time: one that
// is late keeps no other waiting.
func (s *Server) picture(ctx context.Context) statusPage {
	page := statusPage{Build: s.o.Build, StartedAt: s.started.UTC(), Masters: make([]groupStatus, len(s.o.Groups))}
	if s.o.Events != nil {
		page.LastEvent = s.o.Events.Last() // before the look: what happens meanwhile is in the next
	}
	var asking sync.WaitGroup
	for i, g := range s.o.Groups {
		asking.Go(func() {
			gs := groupStatus{Name: g.Name(), Status: g.Status(ctx)}
			gs.Ready, gs.Reason = s.ready(time.Now(), g)
			page.Masters[i] = gs
		})
	}
	asking.Wait()
	now := time.Now()
	page.At, page.UptimeSeconds = now.UTC(), now.Sub(s.started).Round(time.Millisecond).Seconds()
	page.Live, page.Draining = s.live(now).OK, s.draining.Load()
	page.Ready = !page.Draining
	for _, gs := range page.Masters {
		page.Ready = page.Ready && gs.Ready
	}
	return page
}
