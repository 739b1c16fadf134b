package topology

import "time"

// Check is one thing that decides whether commands are served, as it is at a moment. It
// comes from what is known already: making one asks nobody.
type Check struct {
	Name string // such as "route"; one word, the same for every group
	OK   bool
	// Advice says that it is worth knowing and makes nobody unready.
	Advice bool
	Reason string    // why it is not OK; one line without secrets
	Since  time.Time // since when it is as it is; zero where nobody wrote it down

	// About is what was looked at, where that changes: what was known of another one
	// counts no more.
	About string
	// Sustain is how long it must be bad, or good again, before it is believed; zero: at
	// once. It is for what flaps.
	Sustain Sustain
}

// Sustain is how long a change must last before it counts.
type Sustain struct{ Bad, Good time.Duration }
