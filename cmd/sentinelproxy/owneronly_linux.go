package main

import "syscall"

// ownerOnly makes the file of a Unix socket get this mode when it is bound, so that
// there is no moment at which others could connect.
func ownerOnly(mode uint32) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), mode) }); err != nil {
			return err
		}
		return failed
	}
}
