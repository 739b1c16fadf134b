package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// maxFile is far above any bundle of certificates, in bytes.
const maxFile = 4 << 20

// Files are the PEM files of one leg; "" where there is none. Cert and Key go
// together. CA is whom we trust: the authorities of nodes, or of clients.
type Files struct{ CA, Cert, Key string }

// Role says what a file is for.
type Role uint8

// The roles.
const (
	_ Role = iota
	RoleCA
	RoleCert
	RoleKey
)

// String returns what metrics and logs call it.
func (r Role) String() string {
	switch r {
	case RoleCA:
		return "ca"
	case RoleCert:
		return "cert"
	case RoleKey:
		return "key"
	}
	return "invalid"
}

// FileError says what is wrong with one of Files.
type FileError struct {
	Role Role
	Path string
	Want string // what would be valid
	Err  error  // what was found; it never quotes a key
}

// Error tells it all in one line.
func (e *FileError) Error() string {
	return fmt.Sprintf("%s: %v; want %s", e.Path, e.Err, e.Want)
}

// Unwrap returns what was found.
func (e *FileError) Unwrap() error { return e.Err }

// Material is what Files hold. It is immutable.
type Material struct {
	files Files
	cert  *tls.Certificate // nil: none
	pool  *x509.CertPool   // nil: the system's
	cas   []*x509.Certificate
	chain []*x509.Certificate
}

// contents are the files' bytes.
type contents struct{ ca, cert, key []byte }

// Load reads and checks the files. Every problem is a [*FileError], joined.
func Load(read func(string) ([]byte, error), f Files) (*Material, error) {
	c, err := f.read(read)
	if err != nil {
		return nil, err
	}
	return c.parse(f)
}

func (f Files) read(read func(string) ([]byte, error)) (contents, error) {
	var c contents
	var errs []error
	for _, one := range []struct {
		role Role
		path string
		into *[]byte
		want string
	}{
		{RoleCA, f.CA, &c.ca, "a readable PEM file with certificates of authorities"},
		{RoleCert, f.Cert, &c.cert, "a readable PEM file with the certificate and its chain"},
		{RoleKey, f.Key, &c.key, "a readable PEM file with the certificate's private key"},
	} {
		if one.path == "" {
			continue
		}
		b, err := read(one.path)
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // the caller names the file already
		}
		if err == nil && len(b) > maxFile {
			err = fmt.Errorf("it holds %d bytes", len(b))
		}
		if err != nil {
			errs = append(errs, &FileError{one.role, one.path, one.want, err})
			continue
		}
		*one.into = b
	}
	return c, errors.Join(errs...)
}

// parse makes Material of contents.
func (c contents) parse(f Files) (*Material, error) {
	m := &Material{files: f}
	var errs []error
	if f.CA != "" {
		var err error
		if m.cas, err = certificates(c.ca); err != nil {
			errs = append(errs, &FileError{RoleCA, f.CA, "PEM certificates of authorities", err})
		}
		m.pool = x509.NewCertPool()
		for _, ca := range m.cas {
			m.pool.AddCert(ca)
		}
	}
	if f.Cert != "" && f.Key != "" {
		var err error
		if m.chain, err = certificates(c.cert); err != nil {
			errs = append(errs, &FileError{RoleCert, f.Cert, "a PEM certificate and its chain", err})
		} else if err := keyLooksRight(c.key); err != nil {
			errs = append(errs, &FileError{RoleKey, f.Key, "the certificate's private key in PEM, without a passphrase", err})
		} else if pair, err := tls.X509KeyPair(c.cert, c.key); err != nil {
			errs = append(errs, &FileError{RoleKey, f.Key, "the private key that belongs to the certificate " + f.Cert, err})
		} else {
			m.cert = &pair
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// blocks returns the PEM blocks of b, at least one, or what is wrong with it. A block that
// can't be read is an error: what was cut off must not pass for a shorter chain.
func blocks(b []byte) ([]*pem.Block, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, errors.New("it is empty")
	}
	begun := 0
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte("-----BEGIN ")) {
			begun++
		}
	}
	var list []*pem.Block
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		list = append(list, block)
	}
	switch {
	case begun == 0 && len(list) == 0:
		return nil, errors.New("it is not PEM (-----BEGIN ...)")
	case len(list) < begun:
		return nil, fmt.Errorf("it is cut off or damaged: %d of %d PEM blocks can be read", len(list), begun)
	}
	return list, nil
}

// certificates returns the certificates in b, at least one.
func certificates(b []byte) ([]*x509.Certificate, error) {
	all, err := blocks(b)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	other := ""
	for _, block := range all {
		if block.Type != "CERTIFICATE" {
			other = block.Type
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it holds a %s and no certificate", other)
	}
	return list, nil
}

// keyLooksRight tells mistakes that tls.X509KeyPair names less well.
func keyLooksRight(b []byte) error {
	all, err := blocks(b)
	if err != nil {
		return err
	}
	other := ""
	for _, block := range all {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return errors.New("the key is encrypted")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil
		}
		other = block.Type
	}
	return fmt.Errorf("it holds a %s and no private key", other)
}

// Expiries returns when the first certificate of each file ends, by role.
func (m *Material) Expiries() map[Role]time.Time {
	ends := make(map[Role]time.Time, 2)
	first := func(role Role, list []*x509.Certificate) {
		for _, c := range list {
			if t, ok := ends[role]; !ok || c.NotAfter.Before(t) {
				ends[role] = c.NotAfter
			}
		}
	}
	first(RoleCA, m.cas)
	first(RoleCert, m.chain)
	return ends
}

// Warnings says which certificates are not valid at the time now, a line each.
func (m *Material) Warnings(now time.Time) []string {
	var lines []string
	add := func(path string, list []*x509.Certificate) {
		for _, c := range list {
			switch {
			case now.After(c.NotAfter):
				lines = append(lines, fmt.Sprintf("%s: the certificate of %q expired on %s", path, c.Subject, day(c.NotAfter)))
			case now.Before(c.NotBefore):
				lines = append(lines, fmt.Sprintf("%s: the certificate of %q is not valid before %s", path, c.Subject, day(c.NotBefore)))
			}
		}
	}
	add(m.files.CA, m.cas)
	add(m.files.Cert, m.chain)
	return lines
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// FileErrors returns the problems in an error of Load.
func FileErrors(err error) []*FileError {
	var list []*FileError
	if err == nil {
		return nil
	}
	for _, one := range each(err) {
		if f, ok := errors.AsType[*FileError](one); ok {
			list = append(list, f)
		}
	}
	return list
}
