package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// PathDrill is where a drill says that it begins, and that it is over.
const PathDrill = "/api/v1/drill"

// Drill is what is told of one.
type Drill struct {
	Master  string `json:"master"`            // may be left out where there is one
	ID      string `json:"drill_id"`          // which drill
	Kind    string `json:"drill"`             // such as crash
	Outcome string `json:"outcome,omitempty"` // "": it begins
	// Report is where the report is, or will be: a file's path, or an http or https
	// address. "": nobody wrote one.
	Report string `json:"report,omitempty"`
}

// The outcomes of a drill.
const (
	DrillPassed = "passed"
	DrillFailed = "failed" // an objective was missed
	DrillBroken = "broken" // it could not be carried out
)

// Limits, in bytes.
const (
	maxDrillWord   = 64
	maxDrillReport = 400
)

// validate returns what is wrong with d.
func (d Drill) validate() error {
	for _, f := range []struct{ name, value string }{{"drill_id", d.ID}, {"drill", d.Kind}} {
		if f.value == "" || len(f.value) > maxDrillWord || strings.ContainsFunc(f.value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return fmt.Errorf("%s: want one word of at most %d characters", f.name, maxDrillWord)
		}
	}
	if !slices.Contains([]string{"", DrillPassed, DrillFailed, DrillBroken}, d.Outcome) {
		return fmt.Errorf("outcome: want %s, %s or %s, or none at the beginning", DrillPassed, DrillFailed, DrillBroken)
	}
	return d.ValidateReport()
}

// ValidateReport returns what of Report a sidecar would refuse.
func (d Drill) ValidateReport() error {
	if len(d.Report) > maxDrillReport || !utf8.ValidString(d.Report) || strings.ContainsFunc(d.Report, unicode.IsControl) {
		return fmt.Errorf("report: want one line of at most %d bytes", maxDrillReport)
	}
	return nil
}

// OnDrill has f told of drills. It is called before the API serves anything; f must return
// at once.
func (a *API) OnDrill(f func(Drill)) { a.onDrill = f }

// drill answers a POST to PathDrill.
func (a *API) drill(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "use POST")
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "send Content-Type: application/json")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // as for a switchover
	var d Drill
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		refuse(w, http.StatusBadRequest, "the body is not what is wanted: %v", err)
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body holds more than one JSON object")
		return
	}
	g, err := a.group(d.Master)
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	if err := d.validate(); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	d.Master = g.Name()
	a.onDrill(d)
	w.WriteHeader(http.StatusNoContent)
}

// Drill tells the sidecar that a drill begins or is over.
func (c *Client) Drill(ctx context.Context, d Drill) error {
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	resp, err := c.post(ctx, PathDrill, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%w (%s): %s", ErrRefused, resp.Status, firstLine(resp.Body))
	}
	return nil
}

// post sends a request. The caller closes the answer's body.
func (c *Client) post(ctx context.Context, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.broken(err)
	}
	return resp, nil
}
