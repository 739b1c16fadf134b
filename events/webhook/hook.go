package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// The headers of a delivery.
const (
	HeaderEvent     = "X-Sentinelproxy-Event"     // its kind
	HeaderDelivery  = "X-Sentinelproxy-Delivery"  // the same for every try: to tell repetitions
	HeaderTimestamp = "X-Sentinelproxy-Timestamp" // seconds since the epoch, of this try
	HeaderSignature = "X-Sentinelproxy-Signature" // with a secret: see Sign
)

// Hook is one receiver. It is immutable.
type Hook struct {
	Name   string // unique; a metric's label
	URL    string // never told to anybody but the receiver
	Secret string // signs; "" does not sign. Never told

	Kinds       []events.Kind // wanted; empty: all
	MinSeverity events.Severity
	// Cooldown keeps events of one kind, master and subject away after one was taken; 0:
	// none are.
	Cooldown time.Duration
	Timeout  time.Duration // of one try, from the dial to the end of the answer; required
	CA       []byte        // PEM of the authorities that sign the receiver's certificate; nil: the system's
}

// wants reports whether the hook is to hear of e, cooldowns aside.
func (h Hook) wants(e events.Event) bool {
	return e.Severity() >= h.MinSeverity && (len(h.Kinds) == 0 || slices.Contains(h.Kinds, e.Kind()))
}

// equal reports whether two hooks are the same in all.
func (h Hook) equal(o Hook) bool {
	return h.Name == o.Name && h.URL == o.URL && h.Secret == o.Secret && slices.Equal(h.Kinds, o.Kinds) &&
		h.MinSeverity == o.MinSeverity && h.Cooldown == o.Cooldown && h.Timeout == o.Timeout && slices.Equal(h.CA, o.CA)
}

// Sign returns the value of HeaderSignature: "sha256=" and the hex HMAC-SHA256, under the
// secret, of the timestamp as HeaderTimestamp has it, a dot, and the body.
func Sign(secret string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(strconv.AppendInt(nil, at.Unix(), 10))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
