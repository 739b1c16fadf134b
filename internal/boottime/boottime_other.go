//go:build !linux

package boottime

import "time"

var start = time.Now() // only ever read: the zero of this process' clock

func now() time.Duration { return time.Since(start) }
