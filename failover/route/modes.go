package route

import "fmt"

// FollowMode says when commands go on to a new master.
type FollowMode uint8

// The follow modes. The zero value is FollowMajority.
const (
	// FollowMajority waits until a majority of the Sentinels names the master.
	FollowMajority FollowMode = iota
	// FollowFast goes on about a second earlier, once the old master was demoted by
	// us or is proven gone; see ahead.go.
	FollowFast
)

// String returns the mode as it is written in a configuration.
func (f FollowMode) String() string {
	switch f {
	case FollowMajority:
		return "majority"
	case FollowFast:
		return "fast"
	}
	return "invalid"
}

// ParseFollowMode reads "majority" or "fast".
func ParseFollowMode(s string) (FollowMode, error) {
	for _, f := range []FollowMode{FollowMajority, FollowFast} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("follow mode %q: want majority or fast", s)
}

// DemoteMode says whether a deposed master that still says master is made a replica.
type DemoteMode uint8

// The demote modes. The zero value is DemoteOff.
const (
	DemoteOff  DemoteMode = iota // Sentinel does it, about 10 s after the switch
	DemoteAuto                   // we do it as soon as a majority stands by the new master
)

// String returns the mode as it is written in a configuration.
func (d DemoteMode) String() string {
	switch d {
	case DemoteOff:
		return "off"
	case DemoteAuto:
		return "auto"
	}
	return "invalid"
}

// ParseDemoteMode reads "off" or "auto".
func ParseDemoteMode(s string) (DemoteMode, error) {
	for _, d := range []DemoteMode{DemoteOff, DemoteAuto} {
		if s == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("demote mode %q: want off or auto", s)
}
