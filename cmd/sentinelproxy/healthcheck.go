package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// probeKind is what a health check asks for.
type probeKind string

// The kinds, by their paths.
const (
	probeReady probeKind = "/readyz"
	probeLive  probeKind = "/livez"
)

// healthcheckOptions are the flags of `sentinelproxy healthcheck`.
type healthcheckOptions struct {
	live    bool
	master  string
	timeout time.Duration
	trust   adminTrust
}

func newHealthcheckCommand(environ []string) *cobra.Command {
	var o healthcheckOptions
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the sidecar that runs here whether it is ready",
		Long: `Ask the sidecar that runs here whether it is ready.

It is for containers that have neither a shell nor curl: the image's HEALTHCHECK
is this command. The admin server is found as ` + "`run`" + ` finds it: --admin,
SENTINELPROXY_ADMIN, the file of --config or SENTINELPROXY_CONFIG, 127.0.0.1:9180;
so are its token and its certificate. Where it is off, or takes only clients with
a certificate, the listener ` + "`admin.probes`" + ` is asked. Other settings are not
looked at. One line says how it is, or why not.

Exit code: 0 if it is ready (with --live: alive); 1 if not, or if nothing answers;
2 for wrong flags.`,
		Example: `  sentinelproxy healthcheck
  sentinelproxy healthcheck --admin :9180 --master orders`,
		Args: cobra.NoArgs,
	}
	own := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	settings := config.AddFlags(own)
	f := cmd.Flags()
	for _, name := range append(accessSettings(), "admin-probes") {
		f.AddFlag(own.Lookup(name))
	}
	o.trust.addFlags(f)
	f.BoolVar(&o.live, "live", false, "ask whether it is alive, whatever becomes of Redis: a failure means that only a restart helps")
	f.StringVar(&o.master, "master", "", "ask for one master of several")
	f.DurationVar(&o.timeout, "timeout", 2*time.Second, "how long to wait for the answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.validate(); err != nil {
			return err
		}
		a, err := config.LoadAdmin(config.Sources{Flags: settings, Environ: environ})
		to, unusable := o.access(a)
		if unusable != nil {
			return errors.Join(err, unusable)
		}
		said, perr := o.probe(cmd.Context(), to)
		if perr != nil {
			return &exitError{exitVerdict, errors.Join(perr, err)} // a broken file may be why it is the wrong address
		}
		fmt.Fprintln(cmd.OutOrStdout(), said)
		return nil
	}
	return cmd
}

// validate returns every mistake in the flags, one line each.
func (o healthcheckOptions) validate() error {
	var errs []error
	if o.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: found %v; want more than 0", o.timeout))
	}
	if o.live && o.master != "" {
		errs = append(errs, errors.New("--live and --master: a process lives or not, for all its masters"))
	}
	return errors.Join(errs...)
}

// kind returns what is asked for, and the word for a refusal.
func (o healthcheckOptions) kind() (kind probeKind, not string) {
	if o.live {
		return probeLive, "not alive"
	}
	return probeReady, "not ready"
}

// access returns whom to ask: the admin server, which gives reasons, if we may.
func (o healthcheckOptions) access(a config.Admin) (adminAccess, error) {
	closed := a.Secure() && a.TLS.ClientAuth == config.ClientAuthRequire && o.trust.cert == ""
	switch {
	case a.Probes != "" && (a.Listen == "" || closed):
		return adminAccess{addr: adminClientAddr(a.Probes)}, nil
	case a.Listen == "":
		return adminAccess{}, errors.New("the admin server is off, so nobody can be asked: give the sidecar an --admin or --admin-probes address")
	}
	return o.trust.access(a)
}

// probe asks the admin server and returns its answer on one line, as the error
// if that is a no.
func (o healthcheckOptions) probe(ctx context.Context, to adminAccess) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	kind, not := o.kind()
	at := to.url(string(kind))
	if o.master != "" {
		at += "?" + url.Values{"master": {o.master}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Close = true
	transport := to.transport()
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(to.request(req))
	if err != nil {
		return "", fmt.Errorf("%s: nothing answers at %s: %w", not, to.addr, err)
	}
	defer resp.Body.Close()
	const most = 4 << 10
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return "", fmt.Errorf("%s: the answer of %s broke off: %w", not, to.addr, err)
	}
	said := strings.Join(strings.FieldsFunc(string(body), func(r rune) bool { return r == '\n' }), "; ")
	if resp.StatusCode == http.StatusOK {
		return said, nil
	}
	if resp.StatusCode != http.StatusServiceUnavailable {
		return "", fmt.Errorf("%s: %s answers %s: %s", not, to.addr, resp.Status, said)
	}
	return "", errors.New(said)
}

// adminClientAddr returns where a client on this machine reaches an admin server
// that listens at addr.
func adminClientAddr(addr string) string {
	return clientAddr(config.Listen{Network: "tcp", Address: addr})
}
