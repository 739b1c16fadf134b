package bearer

import (
	"net/http"
	"testing"
)

func TestOf(t *testing.T) {
	for name, tt := range map[string]struct {
		header          string
		bearer, browser string // "-": none
	}{
		"none":                {"", "-", "-"},
		"bearer":              {"Bearer a token", "a token", "a token"},
		"in any case":         {"bEARER t", "t", "t"},
		"no token":            {"Bearer", "-", "-"},
		"basic":               {"Basic YW55Ym9keTphOnRva2Vu", "-", "a:token"}, // anybody:a:token
		"basic without user":  {"Basic OnQ=", "-", "t"},
		"basic, broken":       {"Basic !!", "-", "-"},
		"basic without colon": {"Basic dA==", "-", "-"},
		"another":             {"Digest t", "-", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Header: http.Header{}}
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			or := func(s string, ok bool) string {
				if !ok {
					return "-"
				}
				return s
			}
			if got := or(Of(r)); got != tt.bearer {
				t.Errorf("Of: %q; want %q", got, tt.bearer)
			}
			if got := or(OfBrowser(r)); got != tt.browser {
				t.Errorf("OfBrowser: %q; want %q", got, tt.browser)
			}
		})
	}
}

func TestSame(t *testing.T) {
	for _, tt := range []struct {
		given, want string
		same        bool
	}{
		{"token", "token", true},
		{"Token", "token", false},
		{"token ", "token", false},
		{"", "token", false},
		{"token", "", false},
		{"", "", false},
	} {
		if got := Same(tt.given, tt.want); got != tt.same {
			t.Errorf("Same(%q, %q) = %v", tt.given, tt.want, got)
		}
	}
}
