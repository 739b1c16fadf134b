package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/doctor"
)

// checkHere looks at this machine: listeners, files, and what the configuration itself
// warns of.
func checkHere(ctx context.Context, cfg config.Config, trust adminTrust) []doctor.Finding {
	var list []doctor.Finding
	for _, w := range cfg.Warnings {
		list = append(list, doctor.Finding{Check: "config", Severity: doctor.Warning, Reason: w, Remedy: "see docs/configuration.md"})
	}
	type place struct {
		master string
		at     config.Listen
	}
	var places []place
	clients := 0
	for _, m := range cfg.Masters {
		for _, l := range m.Listen {
			places = append(places, place{m.Name, l})
		}
		clients += m.MaxClients
		if m.Dedicated {
			clients += m.MaxClients // and a backend connection each
		}
	}
	for _, a := range []string{cfg.Admin.Listen, cfg.Admin.Probes, cfg.SentinelListen} {
		if a != "" {
			places = append(places, place{"", config.Listen{Network: "tcp", Address: a}})
		}
	}
	if s := cfg.Control.Socket; s != "" {
		places = append(places, place{"", config.Listen{Network: "unix", Address: s}})
	}
	for _, p := range places {
		err := mayListen(ctx, p.at)
		if err == nil {
			continue
		}
		f := doctor.Finding{
			Check: "listen", Severity: doctor.Error, Master: p.master, Subject: p.at.String(),
			Reason: err.Error(), Remedy: "end what listens there, or choose another address",
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			switch a := cfg.Admin; {
			case runsHere(ctx, cfg, trust):
				f.Severity, f.Reason, f.Remedy = doctor.Info, "it is taken, as it should be: a sidecar with these masters runs here", ""
			case a.Secure() && a.TLS.ClientAuth == config.ClientAuthRequire && trust.cert == "":
				f.Severity, f.Reason = doctor.Warning, "it is taken; whether by a sidecar with these masters its admin server tells only to who shows a certificate"
				f.Remedy = "check with --admin-client-cert-file, or while no sidecar runs"
			}
		}
		list = append(list, f)
	}
	if cfg.Admin.Secure() {
		list = append(list, doctor.JudgeAdmin(cfg.Admin.TLS, time.Now(), cfg.Certificates.WarnDays)...)
	}
	const others = 1000 // as run reckons
	if limit, known := fileLimit(); known && limit < uint64(clients+others) {
		list = append(list, doctor.Finding{
			Check: "file-limit", Severity: doctor.Warning, Remedy: "ulimit -n, or LimitNOFILE= of the unit; here it may differ from where the sidecar runs",
			Reason: fmt.Sprintf("%d files may be open here, and max_clients needs %d", limit, clients+others),
		})
	}
	return list
}

// mayListen reports why an address can't be listened on. It listens for a moment; of a
// Unix socket it looks at the path only.
func mayListen(ctx context.Context, l config.Listen) error {
	if l.Network == "unix" {
		info, err := os.Lstat(l.Address)
		if errors.Is(err, fs.ErrNotExist) {
			_, err = os.Stat(filepath.Dir(l.Address))
			return err
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSocket == 0 {
			return errors.New("there is a file of that name, and it is no socket")
		}
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", l.Address)
		if err != nil {
			return nil //nolint:nilerr // nobody listens: what a crash left is removed at a start
		}
		_ = c.Close()
		return fmt.Errorf("somebody listens there: %w", syscall.EADDRINUSE)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.Address)
	if err != nil {
		return err
	}
	return ln.Close()
}

// runsHere reports whether the admin server in cfg is that of a sidecar with its masters.
func runsHere(ctx context.Context, cfg config.Config, trust adminTrust) bool {
	if cfg.Admin.Listen == "" {
		return false
	}
	to, err := trust.access(cfg.Admin)
	if err != nil {
		return false
	}
	p, err := newAdminClient(to).status(ctx)
	if err != nil {
		return false
	}
	for _, m := range cfg.Masters {
		if !slices.ContainsFunc(p.Masters, func(s masterView) bool { return s.Name == m.Name }) {
			return false
		}
	}
	return true
}
