package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
)

// Limits of the list of clients: rendering takes processor time and memory, some
// 500 bytes a client.
const (
	defaultClients = 10_000
	maxClients     = 100_000
)

// clientsPage is the body of /api/v1/clients. Fields are added, never renamed.
type clientsPage struct {
	Masters []groupClients `json:"masters"`
}

// groupClients is one master of it.
type groupClients struct {
	Name    string `json:"name"`
	Clients any    `json:"clients"`
}

// private lets requests from this machine through to next, and all that a Guard has let
// in. Others need what Options.Private wants: names and addresses of clients are not for everybody who may
// scrape. Without it they are refused.
func (s *Server) private(next http.Handler) http.Handler {
	if s.o.Guard != nil {
		return next // whoever comes here may read everything
	}
	guarded := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusForbidden, "this is told on the loopback interface alone, or with an admin.token_file or control.token_file to who sends the token (sentinelproxy)\n")
	}))
	if s.o.Private != nil {
		guarded = s.o.Private(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && from.Addr().Unmap().IsLoopback() {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// clients lists the clients of all groups, or of the one that is named, at most
// ?limit= of each. One request is served at a time.
func (s *Server) clients(w http.ResponseWriter, r *http.Request) {
	limit := defaultClients
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxClients {
			writeText(w, http.StatusBadRequest, fmt.Sprintf("limit: found %.40q; want a number from 1 to %d\n", v, maxClients))
			return
		}
		limit = n
	}
	groups := s.o.Groups
	if name := r.URL.Query().Get("master"); name != "" {
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Name() == name })
		if i < 0 {
			writeText(w, http.StatusNotFound, fmt.Sprintf("no master %q is configured\n", name))
			return
		}
		groups = groups[i : i+1]
	}
	select {
	case s.listing <- struct{}{}:
		defer func() { <-s.listing }()
	default:
		s.refused.lists.Add(1)
		writeText(w, http.StatusServiceUnavailable, "another list of clients is being made\n")
		return
	}
	page := clientsPage{}
	for _, g := range groups {
		page.Masters = append(page.Masters, groupClients{g.Name(), g.Clients(r.Context(), limit)})
	}
	var body bytes.Buffer // first, as for the status
	if err := json.NewEncoder(&body).Encode(page); err != nil {
		s.o.Log.Error("clients cannot be encoded", "err", err)
		writeText(w, http.StatusInternalServerError, "the clients cannot be encoded\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body.Bytes()) // the client left: there is nobody to tell
}
