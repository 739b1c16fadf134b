package drill

import (
	"fmt"
	"os"
	"runtime"
)

// Growth compares this process early in a soak and at its end, both at rest.
type Growth struct {
	Before   Usage    `json:"before"` // after the first mix of faults
	After    Usage    `json:"after"`
	Breaches []string `json:"breaches"`
}

// Usage is what a process holds.
type Usage struct {
	Goroutines  int    `json:"goroutines"`
	Descriptors int    `json:"descriptors"` // 0 where the system does not tell
	HeapBytes   uint64 `json:"heap_bytes"`  // live, after a collection
}

// usage collects garbage and returns what is left.
func usage() Usage {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := Usage{Goroutines: runtime.NumGoroutine(), HeapBytes: m.HeapAlloc}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.Descriptors = len(fds)
	}
	return u
}

// What a process at rest may differ by. A leak of one per failover is far above.
const (
	goroutineSlack  = 10
	descriptorSlack = 10
	heapSlack       = 16 << 20 // bytes: the report itself grows with each round
)

// growth judges the difference.
func growth(before, after Usage) *Growth {
	g := &Growth{Before: before, After: after, Breaches: []string{}}
	if n := after.Goroutines - before.Goroutines; n > goroutineSlack {
		g.Breaches = append(g.Breaches, fmt.Sprintf("%d more goroutines", n))
	}
	if n := after.Descriptors - before.Descriptors; n > descriptorSlack {
		g.Breaches = append(g.Breaches, fmt.Sprintf("%d more descriptors", n))
	}
	if after.HeapBytes > before.HeapBytes+heapSlack {
		g.Breaches = append(g.Breaches, fmt.Sprintf("%d more bytes of heap", after.HeapBytes-before.HeapBytes))
	}
	return g
}
