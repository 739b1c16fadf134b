package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// statusOptions are the flags of `sentinelproxy status`.
type statusOptions struct {
	trust adminTrust
	watch bool
	every time.Duration
	json  bool
}

func newStatusCommand(environ []string) *cobra.Command {
	var o statusOptions
	own := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	settings := config.AddFlags(own)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a running sidecar knows and does",
		Long: `Show what a running sidecar knows and does: route and master, replicas and how far
they are behind, what each Sentinel says, clients, the last failovers with their
phases, certificates that end soon, and what happened lately. It reads the admin
server and changes nothing. The server, its token and its certificate are found as
` + "`run`" + ` finds them: by flags, variables, or the file of --config.

Exit code: 0 if the sidecar serves all its masters; 1 if it does not; 2 for wrong
flags; 3 if no sidecar answers. With --watch it goes on until it is interrupted,
also while no sidecar answers.`,
		Example: `  sentinelproxy status
  sentinelproxy status --watch
  sentinelproxy status --admin 127.0.0.1:9180 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := config.LoadAdmin(config.Sources{Flags: settings, Environ: environ})
			if err != nil {
				return err
			}
			if a.Listen == "" {
				return errors.New("which sidecar? Its admin server is off; want --admin host:port")
			}
			if o.every < 100*time.Millisecond {
				return fmt.Errorf("--every: want 100ms or more, got %v", o.every)
			}
			to, err := o.trust.access(a)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), to, cmd.OutOrStdout(), newPainter(cmd.OutOrStdout(), environ))
		},
	}
	f := cmd.Flags()
	for _, name := range accessSettings() {
		f.AddFlag(own.Lookup(name))
	}
	o.trust.addFlags(f)
	f.BoolVar(&o.watch, "watch", false, "show it again and again until interrupted")
	f.DurationVar(&o.every, "every", time.Second, "how often, with --watch")
	f.BoolVar(&o.json, "json", false, "print the answers of the admin server as one JSON object; with --watch one a line")
	return cmd
}

// painter says what a terminal can do. Its zero value is none: no colour, nothing erased.
type painter struct {
	colour bool
	clear  bool // the screen can be begun anew
}

func newPainter(w io.Writer, environ []string) painter {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || lookup(environ, "TERM") == "dumb" {
		return painter{}
	}
	return painter{colour: lookup(environ, "NO_COLOR") == "", clear: true}
}

// paint colours a word, if there are colours.
func (p painter) paint(colour, s string) string {
	if !p.colour {
		return s
	}
	return colour + s + "\x1b[0m"
}

func (p painter) good(s string) string { return p.paint("\x1b[32m", s) }
func (p painter) bad(s string) string  { return p.paint("\x1b[31m", s) }
func (p painter) bold(s string) string { return p.paint("\x1b[1m", s) }

// snapshot is everything that one look at a sidecar showed.
type snapshot struct {
	status statusView
	ready  readyView
	events []eventView
	certs  []certView

	raw map[string]json.RawMessage
}

// readyView is what is read of /readyz?verbose.
type readyView struct {
	OK     bool
	Checks []struct {
		Name       string
		Master     string `json:"master_name"`
		OK         bool
		Required   bool
		Reason     string
		ForSeconds float64 `json:"for_seconds"`
	}
}

// eventView is what is read of an event.
type eventView struct {
	At       time.Time `json:"timestamp"`
	Event    string
	Severity string
	Master   string `json:"master_name"`
	Message  string
}

// certView is what is read of a certificate.
type certView struct {
	Role    string `json:"cert_role"`
	Source  string
	Name    string     `json:"cert_name"`
	Ends    *time.Time `json:"expires_at"`
	Days    int        `json:"days_remaining"`
	Soon    bool       `json:"expiring_soon"`
	Expired bool
}

// lately is how many events are shown.
const lately = 8

// recentEvents are the last that were read, and where to go on.
type recentEvents struct {
	list  []json.RawMessage // lately at most
	since string            // what to ask for next; "": from the first that is held
}

// read takes what has happened since the last time.
func (e *recentEvents) read(ctx context.Context, c *adminClient) error {
	const page = 1000
	for {
		var got struct {
			Events []json.RawMessage
			Next   uint64
		}
		if _, err := c.read(ctx, fmt.Sprintf("/api/v1/events?limit=%d%s", page, e.since), &got); err != nil {
			return err
		}
		e.since = fmt.Sprintf("&since=%d", got.Next)
		e.list = append(e.list, got.Events...)
		e.list = slices.Clone(e.list[max(0, len(e.list)-lately):])
		if len(got.Events) < page {
			return nil
		}
	}
}

// raw is the list as it came.
func (e *recentEvents) raw() json.RawMessage {
	b, err := json.Marshal(append([]json.RawMessage{}, e.list...))
	if err != nil {
		return nil // each was decoded before
	}
	return b
}

func (e *recentEvents) views() []eventView {
	var all []eventView
	for _, raw := range e.list {
		var v eventView
		if json.Unmarshal(raw, &v) == nil {
			all = append(all, v)
		}
	}
	return all
}

// look asks the admin server. Events and certificates are left out where a server has none.
func (statusOptions) look(ctx context.Context, c *adminClient) (snapshot, error) {
	s := snapshot{raw: make(map[string]json.RawMessage)}
	var err error
	if s.raw["status"], err = c.read(ctx, "/api/v1/status", &s.status); err != nil {
		return s, err
	}
	if s.raw["readyz"], err = c.read(ctx, "/readyz?verbose", &s.ready); err != nil {
		return s, err
	}
	if err := c.recent.read(ctx, c); err == nil {
		s.raw["events"], s.events = c.recent.raw(), c.recent.views()
	}
	var certs struct{ Certificates []certView }
	if raw, err := c.read(ctx, "/api/v1/certificates", &certs); err == nil {
		s.raw["certificates"], s.certs = raw, certs.Certificates
	}
	return s, nil
}

// run shows one look, or one after the other until ctx ends.
func (o statusOptions) run(ctx context.Context, to adminAccess, w io.Writer, p painter) error {
	c := newAdminClient(to)
	if !o.watch {
		s, err := o.look(ctx, c)
		if err != nil {
			return c.unreachable(err)
		}
		if err := o.show(w, p, s); err != nil {
			return &exitError{exitVerdict, err}
		}
		if !s.ready.OK {
			return &exitError{exitVerdict, fmt.Errorf("not ready: %s", s.ready.why())}
		}
		return nil
	}
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		s, err := o.look(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			err = o.show(w, p, s)
		default:
			err = o.showGone(w, p, c.unreachable(err))
		}
		if err != nil {
			return &exitError{exitVerdict, err} // nobody can read it
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *adminClient) unreachable(err error) error {
	if errors.Is(err, errNoToken) || errors.Is(err, errNoTLS) {
		return impossible(fmt.Errorf("the sidecar at %s is not to be read: %w", c.to.addr, err))
	}
	return impossible(fmt.Errorf("no sidecar answers on %s: %w; does it run, with admin there?", c.to.addr, err))
}

// why is the first reason of those that count.
func (r readyView) why() string {
	for _, c := range r.Checks {
		if !c.OK && c.Required {
			return printable(c.Reason)
		}
	}
	return "no reason given"
}

func (o statusOptions) show(w io.Writer, p painter, s snapshot) error {
	if o.json {
		return json.NewEncoder(w).Encode(s.raw)
	}
	return o.write(w, p, s.text(p))
}

// showGone tells that nobody answers, in the same form.
func (o statusOptions) showGone(w io.Writer, p painter, gone error) error {
	if o.json {
		return json.NewEncoder(w).Encode(map[string]string{"error": gone.Error()})
	}
	return o.write(w, p, p.bad(printable(gone.Error()))+"\n")
}

// write prints a page. On a terminal that is watched it takes the place of the last one.
func (o statusOptions) write(w io.Writer, p painter, page string) error {
	switch {
	case o.watch && p.clear:
		page = "\x1b[H\x1b[2J" + page
	case o.watch:
		page = time.Now().Format(time.TimeOnly) + "\n" + page + "\n"
	}
	_, err := io.WriteString(w, page)
	return err
}
