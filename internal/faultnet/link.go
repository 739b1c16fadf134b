package faultnet

import (
	"context"
	"sync"
	"time"
)

// link is one direction of all of a relay's connections: the faults in force,
// and a way to wait for them to change. It is safe for concurrent use.
type link struct {
	mu      sync.Mutex // guards the fields below
	now     faults
	changed chan struct{} // closed, and replaced, at each change
}

func newLink() *link { return &link{changed: make(chan struct{})} }

// pair is both directions between a target and some of its clients.
type pair struct{ toTarget, toClient *link }

func newPair() pair { return pair{newLink(), newLink()} }

// clone returns a pair with the same faults, that changes by itself.
func (p pair) clone() *pair {
	c := newPair()
	c.toTarget.now, _ = p.toTarget.state()
	c.toClient.now, _ = p.toClient.state()
	return &c
}

func (p pair) change(dir Direction, edit func(*faults)) {
	if dir&ToTarget != 0 {
		p.toTarget.change(edit)
	}
	if dir&ToClient != 0 {
		p.toClient.change(edit)
	}
}

// change replaces the faults by what edit makes of them.
func (l *link) change(edit func(*faults)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	edit(&l.now)
	close(l.changed)
	l.changed = make(chan struct{})
}

// state returns the faults in force and a channel that is closed when they change.
func (l *link) state() (faults, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.changed
}

// open waits until the link is not stalled and returns the faults that are left.
func (l *link) open(ctx context.Context) (faults, error) {
	for {
		f, changed := l.state()
		if !f.stalled {
			return f, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return f, ctx.Err()
		}
	}
}

// until waits for t, or until the link has no delay any more: a healed link
// delivers what it held back.
func (l *link) until(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		f, changed := l.state()
		if f.late == (lateness{}) {
			return ctx.Err()
		}
		select {
		case <-timer.C:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
