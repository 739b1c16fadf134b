// Package boottime tells the time since the machine started, counting the time
// it was suspended.
//
// Leases need it: Go's monotonic clock is CLOCK_MONOTONIC, which stands still
// while a machine sleeps or a VM is frozen with clock correction, so a lease
// measured with it would still look fresh on waking (clock_gettime(2)).
package boottime

import "time"

// Clock returns a time since boot. It never goes backwards. It is safe for
// concurrent use. Tests pass their own.
type Clock func() time.Duration

// Now is the Clock of this machine. Where the system has no such clock it
// falls back to Go's monotonic one, counted from the start of the process.
func Now() time.Duration { return now() }
