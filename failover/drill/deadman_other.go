//go:build !unix

package drill

import (
	"errors"
	"syscall"
)

func ownSession() *syscall.SysProcAttr { return nil }

func ignoreHangup() {}

func resume(int) error { return errors.ErrUnsupported }
