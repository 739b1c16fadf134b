package route

import "testing"

func TestParseModes(t *testing.T) {
	for word, want := range map[string]FollowMode{"majority": FollowMajority, "fast": FollowFast} {
		if got, err := ParseFollowMode(word); err != nil || got != want || got.String() != word {
			t.Errorf("ParseFollowMode(%q) = %v, %v; want %v", word, got, err, want)
		}
	}
	for word, want := range map[string]DemoteMode{"off": DemoteOff, "auto": DemoteAuto} {
		if got, err := ParseDemoteMode(word); err != nil || got != want || got.String() != word {
			t.Errorf("ParseDemoteMode(%q) = %v, %v; want %v", word, got, err, want)
		}
	}
	for _, word := range []string{"", "Fast", "invalid", "on"} {
		if got, err := ParseFollowMode(word); err == nil {
			t.Errorf("ParseFollowMode(%q) = %v; want an error", word, got)
		}
		if got, err := ParseDemoteMode(word); err == nil {
			t.Errorf("ParseDemoteMode(%q) = %v; want an error", word, got)
		}
	}
}
