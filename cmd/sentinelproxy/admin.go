package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sentinelproxy/sentinelproxy/control"
	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/health"
	"github.com/sentinelproxy/sentinelproxy/internal/bearer"
	"github.com/sentinelproxy/sentinelproxy/internal/certwatch"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/tlsconf"
)

// admin is a sidecar's admin server, with what it needs. Its zero value is off.
type admin struct {
	// Fixed at construction.
	ln, probes net.Listener    // nil where off
	tls        *tlsconf.Source // nil: plain
	server     *health.Server  // nil when both listeners are

	token atomic.Pointer[config.Secret] // the one in force; nil without
}

// open opens the listeners. Each that can't be opened has its line in the error; the
// caller closes the others then.
func (a *admin) open(ctx context.Context, cfg config.Admin, open openFunc) error {
	var errs []error
	for _, one := range []struct {
		what, where string
		into        *net.Listener
	}{{"admin server", cfg.Listen, &a.ln}, {"probes", cfg.Probes, &a.probes}} {
		if one.where == "" {
			continue
		}
		ln, err := open(ctx, config.Listen{Network: "tcp", Address: one.where})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", one.what, err))
			continue
		}
		*one.into = ln
	}
	return errors.Join(errs...)
}

func (a *admin) close() {
	for _, ln := range []net.Listener{a.ln, a.probes} {
		if ln != nil {
			_ = ln.Close() // the error at hand says more
		}
	}
}

// secure reads the server's TLS files, and has t watch their certificates.
func (a *admin) secure(cfg config.Admin, t teller, log *slog.Logger) error {
	if a.ln == nil || !cfg.Secure() {
		return nil
	}
	s, err := tlsconf.New(tlsconf.Options{
		Leg: "admin", Prefix: "admin.tls", Files: cfg.TLS.Files(),
		MinVersion: cfg.TLS.MinVersion, Ciphers: cfg.TLS.CipherIDs(), ClientAuth: cfg.TLS.ClientAuth.Type(), Log: log,
		Rejected: func(err error) {
			t.process(events.CertificateFilesRejected{Leg: "admin", Err: events.Text(err.Error())})
		},
	})
	if err != nil {
		return fmt.Errorf("admin.tls: %w", err)
	}
	a.tls = s
	t.watchFiles("", certwatch.Server, cfg.TLS, s)
	return nil
}

// join makes the server of what is there.
func (a *admin) join(s *sidecar) error {
	if a.ln == nil && a.probes == nil {
		return nil
	}
	cfg := s.cfg.Admin
	o := health.Options{
		Listener: a.ln, Probes: a.probes, Alive: s.alive, Gatherer: s.registry, Build: build(), PProf: cfg.PProf, Log: s.log,
		Events: s.teller.stream, Certificates: func() any { return s.teller.certs.Status() }, Hosts: adminHosts(cfg.Listen),
	}
	for _, g := range s.groups {
		o.Groups = append(o.Groups, g)
	}
	if a.tls != nil {
		o.Listener = tls.NewListener(a.ln, &tls.Config{ //nolint:gosec // each handshake has the versions of its own configuration
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return a.tls.Server(), nil },
		})
	}
	if s.control.admin != nil {
		o.Private = s.control.withToken
		o.Orders = map[string]http.Handler{control.PathSwitchover: s.control.admin, control.PathDrill: s.control.admin}
	}
	switch {
	case cfg.Token != "":
		a.setToken(cfg.Token)
		o.Guard = func(next http.Handler) http.Handler { return a.withToken(s.control.right, next) }
	case cfg.Guarded():
		o.Guard = func(next http.Handler) http.Handler { return next } // the handshake has seen to it
	}
	var err error
	if a.server, err = health.New(o); err != nil {
		return err
	}
	return s.registry.Register(a.server.Collector())
}

// adminHosts are names by which the admin server may be asked.
func adminHosts(listen string) []string {
	var hosts []string
	if host, _, err := net.SplitHostPort(listen); err == nil {
		hosts = append(hosts, host)
	}
	// Where containers find each other by name, that is the host's name.
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	return hosts
}

// withToken lets those through to next who send the token in force, or one that gives
// another right to read. A browser asks people for it as a password.
func (a *admin) withToken(also func(token string) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := bearer.OfBrowser(r)
		if ok && (bearer.Same(given, a.token.Load().Reveal()) || also(given)) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Connection", "close") // who may not come in keeps no file open
		h.Add("WWW-Authenticate", `Bearer realm="sentinelproxy"`)
		h.Add("WWW-Authenticate", `Basic realm="sentinelproxy", charset="UTF-8"`)
		http.Error(w, "this needs the admin token: send Authorization: Bearer TOKEN, or the token as password (sentinelproxy)", http.StatusUnauthorized)
	})
}

func (a *admin) setToken(t config.Secret) { a.token.Store(&t) }

// run serves until ctx ends.
func (a *admin) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if a.tls != nil {
		wg.Go(func() { a.tls.Run(watching) })
	}
	if a.server == nil {
		<-ctx.Done()
		return nil
	}
	return a.server.Run(ctx)
}

// drain has it say that the process is about to stop.
func (a *admin) drain() {
	if a.server != nil {
		a.server.Drain()
	}
}

// reload looks for changed TLS files now.
func (a *admin) reload() {
	if a.tls != nil {
		a.tls.Reload()
	}
}
