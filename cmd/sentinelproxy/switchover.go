package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// controlEnv names the control socket for the sidecar and for this command.
const controlEnv = "SENTINELPROXY_CONTROL"

// switchoverOptions are the flags of `sentinelproxy switchover`.
type switchoverOptions struct {
	master    string
	to        string
	strict    bool
	maxPause  time.Duration
	dryRun    bool
	control   string
	admin     string
	tokenFile string
	trust     adminTrust
	pin       string // file with the admin server's own certificate
	json      bool
}

func newSwitchoverCommand(environ []string) *cobra.Command {
	var o switchoverOptions
	cmd := &cobra.Command{
		Use:   "switchover",
		Short: "Move the master to another node without losing a write",
		Long: `Move the master to another node without losing a write.

A running sidecar is asked for it. It checks first that it can be done, then
holds its clients' commands, waits until the master has answered what was sent
and a replica has read what was written, and only then tells Sentinel to fail
over. When the new master serves, commands go on: a pause of some 0.25s (1.3s
with --strict) and no error. Clients of other sidecars and of Redis itself see
an ordinary planned failover.

Without --to the Sentinels choose. With it the replica's priority is lowered
for the while, which takes up to ten seconds before commands wait.

The old master is made a replica by the sidecar, which goes on before a
majority of the Sentinels has learned of the new one. With --strict it waits
for that majority and demotes nobody.

The sidecar is reached over its control socket (` + "`control.listen`" + `), or over its
admin server with a token (` + "`control.token_file`" + `).

Exit code: 0 if it is done, or a dry run found nothing in the way; 1 if it was
called off or did not go as asked; 2 for wrong flags; 3 if it could not begin,
with what to change.`,
		Example: `  sentinelproxy switchover --control unix:/run/sentinelproxy/control.sock --dry-run
  sentinelproxy switchover --control unix:/run/sentinelproxy/control.sock --to 10.0.0.2:6379
  sentinelproxy switchover --admin 127.0.0.1:9180 --token-file /run/secrets/control-token --strict
  sentinelproxy switchover --admin gateway-1:9180 --admin-ca-file ca.pem --token-file control-token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.control == "" && o.admin == "" {
				if o.control = lookup(environ, controlEnv); o.control == "off" {
					o.control = ""
				}
			}
			if o.pin == "" {
				o.pin = lookup(environ, pinEnv)
			}
			c, req, err := o.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return o.run(cmd.Context(), c, req, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.master, "master", "", "the master's name; may be left out where the sidecar serves one")
	f.StringVar(&o.to, "to", "", "the replica to promote (host:port, as the Sentinels announce it); left out, the Sentinels choose")
	f.BoolVar(&o.strict, "strict", false, "go on only when a majority of the Sentinels names the new master; demote nobody")
	f.DurationVar(&o.maxPause, "max-pause", 0, "call it off if commands would wait longer (default 2s, with --strict 5s); not possible any more once Sentinel was told")
	f.BoolVar(&o.dryRun, "dry-run", false, "check whether it could be done, and change nothing")
	f.StringVar(&o.control, "control", "", "the sidecar's control socket, unix:/path (default: $"+controlEnv+")")
	f.StringVar(&o.admin, "admin", "", "the sidecar's admin server, host:port, instead of the socket; needs --token-file")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the control token, for --admin")
	f.StringVar(&o.pin, pinFlag, "", "file with the admin server's own certificate, for TLS with --admin on the sidecar's machine (default: $"+pinEnv+")")
	o.trust.addFlags(f)
	f.BoolVar(&o.json, "json", false, "print each step and the result as a line of JSON")
	return cmd
}

// pinEnv is the variable of pinFlag.
const pinEnv = "SENTINELPROXY_ADMIN_TLS_CERT_FILE"

// lookup returns a variable of the environment.
func lookup(environ []string, name string) string {
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// client reads the flags. Every mistake in them has its line in the error.
func (o switchoverOptions) client() (*control.Client, topology.SwitchoverRequest, error) {
	req := topology.SwitchoverRequest{Master: o.master, Strict: o.strict, DryRun: o.dryRun, MaxPause: o.maxPause}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.to != "" {
		to, err := topology.ParseAddr(o.to, 0)
		if err != nil {
			bad("--to: %w", err)
		}
		req.To = to
	}
	if o.maxPause < 0 {
		bad("--max-pause: want 0 or more, got %v", o.maxPause)
	}
	path, unix := strings.CutPrefix(o.control, "unix:")
	var to adminAccess
	switch {
	case o.control != "" && o.admin != "":
		bad("--control and --admin: want one of them")
	case o.control == "" && o.admin == "":
		bad("which sidecar? Want --control unix:/path (the sidecar's control.listen; also $%s), or --admin host:port with --token-file", controlEnv)
	case o.control != "" && (!unix || !filepath.IsAbs(path)):
		bad("--control: found %q; want unix:/path", o.control)
	case o.control != "" && o.tokenFile != "":
		bad("--token-file is for --admin: the socket needs none")
	case o.admin != "" && o.tokenFile == "":
		bad("--admin needs --token-file: the admin server takes orders only with the token")
	case o.admin != "":
		if _, err := topology.ParseAddr(o.admin, 0); err != nil {
			bad("--admin: %w", err)
		}
		b, err := os.ReadFile(o.tokenFile)
		if err != nil {
			bad("--token-file: %w", err)
		}
		token := strings.TrimRight(string(b), "\r\n")
		to, err = o.trust.access(config.Admin{Listen: o.admin, Token: config.Secret(token), TLS: config.TLS{CertFile: o.pin}})
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, req, err
	}
	if o.admin != "" {
		return control.NewClient(to.addr, to.token, to.tls), req, nil
	}
	return control.NewUnixClient(path), req, nil
}

// run asks for the switchover and prints how it goes.
func (o switchoverOptions) run(ctx context.Context, c *control.Client, req topology.SwitchoverRequest, out io.Writer) error {
	var told, printed error
	p := printer{out: out, json: o.json}
	past := false // the point of no return
	r, err := c.Switchover(ctx, req, func(s topology.SwitchoverStep) {
		past = past || s.Name == topology.StepFailover && s.Status == topology.StepOK
		printed = errors.Join(printed, p.step(s))
	})
	switch {
	case errors.Is(err, control.ErrUnreachable):
		return impossible(fmt.Errorf("%w; does it run, with control.listen set, and as this user?", err))
	case errors.Is(err, control.ErrRefused):
		return impossible(err)
	case err != nil && past:
		return &exitError{exitVerdict, fmt.Errorf("%w; Sentinel was told before, so the switchover goes on: look at /api/v1/status", err)}
	case err != nil:
		return &exitError{exitVerdict, fmt.Errorf("%w; it is called off unless Sentinel was told already: look at /api/v1/status", err)}
	}
	printed = errors.Join(printed, p.result(r))
	switch r.Outcome {
	case topology.SwitchoverDone, topology.SwitchoverReady:
	case topology.SwitchoverImpossible:
		told = impossible(errors.New("it can't be done now, and nothing was changed:\n  " + indented(r.Err)))
	case topology.SwitchoverBusy:
		told = impossible(errors.New(r.Err))
	case topology.SwitchoverAborted:
		told = &exitError{exitVerdict, errors.New("called off, " + r.To.String() + " serves on: " + indented(r.Err))}
	case topology.SwitchoverFailed:
		told = &exitError{exitVerdict, errors.New(indented(r.Err))}
	default:
		told = &exitError{exitVerdict, fmt.Errorf("the sidecar speaks of an outcome %q that this command does not know: %s", r.Outcome, r.Err)}
	}
	if told == nil && printed != nil {
		return &exitError{exitVerdict, printed}
	}
	return told
}

// indented puts the lines after the first below it.
func indented(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }

// printer prints a switchover as it goes.
type printer struct {
	out  io.Writer
	json bool
}

// step prints one line, or one object.
func (p printer) step(s topology.SwitchoverStep) error {
	if p.json {
		return control.WriteStep(p.out, s)
	}
	detail := indented(s.Detail)
	if s.Status == topology.StepFailed && strings.Contains(s.Detail, "\n") {
		detail = "see below" // the error lists them
	}
	_, err := fmt.Fprintf(p.out, "%-9s  %-7s  %9s  %s\n", s.Name, s.Status, short(s.Took), detail)
	return err
}

// result prints the last line.
func (p printer) result(r topology.SwitchoverResult) error {
	if p.json {
		return control.WriteResult(p.out, r)
	}
	var err error
	switch r.Outcome {
	case topology.SwitchoverDone, topology.SwitchoverFailed:
		_, err = fmt.Fprintf(p.out, "\n%s: the master was %s and is %s, at epoch %d; commands waited %s\n",
			r.Outcome, r.From, r.To, r.Epoch, short(r.Pause))
	case topology.SwitchoverReady:
		_, err = fmt.Fprintf(p.out, "\nready: nothing is in the way of %s to %s; nothing was changed\n", r.From, r.To)
	case topology.SwitchoverAborted:
		_, err = fmt.Fprintf(p.out, "\naborted: %s serves on; commands waited %s\n", r.To, short(r.Pause))
	case topology.SwitchoverImpossible, topology.SwitchoverBusy:
	}
	return err
}

// short prints a duration in as few digits as matter.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
