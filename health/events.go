package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

const (
	defaultEvents = 100
	mostEvents    = 1000 // of one answer
)

// eventPage is the body of /api/v1/events. Fields are added, never renamed.
type eventPage struct {
	Events []events.Event `json:"events"`
	Next   uint64         `json:"next"`   // ask since this id for what follows
	Missed uint64         `json:"missed"` // how many before Events are held no longer
}

// events answers with those since an id, or follows them for who asks for a stream.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	after, err := sinceOf(r)
	if err != nil {
		writeText(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	if r.Method == http.MethodGet && wantsStream(r) {
		s.follow(w, r, after)
		return
	}
	limit := defaultEvents
	if v := r.URL.Query().Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > mostEvents {
			writeText(w, http.StatusBadRequest, fmt.Sprintf("limit: want a number from 1 to %d\n", mostEvents))
			return
		}
	}
	page := eventPage{Next: s.o.Events.First()}
	if after != nil {
		page.Next = *after
	}
	last := s.o.Events.Last() // before the look: what comes in between is seen by the next
	page.Events, page.Missed = s.o.Events.Since(page.Next, limit)
	if n := len(page.Events); n > 0 {
		page.Next = page.Events[n-1].ID
	} else {
		page.Events, page.Next = []events.Event{}, last
	}
	s.writeJSON(w, page)
}

// wantsStream reports whether a request is a browser's EventSource, or means to be one.
func wantsStream(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), contentStream)
}

// sinceOf returns the id that the caller has already; nil is none.
func sinceOf(r *http.Request) (*uint64, error) {
	where, v := "Last-Event-ID", r.Header.Get("Last-Event-ID")
	if q := r.URL.Query().Get("since"); v == "" {
		where, v = "since", q
	}
	if v == "" {
		return nil, nil //nolint:nilnil // none is no error
	}
	id, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: want an event's id", where)
	}
	return &id, nil
}

// follow sends events as they come, as server-sent events: those since an id first, or
// else new ones alone. It ends with the client, with the server, or when the client does
// not read.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, after *uint64) {
	t := &s.streams
	f, ok := t.admit(w)
	if !ok {
		return
	}
	defer t.leave()
	from := s.o.Events.Last()
	if after != nil {
		from = *after
	}
	read := s.o.Events.Reader("sse", from)
	if !f.begin() {
		return
	}
	heartbeat := time.NewTicker(t.heartbeat)
	defer heartbeat.Stop()
	for {
		list, missed, changed := read.Poll()
		if len(list) > 0 {
			if !f.send(encodeStream(list, missed)) {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-heartbeat.C:
			if !f.send([]byte(": heartbeat\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		case <-t.stopping:
			return
		}
	}
}

// encodeStream writes events for an EventSource: each is a message, so that one handler
// gets them all. What was missed is an event of its own, "missed".
func encodeStream(list []events.Event, missed uint64) []byte {
	var b bytes.Buffer
	if missed > 0 {
		fmt.Fprintf(&b, "event: missed\ndata: {\"missed\":%d}\n\n", missed)
	}
	for _, e := range list {
		j, err := json.Marshal(e)
		if err != nil {
			continue // every kind can be encoded: a test sees to it
		}
		fmt.Fprintf(&b, "id: %d\ndata: %s\n\n", e.ID, j)
	}
	return b.Bytes()
}

// certificates answers with all that are watched.
func (s *Server) certificates(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, struct {
		Certificates any `json:"certificates"`
	}{s.o.Certificates()})
}

// writeJSON encodes into memory first: what can't be encoded must not look like a good
// answer that was cut off.
func (s *Server) writeJSON(w http.ResponseWriter, v any) { s.writeJSONCode(w, http.StatusOK, v) }

// writeJSONCode is writeJSON with a code.
func (s *Server) writeJSONCode(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.o.Log.Error("answer cannot be encoded", "err", err)
		writeText(w, http.StatusInternalServerError, "the answer cannot be encoded\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // the client left: there is nobody to tell
}
