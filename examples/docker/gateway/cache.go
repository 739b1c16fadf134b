package main

import (
	"sync"
	"time"
)

const (
	cacheFor  = 30 * time.Second // also the longest that a missed reload is felt
	cacheMost = 10_000           // keys; when full all are forgotten, and read again as they are used
)

// cache keeps grants that were read. It is safe for concurrent use.
type cache struct {
	mu         sync.Mutex // guards the fields below
	grants     map[string]cached
	generation uint64 // of what may be kept: a reload begins another
}

type cached struct {
	grant grant
	until time.Time
}

func newCache() *cache { return &cache{grants: make(map[string]cached)} }

// get returns what is known of a key, and the generation to put an answer to.
func (c *cache) get(key string, now time.Time) (g grant, known bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.grants[key]
	return e.grant, ok && now.Before(e.until), c.generation
}

// put keeps a grant, unless a reload has been asked for since generation: what was
// read before that may be old.
func (c *cache) put(key string, g grant, now time.Time, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if len(c.grants) >= cacheMost {
		clear(c.grants)
	}
	c.grants[key] = cached{g, now.Add(cacheFor)}
}

// forget drops a key, or all with "*".
func (c *cache) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	if key == "*" {
		clear(c.grants)
		return
	}
	delete(c.grants, key)
}
