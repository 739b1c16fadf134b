package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Versions are the values of min_version.
const (
	Version12 = "1.2"
	Version13 = "1.3"
)

// ParseVersion reads a value of min_version.
func ParseVersion(v string) (uint16, bool) {
	switch v {
	case Version12:
		return tls.VersionTLS12, true
	case Version13:
		return tls.VersionTLS13, true
	}
	return 0, false
}

// CipherNames returns the suites of TLS 1.2 that may be named.
func CipherNames() []string {
	var names []string
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			names = append(names, s.Name)
		}
	}
	return names
}

// ParseCipher reads the name of a suite of TLS 1.2, as Go and IANA write it or as
// OpenSSL does. The error does not repeat the name.
func ParseCipher(name string) (uint16, error) {
	same := func(s *tls.CipherSuite) bool { return bareName(s.Name) == bareName(name) }
	for _, s := range tls.CipherSuites() {
		switch {
		case !same(s):
		case !slices.Contains(s.SupportedVersions, tls.VersionTLS12):
			return 0, errors.New("a suite of TLS 1.3, which are always on and can't be chosen")
		default:
			return s.ID, nil
		}
	}
	if slices.ContainsFunc(tls.InsecureCipherSuites(), same) {
		return 0, fmt.Errorf("it is insecure; valid are %s", strings.Join(CipherNames(), ", "))
	}
	return 0, fmt.Errorf("no such suite; valid are %s", strings.Join(CipherNames(), ", "))
}

// CipherName returns a suite's name, which ParseCipher reads.
func CipherName(id uint16) string { return tls.CipherSuiteName(id) }

// bareName is what TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 and
// ECDHE-RSA-AES128-GCM-SHA256 have in common.
func bareName(s string) string {
	s = strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
	s = strings.ReplaceAll(strings.TrimPrefix(s, "TLS_"), "_WITH_", "_")
	s = strings.ReplaceAll(s, "_", "")
	if strings.Contains(s, "POLY1305") {
		s = strings.TrimSuffix(s, "SHA256") // OpenSSL leaves it out
	}
	return s
}
