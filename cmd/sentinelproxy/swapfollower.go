package main

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// swapFollower is a follower that takes a new login while it runs, by putting a
// new follower in the old one's place. For the moment between them nobody hears
// the Sentinels, which a lease outlasts; what they said meanwhile the new one's
// first poll tells.
type swapFollower struct {
	// Fixed at construction.
	create  func(config.Login) (follower, error)
	swapped chan struct{} // full: Run is going to look at current anyway

	mu      sync.Mutex // guards the fields below
	current follower
	fast    bool // the last SetFast, for the next one
}

func newSwapFollower(l config.Login, create func(config.Login) (follower, error)) (*swapFollower, error) {
	f, err := create(l)
	if err != nil {
		return nil, err
	}
	return &swapFollower{create: create, swapped: make(chan struct{}, 1), current: f}, nil
}

// Run runs one follower after the other until ctx ends, never two at once.
func (s *swapFollower) Run(ctx context.Context) error {
	for {
		over, err := s.runOne(ctx)
		if over {
			return err
		}
	}
}

// runOne runs the current follower until it ends by itself or with ctx (over),
// or a new one takes its place.
func (s *swapFollower) runOne(ctx context.Context) (over bool, err error) {
	one, stop := context.WithCancel(ctx)
	defer stop()
	f := s.get()
	ended := make(chan error, 1) // one value: never full
	go func() { ended <- f.Run(one) }()
	for s.get() == f { // a swap before f was chosen may still signal
		select {
		case err := <-ended:
			return true, err
		case <-s.swapped:
		}
	}
	stop()
	err = <-ended
	return err != nil, err
}

// SetLogin has every Sentinel asked anew, with this login from now on.
func (s *swapFollower) SetLogin(l config.Login) error {
	f, err := s.create(l)
	if err != nil {
		return err
	}
	s.mu.Lock()
	f.SetFast(s.fast)
	s.current = f
	s.mu.Unlock()
	select {
	case s.swapped <- struct{}{}:
	default:
	}
	return nil
}

func (s *swapFollower) get() follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Poll polls the current follower.
func (s *swapFollower) Poll() { s.get().Poll() }

// SetFast sets the pace of the current follower and of those to come.
func (s *swapFollower) SetFast(fast bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fast = fast
	s.current.SetFast(fast)
}

// Describe describes what every follower of the group exports.
func (s *swapFollower) Describe(ch chan<- *prometheus.Desc) { s.get().Describe(ch) }

// Collect collects from the current follower: counters start anew with each, as
// after a restart.
func (s *swapFollower) Collect(ch chan<- prometheus.Metric) { s.get().Collect(ch) }
