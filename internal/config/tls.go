package config

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/tlsconf"
)

// TLS is how one leg's connections are secured: those of clients to the tls://
// listeners, ours to Redis, or ours to the Sentinels.
type TLS struct {
	Enabled  bool // not of listeners: those say so themselves
	CAFile   string
	CertFile string
	KeyFile  string

	MinVersion uint16
	Ciphers    []Cipher // of TLS 1.2; empty: Go's

	ServerName         string // not of listeners
	InsecureSkipVerify bool   // not of listeners

	ClientAuth ClientAuth // of listeners; resolved
}

// Files returns the leg's files.
func (t TLS) Files() tlsconf.Files {
	return tlsconf.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile}
}

// CipherIDs returns the suites as crypto/tls takes them.
func (t TLS) CipherIDs() []uint16 {
	var ids []uint16
	for _, c := range t.Ciphers {
		ids = append(ids, uint16(c))
	}
	return ids
}

// Cipher is a suite of TLS 1.2.
type Cipher uint16

// String returns its name.
func (c Cipher) String() string { return tlsconf.CipherName(uint16(c)) }

// ClientAuth says whether clients must show a certificate.
type ClientAuth string

// What is asked of clients.
const (
	ClientAuthNone     ClientAuth = "none"     // no certificate is asked for
	ClientAuthOptional ClientAuth = "optional" // one that is shown must be valid
	ClientAuthRequire  ClientAuth = "require"  // nobody comes in without
)

// Type returns what crypto/tls calls it.
func (a ClientAuth) Type() tls.ClientAuthType {
	switch a {
	case ClientAuthOptional:
		return tls.VerifyClientCertIfGiven
	case ClientAuthRequire:
		return tls.RequireAndVerifyClientCert
	case ClientAuthNone:
	}
	return tls.NoClientCert
}

// leg is what differs between the legs' settings.
type leg struct {
	flag, key string // prefixes, such as "redis-tls" and "redis.tls"
	scope     scope
	of        func(target) *TLS
	peers     string // whom the settings are about
}

func listenerLeg() leg {
	return leg{"tls", "tls", ofMaster, func(t target) *TLS { return &t.TLS }, "clients"}
}

func redisLeg() leg {
	return leg{"redis-tls", "redis.tls", ofMaster, func(t target) *TLS { return &t.RedisTLS }, "Redis"}
}

func sentinelLeg() leg {
	return leg{"sentinel-tls", "sentinel.tls", ofMaster, func(t target) *TLS { return &t.SentinelTLS }, "Sentinels"}
}

func adminLeg() leg {
	return leg{"admin-tls", "admin.tls", ofProcess, func(t target) *TLS { return &t.Admin.TLS }, "clients of the admin server"}
}

// path, min and ciphers are what every leg has.
func (l leg) path(suffix, usage string, field func(*TLS) *string) setting {
	return setting{
		flag: l.flag + "-" + suffix + "-file", key: l.key + "." + strings.ReplaceAll(suffix, "-", "_") + "_file",
		scope: l.scope, kind: "path", want: "want a file's path", usage: usage,
		set:  into(func(t target) *string { return field(l.of(t)) }, parsePath),
		show: func(t target) string { return *field(l.of(t)) },
	}
}

func (l leg) versions() []setting {
	return []setting{
		{
			flag: l.flag + "-min-version", key: l.key + ".min_version", scope: l.scope, kind: "version", def: tlsconf.Version12,
			want:  `want "1.2" or "1.3"`,
			usage: "least TLS version with " + l.peers + ": 1.2 or 1.3",
			set: into(func(t target) *uint16 { return &l.of(t).MinVersion }, func(v string) (uint16, error) {
				id, ok := tlsconf.ParseVersion(v)
				if !ok {
					return 0, errPlain
				}
				return id, nil
			}),
			show: func(t target) string { return tls.VersionName(l.of(t).MinVersion) },
		},
		{
			flag: l.flag + "-cipher", key: l.key + ".ciphers", scope: l.scope, repeat: true, kind: "name",
			want:  "want the name of a cipher suite of TLS 1.2",
			usage: "cipher suite of TLS 1.2 with " + l.peers + ", by its IANA or OpenSSL name; repeatable; Go's choice where none is named; those of TLS 1.3 are always on",
			set: addTo(func(t target) *[]Cipher { return &l.of(t).Ciphers }, func(v string) (Cipher, error) {
				id, err := tlsconf.ParseCipher(v)
				return Cipher(id), err
			}),
			show: func(t target) string { return joined(l.of(t).Ciphers) },
		},
	}
}

// serverTLSSettings are those of a leg whose server we are. what says of what the
// certificate is, and whose clients are meant.
func serverTLSSettings(l leg, what, whose string) []setting {
	return append([]setting{
		l.path("cert", "PEM certificate, with its chain, of "+what+"; a changed file is noticed within seconds",
			func(t *TLS) *string { return &t.CertFile }),
		l.path("key", "PEM private key of that certificate", func(t *TLS) *string { return &t.KeyFile }),
		l.path("client-ca", "PEM certificates of the authorities that sign clients' certificates", func(t *TLS) *string { return &t.CAFile }),
		{
			flag: l.flag + "-client-auth", key: l.key + ".client_auth", scope: l.scope, kind: "mode",
			want:  `want "require", "optional" or "none"`,
			usage: "whether " + whose + " must show a certificate: require (the default with a client CA file), optional (one that is shown must be valid) or none",
			set: into(func(t target) *ClientAuth { return &l.of(t).ClientAuth }, func(v string) (ClientAuth, error) {
				return parseChoice(v, ClientAuthRequire, ClientAuthOptional, ClientAuthNone)
			}),
			show: func(t target) string { return string(l.of(t).ClientAuth) },
		},
	}, l.versions()...)
}

// listenerTLSSettings are about clients that connect to tls:// listeners.
func listenerTLSSettings() []setting {
	return serverTLSSettings(listenerLeg(), "the tls:// listeners", "clients of tls:// listeners")
}

// nodeTLSSettings are about our connections to Redis or the Sentinels.
func nodeTLSSettings(l leg) []setting {
	return slices.Concat([]setting{
		{
			flag: l.flag, key: l.key + ".enabled", scope: l.scope, kind: "switch", def: "false",
			want: `want "true" or "false"`, usage: "speak TLS with " + l.peers + ": true or false",
			set:  into(func(t target) *bool { return &l.of(t).Enabled }, parseSwitch),
			show: func(t target) string { return strconv.FormatBool(l.of(t).Enabled) },
		},
		l.path("ca", "PEM certificates of the authorities that sign the certificates of "+l.peers+"; the system's where none is named",
			func(t *TLS) *string { return &t.CAFile }),
		l.path("cert", "PEM certificate that is shown to "+l.peers+" (mutual TLS)", func(t *TLS) *string { return &t.CertFile }),
		l.path("key", "PEM private key of that certificate", func(t *TLS) *string { return &t.KeyFile }),
		{
			flag: l.flag + "-server-name", key: l.key + ".server_name", scope: l.scope, kind: "name",
			want:  "want a host name or an IP address",
			usage: "name that the certificates of " + l.peers + " must hold (and SNI), instead of the address of each node",
			set:   into(func(t target) *string { return &l.of(t).ServerName }, parseServerName),
			show:  func(t target) string { return l.of(t).ServerName },
		},
	}, l.versions(), []setting{
		{
			flag: l.flag + "-insecure-skip-verify", key: l.key + ".insecure_skip_verify", scope: l.scope, kind: "switch", def: "false",
			want:  `want "true" or "false"`,
			usage: "do not look at the certificates of " + l.peers + ": anybody on the way can read and change everything; for tests alone",
			set:   into(func(t target) *bool { return &l.of(t).InsecureSkipVerify }, parseSwitch),
			show:  func(t target) string { return strconv.FormatBool(l.of(t).InsecureSkipVerify) },
		},
	})
}

func parseSwitch(v string) (bool, error) {
	switch v {
	case "true", "yes", "on":
		return true, nil
	case "false", "no", "off":
		return false, nil
	}
	return false, errPlain
}

func parseServerName(v string) (string, error) {
	if net.ParseIP(v) != nil {
		return v, nil
	}
	if strings.Contains(v, ":") {
		return "", errors.New("without a port")
	}
	if v == "" || len(v) > 253 || strings.ContainsFunc(v, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}) {
		return "", errPlain
	}
	return v, nil
}

// tlsListeners reports whether any of a master's listeners speaks TLS.
func (m Master) tlsListeners() bool {
	return slices.ContainsFunc(m.Listen, func(w Listen) bool { return w.TLS })
}

// nodeTLS checks one leg to the nodes, and its files.
func (l *loader) nodeTLS(cfg *Config, m *Master, at origins, g leg) {
	t := g.of(target{Master: m})
	if !t.Enabled {
		if _, given := at.by[g.flag]; given {
			return // off, whatever else is there
		}
		for _, s := range nodeTLSSettings(g)[1:] {
			if _, given := at.by[s.flag]; given {
				l.mistakes.add(at.of(s.flag), "is set, but %s.enabled is not; want it true, or false", g.key)
				return
			}
		}
		return
	}
	l.tlsCommon(cfg, t, at, g, "ca")
	if t.InsecureSkipVerify {
		cfg.Warnings = append(cfg.Warnings, oneLine(g.key+".insecure_skip_verify of master "+quote(m.Name)+
			" is on: certificates are not looked at, and anybody on the way can read and change everything"))
	}
}

// listenerTLS checks the clients' leg, and its files.
func (l *loader) listenerTLS(cfg *Config, m *Master, at origins) {
	g := listenerLeg()
	t := &m.TLS
	l.clientAuth(t, at, g)
	if !m.tlsListeners() {
		return
	}
	if t.CertFile == "" {
		if _, given := at.by["tls-cert-file"]; !given {
			l.mistakes.add(at.of("tls-cert-file"), "is missing; a tls:// listener needs a certificate and its key")
		}
		return
	}
	l.tlsCommon(cfg, t, at, g, "client-ca")
}

// clientAuth fills in what is asked of clients, where it was not said.
func (l *loader) clientAuth(t *TLS, at origins, g leg) {
	if t.ClientAuth == "" {
		t.ClientAuth = ClientAuthNone
		if t.CAFile != "" {
			t.ClientAuth = ClientAuthRequire
		}
	} else if t.ClientAuth != ClientAuthNone && t.CAFile == "" {
		l.mistakes.add(at.of(g.flag+"-client-auth"), "found %s without an authority to check against; want --%s-client-ca-file, or %s.client_ca_file in the YAML file, too",
			quote(string(t.ClientAuth)), g.flag, g.key)
	}
}

// tlsCommon checks what all legs have. ca is how the flag of the CA file is called.
func (l *loader) tlsCommon(cfg *Config, t *TLS, at origins, g leg, ca string) {
	flags := map[tlsconf.Role]string{
		tlsconf.RoleCA: g.flag + "-" + ca + "-file", tlsconf.RoleCert: g.flag + "-cert-file", tlsconf.RoleKey: g.flag + "-key-file",
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		l.mistakes.add(at.of(flags[tlsconf.RoleKey]), "is missing; the certificate %s needs its private key", quote(t.CertFile))
	case t.KeyFile != "" && t.CertFile == "":
		l.mistakes.add(at.of(flags[tlsconf.RoleCert]), "is missing; the private key %s needs its certificate", quote(t.KeyFile))
	}
	if t.MinVersion == tls.VersionTLS13 && len(t.Ciphers) > 0 {
		l.mistakes.add(at.of(g.flag+"-cipher"), "names suites of TLS 1.2, and %s.min_version is 1.3; want one of the two", g.key)
	}
	material, err := tlsconf.Load(l.readFile, t.Files())
	for _, one := range tlsconf.FileErrors(err) {
		path := map[tlsconf.Role]string{tlsconf.RoleCA: t.CAFile, tlsconf.RoleCert: t.CertFile, tlsconf.RoleKey: t.KeyFile}[one.Role]
		l.mistakes.add(at.of(flags[one.Role]), "found %s; want %s (%v)", quote(path), one.Want, one.Err)
	}
	if err == nil {
		for _, w := range material.Warnings(time.Now()) {
			if w = oneLine(w); !slices.Contains(cfg.Warnings, w) {
				cfg.Warnings = append(cfg.Warnings, w)
			}
		}
	}
}

// checkTLSUse reports a certificate for listeners that no listener uses.
func (l *loader) checkTLSUse(cfg Config, ats []origins) {
	if slices.ContainsFunc(cfg.Masters, Master.tlsListeners) {
		return
	}
	for _, at := range ats {
		for _, s := range listenerTLSSettings() {
			if _, given := at.by[s.flag]; given {
				l.mistakes.add(at.of(s.flag), "is set, and no listener speaks TLS; want one such as tls://:6380 in listen")
				return
			}
		}
	}
}
