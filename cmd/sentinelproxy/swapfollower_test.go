package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

func TestSwapFollower(t *testing.T) {
	var (
		j    journal
		made []*fakePart
	)
	refuse := errors.New("refused")
	s, err := newSwapFollower(config.Login{Password: "p0"}, func(l config.Login) (follower, error) {
		if l.Password == "bad" {
			return nil, refuse
		}
		f := newFake(fmt.Sprintf("f%d", len(made)), &j)
		made = append(made, f)
		return f, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Two swaps before Run leave a signal that means nothing any more.
	for range 2 {
		if err := s.SetLogin(config.Login{Password: "p"}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	has := func(line string) func() bool { return func() bool { return slices.Contains(j.all(), line) } }
	waitFor(t, "f2 to run", has("f2 runs"))
	if err := s.SetLogin(config.Login{Password: "bad"}); !errors.Is(err, refuse) {
		t.Errorf("SetLogin: %v; want the error of the new follower", err)
	}
	if err := s.SetLogin(config.Login{Password: "p"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "f3 to run", has("f3 runs"))
	made[3].fail <- errors.New("broken")
	if err := <-ended; err == nil || err.Error() != "broken" {
		t.Errorf("Run: %v; want broken", err)
	}
	cancel()
	var runs []string
	for _, line := range j.all() {
		if line != "fast" {
			runs = append(runs, line)
		}
	}
	want := []string{"f2 runs", "f2 is asked to end", "f2 ends", "f3 runs", "f3 ends"}
	if !slices.Equal(runs, want) {
		t.Errorf("got %q; want %q: each once, never two at a time", runs, want)
	}
}

func TestSwapFollowerEndsWithItsContext(t *testing.T) {
	s, err := newSwapFollower(config.Login{}, func(config.Login) (follower, error) { return newFake("f", new(journal)), nil })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v; want nil", err)
	}
}
