package config

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

// adminFiles are the files of an admin server, and a configuration.
func adminFiles(tb testing.TB, yaml string) files {
	tb.Helper()
	ca := certtest.MustCA(tb)
	pair := ca.MustIssue(tb, certtest.Leaf{})
	return files{
		"cert": string(pair.Cert), "key": string(pair.Key), "ca": string(ca.PEM), "token": "0123456789abcdef\n", "short": "secret\n",
		"other": "fedcba9876543210\n", "c.yaml": "sentinels: s\n" + yaml,
	}
}

// One value is the address; a mapping has more. Both may leave the rest to flags and
// variables.
func TestAdminForms(t *testing.T) {
	for name, tt := range map[string]struct {
		yaml      string
		args, env []string
		want      Admin
	}{
		"a value":      {yaml: "admin: 127.0.0.1:1\n", want: Admin{Listen: "127.0.0.1:1"}},
		"off":          {yaml: "admin: off\n", want: Admin{}},
		"a mapping":    {yaml: "admin: {listen: '127.0.0.1:1'}\n", want: Admin{Listen: "127.0.0.1:1"}},
		"no address":   {yaml: "admin: {probes: ':2'}\n", want: Admin{Listen: "127.0.0.1:9180", Probes: ":2"}},
		"probes alone": {yaml: "admin:\n  listen: off\n  probes: :2\n", want: Admin{Probes: ":2"}},
		"a flag wins":  {yaml: "admin: {listen: '127.0.0.1:1', probes: ':2'}\n", args: []string{"--admin", "[::1]:3"}, env: []string{"SENTINELPROXY_ADMIN_PROBES=off"}, want: Admin{Listen: "[::1]:3"}},
		"guarded": {
			yaml: "admin: {listen: ':1', token_file: token, pprof: true, tls: {cert_file: cert, key_file: key, min_version: 1.3}}\n",
			want: Admin{Listen: ":1", TokenFile: "token", Token: "0123456789abcdef", PProf: true, TLS: TLS{CertFile: "cert", KeyFile: "key", MinVersion: tls.VersionTLS13}},
		},
		"mutual": {
			yaml: "admin: ':1'\n", env: []string{"SENTINELPROXY_ADMIN_TLS_CERT_FILE=cert", "SENTINELPROXY_ADMIN_TLS_KEY_FILE=key", "SENTINELPROXY_ADMIN_TLS_CLIENT_CA_FILE=ca"},
			want: Admin{Listen: ":1", TLS: TLS{CertFile: "cert", KeyFile: "key", CAFile: "ca", ClientAuth: ClientAuthRequire}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.want.TLS.MinVersion == 0 {
				tt.want.TLS.MinVersion = tls.VersionTLS12
			}
			if tt.want.TLS.ClientAuth == "" {
				tt.want.TLS.ClientAuth = ClientAuthNone
			}
			cfg := mustLoad(t, tt.args, tt.env, adminFiles(t, tt.yaml))
			got := cfg.Admin
			if got.TLS.Ciphers = nil; got.Listen != tt.want.Listen || got.Probes != tt.want.Probes || got.Token != tt.want.Token || got.TokenFile != tt.want.TokenFile ||
				got.PProf != tt.want.PProf || got.TLS.CertFile != tt.want.TLS.CertFile || got.TLS.ClientAuth != tt.want.TLS.ClientAuth || got.TLS.MinVersion != tt.want.TLS.MinVersion {
				t.Errorf("admin\n got %+v\nwant %+v", got, tt.want)
			}
			if len(cfg.Warnings) > 0 {
				t.Errorf("warnings %q; want none", cfg.Warnings)
			}
		})
	}
}

// The admin server stays on loopback, unless it has TLS and knows whom it lets in.
func TestAdminLeavesLoopback(t *testing.T) {
	const tlsOf = "tls: {cert_file: cert, key_file: key}"
	for name, tt := range map[string]struct {
		yaml    string
		mistake string // "": none
		warning string
	}{
		"loopback":              {yaml: "admin: 127.0.0.1:9180\n"},
		"loopback, another":     {yaml: "admin: 127.8.0.1:9180\n"},
		"loopback, IPv6":        {yaml: "admin: '[::1]:9180'\n"},
		"localhost":             {yaml: "admin: localhost:9180\n"},
		"probes go anywhere":    {yaml: "admin: {probes: ':9181'}\n"},
		"every interface":       {yaml: "admin: :9180\n", mistake: `c.yaml:2: admin: found ":9180", which other machines reach, without TLS and a token; want a loopback address`},
		"an address":            {yaml: "admin:\n  listen: 10.0.0.1:9180\n", mistake: `c.yaml:3: admin.listen: found "10.0.0.1:9180", which other machines reach, without TLS and a token`},
		"a name":                {yaml: "admin: gateway:9180\n", mistake: "which other machines reach"},
		"a token alone":         {yaml: "admin: {listen: ':1', token_file: token}\n", mistake: "without TLS;"},
		"TLS alone":             {yaml: "admin: {listen: ':1', " + tlsOf + "}\n", mistake: "without a token;"},
		"optional certificates": {yaml: "admin: {listen: ':1', tls: {cert_file: cert, key_file: key, client_ca_file: ca, client_auth: optional}}\n", mistake: "without a token;"},
		"both":                  {yaml: "admin: {listen: ':1', token_file: token, " + tlsOf + "}\n"},
		"certificates":          {yaml: "admin: {listen: ':1', tls: {cert_file: cert, key_file: key, client_ca_file: ca}}\n"},
		"said to be insecure":   {yaml: "admin: {listen: ':1', insecure: true}\n", warning: `admin.insecure: the admin server listens on ":1" without TLS and a token`},
		"insecure, a token":     {yaml: "admin: {listen: ':1', insecure: true, token_file: token}\n", warning: "without TLS:"},
		"insecure for nothing":  {yaml: "admin: {insecure: true}\n"},

		"a short token":    {yaml: "admin: {token_file: short}\n", mistake: `admin.token_file: the token in "short" has 6 characters; want 16 or more`},
		"no token file":    {yaml: "admin: {token_file: none}\n", mistake: `found "none"; want a file that holds a token in one line`},
		"half a pair":      {yaml: "admin: {tls: {cert_file: cert}}\n", mistake: `is missing; the certificate "cert" needs its private key`},
		"only a client CA": {yaml: "admin: {tls: {client_ca_file: ca}}\n", mistake: "is missing; clients' certificates are looked at where the server speaks TLS"},
		"not a key":        {yaml: "admin: {tls: {cert_file: cert, key_file: cert}}\n", mistake: "c.yaml:2: admin.tls.key_file: found \"cert\"; want the certificate's private key in PEM"},
		"open profiler":    {yaml: "admin: {pprof: true}\n", mistake: "admin.pprof: is on, and whoever reaches the admin server may profile; want admin.token_file"},
		"off with a token": {yaml: "admin: {listen: off, token_file: token}\n", mistake: `c.yaml:2: admin.token_file: is set, and admin is "off"`},
		"one port twice":   {yaml: "admin: {listen: '127.0.0.1:1', probes: '127.0.0.1:1'}\n", mistake: `admin.probes: found "127.0.0.1:1", where the admin server listens`},
		"clients there":    {yaml: "admin: {probes: ':6379'}\nlisten: :6379\n", mistake: "which the listener for probes has already"},
		"unknown key":      {yaml: "admin: {tokenfile: token}\n", mistake: `c.yaml:2: admin.tokenfile: no such setting; did you mean admin.token_file?`},
		"of a master":      {yaml: "masters: [{name: a, listen: ':1', admin: ':2'}]\n", mistake: "is of the whole process; want it at the top level"},
		"a list":           {yaml: "admin: [':1']\n", mistake: "found a list; want host:port"},
		"one for both":     {yaml: "admin: {token_file: token}\ncontrol: {token_file: token}\n", warning: "hold the same token"},
		"one for each":     {yaml: "admin: {token_file: token}\ncontrol: {token_file: other}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := load(t, nil, nil, adminFiles(t, tt.yaml))
			if tt.mistake != "" {
				lines := mistakesOf(t, err)
				if len(lines) != 1 || !strings.Contains(lines[0], tt.mistake) || strings.Contains(lines[0], "secret") {
					t.Errorf("mistakes %q; want one with %q", lines, tt.mistake)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.warning == "" && len(cfg.Warnings) > 0 || tt.warning != "" && !slices.ContainsFunc(cfg.Warnings, func(w string) bool { return strings.Contains(w, tt.warning) }) {
				t.Errorf("warnings %q; want %q", cfg.Warnings, tt.warning)
			}
		})
	}
}

// Who asks a sidecar elsewhere needs none of its files.
func TestAdminOfAnother(t *testing.T) {
	fsys := adminFiles(t, "admin: {listen: 'gateway-1:9180', token_file: token, tls: {cert_file: nowhere, key_file: nowhere}}\n")
	src := Sources{Environ: []string{"SENTINELPROXY_CONFIG=c.yaml"}, ReadFile: fsys.read, Asking: true}
	cfg, err := Load(src)
	if err != nil || cfg.Admin.Listen != "gateway-1:9180" || cfg.Admin.Token.Reveal() != "0123456789abcdef" || !cfg.Admin.Secure() {
		t.Errorf("%+v, %v", cfg.Admin, err)
	}
	a, err := LoadAdmin(src)
	if err != nil || a.Token.Reveal() != "0123456789abcdef" || a.TLS.CertFile != "nowhere" {
		t.Errorf("alone: %+v, %v", a, err)
	}
}

// A token that changes is reloaded; one that comes or goes is not.
func TestAdminTokenChanges(t *testing.T) {
	with := func(token Secret) Config { return Config{Admin: Admin{TokenFile: "t", Token: token}} }
	for name, tt := range map[string]struct {
		a, b          Config
		changed, live bool
	}{
		"same":    {with("a"), with("a"), false, false},
		"rotated": {with("a"), with("b"), true, true},
		"new":     {Config{}, with("b"), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := Changes(tt.a, tt.b)
			if len(got) > 0 != tt.changed || tt.changed && (got[0].Live != tt.live || got[0].Setting != "admin.token_file") {
				t.Errorf("changes %+v", got)
			}
		})
	}
	next, bad := ReadSecrets(with("0123456789abcdef"), func(string) ([]byte, error) { return []byte("0123456789abcdeg\n"), nil })
	if len(bad) > 0 || next.Admin.Token.Reveal() != "0123456789abcdeg" {
		t.Errorf("token %q, mistakes %v", next.Admin.Token.Reveal(), bad)
	}
}
