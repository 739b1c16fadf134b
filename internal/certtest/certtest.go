// Package certtest makes authorities and certificates for tests and benchmarks.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is an authority. It is safe for concurrent use.
type CA struct {
	PEM  []byte // its certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate, with its chain, and its private key, in PEM.
type Pair struct{ Cert, Key []byte }

// Leaf says what a certificate is for. The zero value is one for 127.0.0.1, ::1 and
// localhost, valid for a day.
type Leaf struct {
	Name     string    // of the subject; default "test"
	Hosts    []string  // names and IP addresses instead of loopback's
	NotAfter time.Time // default in a day
}

// NewCA makes an authority that is valid for a day.
func NewCA() (*CA, error) { return NewCAUntil(time.Now().Add(24 * time.Hour)) }

// NewCAUntil makes an authority that ends then.
func NewCAUntil(end time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template("test authority", end)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{PEM: block("CERTIFICATE", der), cert: cert, key: key}, err
}

// Issue makes a certificate for both ends of a connection.
func (ca *CA) Issue(l Leaf) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	if l.Name == "" {
		l.Name = "test"
	}
	if l.NotAfter.IsZero() {
		l.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if l.Hosts == nil {
		l.Hosts = []string{"127.0.0.1", "::1", "localhost"}
	}
	t := template(l.Name, l.NotAfter)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range l.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return Pair{}, err
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	return Pair{Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", k)}, err
}

func template(name string, end time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // crypto/rand does not fail
	begin := end.Add(-48 * time.Hour)
	if old := time.Now().Add(-time.Hour); begin.After(old) {
		begin = old
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Files are an authority's and a certificate's paths in a directory.
type Files struct{ CA, Cert, Key string }

// Write stores an authority and a pair in dir, replacing what is there.
func Write(dir string, ca *CA, p Pair) (Files, error) {
	f := Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, b := range map[string][]byte{f.CA: ca.PEM, f.Cert: p.Cert, f.Key: p.Key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return f, err
		}
	}
	return f, nil
}

// MustCA is NewCA for tests.
func MustCA(tb testing.TB) *CA {
	tb.Helper()
	ca, err := NewCA()
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// MustCAUntil is NewCAUntil for tests.
func MustCAUntil(tb testing.TB, end time.Time) *CA {
	tb.Helper()
	ca, err := NewCAUntil(end)
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// MustIssue is Issue for tests.
func (ca *CA) MustIssue(tb testing.TB, l Leaf) Pair {
	tb.Helper()
	p, err := ca.Issue(l)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// MustWrite is Write for tests; dir "" is a temporary one.
func MustWrite(tb testing.TB, dir string, ca *CA, p Pair) Files {
	tb.Helper()
	if dir == "" {
		dir = tb.TempDir()
	}
	f, err := Write(dir, ca, p)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}
