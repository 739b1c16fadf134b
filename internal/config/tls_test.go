package config

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

func TestTLSIsRead(t *testing.T) {
	ca := certtest.MustCA(t)
	p := ca.MustIssue(t, certtest.Leaf{})
	cfg := mustLoad(t, []string{"--sentinel-tls", "true"}, []string{"SENTINELPROXY_SENTINEL_TLS_SERVER_NAME=sentinel.internal"}, files{
		"ca": string(ca.PEM), "cert": string(p.Cert), "key": string(p.Key),
		"c.yaml": `sentinels: s
listen: [":1", "tls://:2"]
tls: {cert_file: cert, key_file: key, client_ca_file: ca, min_version: 1.3}
redis:
  tls:
    enabled: true
    ca_file: ca
    ciphers: [ECDHE-RSA-AES128-GCM-SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]
`,
	})
	m := cfg.Masters[0]
	want := []Listen{{Network: "tcp", Address: ":1"}, {Network: "tcp", Address: ":2", TLS: true}}
	if !slices.Equal(m.Listen, want) || m.Listen[1].String() != "tls://:2" {
		t.Errorf("listen %v; want %v", m.Listen, want)
	}
	if c := m.TLS; c.ClientAuth != ClientAuthRequire || c.MinVersion != tls.VersionTLS13 || c.CertFile != "cert" || c.CAFile != "ca" {
		t.Errorf("clients: %+v", c)
	}
	ids := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
	if c := m.RedisTLS; !c.Enabled || c.CAFile != "ca" || c.MinVersion != tls.VersionTLS12 || !slices.Equal(c.CipherIDs(), ids) {
		t.Errorf("redis: %+v", c)
	}
	if c := m.SentinelTLS; !c.Enabled || c.ServerName != "sentinel.internal" || c.CAFile != "" {
		t.Errorf("sentinels: %+v", c)
	}
}

func TestTLSMistakes(t *testing.T) {
	ca := certtest.MustCA(t)
	p, other := ca.MustIssue(t, certtest.Leaf{}), ca.MustIssue(t, certtest.Leaf{})
	for name, tt := range map[string]struct {
		yaml string
		want []string
	}{
		"missing file": {
			"redis:\n  tls:\n    enabled: true\n    ca_file: nowhere\n",
			[]string{`c.yaml:5: redis.tls.ca_file: found "nowhere"; want a readable PEM file with certificates of authorities (file does not exist)`},
		},
		"not PEM": {
			"redis: {tls: {enabled: true, ca_file: text}}\n",
			[]string{`c.yaml:2: redis.tls.ca_file: found "text"; want PEM certificates of authorities (it is not PEM`},
		},
		"a key for a certificate": {
			"redis: {tls: {enabled: true, ca_file: key}}\n",
			[]string{`c.yaml:2: redis.tls.ca_file: found "key"; want PEM certificates of authorities (it holds a PRIVATE KEY and no certificate)`},
		},
		"another's key": {
			"listen: tls://:1\ntls:\n  cert_file: cert\n  key_file: otherkey\n",
			[]string{`c.yaml:5: tls.key_file: found "otherkey"; want the private key that belongs to the certificate cert (tls: private key does not match public key)`},
		},
		"a certificate for a key": {
			"listen: tls://:1\ntls:\n  cert_file: cert\n  key_file: cert\n",
			[]string{`c.yaml:5: tls.key_file: found "cert"; want the certificate's private key in PEM, without a passphrase (it holds a CERTIFICATE and no private key)`},
		},
		"encrypted key": {
			"listen: tls://:1\ntls:\n  cert_file: cert\n  key_file: encrypted\n",
			[]string{`c.yaml:5: tls.key_file: found "encrypted"; want the certificate's private key in PEM, without a passphrase (the key is encrypted)`},
		},
		"no certificate": {
			"listen: [\":1\", \"tls://:2\"]\n",
			[]string{`--tls-cert-file: is missing; a tls:// listener needs a certificate and its key`},
		},
		"half a pair": {
			"sentinel: {tls: {enabled: true, cert_file: cert}}\n",
			[]string{`--sentinel-tls-key-file: is missing; the certificate "cert" needs its private key`},
		},
		"a certificate and no listener": {
			"tls: {cert_file: cert, key_file: key}\n",
			[]string{`c.yaml:2: tls.cert_file: is set, and no listener speaks TLS; want one such as tls://:6380 in listen`},
		},
		"settings without TLS": {
			"redis: {tls: {ca_file: ca}}\n",
			[]string{`c.yaml:2: redis.tls.ca_file: is set, but redis.tls.enabled is not; want it true, or false`},
		},
		"nobody to check clients against": {
			"listen: tls://:1\ntls: {cert_file: cert, key_file: key, client_auth: require}\n",
			[]string{`c.yaml:3: tls.client_auth: found "require" without an authority to check against`},
		},
		"insecure suite": {
			"redis: {tls: {enabled: true, ciphers: [ECDHE-RSA-AES128-GCM-SHA256, TLS_RSA_WITH_RC4_128_SHA]}}\n",
			[]string{`c.yaml:2: redis.tls.ciphers[1]: found "TLS_RSA_WITH_RC4_128_SHA"; want the name of a cipher suite of TLS 1.2 (it is insecure; valid are TLS_ECDHE_`},
		},
		"suite of 1.3": {
			"redis: {tls: {enabled: true, ciphers: TLS_AES_128_GCM_SHA256}}\n",
			[]string{`c.yaml:2: redis.tls.ciphers: found "TLS_AES_128_GCM_SHA256"; want the name of a cipher suite of TLS 1.2 (a suite of TLS 1.3, which are always on`},
		},
		"suites without a use": {
			"redis: {tls: {enabled: true, min_version: 1.3, ciphers: ECDHE-RSA-AES128-GCM-SHA256}}\n",
			[]string{`c.yaml:2: redis.tls.ciphers: names suites of TLS 1.2, and redis.tls.min_version is 1.3`},
		},
		"values": {
			"redis: {tls: {enabled: maybe, server_name: \"a:1\", min_version: 1.1}}\nlisten: tls://unix:/a\n",
			[]string{
				`c.yaml:3: listen: found "tls://unix:/a"; want host:port, :port, tls://host:port or unix:/path (TLS is for host:port`,
				`c.yaml:2: redis.tls.enabled: found "maybe"; want "true" or "false"`,
				`c.yaml:2: redis.tls.server_name: found "a:1"; want a host name or an IP address (without a port)`,
				`c.yaml:2: redis.tls.min_version: found "1.1"; want "1.2" or "1.3"`,
			},
		},
		"one port twice": {
			"listen: [\":1\", \"tls://:1\"]\ntls: {cert_file: cert, key_file: key}\n",
			[]string{`c.yaml:2: listen[0]: found ":1", which master "mymaster" has already`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, nil, nil, files{
				"c.yaml": "sentinels: s\n" + tt.yaml, "text": "hello\n", "ca": string(ca.PEM),
				"cert": string(p.Cert), "key": string(p.Key), "otherkey": string(other.Key),
				"encrypted": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
			})
			got := mistakesOf(t, err)
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("mistakes:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
		})
	}
}

func TestTLSWarnings(t *testing.T) {
	ca := certtest.MustCA(t)
	p := ca.MustIssue(t, certtest.Leaf{NotAfter: time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)})
	cfg := mustLoad(t, nil, nil, files{
		"cert": string(p.Cert), "key": string(p.Key),
		"c.yaml": "sentinels: s\nlisten: tls://:1\ntls: {cert_file: cert, key_file: key}\nredis: {tls: {enabled: true, insecure_skip_verify: true}}\n",
	})
	for _, want := range []string{
		`cert: the certificate of "CN=test" expired on 2020-05-06 07:08:09 UTC`,
		`redis.tls.insecure_skip_verify of master "mymaster" is on: certificates are not looked at`,
	} {
		if !slices.ContainsFunc(cfg.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("no warning %q in %q", want, cfg.Warnings)
		}
	}
}
