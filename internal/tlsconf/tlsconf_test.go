package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

// disk is what a Source reads; a test changes it between checks.
type disk map[string][]byte

func (d disk) read(path string) ([]byte, error) {
	b, ok := d[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return b, nil
}

func (d disk) put(ca *certtest.CA, p certtest.Pair) {
	d["ca"], d["cert"], d["key"] = ca.PEM, p.Cert, p.Key
}

var allFiles = Files{CA: "ca", Cert: "cert", Key: "key"}

func mustSource(tb testing.TB, d disk, o Options) *Source {
	tb.Helper()
	o.Master, o.Leg, o.Prefix = "orders", "redis", "redis.tls"
	s, err := newSource(o, d.read)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestConfigFollowsOptions(t *testing.T) {
	ca := certtest.MustCA(t)
	d := disk{}
	d.put(ca, ca.MustIssue(t, certtest.Leaf{}))
	for name, tt := range map[string]struct {
		opts Options
		ok   func(*tls.Config) bool
	}{
		"zero": {Options{}, func(c *tls.Config) bool {
			return c.MinVersion == tls.VersionTLS12 && c.RootCAs == nil && !c.InsecureSkipVerify
		}},
		"version":        {Options{MinVersion: tls.VersionTLS13}, func(c *tls.Config) bool { return c.MinVersion == tls.VersionTLS13 }},
		"files":          {Options{Files: allFiles}, func(c *tls.Config) bool { return c.RootCAs != nil && c.ClientCAs != nil && len(c.Certificates) == 1 }},
		"address's host": {Options{}, func(c *tls.Config) bool { return c.ServerName == "10.0.0.1" }},
		"override":       {Options{ServerName: "redis.internal"}, func(c *tls.Config) bool { return c.ServerName == "redis.internal" }},
		"suites":         {Options{Ciphers: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, func(c *tls.Config) bool { return len(c.CipherSuites) == 1 }},
		"insecure":       {Options{InsecureSkipVerify: true}, func(c *tls.Config) bool { return c.InsecureSkipVerify }},
		"client auth":    {Options{ClientAuth: tls.RequireAndVerifyClientCert}, func(c *tls.Config) bool { return c.ClientAuth == tls.RequireAndVerifyClientCert }},
	} {
		t.Run(name, func(t *testing.T) {
			if c := mustSource(t, d, tt.opts).Client("10.0.0.1:6379"); !tt.ok(c) {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestReload(t *testing.T) {
	ca := certtest.MustCA(t)
	first, second := ca.MustIssue(t, certtest.Leaf{Name: "first"}), ca.MustIssue(t, certtest.Leaf{Name: "second"})
	d := disk{}
	d.put(ca, first)
	var log bytes.Buffer
	s := mustSource(t, d, Options{Files: allFiles, Log: slog.New(slog.NewTextHandler(&log, nil))})
	shows := func(want string, lines int) {
		t.Helper()
		leaf := s.Server().Certificates[0].Leaf
		if leaf.Subject.CommonName != want {
			t.Errorf("shows %q; want %q", leaf.Subject.CommonName, want)
		}
		if n := strings.Count(log.String(), "\n"); n != lines {
			t.Errorf("%d lines logged; want %d:\n%s", n, lines, log.String())
		}
	}
	s.check(false)
	shows("first", 0)

	d["cert"] = second.Cert // the key is yet to come
	if !s.check(false) {
		t.Error("half a pair is no reason to look again soon")
	}
	shows("first", 0)
	d["key"] = second.Key
	old := s.Server()
	s.check(false)
	shows("second", 1)
	if s.Server() == old {
		t.Error("the configuration is the same: old session tickets still open it")
	}

	delete(d, "key")
	s.check(false)
	s.check(false)
	s.check(false)
	shows("second", 2) // told once
	d["key"] = first.Key
	s.Reload()
	shows("second", 3) // another reason, and somebody asked
	d["key"] = second.Key
	s.check(false)
	shows("second", 4)
	want := `
# HELP sentinelproxy_tls_reloads_total Changed TLS files that were put in force (ok), or were no good (failed).
# TYPE sentinelproxy_tls_reloads_total counter
sentinelproxy_tls_reloads_total{leg="redis",master_name="orders",result="failed"} 2
sentinelproxy_tls_reloads_total{leg="redis",master_name="orders",result="ok"} 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "sentinelproxy_tls_reloads_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(s, "sentinelproxy_certificate_expiry_timestamp_seconds"); n != 2 {
		t.Errorf("%d expiries; want those of ca and cert", n)
	}
}

// Files that are no good are told with what they are, once, at a start and while the old
// ones are in use, which stay so.
func TestBadFiles(t *testing.T) {
	ca := certtest.MustCA(t)
	good := disk{}
	good.put(ca, ca.MustIssue(t, certtest.Leaf{Name: "good"}))
	half := func(b []byte) []byte { return b[:len(b)/2] }
	for name, tt := range map[string]struct {
		file string
		put  []byte // nil: it can't be read
		want string
	}{
		"unreadable certificate":  {"cert", nil, "cert: file does not exist; want a readable PEM file with the certificate and its chain"},
		"unreadable key":          {"key", nil, "key: file does not exist; want a readable PEM file with the certificate's private key"},
		"unreadable authority":    {"ca", nil, "ca: file does not exist; want a readable PEM file"},
		"empty certificate":       {"cert", []byte{}, "cert: it is empty; want a PEM certificate and its chain"},
		"empty key":               {"key", []byte("\n"), "key: it is empty; want the certificate's private key in PEM"},
		"empty authority":         {"ca", []byte{}, "ca: it is empty; want PEM certificates of authorities"},
		"certificate cut off":     {"cert", half(good["cert"]), "cert: it is cut off or damaged: 0 of 1 PEM blocks can be read"},
		"key cut off":             {"key", half(good["key"]), "key: it is cut off or damaged: 0 of 1 PEM blocks can be read"},
		"authority cut off":       {"ca", half(good["ca"]), "ca: it is cut off or damaged"},
		"chain cut off":           {"cert", slices.Concat(good["cert"], half(good["ca"])), "cert: it is cut off or damaged: 1 of 2 PEM blocks can be read"},
		"damaged in the middle":   {"ca", slices.Concat(half(good["ca"]), []byte("\n"), good["ca"]), "ca: it is cut off or damaged: 1 of 2 PEM blocks can be read"},
		"no certificate in it":    {"cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nonsense")}), "cert: x509: "},
		"encrypted key":           {"key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), "key: the key is encrypted; want the certificate's private key in PEM, without a passphrase"},
		"encrypted key, old form": {"key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")}), "key: the key is encrypted"},
		"key in DER":              {"key", []byte{0x30, 0x82, 1, 2}, "key: it is not PEM (-----BEGIN ...)"},
		"key for a certificate":   {"cert", good["key"], "cert: it holds a PRIVATE KEY and no certificate"},
		"a huge file":             {"ca", make([]byte, maxFile+1), "ca: it holds 4194305 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := maps.Clone(good)
			var rejected []string
			var log bytes.Buffer
			s := mustSource(t, d, Options{
				Files: allFiles, Log: slog.New(slog.NewTextHandler(&log, nil)), Rejected: func(err error) { rejected = append(rejected, err.Error()) },
			})
			if d[tt.file] = tt.put; tt.put == nil {
				delete(d, tt.file)
			}
			_, err := Load(d.read, allFiles)
			if list := FileErrors(err); len(list) != 1 || !strings.HasPrefix(list[0].Error(), tt.want) {
				t.Errorf("at a start: %v; want %s", err, tt.want)
			}
			old := s.Server()
			for range 4 {
				s.check(false)
			}
			if s.Server() != old {
				t.Error("it is in use")
			}
			if len(rejected) != 1 || !strings.HasPrefix(rejected[0], tt.want) || strings.Count(log.String(), "not loaded") != 1 {
				t.Errorf("told %q; log %s", rejected, log.String())
			}
		})
	}
}

// node listens and does to each connection what serve does.
func node(tb testing.TB, serve func(net.Conn)) string {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return ln.Addr().String()
}

func server(cfg *tls.Config) func(net.Conn) {
	return func(c net.Conn) {
		tc := tls.Server(c, cfg)
		if tc.Handshake() == nil { //nolint:noctx // ends with the connection
			_, _ = io.Copy(tc, tc)
		}
	}
}

// plainRedis answers a line, and nothing before its end.
func plainRedis(c net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if bytes.HasPrefix(b[:n], []byte("PING\r\n")) {
			_, _ = io.WriteString(c, "-NOAUTH Authentication required.\r\n")
		}
	}
}

func TestHandshakeErrorsAreExplained(t *testing.T) {
	ca, other := certtest.MustCA(t), certtest.MustCA(t)
	conf := func(p certtest.Pair, change func(*tls.Config)) *tls.Config {
		d := disk{}
		d.put(ca, p)
		c := mustSource(t, d, Options{Files: allFiles}).Server().Clone()
		if change != nil {
			change(c)
		}
		return c
	}
	good := ca.MustIssue(t, certtest.Leaf{})
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		opts  Options
		want  string // the beginning of the error; "": none
		is    error
	}{
		"good":    {serve: server(conf(good, nil))},
		"unknown": {serve: server(conf(other.MustIssue(t, certtest.Leaf{}), nil)), want: "certificate signed by unknown authority: redis.tls.ca_file must hold"},
		"no IP": {
			serve: server(conf(ca.MustIssue(t, certtest.Leaf{Hosts: []string{"redis.internal"}}), nil)),
			want:  "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs: set redis.tls.server_name",
		},
		"no IP, but a name": {
			serve: server(conf(ca.MustIssue(t, certtest.Leaf{Hosts: []string{"redis.internal"}}), nil)),
			opts:  Options{ServerName: "redis.internal"},
		},
		"another name": {
			serve: server(conf(good, nil)), opts: Options{ServerName: "redis.internal"},
			want: "certificate is valid for localhost, not redis.internal: set redis.tls.server_name",
		},
		"not looked at": {serve: server(conf(other.MustIssue(t, certtest.Leaf{}), nil)), opts: Options{InsecureSkipVerify: true}},
		"expired": {
			serve: server(conf(ca.MustIssue(t, certtest.Leaf{NotAfter: time.Now().Add(-time.Hour)}), nil)),
			want:  "the node's certificate is not valid: certificate has expired",
		},
		"wants a certificate": {
			serve: server(conf(good, func(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert })),
			want:  "the node refused us: certificate required: it wants a client certificate, redis.tls.cert_file and key_file",
		},
		"too old": {
			serve: server(conf(good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })), opts: Options{MinVersion: tls.VersionTLS13},
			want: "the node refused us: protocol version not supported: no TLS version in common, see redis.tls.min_version",
		},
		"closes":       {serve: func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }, want: "the node closed the connection during the TLS handshake"},
		"plain":        {serve: plainRedis, want: "plain Redis answered on a TLS port", is: ErrPlain},
		"plain errors": {serve: func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); _, _ = io.WriteString(c, "-ERR unknown\r\n") }, want: "plain Redis answered on a TLS port"},
		"hangs":        {serve: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, want: "no answer to the TLS handshake in time"},
	} {
		t.Run(name, func(t *testing.T) {
			d := disk{"ca": ca.PEM}
			tt.opts.Files.CA = "ca"
			s := mustSource(t, d, tt.opts)
			patience := time.Minute
			if name == "hangs" || name == "plain" { // it is the end of the time that tells
				patience = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, err := s.Dialer(new(net.Dialer).DialContext)(ctx, "tcp", node(t, tt.serve))
			if err == nil { // with TLS 1.3 a node tells some things only now
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				if _, err = io.WriteString(c, "x"); err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
			}
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%v; want no error", err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v; want %s", err, tt.want)
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Errorf("%v is no %v", err, tt.is)
			}
		})
	}
}

func TestRefusedConnectionStaysOne(t *testing.T) {
	s := mustSource(t, disk{}, Options{})
	want := errors.New("connection refused")
	_, err := s.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, want })(t.Context(), "tcp", "a:1")
	if !errors.Is(err, want) {
		t.Errorf("%v; want the dial's own error", err)
	}
}
