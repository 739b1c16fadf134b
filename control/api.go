package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/bearer"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	maxBody     = 4 << 10          // bytes of a request
	bodyTimeout = 2 * time.Second  // to send them
	lineTimeout = 10 * time.Second // to take one line of the answer
	// maxPauseMS bounds what may be asked for: a pause is meant to be short.
	maxPauseMS = 10 * 60 * 1000
	// maxLines is more than a switchover has steps: telling one never blocks.
	maxLines = 64
)

// Group is one master that is served. Its methods are called by several goroutines at
// once.
type Group interface {
	// Name is the master's name, as the Sentinels know it.
	Name() string
	// Switchover moves the master. It calls tell after each step, from its own
	// goroutine, and returns an error whenever the result is not OK.
	Switchover(ctx context.Context, req topology.SwitchoverRequest, tell func(topology.SwitchoverStep)) (topology.SwitchoverResult, error)
}

// API answers control requests. It checks what is asked, not who asks: the Unix socket's
// file mode does that, or [WithToken].
type API struct {
	groups []Group
	log    *slog.Logger
	mux    *http.ServeMux

	onDrill func(Drill) // set before anything is served
}

// NewAPI returns an API for these groups.
func NewAPI(groups []Group, log *slog.Logger) *API {
	a := &API{groups: groups, log: log, mux: http.NewServeMux(), onDrill: func(Drill) {}}
	a.mux.HandleFunc(PathSwitchover, a.switchover)
	a.mux.HandleFunc(PathDrill, a.drill)
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// WithToken lets a request through to next that carries the token as
// "Authorization: Bearer TOKEN". token returns the one in force. The comparison takes
// the same time whatever was sent.
func WithToken(token func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := bearer.Of(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "this needs the control token: send Authorization: Bearer TOKEN, or use the Unix socket")
			return
		}
		if !bearer.Same(given, token()) {
			refuse(w, http.StatusForbidden, "that is not the control token")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers with one line for people.
func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	http.Error(w, fmt.Sprintf(format, args...)+" (sentinelproxy)", code)
}

// switchover answers a POST to PathSwitchover.
func (a *API) switchover(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "use POST")
		return
	}
	// A page in a browser can't send this type elsewhere without asking first, which is
	// never granted.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "send Content-Type: application/json")
		return
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout)) // a writer without deadlines has none to be extended
	req, err := a.read(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	g, err := a.group(req.Master)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	_ = conn.SetReadDeadline(time.Time{}) // from here on reading only shows that the caller goes away
	req.Master = g.Name()
	a.log.Info("switchover asked for", "master_name", req.Master, "to", req.To, "strict", req.Strict,
		"dry_run", req.DryRun, "max_pause", req.MaxPause, "caller", r.RemoteAddr)
	run(r.Context(), w, g, req)
}

// read reads a request's body.
func (*API) read(body io.Reader) (topology.SwitchoverRequest, error) {
	var in request
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields() // a misspelt dry_run must not be a real one
	if err := dec.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return topology.SwitchoverRequest{}, fmt.Errorf("the body is not what is wanted: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return topology.SwitchoverRequest{}, errors.New("the body holds more than one JSON object")
	}
	req := topology.SwitchoverRequest{Master: in.Master, Strict: in.Strict, DryRun: in.DryRun}
	if in.MaxPauseMS < 0 || in.MaxPauseMS > maxPauseMS {
		return req, fmt.Errorf("max_pause_ms: want 0 to %d, got %v", maxPauseMS, in.MaxPauseMS)
	}
	req.MaxPause = duration(in.MaxPauseMS)
	if in.To != "" {
		to, err := topology.ParseAddr(in.To, 0)
		if err != nil {
			return req, fmt.Errorf("to: %w", err)
		}
		req.To = to
	}
	return req, nil
}

// group returns the group of that name, or the only one.
func (a *API) group(name string) (Group, error) {
	all := make([]string, 0, len(a.groups))
	for _, g := range a.groups {
		all = append(all, g.Name())
	}
	if name == "" && len(all) == 1 {
		return a.groups[0], nil
	}
	if i := slices.Index(all, name); i >= 0 {
		return a.groups[i], nil
	}
	if name == "" {
		return nil, fmt.Errorf("which master? This sidecar serves %s", strings.Join(all, ", "))
	}
	return nil, fmt.Errorf("this sidecar serves no master %q, but %s", name, strings.Join(all, ", "))
}

// run has g carry it out and writes each line when it comes. The writing is done by a
// goroutine of its own: a caller that does not read must not lengthen the pause.
func run(ctx context.Context, w http.ResponseWriter, g Group, req topology.SwitchoverRequest) {
	steps := make(chan topology.SwitchoverStep, maxLines) // full: the step is not told
	var res topology.SwitchoverResult
	go func() {
		defer close(steps)
		var err error
		res, err = g.Switchover(ctx, req, func(s topology.SwitchoverStep) {
			select {
			case steps <- s:
			default:
			}
		})
		if err != nil && res.Err == "" {
			res.Err = err.Error()
		}
	}()
	first, more := <-steps
	if !more && res.Outcome == topology.SwitchoverBusy {
		refuse(w, http.StatusConflict, "%s", res.Err)
		return
	}
	out := answer{w: w, conn: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	for ; more; first, more = <-steps {
		out.write(func(w io.Writer) error { return WriteStep(w, first) })
	}
	out.write(func(w io.Writer) error { return WriteResult(w, res) })
}

// answer writes lines, until the caller takes no more.
type answer struct {
	w    http.ResponseWriter
	conn *http.ResponseController
	err  error
}

func (a *answer) write(to func(io.Writer) error) {
	if a.err != nil {
		return
	}
	_ = a.conn.SetWriteDeadline(time.Now().Add(lineTimeout)) // as above
	if a.err = to(a.w); a.err == nil {
		a.err = a.conn.Flush()
	}
}
