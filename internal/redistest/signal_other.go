//go:build !unix

package redistest

import (
	"errors"
	"syscall"
)

var errNoSignals = errors.New("redistest: this system has no signals") //nolint:errname // one of a kind

func ownGroup() *syscall.SysProcAttr { return nil }

func (*process) sigterm() error { return errNoSignals }
func (*process) sigstop() error { return errNoSignals }
func (*process) sigcont() error { return errNoSignals }

func (*process) haltedNow() bool { return true }
