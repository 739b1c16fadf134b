package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// tlsFiles are the certificate that every candidate shows, and what clients need
// to believe it.
type tlsFiles struct {
	certtest.Files

	bundle string // certificate and key in one file, as HAProxy wants them
	client *tls.Config
}

// makeTLS writes a certificate for loopback (ECDSA P-256) into dir.
func makeTLS(dir string) (*tlsFiles, error) {
	ca, err := certtest.NewCA()
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(certtest.Leaf{})
	if err != nil {
		return nil, err
	}
	files, err := certtest.Write(dir, ca, pair)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.PEM) {
		return nil, errors.New("the authority made for the benchmark is no certificate")
	}
	f := &tlsFiles{Files: files, bundle: filepath.Join(dir, "bundle.pem"), client: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}}
	return f, os.WriteFile(f.bundle, append(pair.Cert, pair.Key...), 0o600)
}

// benchmarkArgs have redis-benchmark speak TLS 1.3 with the one suite that all
// agree on: left alone, OpenSSL and Go choose keys of different lengths.
func (f *tlsFiles) benchmarkArgs() []string {
	if f == nil {
		return nil
	}
	return []string{"--tls", "--cacert", f.CA, "--tls-ciphersuites", "TLS_AES_128_GCM_SHA256"}
}

// clientConfig is nil where all is plain.
func (f *tlsFiles) clientConfig() *tls.Config {
	if f == nil {
		return nil
	}
	return f.client
}

// tlsSpecs returns the candidates that terminate TLS before a plain Redis.
func tlsSpecs() []spec {
	return []spec{
		{
			name: nameHAProxy, program: "haproxy", prepare: haproxyArgs(""),
			about: "TCP mode, bind ssl crt, tcp-check role:master every second, its default threads (one per core)",
		},
		{name: nameHAProxyAA, program: "haproxy", prepare: haproxyArgs(""), about: "a second process set up as the first: the A/A row"},
		{name: nameHAProxy1, program: "haproxy", prepare: haproxyArgs("nbthread 1"), about: "the same with nbthread 1"},
		{
			name: nameSidecar, prepare: sidecarTLSArgs,
			about: "default configuration with a tls:// listener, following the group, /metrics scraped every second",
		},
	}
}

func sidecarTLSArgs(l *lab, name string, listen, adminAddr topology.Addr) ([]string, error) {
	args, err := sidecarArgs(l, name, "tls://"+listen, adminAddr)
	return append(args, "--tls-cert-file", l.tls.Cert, "--tls-key-file", l.tls.Key), err
}

// tlsTargets are the promises where TLS is terminated.
func tlsTargets() []target {
	return []target{
		{50, 1, proxyCPU, 1.0},
		{50, 16, proxyCPU, 1.0},
		{500, 1, proxyCPU, 1.0},
	}
}
