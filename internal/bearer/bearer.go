// Package bearer compares the tokens that HTTP requests carry. It keeps none.
package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// Of returns the token of "Authorization: Bearer TOKEN", and whether there is one.
func Of(r *http.Request) (token string, ok bool) {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return given, true
}

// OfBrowser is Of, and also takes the password of Basic, whoever the user is: a browser
// asks people for that, and sends it with all that a page loads.
func OfBrowser(r *http.Request) (token string, ok bool) {
	if _, password, basic := r.BasicAuth(); basic {
		return password, true
	}
	return Of(r)
}

// Same reports whether given is the token want; nothing is the same as an empty one. It
// takes the same time whatever was given.
func Same(given, want string) bool {
	// Hashes are of one length, so that the time does not tell the token's.
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != ""
}
