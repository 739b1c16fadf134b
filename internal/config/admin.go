package config

import (
	"os"
	"strconv"
	"strings"
)

// adminSettings are about the admin HTTP server.
func adminSettings() []setting {
	return append([]setting{
		{
			flag: adminFlag, key: "admin.listen", short: "admin", scope: ofProcess, kind: "address", def: "127.0.0.1:9180",
			want:  `want host:port, or "off"`,
			usage: "where the read-only admin HTTP server listens (metrics, status, probes); another than a loopback address needs TLS, and a token or clients' certificates; off: nowhere",
			set:   into(func(t target) *string { return &t.Admin.Listen }, parseBindOrOff),
			show:  func(t target) string { return t.Admin.Listen },
		},
		{
			flag: probesFlag, key: "admin.probes", scope: ofProcess, kind: "address", def: "off",
			want:  `want host:port or :port, or "off"`,
			usage: "where /livez, /readyz and /startupz alone are answered, in a word, to whoever asks, such as the kubelet; off: nowhere",
			set:   into(func(t target) *string { return &t.Admin.Probes }, parseBindOrOff),
			show:  func(t target) string { return t.Admin.Probes },
		},
		{
			flag: "admin-token-file", key: "admin.token_file", scope: ofProcess, kind: "path", live: true,
			want:  "want a file's path",
			usage: "file with a token of 16 characters or more that the admin server wants to see; a changed file is noticed within seconds",
			set:   into(func(t target) *string { return &t.Admin.TokenFile }, parsePath),
			show:  func(t target) string { return t.Admin.TokenFile },
		},
		{
			flag: "admin-insecure", key: "admin.insecure", scope: ofProcess, kind: "switch", def: "false",
			want:  `want "true" or "false"`,
			usage: "let the admin server leave loopback without TLS, or open to whoever reaches it: for networks that are closed otherwise",
			set:   into(func(t target) *bool { return &t.Admin.Insecure }, parseSwitch),
			show:  func(t target) string { return strconv.FormatBool(t.Admin.Insecure) },
		},
		{
			flag: "admin-pprof", key: "admin.pprof", scope: ofProcess, kind: "switch", def: "false",
			want:  `want "true" or "false"`,
			usage: "serve Go's profiler under /debug/pprof/ of the admin server; it needs a token or clients' certificates",
			set:   into(func(t target) *bool { return &t.Admin.PProf }, parseSwitch),
			show:  func(t target) string { return strconv.FormatBool(t.Admin.PProf) },
		},
	}, serverTLSSettings(adminLeg(), "the admin server, which speaks TLS with it", "clients of the admin server")...)
}

// The flags of the admin server that stand without it.
const (
	adminFlag  = "admin"
	probesFlag = "admin-probes"
)

// LoadAdmin returns the admin server's settings, by the same sources and in the same order
// as [Load], whatever all other settings say. It is for commands that ask a running
// sidecar: of the files it reads the YAML file and the token alone. The error tells what is
// wrong with them; a setting is then the next that would do.
func LoadAdmin(src Sources) (Admin, error) {
	l := loader{flags: src.Flags, vars: environ(src.Environ), readFile: src.ReadFile}
	if l.readFile == nil {
		l.readFile = os.ReadFile
	}
	l.doc = document{top: layer{}}
	if file := l.file(); file != "" {
		l.doc = l.readYAML(file)
	}
	given := l.given()
	cfg, at := Config{}, origins{by: map[string]Origin{}}
	t := nowhere()
	t.Config = &cfg
	for _, s := range adminSettings() {
		set := func(vs []text) {
			before := len(l.mistakes)
			l.checkSetting(s, layer{s.flag: vs})
			if len(l.mistakes) == before && len(vs) > 0 {
				at.by[s.flag] = vs[0].origin
			}
			assign(s, t, vs)
		}
		assign(s, t, s.texts(s.def))
		set(l.doc.top[s.flag])
		set(given[s.flag]) // the stronger one last
	}
	cfg.Admin.Token = l.token(cfg.Admin.TokenFile, at, "admin-token-file")
	l.clientAuth(&cfg.Admin.TLS, at, adminLeg())
	if len(l.mistakes) > 0 {
		return cfg.Admin, &InvalidError{Mistakes: l.mistakes}
	}
	return cfg.Admin, nil
}

// checkAdmin reads the admin server's files, and reports what is wrong between its
// settings.
func (l *loader) checkAdmin(cfg *Config, at origins) {
	a, g := &cfg.Admin, adminLeg()
	l.clientAuth(&a.TLS, at, g)
	if a.Listen == "" {
		l.checkNoAdmin(at)
		return
	}
	if a.Probes == a.Listen && !strings.HasSuffix(a.Probes, ":0") {
		l.mistakes.add(at.of(probesFlag), "found %s, where the admin server listens; want another port", quote(a.Probes))
	}
	a.Token = l.token(a.TokenFile, at, "admin-token-file")
	if l.asking {
		return
	}
	if a.Secure() || a.TLS.KeyFile != "" || a.TLS.CAFile != "" {
		l.tlsCommon(cfg, &a.TLS, at, g, "client-ca")
	}
	if a.TLS.CAFile != "" && !a.Secure() && a.TLS.KeyFile == "" {
		l.mistakes.add(at.of("admin-tls-cert-file"), "is missing; clients' certificates are looked at where the server speaks TLS")
	}
	if a.PProf && !a.Guarded() {
		l.mistakes.add(at.of("admin-pprof"), "is on, and whoever reaches the admin server may profile; want admin.token_file, or admin.tls.client_ca_file, too")
	}
	if loopback(hostOf(a.Listen)) {
		return
	}
	var missing string
	switch {
	case !a.Secure() && !a.Guarded():
		missing = "without TLS and a token"
	case !a.Secure():
		missing = "without TLS"
	case !a.Guarded():
		missing = "without a token"
	default:
		return
	}
	if a.Insecure {
		cfg.Warnings = append(cfg.Warnings, oneLine("admin.insecure: the admin server listens on "+quote(a.Listen)+" "+missing+": whoever reaches it, or listens on the way, reads what it tells"))
		return
	}
	l.mistakes.add(at.of(adminFlag), "found %s, which other machines reach, %s; want a loopback address such as 127.0.0.1:9180 with admin.probes for the kubelet's probes, or admin.tls.cert_file, admin.tls.key_file and admin.token_file",
		quote(a.Listen), missing)
}

// checkNoAdmin reports what was set of an admin server that there is not.
func (l *loader) checkNoAdmin(at origins) {
	for _, s := range adminSettings() {
		if o, given := at.by[s.flag]; given && s.flag != adminFlag && s.flag != probesFlag {
			l.mistakes.add(o, `is set, and admin is "off"; want an admin address, or not this`)
			return
		}
	}
}
