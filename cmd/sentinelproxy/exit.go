package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// Exit codes of every command.
const (
	exitOK          = 0 // as expected
	exitVerdict     = 1 // it ran, and the verdict is bad
	exitUsage       = 2 // wrong flags or configuration
	exitEnvironment = 3 // the environment made it impossible
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

// Error returns the cause's text.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

// impossible says that the environment was in the way.
func impossible(err error) error { return &exitError{exitEnvironment, err} }

// report prints what went wrong, one line per mistake, and returns the exit
// code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "sentinelproxy: "+line)
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	// What is left comes from reading flags and configuration.
	if _, ok := errors.AsType[*config.InvalidError](err); !ok {
		fmt.Fprintln(w, `sentinelproxy: see "sentinelproxy --help"`)
	}
	return exitUsage
}
