package proxy

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"
)

// ClientList is the sidecar's clients at about one moment. Fields are added, never
// renamed; there is no secret in it.
type ClientList struct {
	Total   int      `json:"total"` // connected, those past the limit included
	Clients []Client `json:"clients"`
	// Partial says that an event loop did not answer in time: its clients are missing.
	Partial bool `json:"partial,omitempty"`
}

// Client is one client.
type Client struct {
	ID          int64   `json:"id"` // as CLIENT LIST has it
	Addr        string  `json:"addr"`
	LocalAddr   string  `json:"laddr"`
	User        string  `json:"user"`
	Name        string  `json:"name,omitempty"`
	LibName     string  `json:"lib_name,omitempty"`
	LibVersion  string  `json:"lib_ver,omitempty"`
	DB          int     `json:"db"`
	Protocol    int     `json:"resp"`
	AgeSeconds  float64 `json:"age_seconds"`
	IdleSeconds float64 `json:"idle_seconds"` // to the second
	LastCommand string  `json:"last_command,omitempty"`
	// Backend is "shared", "own" or "none"; Pinned says why it is, or must be, its own.
	Backend string `json:"backend"`
	Pinned  string `json:"pinned_by,omitempty"`
	Loop    int    `json:"loop"`
	// Waits says what its next command waits for; Held that this is a master.
	Waits       string  `json:"waits_for,omitempty"`
	Held        bool    `json:"held"`
	HeldSeconds float64 `json:"held_seconds,omitempty"`
	InFlight    int     `json:"in_flight"`    // commands without a reply
	InBytes     int     `json:"input_bytes"`  // received and not sent on yet
	OutBytes    int     `json:"output_bytes"` // replies that it has not taken yet
	Closing     bool    `json:"closing,omitempty"`
}

// listPiece is how many clients are looked at in one go: nobody's command waits for
// more.
const listPiece = 128

// listTimeout is how long a list may take: a loop that stands still must not hold up
// the others' for ever.
const listTimeout = 5 * time.Second

// Clients lists clients, at most limit, by id. It looks at each loop's in pieces,
// between which the loop does its work: a client that connects meanwhile may be
// missing, one that stays is not. It waits until ctx ends, and some seconds, at most.
func (s *Server) Clients(ctx context.Context, limit int) ClientList {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list := ClientList{Clients: []Client{}}
	seen := make(map[int64]bool) // one that moves in the table may be seen twice
	for i, l := range s.loops {
		w := s.workers[i]
		for end := math.MaxInt; end > 0; {
			ch := make(chan listed, 1) // sent to once: the loop never waits
			below := end
			err := l.TryPost(func() { ch <- w.listBelow(below) })
			var piece listed
			if err == nil {
				select {
				case piece = <-ch:
				case <-ctx.Done():
					err = ctx.Err()
				}
			}
			if err != nil {
				list.Partial = true
				break
			}
			if end == math.MaxInt {
				list.Total += piece.total
			}
			end = piece.next
			for _, c := range piece.clients {
				if !seen[c.ID] && len(list.Clients) < limit {
					seen[c.ID] = true
					list.Clients = append(list.Clients, c)
				}
			}
			if len(list.Clients) >= limit {
				break
			}
		}
	}
	slices.SortFunc(list.Clients, func(a, b Client) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// listed is one piece of a list.
type listed struct {
	clients []Client
	next    int // where the next piece ends; 0: there is none
	total   int // clients of the loop
}

// listBelow describes the clients in the table's places below end, listPiece at most,
// and says where the next piece ends. The table is walked from its end, since the
// last client takes the place of one that leaves: it was seen then.
func (w *worker) listBelow(end int) listed {
	l := listed{total: len(w.sessions)}
	end = min(end, l.total)
	l.next = max(0, end-listPiece)
	for _, s := range w.sessions[l.next:end] {
		l.clients = append(l.clients, s.describe())
	}
	return l
}

func (s *session) describe() Client {
	now := s.w.loopNow()
	c := Client{
		ID: s.id, Addr: s.conn.RemoteAddr(), LocalAddr: s.conn.LocalAddr(), Loop: s.w.loop,
		User: userName(s.who.user), Name: s.name, LibName: s.libName, LibVersion: s.libVer, DB: s.who.db, Protocol: s.who.proto,
		AgeSeconds: seconds(now - s.born), IdleSeconds: seconds(now - s.seen),
		LastCommand: strings.ToLower(cmp.Or(s.last, s.w.cmds.unknown).name),
		Backend:     "none", Pinned: s.pinReason().String(),
		Waits: s.wait.String(), Held: s.wait == waitRoute,
		InFlight: s.inflight, InBytes: len(s.in) + s.stowed, OutBytes: s.pending(), Closing: s.closing,
	}
	switch {
	case s.own != nil:
		c.Backend = "own"
	case s.pipe != nil:
		c.Backend = "shared"
	}
	if s.heldSince > 0 {
		c.HeldSeconds = seconds(now - s.heldSince)
	}
	return c
}

func seconds(d time.Duration) float64 { return max(0, d).Round(time.Millisecond).Seconds() }

// String returns what a session waits for; "" for nothing.
func (k waitKind) String() string {
	return [...]string{"", "master", "connection", "earlier_replies", "client", "login", "share", "retry"}[k]
}
