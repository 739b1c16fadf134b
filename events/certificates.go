package events

import (
	"fmt"
	"strings"
	"time"
)

// Certificate is one certificate that this sidecar depends on, as both of its events have
// it.
type Certificate struct {
	ID      string    `json:"cert_id" doc:"SHA-256 of the certificate (DER), in hex"`
	Name    string    `json:"cert_name" doc:"its subject's common name, or its first other name"`
	Role    string    `json:"cert_role" doc:"server (our listener), ca (client authorities), upstream (Redis), sentinel, or client (shown by us to either)"`
	Expires time.Time `json:"expires_at" doc:"when it ends"`
	Sources []string  `json:"sources" doc:"where it was seen: addresses of nodes, or files; ten at most"`
	Leaf    string    `json:"leaf_name,omitempty" doc:"whose chain it is part of, where it is not the certificate itself"`
}

func (c Certificate) what() string {
	of := ""
	if c.Leaf != "" {
		of = fmt.Sprintf(", in the chain of %q", c.Leaf)
	}
	return fmt.Sprintf("the %s certificate %q (%s%s)", c.Role, c.Name, strings.Join(c.Sources, ", "), of)
}

// CertificateExpiringSoon says that a certificate ends within the threshold.
type CertificateExpiringSoon struct {
	Certificate

	Days int `json:"days_remaining" doc:"until then, begun days included"`
}

func (b CertificateExpiringSoon) tell() told {
	days := "days"
	if b.Days == 1 {
		days = "day"
	}
	return told{Warning, b.Role + " " + b.ID, fmt.Sprintf("%s expires in %d %s, on %s", b.what(), b.Days, days, b.Expires.UTC().Format(time.RFC3339))}
}

// CertificateExpired says that a certificate has ended.
type CertificateExpired struct {
	Certificate

	Days int `json:"days_since_expiry" doc:"full days since then"`
}

func (b CertificateExpired) tell() told {
	return told{Critical, b.Role + " " + b.ID, fmt.Sprintf("%s expired on %s", b.what(), b.Expires.UTC().Format(time.RFC3339))}
}

// CertificateFilesRejected says that changed TLS files are no good: those in use stay.
type CertificateFilesRejected struct {
	Leg string `json:"leg" doc:"clients, redis, sentinels or admin"`
	Err Text   `json:"error" doc:"which file, what was found, what is wanted"`
}

func (b CertificateFilesRejected) tell() told {
	return told{Critical, b.Leg, fmt.Sprintf("changed TLS files of the leg %s are not loaded: %s", b.Leg, b.Err)}
}
