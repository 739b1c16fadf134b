package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// adminAccess is how a command reaches a sidecar's admin server.
type adminAccess struct {
	addr  string      // host:port
	token string      // "" for none
	tls   *tls.Config // nil: plain
}

// request makes the request of a path.
func (a adminAccess) request(r *http.Request) *http.Request {
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	return r
}

// url returns the address of a path, which begins with a slash.
func (a adminAccess) url(path string) string {
	if a.tls != nil {
		return "https://" + a.addr + path
	}
	return "http://" + a.addr + path
}

// transport returns a transport of the caller's own. No proxy of the environment stands
// before a neighbour.
func (a adminAccess) transport() *http.Transport { return &http.Transport{TLSClientConfig: a.tls} }

// accessSettings are the settings of run by which commands find an admin server.
func accessSettings() []string {
	return []string{"config", "admin", "admin-token-file", pinFlag}
}

// pinFlag names the admin server's own certificate.
const pinFlag = "admin-tls-cert-file"

// errTokenInClear says that a token stays here: another machine would get it without TLS.
var errTokenInClear = errors.New("--admin: the token would go to another machine without TLS, for all on the way to read; want --admin-ca-file, or --admin-insecure where that is known")

// adminTrust are flags of commands that ask an admin server: how it proves who it is, and
// how we do.
type adminTrust struct {
	ca, cert, key string
	insecure      bool
}

func (t *adminTrust) addFlags(f *pflag.FlagSet) {
	f.StringVar(&t.ca, "admin-ca-file", "", "speak TLS with the admin server, whose certificate one of these authorities (PEM) must have signed, for the host in --admin; without it the certificate must be the one in admin.tls.cert_file, if that is set")
	f.StringVar(&t.cert, "admin-client-cert-file", "", "PEM certificate that is shown to the admin server (mutual TLS)")
	f.StringVar(&t.key, "admin-client-key-file", "", "PEM private key of that certificate")
	if f.Lookup("admin-insecure") == nil { // else it is the setting, which says as much
		f.BoolVar(&t.insecure, "admin-insecure", false, "send the token to another machine without TLS, too")
	}
}

// access returns how to reach, from this machine, the admin server that has these
// settings.
func (t *adminTrust) access(a config.Admin) (adminAccess, error) {
	to := adminAccess{addr: adminClientAddr(a.Listen), token: a.Token.Reveal()}
	if t.ca == "" && !a.Secure() {
		if t.cert != "" || t.key != "" {
			return to, errors.New("--admin-client-cert-file: for TLS want --admin-ca-file, or admin.tls.cert_file, too")
		}
		if to.token != "" && !t.insecure && !a.Insecure && !local(to.addr) {
			return to, errTokenInClear
		}
		return to, nil
	}
	to.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		b, err := os.ReadFile(t.ca)
		if err != nil {
			return to, fmt.Errorf("--admin-ca-file: %w", err)
		}
		to.tls.RootCAs = x509.NewCertPool()
		if !to.tls.RootCAs.AppendCertsFromPEM(b) {
			return to, fmt.Errorf("--admin-ca-file: %s holds no PEM certificate", t.ca)
		}
	} else {
		pin(to.tls, a.TLS.CertFile)
	}
	if t.cert != "" || t.key != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, cmp.Or(t.key, t.cert))
		if err != nil {
			return to, fmt.Errorf("--admin-client-cert-file: %w", err)
		}
		to.tls.Certificates = []tls.Certificate{pair}
	}
	return to, nil
}

// local reports whether host:port is this machine by its loopback.
func local(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// pin has c take the certificate in a file, which is the server's own, and no other:
// a loopback address stands in few certificates. The file is read at each handshake, as
// it may have changed.
func pin(c *tls.Config, path string) {
	c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection is stricter
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		b, err := os.ReadFile(path)
		if err == nil {
			block, _ := pem.Decode(b)
			switch {
			case block == nil || block.Type != "CERTIFICATE":
				err = fmt.Errorf("%s holds no PEM certificate", path)
			case !bytes.Equal(block.Bytes, cs.PeerCertificates[0].Raw):
				err = fmt.Errorf("it is not the one in %s", path)
			}
		}
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
		}
		return nil
	}
}
