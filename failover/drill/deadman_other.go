//go:build !unix

package drill

import (
	"errors"
	"os/exec"
	"syscall"
)

func ownSession() *syscall.SysProcAttr { return nil }

func endWhole(*exec.Cmd) {}

func ignoreHangup() {}

func resume(int) error { return errors.ErrUnsupported }
